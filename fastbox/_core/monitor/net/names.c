/* Who has which name: directories that the engine keeps (below RUNTIME/networks), so that a name is
 * right from the instant it is made. Nothing is cached. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net.h"

struct entry { /* struct linux_dirent64 */
  uint64_t inode;
  int64_t offset;
  unsigned short length;
  unsigned char type;
  char name[];
};

static void add_entry(const char *name, int family, struct net_found *found) {
  if (*name == '.') return;
  found->known = 1;
  if ((strchr(name, ':') ? AF_INET6 : AF_INET) != family || found->count == NET_ADDRESSES) return;
  if (inet_pton(family, name, found->address[found->count]) == 1) found->count++;
}

/* The addresses of one name on one network. Both are names as net_is_name has it. */
static void add_addresses(const char *network, const char *name, int family,
                          struct net_found *found) {
  char path[640], lowered[256] = "";
  union {
    struct entry first;
    char bytes[4096];
  } entries;
  for (size_t i = 0; name[i] && i < sizeof lowered - 1; i++)
    lowered[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
  if (net_join(path, sizeof path, network, "/names/", lowered, NULL) < 0) return;
  int fd = openat(NET_FD_NETWORKS, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return;
  long n;
  while ((n = syscall(SYS_getdents64, fd, entries.bytes, sizeof entries.bytes)) > 0) {
    for (long at = 0; at < n;) {
      const struct entry *entry = (const struct entry *)(entries.bytes + at);
      add_entry(entry->name, family, found);
      at += entry->length;
    }
  }
  close(fd);
}

static int same_name(const char *one, const char *two, size_t length) {
  return strncasecmp(one, two, length) == 0 && one[length] == 0;
}

/* Links come first: they are this container's own. network: NULL for any. */
static void find_alias(const char *name, size_t length, const char *network, int family,
                       struct net_found *found) {
  const struct net_config *config = net_config();
  for (unsigned i = 0; i < config->aliases && !found->count; i++) {
    const struct net_alias *alias = &config->alias[i];
    if (same_name(alias->name, name, length) && (!network || strcmp(network, alias->id) == 0))
      add_addresses(alias->id, alias->target, family, found);
  }
}

/* NAME.NETNAME; both may have dots, so each of them is tried. */
static void find_qualified(const char *name, int family, struct net_found *found) {
  const struct net_config *config = net_config();
  char head[256];
  for (const char *dot = strchr(name, '.'); dot && !found->count; dot = strchr(dot + 1, '.')) {
    size_t length = (size_t)(dot - name);
    for (unsigned i = 0; i < config->networks && !found->count; i++) {
      const struct net_network *network = &config->network[i];
      if (!same_name(network->name, dot + 1, strlen(dot + 1))) continue;
      find_alias(name, length, network->id, family, found);
      memcpy(head, name, length);
      head[length] = 0;
      if (!found->count) add_addresses(network->id, head, family, found);
    }
  }
}

void net_names_find(const char *name, int family, struct net_found *found) {
  const struct net_config *config = net_config();
  found->known = 0;
  found->count = 0;
  if (!net_is_name(name)) return;
  find_alias(name, strlen(name), NULL, family, found);
  for (unsigned i = 0; i < config->networks && !found->count; i++)
    add_addresses(config->network[i].id, name, family, found);
  if (!found->count) find_qualified(name, family, found);
}

/* ---- the other way ---------------------------------------------------------------------------- */

/* "4.3.2.1" of 1.2.3.4 */
static int parse_reversed4(const char *text, const char *end, uint8_t *bytes) {
  for (int i = 3; i >= 0; i--) {
    unsigned value = 0, digits = 0;
    while (text < end && *text >= '0' && *text <= '9' && digits < 3) {
      value = value * 10 + (unsigned)(*text++ - '0');
      digits++;
    }
    if (!digits || value > 255) return -1;
    bytes[i] = (uint8_t)value;
    if (i && !(text < end && *text++ == '.')) return -1;
  }
  return text == end ? 0 : -1;
}

/* Its 32 nibbles, the last one first. */
static int parse_reversed6(const char *text, const char *end, uint8_t *bytes) {
  static const char digits[] = "0123456789abcdef";
  if (end - text != 63) return -1;
  memset(bytes, 0, 16);
  for (int i = 0; i < 32; i++) {
    const char *digit = memchr(digits, text[2 * i], 16);
    if (!digit || (i < 31 && text[2 * i + 1] != '.')) return -1;
    int nibble = 31 - i;
    bytes[nibble / 2] |= (uint8_t)((digit - digits) << (nibble % 2 ? 0 : 4));
  }
  return 0;
}

/* Where `suffix` begins, NULL if the name doesn't end so. */
static const char *ending(const char *name, const char *suffix) {
  size_t length = strlen(name), tail = strlen(suffix);
  if (length <= tail || strcmp(name + length - tail, suffix) != 0) return NULL;
  return name + length - tail;
}

static int parse_pointer(const char *name, char address[46]) {
  uint8_t bytes[16];
  const char *end = ending(name, ".in-addr.arpa");
  if (end && parse_reversed4(name, end, bytes) == 0) {
    net_address_text(AF_INET, bytes, address);
    return 0;
  }
  end = ending(name, ".ip6.arpa");
  if (!end || parse_reversed6(name, end, bytes) < 0) return -1;
  net_address_text(AF_INET6, bytes, address);
  return 0;
}

int net_names_pointer(const char *name, char target[256]) {
  const struct net_config *config = net_config();
  char address[46], path[400], link[512];
  if (parse_pointer(name, address) < 0) return -1;
  for (unsigned i = 0; i < config->networks; i++) {
    const struct net_network *network = &config->network[i];
    if (net_join(path, sizeof path, network->id, "/leases/", address, NULL) < 0) continue;
    ssize_t n = readlinkat(NET_FD_NETWORKS, path, link, sizeof link - 1);
    if (n <= 0) continue;
    link[n] = 0;
    const char *slash = strchr(link, '/'); /* CONTAINERID/CONTAINERNAME */
    if (slash && net_is_name(slash + 1))
      return net_join(target, 256, slash + 1, ".", network->name, NULL);
  }
  return -1;
}
