/* The name server over TCP (RFC 7766). A connection's queries are answered one after the other: what
 * a client sends ahead waits in its buffer, then in the kernel's. What isn't ours is asked for over a
 * TCP connection too. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "net.h"

#define QUERY_ROOM 4096
#define TRY_MS 5000  /* for connecting and the whole answer */
#define IDLE_MS 10000

enum state { READING, ASKING, WAITING, REPLYING };

struct stream {
  struct net_slot slot;
  int client, upstream;
  enum state state;
  unsigned server;
  uint8_t client_id[2];
  uint16_t id;
  size_t end;             /* of the question that is being forwarded */
  size_t in_used;         /* bytes of `in`; it begins with a query's length */
  size_t out_used, out_at; /* what there is of `out`, and what of it was written */
  uint8_t in[2 + QUERY_ROOM];
  uint8_t out[2 + NET_MESSAGE_MAX];
};
static struct net_pool pool;

void net_stream_open(unsigned limit) { net_pool_open(&pool, sizeof(struct stream), limit); }

static size_t message_size(const uint8_t *at) { return (size_t)at[0] << 8 | at[1]; }

static void put_size(uint8_t *at, size_t size) {
  at[0] = (uint8_t)(size >> 8);
  at[1] = (uint8_t)size;
}

static void stop_asking(struct stream *stream) {
  if (stream->upstream >= 0) close(stream->upstream);
  stream->upstream = -1;
}

static void finish(struct stream *stream) {
  stop_asking(stream);
  close(stream->client);
  net_pool_give(&pool, stream);
}

/* Wait for what the state needs of the client. Its hang-up is always told. */
static void set_state(struct stream *stream, enum state state) {
  uint32_t events = state == READING ? EPOLLIN : state == REPLYING ? EPOLLOUT : 0;
  stream->state = state;
  net_rewatch(stream->client, events, NET_CLIENT, net_pool_index(&pool, stream),
              stream->slot.generation);
  net_pool_touch(&pool, stream, net_now + IDLE_MS);
}

static void reply_with(struct stream *stream, size_t length) {
  put_size(stream->out, length);
  stream->out_used = 2 + length;
  stream->out_at = 0;
  set_state(stream, REPLYING);
}

/* ---- asking others ---------------------------------------------------------------------------- */

static void give_up(struct stream *stream) {
  struct net_query query;
  memcpy(stream->in + 2, stream->client_id, 2);
  net_parse(stream->in + 2, message_size(stream->in), &query);
  reply_with(stream, net_refuse(&query, NET_SERVFAIL, stream->out + 2, NET_MESSAGE_MAX));
}

static int ask(struct stream *stream, const struct net_address *server) {
  int fd = socket(server->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if ((connect(fd, &server->any, server->length) < 0 && errno != EINPROGRESS) ||
      net_watch(fd, EPOLLOUT, NET_UPSTREAM, net_pool_index(&pool, stream),
                stream->slot.generation) < 0) {
    close(fd);
    return -1;
  }
  stream->upstream = fd;
  stream->id = net_random_id();
  put_size(stream->in + 2, stream->id);
  return 0;
}

static void try_servers(struct stream *stream, unsigned first) {
  const struct net_address *servers;
  unsigned count = net_upstreams(&servers);
  stop_asking(stream);
  for (stream->server = first; stream->server < count; stream->server++) {
    if (ask(stream, &servers[stream->server]) < 0) continue;
    stream->out_used = 0;
    set_state(stream, ASKING);
    net_pool_touch(&pool, stream, net_now + TRY_MS);
    return;
  }
  give_up(stream);
}

/* The whole query fits into an empty socket's buffer. */
static int send_query(struct stream *stream) {
  size_t length = 2 + message_size(stream->in);
  ssize_t n = send(stream->upstream, stream->in, length, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n != (ssize_t)length) return -1;
  stream->state = WAITING;
  net_rewatch(stream->upstream, EPOLLIN, NET_UPSTREAM, net_pool_index(&pool, stream),
              stream->slot.generation);
  return 0;
}

/* 1: the answer is complete, 0: not yet, -1: it will not be. */
static int receive_answer(struct stream *stream) {
  for (;;) {
    size_t wanted = stream->out_used < 2 ? 2 : 2 + message_size(stream->out);
    if (stream->out_used >= 2 && stream->out_used == wanted) return 1;
    ssize_t n = recv(stream->upstream, stream->out + stream->out_used, wanted - stream->out_used,
                     MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) return -1;
    stream->out_used += (size_t)n;
  }
}

void net_stream_upstream(unsigned index, uint32_t generation, uint32_t events) {
  struct stream *stream = net_pool_at(&pool, index, generation);
  (void)events;
  if (!stream || stream->upstream < 0) return;
  if (stream->state == ASKING) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(stream->upstream, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error || send_query(stream) < 0) try_servers(stream, stream->server + 1);
    return;
  }
  int complete = receive_answer(stream);
  if (complete == 0) return;
  if (complete < 0 || net_is_answer(stream->out + 2, stream->out_used - 2, stream->in + 2,
                                    stream->end, stream->id) != 1) {
    try_servers(stream, stream->server + 1);
    return;
  }
  stop_asking(stream);
  memcpy(stream->out + 2, stream->client_id, 2);
  reply_with(stream, stream->out_used - 2);
}

