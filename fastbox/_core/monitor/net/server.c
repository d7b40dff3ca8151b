/* The name server's UDP socket, and what is answered without asking anybody. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net.h"

#define BATCH 32 /* queries taken, and answers given, by one system call */
#define BATCHES 8 /* before others have their turn */

/* One batch. */
struct batch {
  struct mmsghdr in[BATCH], out[BATCH];
  struct iovec in_part[BATCH], out_part[BATCH];
  struct net_address client[BATCH];
  uint8_t query[BATCH][NET_QUERY_MAX];
  uint8_t reply[BATCH][NET_REPLY_MAX];
};
static struct batch *batch;
static struct net_found *found;

void net_server_open(void) {
  batch = net_table(sizeof *batch);
  found = net_table(sizeof *found);
}

size_t net_refuse(const struct net_query *query, int rcode, uint8_t *data, size_t room) {
  struct net_reply reply;
  net_reply_begin(&reply, query, rcode, data, room);
  return net_reply_end(&reply, query);
}

/* All addresses, another one first each time. */
static size_t answer_addresses(const struct net_query *query, int family, uint8_t *data,
                               size_t room) {
  static unsigned turns[2];
  struct net_reply reply;
  net_reply_begin(&reply, query, NET_NOERROR, data, room);
  unsigned first = turns[family == AF_INET]++;
  for (unsigned i = 0; i < found->count; i++)
    if (net_reply_address(&reply, family, found->address[(first + i) % found->count]) < 0) break;
  return net_reply_end(&reply, query);
}

/* Our own answer; 0: the name is none of ours. */
static size_t answer(const struct net_query *query, uint8_t *data, size_t room) {
  int family = query->type == NET_AAAA ? AF_INET6 : AF_INET;
  char target[256];
  if (!query->name[0]) return 0;
  if (query->type == NET_PTR && net_names_pointer(query->name, target) == 0) {
    struct net_reply reply;
    net_reply_begin(&reply, query, NET_NOERROR, data, room);
    net_reply_pointer(&reply, target);
    return net_reply_end(&reply, query);
  }
  net_names_find(query->name, family, found);
  if (!found->known) return 0;
  if (query->type != NET_A && query->type != NET_AAAA) found->count = 0;
  return answer_addresses(query, family, data, room);
}

long net_resolve(const uint8_t *packet, size_t length, struct net_query *query, uint8_t *reply,
                 size_t room, int stream) {
  int rcode = net_parse(packet, length, query);
  if (rcode < 0) return 0;
  if (!stream && room > query->size) room = query->size;
  if (rcode > 0 || query->version) return (long)net_refuse(query, rcode, reply, room);
  size_t size = answer(query, reply, room);
  if (size) return (long)size;
  if (net_config()->internal) return (long)net_refuse(query, NET_SERVFAIL, reply, room);
  return NET_ASK_UPSTREAM;
}

static int receive(void) {
  memset(batch->in, 0, sizeof batch->in);
  for (int i = 0; i < BATCH; i++) {
    struct msghdr *message = &batch->in[i].msg_hdr;
    batch->in_part[i] = (struct iovec){batch->query[i], NET_QUERY_MAX};
    message->msg_iov = &batch->in_part[i];
    message->msg_iovlen = 1;
    message->msg_name = &batch->client[i].any;
    message->msg_namelen = sizeof batch->client[i].v6;
  }
  /* Not musl's wrappers: they make one call for each message. */
  return (int)syscall(SYS_recvmmsg, NET_FD_DNS, batch->in, BATCH, MSG_DONTWAIT, NULL);
}

/* What the client does not take is lost, as UDP has it. */
static void send_all(int count) {
  for (int at = 0; at < count;) {
    long n = syscall(SYS_sendmmsg, NET_FD_DNS, batch->out + at, count - at,
                     MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) return;
    at += n > 0 ? (int)n : 1; /* an error is the first message's */
  }
}

static void queue_reply(int number, int from, size_t length) {
  struct msghdr *message = &batch->out[number].msg_hdr;
  memset(&batch->out[number], 0, sizeof batch->out[number]);
  batch->out_part[number] = (struct iovec){batch->reply[number], length};
  message->msg_iov = &batch->out_part[number];
  message->msg_iovlen = 1;
  message->msg_name = &batch->client[from].any;
  message->msg_namelen = batch->in[from].msg_hdr.msg_namelen;
}

void net_server_ready(unsigned index, uint32_t generation, uint32_t events) {
  (void)index;
  (void)generation;
  (void)events;
  net_used();
  for (int round = 0; round < BATCHES; round++) {
    int count = receive(), replies = 0;
    if (count <= 0) return; /* an error that was queued on the socket is taken by that */
    net_config_check();
    for (int i = 0; i < count; i++) {
      struct net_query query;
      if (batch->in[i].msg_hdr.msg_flags & MSG_TRUNC) continue;
      long length = net_resolve(batch->query[i], batch->in[i].msg_len, &query,
                                batch->reply[replies], NET_REPLY_MAX, 0);
      batch->client[i].length = batch->in[i].msg_hdr.msg_namelen;
      if (length > 0) queue_reply(replies++, i, (size_t)length);
      if (length == NET_ASK_UPSTREAM) net_forward(&query, &batch->client[i]);
    }
    send_all(replies);
    if (count < BATCH) return;
  }
}
