/* The name server's parsers under a sanitizer: net_fuzz NETWORKS_FD ROUNDS. What is forwarded is
 * only checked for being within the query. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/net/net.h"

int64_t net_now;
void net_used(void) {}
void net_forward(const struct net_query *query, const struct net_address *client) {
  (void)query;
  (void)client;
}

static uint64_t state = 88172645463325252ull;
static unsigned roll(unsigned limit) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (unsigned)(state >> 16) % limit;
}

static const char *const names[] = {
    "web", "WEB.front", "a.b.back.end", "2.0.18.172.in-addr.arpa", "x.in-addr.arpa", "ip6.arpa",
    "2.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx."
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx."
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx."
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
};

static size_t make(uint8_t *packet) {
  static const uint8_t types[] = {1, 12, 28, 16, 255};
  static const uint8_t opt[] = {0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0};
  const char *name = names[roll(sizeof names / sizeof *names)];
  size_t at = 12;
  memset(packet, 0, 12);
  packet[2] = 1;
  packet[5] = 1;
  while (*name) {
    size_t size = strcspn(name, ".");
    packet[at++] = (uint8_t)size;
    memcpy(packet + at, name, size);
    at += size;
    name += size + (name[size] == '.');
  }
  packet[at++] = 0;
  packet[at++] = 0;
  packet[at++] = types[roll(sizeof types)];
  packet[at++] = 0;
  packet[at++] = 1;
  if (roll(2)) {
    packet[11] = 1;
    memcpy(packet + at, opt, sizeof opt);
    at += sizeof opt;
  }
  return at;
}

static size_t damage(uint8_t *packet, size_t length, size_t limit) {
  for (unsigned times = roll(6); times; times--) {
    size_t at = roll((unsigned)length);
    switch (roll(4)) {
      case 0: packet[at] = (uint8_t)roll(256); break;
      case 1: packet[at] = (uint8_t)(0xc0 | roll(2)); break;
      case 2: length = at + 1; break;
      case 3:
        if (length + 8 > limit) break;
        memmove(packet + at + 8, packet + at, length - at);
        length += 8;
        break;
    }
  }
  return length;
}

static void check(const uint8_t *packet, size_t length) {
  static uint8_t reply[NET_REPLY_MAX];
  struct net_query query;
  /* Exactly as large as it is, so that a byte too far is seen. */
  uint8_t *exact = malloc(length), *answer = malloc(length);
  memcpy(exact, packet, length);
  long n = net_resolve(exact, length, &query, reply, sizeof reply, (int)roll(2));
  if (n > (long)sizeof reply || query.end > length) abort();
  if (n == NET_ASK_UPSTREAM) {
    memcpy(answer, exact, length);
    answer[2] |= 0x80;
    size_t size = damage(answer, length, length);
    uint8_t *cut = malloc(size);
    memcpy(cut, answer, size);
    net_is_answer(cut, size, exact, query.end, (uint16_t)(exact[0] << 8 | exact[1]));
    free(cut);
    net_refuse(&query, NET_SERVFAIL, reply, query.size < sizeof reply ? query.size : sizeof reply);
  }
  free(exact);
  free(answer);
}

/* Configurations that make no sense, which are the engine's own: no hostile input, but none that may
 * crash it. */
static void configure(int round) {
  static const char *const words[] = {"network", "alias", "server", "internal", "n1", "front",
                                      "1.2.3.4#53", "::1%lo#", "%", "#", "a.b", "\n", "\n", "../x",
                                      "fe80::1%999999999999", "\t", "back.end", "web"};
  char text[2048] = "network n1 front\nnetwork n2 back.end\n";
  while (strlen(text) < sizeof text - 40 && roll(40)) {
    strcat(text, words[roll(sizeof words / sizeof *words)]);
    if (roll(3)) strcat(text, " ");
  }
  int fd = openat(NET_FD_NETWORKS, "boxes/c0ffee/dns", O_WRONLY | O_TRUNC);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) abort();
  struct timespec times[2] = {{round, 1}, {round, 1}};
  futimens(fd, times);
  close(fd);
  net_config_check();
}

int main(int argc, char **argv) {
  uint8_t packet[1200];
  if (argc < 3) return 2;
  dup2(atoi(argv[1]), NET_FD_NETWORKS);
  net_config_open("c0ffee");
  net_server_open();
  mkdirat(NET_FD_NETWORKS, "n1", 0755);
  mkdirat(NET_FD_NETWORKS, "n1/names", 0755);
  mkdirat(NET_FD_NETWORKS, "n1/names/web", 0755);
  mkdirat(NET_FD_NETWORKS, "n1/names/web/1.2.3.4", 0755);
  mkdirat(NET_FD_NETWORKS, "n1/names/web/fd00::1", 0755);
  mkdirat(NET_FD_NETWORKS, "n1/leases", 0755);
  symlinkat("x/web", NET_FD_NETWORKS, "n1/leases/172.18.0.2");
  symlinkat("nothing", NET_FD_NETWORKS, "n1/leases/fd00::1:0:0:2");
  for (int i = 0; i < atoi(argv[2]); i++) {
    if (i % 1000 == 0) configure(i);
    check(packet, damage(packet, make(packet), sizeof packet));
  }
  return 0;
}