/* ---- the client ------------------------------------------------------------------------------- */

static size_t complete_query(const struct stream *stream) {
  if (stream->in_used < 2) return 0;
  size_t length = 2 + message_size(stream->in);
  return stream->in_used >= length ? length : 0;
}

/* The first query of the buffer, which is complete. */
static void handle(struct stream *stream) {
  struct net_query query;
  net_used();
  net_config_check();
  long length = net_resolve(stream->in + 2, message_size(stream->in), &query, stream->out + 2,
                            NET_MESSAGE_MAX, 1);
  if (length == 0) {
    finish(stream); /* that was no query */
  } else if (length > 0) {
    reply_with(stream, (size_t)length);
  } else {
    memcpy(stream->client_id, stream->in + 2, 2);
    stream->end = query.end;
    try_servers(stream, 0);
  }
}

static void read_query(struct stream *stream) {
  ssize_t n = recv(stream->client, stream->in + stream->in_used, sizeof stream->in - stream->in_used,
                   MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) stream->in_used += (size_t)n;
  if (n > 0 && complete_query(stream))
    handle(stream);
  else if (n <= 0 || stream->in_used == sizeof stream->in)
    finish(stream);
}

static void write_reply(struct stream *stream) {
  ssize_t n = send(stream->client, stream->out + stream->out_at, stream->out_used - stream->out_at,
                   MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n < 0) {
    finish(stream);
    return;
  }
  stream->out_at += (size_t)n;
  if (stream->out_at < stream->out_used) return;
  size_t done = complete_query(stream);
  stream->in_used -= done;
  memmove(stream->in, stream->in + done, stream->in_used);
  if (complete_query(stream))
    handle(stream);
  else
    set_state(stream, READING);
}

void net_stream_client(unsigned index, uint32_t generation, uint32_t events) {
  struct stream *stream = net_pool_at(&pool, index, generation);
  if (!stream) return;
  if (events & EPOLLERR)
    finish(stream);
  else if (stream->state == READING)
    read_query(stream);
  else if (stream->state == REPLYING)
    write_reply(stream);
  else if (events & EPOLLHUP)
    finish(stream);
}

static void admit(int fd) {
  struct stream *stream = net_pool_take(&pool, net_now + IDLE_MS);
  if (!stream) { /* the one that has done nothing for the longest time goes */
    finish(net_pool_oldest(&pool));
    stream = net_pool_take(&pool, net_now + IDLE_MS);
  }
  stream->client = fd;
  stream->upstream = -1;
  stream->state = READING;
  stream->in_used = 0;
  if (net_watch(fd, EPOLLIN, NET_CLIENT, net_pool_index(&pool, stream), stream->slot.generation) < 0)
    finish(stream);
}

void net_stream_accept(unsigned index, uint32_t generation, uint32_t events) {
  (void)index;
  (void)generation;
  (void)events;
  net_used();
  for (int i = 0; i < 16; i++) {
    int fd = accept4(NET_FD_DNS_TCP, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      admit(fd);
      continue;
    }
    if (errno == EMFILE || errno == ENFILE) net_ports_pause();
    if (errno != ECONNABORTED && errno != EINTR) return;
  }
}

/* ---- time ------------------------------------------------------------------------------------- */

/* Tries are shorter than idleness: the pool's order is not that of the deadlines, and the table is
 * small. */
static int64_t next(void) {
  int64_t first = INT64_MAX;
  for (unsigned i = 0; i < pool.touched && pool.live_count; i++) {
    const struct net_slot *slot = (const struct net_slot *)(pool.slots + pool.size * i);
    if (slot->generation && slot->deadline < first) first = slot->deadline;
  }
  return first;
}

static void expire(void) {
  for (unsigned i = 0; i < pool.touched && pool.live_count; i++) {
    struct stream *stream = (struct stream *)(pool.slots + pool.size * i);
    if (!stream->slot.generation || stream->slot.deadline > net_now) continue;
    if (stream->upstream >= 0)
      try_servers(stream, stream->server + 1);
    else
      finish(stream);
  }
}

static unsigned busy(void) { return pool.live_count; }

const struct net_timers net_stream_timers = {next, expire, busy};
