/* The sockets of published ports, and where each one leads: RUNTIME/networks/boxes/ID/ports, a line
 * for each, `tcp|udp ADDRESS PORT` or `-`; read again when it has changed. */
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#include "net.h"

#define LINE_MAX_BYTES 80
#define PAUSE_MS 100

struct port {
  int type; /* SOCK_STREAM, SOCK_DGRAM; 0: there is no socket */
  struct net_address target; /* length 0: none */
};
static struct port *ports;
static unsigned count;
static char path[128];
static char *text;
static size_t text_size;
static struct net_stamp stamp;
static int64_t paused_until; /* 0: not paused */

static void set_target(struct port *port, char *line) {
  char *words[4];
  port->target.length = 0;
  if (net_words(line, words, 4) != 3) return;
  if (strcmp(words[0], port->type == SOCK_STREAM ? "tcp" : "udp") != 0) return;
  long number = net_number(words[2], 65535);
  if (number <= 0 || net_address_parse(words[1], (unsigned)number, &port->target) < 0)
    port->target.length = 0;
}

static void load(void) {
  char *line = text;
  if (net_file_read(NET_FD_NETWORKS, path, text, text_size) < 0) *text = 0;
  for (unsigned i = 0; i < count; i++) {
    char *end = line + strcspn(line, "\n"), *next = *end ? end + 1 : end;
    *end = 0;
    set_target(&ports[i], line);
    line = next;
  }
}

static void check(void) {
  if (!net_file_changed(NET_FD_NETWORKS, path, &stamp)) return;
  load();
  net_session_clear();
}

void net_ports_open(const char *container, unsigned number) {
  count = number;
  ports = net_table((count + 1) * sizeof *ports);
  text_size = (size_t)(count + 1) * LINE_MAX_BYTES;
  text = net_table(text_size);
  net_join(path, sizeof path, "boxes/", container, "/ports", NULL);
  for (unsigned i = 0; i < count; i++) {
    int fd = NET_FD_PORTS + (int)i;
    socklen_t size = sizeof ports[i].type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &ports[i].type, &size) < 0) continue;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (ports[i].type == SOCK_DGRAM) net_session_prepare(fd);
    net_watch(fd, EPOLLIN, NET_PORT, i, 0);
  }
  net_file_changed(NET_FD_NETWORKS, path, &stamp);
  load();
}

const struct net_address *net_port_target(unsigned port) {
  return ports[port].target.length ? &ports[port].target : NULL;
}

void net_ports_ready(unsigned index, uint32_t generation, uint32_t events) {
  (void)generation;
  (void)events;
  net_used();
  check();
  if (ports[index].type == SOCK_STREAM)
    net_relay_accept(index);
  else
    net_session_receive(index);
}

/* ---- no room ---------------------------------------------------------------------------------- */

static void listen_to(uint32_t events) {
  for (unsigned i = 0; i < count; i++)
    if (ports[i].type == SOCK_STREAM)
      net_rewatch(NET_FD_PORTS + (int)i, events, NET_PORT, i, 0);
  net_rewatch(NET_FD_DNS_TCP, events, NET_DNS_ACCEPT, 0, 0);
}

void net_ports_pause(void) {
  if (!paused_until) listen_to(0);
  paused_until = net_now + PAUSE_MS;
}

static int64_t next(void) { return paused_until ? paused_until : INT64_MAX; }

static void expire(void) {
  if (!paused_until || paused_until > net_now) return;
  paused_until = 0;
  listen_to(EPOLLIN);
}

static unsigned busy(void) { return paused_until != 0; }

const struct net_timers net_ports_timers = {next, expire, busy};
