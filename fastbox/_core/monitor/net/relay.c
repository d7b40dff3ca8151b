/* Connections to published ports, handed on to the container: bytes go from socket to socket through
 * a pipe, without a copy (splice(2)). A side that does not take its data holds up the other one, and
 * the end of one direction leaves the other open. Edge-triggered: a flow goes on until it would
 * block. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net.h"

#define CHUNK 65536
#define ROUNDS 16 /* chunks of one flow before others have their turn */
#define SPARE_PIPES 16
#define EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

struct flow {
  int pipe[2]; /* only while there is something in it, -1 */
  size_t filled;
  int ended, done; /* nothing more comes; and the other side was told */
};

struct relay {
  struct net_slot slot;
  int fd[2];           /* the client, the container */
  struct flow flow[2]; /* flow[i] comes from fd[i] */
  int connected;
};
static struct net_pool pool;
static int spare[SPARE_PIPES][2];
static int spares;

void net_relay_open(unsigned limit) { net_pool_open(&pool, sizeof(struct relay), limit); }

static int take_pipe(struct flow *flow) {
  if (flow->pipe[0] >= 0) return 0;
  if (!spares) return pipe2(flow->pipe, O_CLOEXEC | O_NONBLOCK);
  spares--;
  flow->pipe[0] = spare[spares][0];
  flow->pipe[1] = spare[spares][1];
  return 0;
}

static void give_pipe(struct flow *flow) {
  if (flow->pipe[0] < 0) return;
  if (!flow->filled && spares < SPARE_PIPES) {
    spare[spares][0] = flow->pipe[0];
    spare[spares++][1] = flow->pipe[1];
  } else {
    close(flow->pipe[0]);
    close(flow->pipe[1]);
  }
  flow->pipe[0] = flow->pipe[1] = -1;
}

/* abrupt: the ends see a reset, as they would of the other end's failure. */
static void finish(struct relay *relay, int abrupt) {
  struct linger reset = {1, 0};
  for (int i = 0; i < 2; i++) {
    give_pipe(&relay->flow[i]);
    if (relay->fd[i] < 0) continue;
    if (abrupt) setsockopt(relay->fd[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(relay->fd[i]);
  }
  net_pool_give(&pool, relay);
}

static int would_block(void) { return errno == EAGAIN || errno == EINTR; }

/* From the socket into the pipe; 1: something happened, 0: it would block, -1: error. */
static int fill(struct flow *flow, int from) {
  if (flow->ended) return 0;
  if (take_pipe(flow) < 0) return -1;
  ssize_t n = splice(from, NULL, flow->pipe[1], NULL, CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (n < 0) return would_block() ? 0 : -1;
  flow->filled += (size_t)n;
  flow->ended = n == 0;
  return 1;
}

static int drain(struct flow *flow, int to) {
  if (!flow->filled) return 0;
  ssize_t n = splice(flow->pipe[0], NULL, to, NULL, flow->filled,
                     SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  if (n < 0) return would_block() ? 0 : -1;
  flow->filled -= (size_t)n;
  return n > 0;
}

/* 0: it waits, or is done; 1: there is more to do; -1: error. */
static int pump(struct relay *relay, int side) {
  struct flow *flow = &relay->flow[side];
  int progress = 1;
  for (int round = 0; progress && round < ROUNDS && !flow->done; round++) {
    int filled = fill(flow, relay->fd[side]);
    int drained = filled < 0 ? -1 : drain(flow, relay->fd[!side]);
    if (drained < 0) return -1;
    progress = filled || drained;
    if (flow->ended && !flow->filled) {
      flow->done = 1;
      shutdown(relay->fd[!side], SHUT_WR);
    }
  }
  if (!flow->filled) give_pipe(flow);
  return progress && !flow->done;
}

static void watch_again(struct relay *relay) {
  unsigned index = net_pool_index(&pool, relay) * 2;
  for (unsigned i = 0; i < 2; i++)
    net_rewatch(relay->fd[i], EVENTS, NET_RELAY, index + i, relay->slot.generation);
}

/* sides: bit i for flow i. */
static void pump_some(struct relay *relay, int sides) {
  int more = 0;
  for (int i = 0; i < 2; i++) {
    if (!(sides & 1 << i)) continue;
    int result = pump(relay, i);
    if (result < 0) {
      finish(relay, 1);
      return;
    }
    more |= result;
  }
  if (relay->flow[0].done && relay->flow[1].done)
    finish(relay, 0);
  else if (more)
    watch_again(relay);
}

/* Whether the connection to the container stands, -1: it will not. */
static int is_connected(struct relay *relay, int side, uint32_t events) {
  int error = 0;
  socklen_t size = sizeof error;
  if (relay->connected || side != 1) return relay->connected;
  if (getsockopt(relay->fd[1], SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error) return -1;
  relay->connected = (events & EPOLLOUT) != 0;
  return relay->connected;
}

void net_relay_ready(unsigned index, uint32_t generation, uint32_t events) {
  struct relay *relay = net_pool_at(&pool, index / 2, generation);
  int side = (int)(index & 1), sides = 0;
  if (!relay) return;
  net_used();
  int was_connected = relay->connected, connected = is_connected(relay, side, events);
  if (connected < 0 || (!connected && side == 0 && (events & (EPOLLERR | EPOLLHUP)))) {
    finish(relay, 1);
    return;
  }
  if (!connected) return;
  if (events & (EPOLLIN | EPOLLRDHUP)) sides |= 1 << side;
  if (events & EPOLLOUT) sides |= 1 << !side;
  if (!was_connected || (events & (EPOLLERR | EPOLLHUP))) sides = 3;
  pump_some(relay, sides);
}

/* ---- beginning -------------------------------------------------------------------------------- */

static int set_up(struct relay *relay, const struct net_address *target) {
  int on = 1;
  unsigned index = net_pool_index(&pool, relay) * 2;
  relay->fd[1] = socket(target->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (relay->fd[1] < 0) return -1;
  for (int i = 0; i < 2; i++) {
    setsockopt(relay->fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(relay->fd[i], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  }
  if (connect(relay->fd[1], &target->any, target->length) < 0 && errno != EINPROGRESS) return -1;
  for (unsigned i = 0; i < 2; i++)
    if (net_watch(relay->fd[i], EVENTS, NET_RELAY, index + i, relay->slot.generation) < 0)
      return -1;
  return 0;
}

static void begin(struct relay *relay, int client, unsigned port) {
  const struct net_address *target = net_port_target(port);
  relay->fd[0] = client;
  relay->fd[1] = -1;
  relay->connected = 0;
  for (int i = 0; i < 2; i++) relay->flow[i] = (struct flow){{-1, -1}, 0, 0, 0};
  if (!target || set_up(relay, target) < 0) finish(relay, 1);
}

void net_relay_accept(unsigned port) {
  for (int i = 0; i < 32; i++) {
    if (pool.live_count == pool.limit) {
      net_ports_pause();
      return;
    }
    int fd = accept4(NET_FD_PORTS + (int)port, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      begin(net_pool_take(&pool, INT64_MAX), fd, port);
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
      net_ports_pause();
    if (errno == EAGAIN || errno == EMFILE || errno == ENFILE) return;
  }
}

static int64_t next(void) { return INT64_MAX; }
static void expire(void) {}
static unsigned busy(void) { return pool.live_count; }

const struct net_timers net_relay_timers = {next, expire, busy};
