/* Datagrams to published ports: each client has a socket to the container, so that the container's
 * answers find back. Answers leave from the address that the client has written to: a host has
 * several, and a client takes an answer from no other. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "net.h"

#define IDLE_MS 90000
#define BUCKETS 1024 /* a power of two */
#define DATAGRAM_MAX 65536
#define ROUNDS 64 /* datagrams of one socket before others have their turn */

union control {
  struct cmsghdr header;
  char space[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

struct session {
  struct net_slot slot;
  int fd;
  unsigned port, bucket;
  struct session *below; /* in the bucket */
  struct net_address client;
  size_t local_size; /* of `local`, 0: not known */
  union control local; /* the address that was written to, as sendmsg wants it */
};
static struct net_pool pool;
static struct session **buckets;
static uint8_t *datagram;
static uint32_t seed;

void net_session_open(unsigned limit) {
  net_pool_open(&pool, sizeof(struct session), limit);
  buckets = net_table(BUCKETS * sizeof *buckets);
  datagram = net_table(DATAGRAM_MAX);
  while (getrandom(&seed, sizeof seed, 0) != sizeof seed) continue;
}

void net_session_prepare(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
  setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

static unsigned bucket_of(unsigned port, const struct net_address *client) {
  const uint8_t *bytes = (const uint8_t *)&client->any;
  uint32_t hash = seed ^ port * 0x9e3779b1u;
  for (socklen_t i = 0; i < client->length; i++) hash = (hash ^ bytes[i]) * 0x01000193u;
  return (hash ^ hash >> 15) & (BUCKETS - 1);
}

static void finish(struct session *session) {
  struct session **at = &buckets[session->bucket];
  while (*at != session) at = &(*at)->below;
  *at = session->below;
  close(session->fd);
  net_pool_give(&pool, session);
}

static struct session *find(unsigned port, const struct net_address *client) {
  struct session *session = buckets[bucket_of(port, client)];
  while (session &&
         (session->port != port || session->client.length != client->length ||
          memcmp(&session->client.any, &client->any, client->length) != 0))
    session = session->below;
  return session;
}

static int open_target(unsigned port) {
  const struct net_address *target = net_port_target(port);
  if (!target) return -1;
  int fd = socket(target->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0 && connect(fd, &target->any, target->length) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

static struct session *begin(unsigned port, const struct net_address *client) {
  int fd = open_target(port);
  if (fd < 0) return NULL;
  if (pool.live_count == pool.limit) finish(net_pool_oldest(&pool));
  struct session *session = net_pool_take(&pool, net_now + IDLE_MS);
  session->fd = fd;
  session->port = port;
  session->client = *client;
  session->local_size = 0;
  session->bucket = bucket_of(port, client);
  session->below = buckets[session->bucket];
  buckets[session->bucket] = session;
  if (net_watch(fd, EPOLLIN, NET_SESSION, net_pool_index(&pool, session),
                session->slot.generation) == 0)
    return session;
  finish(session);
  return NULL;
}

/* What came with a datagram, made into what answers are sent with. */
static void note_local(struct session *session, struct msghdr *message) {
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  struct in_pktinfo v4;
  struct in6_pktinfo v6;
  if (!header) return;
  memset(&session->local, 0, sizeof session->local);
  session->local.header.cmsg_level = header->cmsg_level;
  session->local.header.cmsg_type = header->cmsg_type;
  if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO) {
    memcpy(&v4, CMSG_DATA(header), sizeof v4);
    v4.ipi_ifindex = 0; /* the route decides: it may be another interface */
    v4.ipi_addr.s_addr = 0;
    memcpy(CMSG_DATA(&session->local.header), &v4, sizeof v4);
    session->local.header.cmsg_len = CMSG_LEN(sizeof v4);
    session->local_size = CMSG_SPACE(sizeof v4);
  } else if (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_PKTINFO) {
    memcpy(&v6, CMSG_DATA(header), sizeof v6);
    v6.ipi6_ifindex = 0;
    memcpy(CMSG_DATA(&session->local.header), &v6, sizeof v6);
    session->local.header.cmsg_len = CMSG_LEN(sizeof v6);
    session->local_size = CMSG_SPACE(sizeof v6);
  }
}

/* Returns 0, or -1: nothing is there. */
static int receive_one(unsigned port) {
  struct iovec part = {datagram, DATAGRAM_MAX};
  struct net_address client;
  struct msghdr message;
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(struct in_pktinfo))];
  } control;
  memset(&message, 0, sizeof message);
  memset(&client, 0, sizeof client);
  message.msg_name = &client.any;
  message.msg_namelen = sizeof client.v6;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  ssize_t n = recvmsg(NET_FD_PORTS + (int)port, &message, MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN ? -1 : 0;
  client.length = message.msg_namelen;
  struct session *session = find(port, &client);
  if (!session) session = begin(port, &client);
  if (!session) return 0;
  note_local(session, &message);
  net_pool_touch(&pool, session, net_now + IDLE_MS);
  /* Its result is about an earlier datagram (ECONNREFUSED): then this one was not sent. */
  if (send(session->fd, datagram, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
    send(session->fd, datagram, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
  return 0;
}

void net_session_receive(unsigned port) {
  for (int i = 0; i < ROUNDS; i++)
    if (receive_one(port) < 0) return;
}

static void answer(struct session *session, size_t length) {
  struct iovec part = {datagram, length};
  struct msghdr message;
  memset(&message, 0, sizeof message);
  message.msg_name = &session->client.any;
  message.msg_namelen = session->client.length;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = session->local_size ? &session->local : NULL;
  message.msg_controllen = session->local_size;
  int fd = NET_FD_PORTS + (int)session->port;
  if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno == EAGAIN) return;
  message.msg_control = NULL; /* a broadcast address, or one that is gone: the kernel chooses */
  message.msg_controllen = 0;
  sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void net_session_ready(unsigned index, uint32_t generation, uint32_t events) {
  struct session *session = net_pool_at(&pool, index, generation);
  (void)events;
  if (!session) return;
  net_pool_touch(&pool, session, net_now + IDLE_MS);
  for (int i = 0; i < ROUNDS; i++) {
    ssize_t n = recv(session->fd, datagram, DATAGRAM_MAX, MSG_DONTWAIT);
    if (n >= 0) answer(session, (size_t)n);
    if (n < 0 && errno == EAGAIN) return;
  }
}

void net_session_clear(void) {
  struct session *session;
  while ((session = net_pool_oldest(&pool))) finish(session);
}

static int64_t next(void) {
  struct session *oldest = net_pool_oldest(&pool);
  return oldest ? oldest->slot.deadline : INT64_MAX;
}

static void expire(void) {
  struct session *oldest;
  while ((oldest = net_pool_oldest(&pool)) && oldest->slot.deadline <= net_now) finish(oldest);
}

static unsigned busy(void) { return pool.live_count; }

const struct net_timers net_session_timers = {next, expire, busy};
