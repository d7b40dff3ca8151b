/* What the name server is to do: RUNTIME/networks/boxes/ID/dns, lines of
 *
 *     network NETID NETNAME
 *     alias NAME TARGET NETID
 *     internal
 *     server ADDRESS[%SCOPE][#PORT]
 *
 * and, without a "server", the host's resolv.conf. Both are read again when they have changed. */
#include <fcntl.h>
#include <string.h>

#include "net.h"

#define TEXT_MAX (256 << 10)
#define HOST_TEXT_MAX (64 << 10)
#define HOST_SERVERS 3 /* MAXNS of resolv.h: the others are nobody's servers */
#define DNS_PORT 53

static char path[128];
static char *text, *host_text; /* the configuration's strings stay in the first */
static struct net_config *config;
static struct net_stamp stamp, host_stamp;
static struct net_address host_servers[HOST_SERVERS];
static unsigned host_count;
static int etc = -1;

static char *next_line(char **rest) {
  char *line = *rest;
  if (!*line) return NULL;
  *rest += strcspn(line, "\n");
  if (**rest) *(*rest)++ = 0;
  return line;
}

/* "ADDRESS#PORT" */
static void add_server(char *word) {
  unsigned long port = DNS_PORT;
  char *hash = strchr(word, '#');
  if (hash) {
    long number = net_number(hash + 1, 65535);
    if (number <= 0) return;
    port = (unsigned long)number;
    *hash = 0;
  }
  if (config->servers < NET_SERVERS &&
      net_address_parse(word, (unsigned)port, &config->server[config->servers]) == 0)
    config->servers++;
}

static void add_line(char *line) {
  char *words[5];
  int count = net_words(line, words, 5);
  if (count == 3 && strcmp(words[0], "network") == 0) {
    if (!net_is_name(words[1]) || !net_is_name(words[2]) || config->networks == NET_NETWORKS)
      return;
    config->network[config->networks++] = (struct net_network){words[1], words[2]};
  } else if (count == 4 && strcmp(words[0], "alias") == 0) {
    if (!net_is_name(words[2]) || !net_is_name(words[3]) || config->aliases == NET_ALIASES)
      return;
    config->alias[config->aliases++] = (struct net_alias){words[1], words[2], words[3]};
  } else if (count == 2 && strcmp(words[0], "server") == 0) {
    add_server(words[1]);
  } else if (count == 1 && strcmp(words[0], "internal") == 0) {
    config->internal = 1;
  }
}

static void load(void) {
  char *rest = text, *line;
  config->networks = config->aliases = config->servers = 0;
  config->internal = 0;
  if (net_file_read(NET_FD_NETWORKS, path, text, TEXT_MAX) < 0) {
    config->internal = 1;
    return;
  }
  while ((line = next_line(&rest))) add_line(line);
}

/* resolv.conf(5). What can't be read leaves what was known before. */
static void load_host(void) {
  char *rest = host_text, *line, *words[2];
  if (net_file_read(etc, "resolv.conf", host_text, HOST_TEXT_MAX) < 0) return;
  host_count = 0;
  while ((line = next_line(&rest))) {
    if (host_count < HOST_SERVERS && net_words(line, words, 2) == 2 &&
        strcmp(words[0], "nameserver") == 0 &&
        net_address_parse(words[1], DNS_PORT, &host_servers[host_count]) == 0)
      host_count++;
  }
  if (!host_count && net_address_parse("127.0.0.1", DNS_PORT, &host_servers[0]) == 0)
    host_count = 1;
}

void net_config_open(const char *container) {
  text = net_table(TEXT_MAX);
  host_text = net_table(HOST_TEXT_MAX);
  config = net_table(sizeof *config);
  net_join(path, sizeof path, "boxes/", container, "/dns", NULL);
  etc = open("/etc", O_PATH | O_DIRECTORY | O_CLOEXEC);
  net_file_changed(etc, "resolv.conf", &host_stamp);
  load_host(); /* now, in case that only root may read it */
  net_file_changed(NET_FD_NETWORKS, path, &stamp);
  load();
}

void net_config_check(void) {
  if (net_file_changed(NET_FD_NETWORKS, path, &stamp)) load();
}

const struct net_config *net_config(void) { return config; }

unsigned net_upstreams(const struct net_address **servers) {
  if (config->servers) {
    *servers = config->server;
    return config->servers;
  }
  if (net_file_changed(etc, "resolv.conf", &host_stamp)) load_host();
  *servers = host_servers;
  return host_count;
}
