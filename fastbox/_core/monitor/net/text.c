/* Small files, and what is written in them. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net.h"

int net_is_name(const char *text) {
  if (*text == '.' || !*text) return 0;
  for (; *text; text++) {
    char c = *text;
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
          c == '-' || c == '.'))
      return 0;
  }
  return 1;
}

int net_join(char *buffer, size_t size, ...) {
  va_list parts;
  size_t used = 0;
  const char *part;
  va_start(parts, size);
  while ((part = va_arg(parts, const char *))) {
    size_t length = strlen(part);
    if (length >= size - used) break;
    memcpy(buffer + used, part, length);
    used += length;
  }
  va_end(parts);
  buffer[used] = 0;
  return part ? -1 : 0;
}

long net_number(const char *text, long limit) {
  long value = 0;
  if (!*text) return -1;
  for (; *text; text++) {
    if (*text < '0' || *text > '9') return -1;
    value = value * 10 + (*text - '0');
    if (value > limit) return -1;
  }
  return value;
}

/* An interface's number; 0: there is none of that name. */
static uint32_t scope_number(const char *name) {
  struct ifreq request;
  long number = net_number(name, 0x7fffffff);
  if (number >= 0) return (uint32_t)number;
  size_t length = strlen(name);
  if (length >= sizeof request.ifr_name) return 0;
  memset(&request, 0, sizeof request);
  memcpy(request.ifr_name, name, length);
  int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  uint32_t found = ioctl(fd, SIOCGIFINDEX, &request) < 0 ? 0 : (uint32_t)request.ifr_ifindex;
  close(fd);
  return found;
}

int net_address_parse(const char *text, unsigned port, struct net_address *address) {
  char plain[INET6_ADDRSTRLEN];
  size_t length = strcspn(text, "%");
  memset(address, 0, sizeof *address);
  if (length >= sizeof plain) return -1;
  memcpy(plain, text, length);
  plain[length] = 0;
  if (!text[length] && inet_pton(AF_INET, plain, &address->v4.sin_addr) == 1) {
    address->length = sizeof address->v4;
    address->v4.sin_family = AF_INET;
    address->v4.sin_port = htons((uint16_t)port);
    return 0;
  }
  if (inet_pton(AF_INET6, plain, &address->v6.sin6_addr) != 1) return -1;
  address->length = sizeof address->v6;
  address->v6.sin6_family = AF_INET6;
  address->v6.sin6_port = htons((uint16_t)port);
  if (text[length]) {
    address->v6.sin6_scope_id = scope_number(text + length + 1);
    if (!address->v6.sin6_scope_id) return -1;
  }
  return 0;
}

static char *put_number(char *at, unsigned value, unsigned base) {
  unsigned scale = 1;
  while (value / scale >= base) scale *= base;
  for (; scale; scale /= base) *at++ = "0123456789abcdef"[value / scale % base];
  return at;
}

/* The longest run of two or more zero groups, the first of several: its start, or -1. */
static int longest_zeros(const uint8_t *bytes, int *length) {
  int best = -1;
  *length = 1;
  for (int i = 0; i < 8; i++) {
    int n = 0;
    while (i + n < 8 && !bytes[2 * (i + n)] && !bytes[2 * (i + n) + 1]) n++;
    if (n > *length) {
      best = i;
      *length = n;
    }
    i += n;
  }
  return best;
}

void net_address_text(int family, const uint8_t *bytes, char text[46]) {
  char *at = text;
  if (family == AF_INET) {
    for (int i = 0; i < 4; i++) {
      if (i) *at++ = '.';
      at = put_number(at, bytes[i], 10);
    }
  } else {
    int length, zeros = longest_zeros(bytes, &length);
    for (int i = 0; i < 8; i++) {
      if (i == zeros) {
        *at++ = ':';
        *at++ = ':';
        i += length - 1;
        continue;
      }
      if (i && !(zeros >= 0 && i == zeros + length)) *at++ = ':';
      at = put_number(at, (unsigned)bytes[2 * i] << 8 | bytes[2 * i + 1], 16);
    }
  }
  *at = 0;
}

int net_words(char *line, char **words, int limit) {
  int count = 0;
  for (;;) {
    line += strspn(line, " \t\r");
    if (!*line || count == limit) return count;
    words[count++] = line;
    line += strcspn(line, " \t\r");
    if (*line) *line++ = 0;
  }
}

static uint64_t nanoseconds(struct timespec time) {
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

int net_file_changed(int directory, const char *path, struct net_stamp *stamp) {
  struct stat status;
  struct net_stamp now = {0};
  if (fstatat(directory, path, &status, 0) == 0) {
    now.device = status.st_dev;
    now.inode = status.st_ino;
    now.size = (uint64_t)status.st_size;
    now.changed = nanoseconds(status.st_ctim);
    now.modified = nanoseconds(status.st_mtim);
  }
  if (memcmp(stamp, &now, sizeof now) == 0) return 0;
  *stamp = now;
  return 1;
}

long net_file_read(int directory, const char *path, char *buffer, size_t size) {
  int fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  size_t used = 0;
  ssize_t n = fd < 0 ? -1 : 0;
  while (fd >= 0 && used < size && (n = read(fd, buffer + used, size - used)) > 0)
    used += (size_t)n;
  if (fd >= 0) close(fd);
  if (n < 0 || used == size) return -1;
  buffer[used] = 0;
  return (long)used;
}
