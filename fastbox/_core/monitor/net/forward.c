/* Queries that others answer. Each try has a socket of its own, connected, so that the kernel gives
 * it a random port and lets in only what that server sends; with a random id and the question it is
 * three things that a forger has to guess (RFC 5452). */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "net.h"

#define TRY_MS 2000

struct pending {
  struct net_slot slot;
  int fd;
  unsigned server; /* the number of the one that is asked */
  size_t length, end;
  uint8_t client_id[2];
  uint16_t id;
  struct net_address client;
  uint8_t query[NET_QUERY_MAX];
};
static struct net_pool pool;
static uint8_t *reply;

void net_forward_open(unsigned limit) {
  net_pool_open(&pool, sizeof(struct pending), limit);
  reply = net_table(NET_MESSAGE_MAX + 1);
}

uint16_t net_random_id(void) {
  uint16_t id = 0;
  while (getrandom(&id, sizeof id, 0) != sizeof id) continue;
  return id;
}

static void stop_trying(struct pending *pending) {
  if (pending->fd >= 0) close(pending->fd);
  pending->fd = -1;
}

static void finish(struct pending *pending, size_t length) {
  stop_trying(pending);
  sendto(NET_FD_DNS, reply, length, MSG_DONTWAIT | MSG_NOSIGNAL, &pending->client.any,
         pending->client.length);
  net_pool_give(&pool, pending);
}

static void give_up(struct pending *pending) {
  struct net_query query;
  memcpy(pending->query, pending->client_id, 2);
  net_parse(pending->query, pending->length, &query);
  finish(pending, net_refuse(&query, NET_SERVFAIL, reply, query.size));
}

static int ask(struct pending *pending, const struct net_address *server) {
  pending->fd = socket(server->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (pending->fd < 0) return -1;
  pending->id = net_random_id();
  pending->query[0] = (uint8_t)(pending->id >> 8);
  pending->query[1] = (uint8_t)pending->id;
  if (connect(pending->fd, &server->any, server->length) == 0 &&
      net_watch(pending->fd, EPOLLIN, NET_FORWARD, net_pool_index(&pool, pending),
                pending->slot.generation) == 0 &&
      send(pending->fd, pending->query, pending->length, MSG_NOSIGNAL) >= 0)
    return 0;
  stop_trying(pending);
  return -1;
}

/* From server number `first` on; with none left, the client is told. */
static void try_servers(struct pending *pending, unsigned first) {
  const struct net_address *servers;
  unsigned count = net_upstreams(&servers);
  stop_trying(pending);
  for (pending->server = first; pending->server < count; pending->server++) {
    if (ask(pending, &servers[pending->server]) < 0) continue;
    net_pool_touch(&pool, pending, net_now + TRY_MS);
    return;
  }
  give_up(pending);
}

void net_forward(const struct net_query *query, const struct net_address *client) {
  struct pending *pending = net_pool_take(&pool, net_now);
  if (!pending) { /* the one that has waited longest is the likeliest to wait in vain */
    struct pending *oldest = net_pool_oldest(&pool);
    stop_trying(oldest);
    net_pool_give(&pool, oldest);
    pending = net_pool_take(&pool, net_now);
  }
  pending->fd = -1;
  pending->client = *client;
  pending->length = query->length;
  pending->end = query->end;
  memcpy(pending->query, query->packet, query->length);
  memcpy(pending->client_id, query->packet, 2);
  try_servers(pending, 0);
}

void net_forward_ready(unsigned index, uint32_t generation, uint32_t events) {
  struct pending *pending = net_pool_at(&pool, index, generation);
  (void)events;
  /* An event of an earlier try's socket finds nothing to read on the present one's. */
  while (pending) {
    ssize_t n = recv(pending->fd, reply, NET_MESSAGE_MAX, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    int is = n < 0 ? -1
                   : net_is_answer(reply, (size_t)n, pending->query, pending->end, pending->id);
    if (is == 0) continue; /* somebody's guess */
    if (is < 0) {
      try_servers(pending, pending->server + 1);
      return;
    }
    memcpy(reply, pending->client_id, 2);
    finish(pending, (size_t)n);
    return;
  }
}

static int64_t next(void) {
  struct pending *oldest = net_pool_oldest(&pool);
  return oldest ? oldest->slot.deadline : INT64_MAX;
}

static void expire(void) {
  struct pending *oldest;
  while ((oldest = net_pool_oldest(&pool)) && oldest->slot.deadline <= net_now)
    try_servers(oldest, oldest->server + 1);
}

static unsigned busy(void) { return pool.live_count; }

const struct net_timers net_forward_timers = {next, expire, busy};
