/* fastbox-net: the name server of a container's networks (at 127.0.0.11 in the container) and the
 * relay of its published ports, where the kernel's own forwarding does not reach. Its monitor starts
 * it when one of the sockets becomes readable, and it ends by itself when nothing needs it.
 *
 * It reads what hostile containers send: no heap, fixed tables, no privileges (confine.c). A table is
 * memory of the process that nothing touches before it is used.
 */
#ifndef FASTBOX_NET_H
#define FASTBOX_NET_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Descriptors that it is started with; all but the first may be closed. */
enum net_fd {
  NET_FD_NETWORKS = 3, /* RUNTIME/networks */
  NET_FD_DNS,          /* UDP socket, in the container's network namespace */
  NET_FD_DNS_TCP,      /* listener there */
  NET_FD_LEASH,        /* pidfd: when that process ends, so do we */
  NET_FD_PORTS,        /* the first of the published ports' sockets */
};

struct net_address {
  socklen_t length;
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  };
};

/* ---- pool.c: slots of a fixed table, the live ones ordered by their deadlines ------------------ */

struct net_slot { /* first member of what is in a pool */
  struct net_slot *prev, *next;
  int64_t deadline;    /* ms, as net_now */
  uint32_t generation; /* 0: free */
};

struct net_pool {
  char *slots;
  size_t size;
  unsigned touched, limit, live_count;
  struct net_slot live, free; /* heads of rings */
};

/* Zeroed memory, a page of it in use once it is touched; ends the process if there is none. */
void *net_table(size_t size);
void net_pool_open(struct net_pool *pool, size_t size, unsigned limit);
/* A zeroed header, everything else as it was left; NULL: all are taken. */
void *net_pool_take(struct net_pool *pool, int64_t deadline);
void net_pool_give(struct net_pool *pool, void *slot);
/* A later deadline than every other's. */
void net_pool_touch(struct net_pool *pool, void *slot, int64_t deadline);
void *net_pool_oldest(struct net_pool *pool); /* NULL: empty */
/* What an event is about, NULL when it has been closed since. */
void *net_pool_at(struct net_pool *pool, unsigned index, uint32_t generation);
unsigned net_pool_index(const struct net_pool *pool, const void *slot);

/* ---- loop.c ------------------------------------------------------------------------------------ */

enum net_kind {
  NET_LEASH,
  NET_DNS,        /* the UDP socket */
  NET_DNS_ACCEPT, /* the listener */
  NET_FORWARD,    /* a forwarded query's socket */
  NET_CLIENT,     /* a client's TCP connection to the name server */
  NET_UPSTREAM,   /* its forwarded query's */
  NET_PORT,       /* a published port */
  NET_RELAY,      /* a relayed connection; index * 2 + side */
  NET_SESSION,    /* a UDP client's socket to the container */
  NET_KINDS,
};

extern int64_t net_now; /* milliseconds, monotonic, when this turn of the loop began */

void net_loop_open(void);
/* Watch `fd` for epoll's `events`; returns 0, or -1 with errno. */
int net_watch(int fd, uint32_t events, enum net_kind kind, unsigned index, uint32_t generation);
/* Other events from now on; with EPOLLET, what is ready is told again. */
void net_rewatch(int fd, uint32_t events, enum net_kind kind, unsigned index,
                 uint32_t generation);
void net_used(void); /* somebody wanted something: idleness begins anew */
/* Until idle for that many milliseconds, or the leash ends. */
void net_loop(int64_t idle);

/* ---- confine.c --------------------------------------------------------------------------------- */

/* Raise the limit of open descriptors, close those behind `last`; returns the limit. */
unsigned net_descriptors(unsigned last);
/* Give up every right that serving does not need. leash: whether there is one; if not, the parent's end
 * is ours. Returns 0, or -1: do not go on. */
int net_confine(int leash);

/* ---- text.c ------------------------------------------------------------------------------------ */

/* Whether it can be the name of a file below names/ or of a network: letters, digits, "_-.",
 * not beginning with a dot. */
int net_is_name(const char *text);
/* The parts joined; 0, or -1: too long. The list ends with NULL. */
int net_join(char *buffer, size_t size, ...);
/* Decimal number <= limit and nothing else, or -1. */
long net_number(const char *text, long limit);
/* "1.2.3.4", "fe80::1%eth0"; 0, or -1: none. */
int net_address_parse(const char *text, unsigned port, struct net_address *address);
/* As Python's ipaddress writes them (RFC 5952): the names of files. */
void net_address_text(int family, const uint8_t *bytes, char text[46]);
/* The words of a line in place, at most `limit`; returns their number. */
int net_words(char *line, char **words, int limit);

struct net_stamp {
  uint64_t device, inode, size, changed, modified;
};
/* Whether the file is another than at the last call; one that is not there is all zeros. */
int net_file_changed(int directory, const char *path, struct net_stamp *stamp);
/* The whole file, NUL-terminated; -1: not to be read, or larger than that. */
long net_file_read(int directory, const char *path, char *buffer, size_t size);

/* ---- config.c: RUNTIME/networks/boxes/ID/dns, and the host's resolv.conf ------------------------- */

#define NET_NETWORKS 256
#define NET_ALIASES 1024
#define NET_SERVERS 16

struct net_network {
  const char *id, *name;
};
struct net_alias {
  const char *name, *target, *id;
};
struct net_config {
  unsigned networks, aliases, servers;
  int internal; /* also when there is no configuration: nothing gets out by accident */
  struct net_network network[NET_NETWORKS];
  struct net_alias alias[NET_ALIASES];
  struct net_address server[NET_SERVERS];
};

void net_config_open(const char *container);
/* Read it again if it has changed. */
void net_config_check(void);
const struct net_config *net_config(void);
/* Where to forward to, in order; how many. */
unsigned net_upstreams(const struct net_address **servers);

/* ---- message.c: DNS on the wire (RFC 1035, EDNS: RFC 6891) --------------------------------------- */

#define NET_QUERY_MAX 1232  /* bytes of a query over UDP that are taken */
#define NET_REPLY_MAX 4096  /* bytes of our own answers over UDP */
#define NET_MESSAGE_MAX 65535

enum net_rcode { NET_NOERROR, NET_FORMERR, NET_SERVFAIL, NET_NXDOMAIN, NET_NOTIMP, NET_REFUSED };
enum net_type { NET_A = 1, NET_PTR = 12, NET_AAAA = 28, NET_OPT = 41 };

struct net_query {
  const uint8_t *packet;
  size_t length;
  size_t end;      /* of the question; 0: it has none that could be read */
  char name[256];  /* lower case, without the last dot; "" if it can't be a name of ours */
  unsigned type, class;
  unsigned size;   /* bytes the client takes over UDP */
  int edns, version;
};

/* NET_NOERROR, the error to answer with, or -1: not to be answered. */
int net_parse(const uint8_t *packet, size_t length, struct net_query *query);

struct net_reply {
  uint8_t *data;
  size_t length, room;
  unsigned answers;
};

/* room: bytes of data; over UDP no more than the client takes are used. */
void net_reply_begin(struct net_reply *reply, const struct net_query *query, int rcode,
                     uint8_t *data, size_t room);
/* 0, or -1: there is no room, which the answer will say. */
int net_reply_address(struct net_reply *reply, int family, const uint8_t *address);
int net_reply_pointer(struct net_reply *reply, const char *name);
/* The answer's length. */
size_t net_reply_end(struct net_reply *reply, const struct net_query *query);

/* Whether `packet` is the answer to `query` sent with another id: 1; 0: no; -1: it is, and says that
 * this server can't help. */
int net_is_answer(const uint8_t *packet, size_t length, const uint8_t *query, size_t end,
                  uint16_t id);

/* ---- names.c ------------------------------------------------------------------------------------- */

#define NET_ADDRESSES 1024

struct net_found {
  int known; /* the name, whether or not it has addresses of that family */
  unsigned count;
  uint8_t address[NET_ADDRESSES][16];
};

void net_names_find(const char *name, int family, struct net_found *found);
/* The name of who has the address (of a PTR query's name) on one of our networks: 0, or -1. */
int net_names_pointer(const char *name, char target[256]);

/* ---- server.c ------------------------------------------------------------------------------------ */

#define NET_ASK_UPSTREAM (-1)

void net_server_open(void);
void net_server_ready(unsigned index, uint32_t generation, uint32_t events);
/* Length of our answer, 0: none is due, or NET_ASK_UPSTREAM. room: of `reply`. */
long net_resolve(const uint8_t *packet, size_t length, struct net_query *query, uint8_t *reply,
                 size_t room, int stream);
/* An answer that only tells an error; returns its length. */
size_t net_refuse(const struct net_query *query, int rcode, uint8_t *reply, size_t room);

/* ---- forward.c: queries over UDP; stream.c: over TCP ------------------------------------------------ */

void net_forward_open(unsigned limit);
void net_forward(const struct net_query *query, const struct net_address *client);
void net_forward_ready(unsigned index, uint32_t generation, uint32_t events);
uint16_t net_random_id(void);

void net_stream_open(unsigned limit);
void net_stream_accept(unsigned index, uint32_t generation, uint32_t events);
void net_stream_client(unsigned index, uint32_t generation, uint32_t events);
void net_stream_upstream(unsigned index, uint32_t generation, uint32_t events);

/* ---- ports.c: what is published, RUNTIME/networks/boxes/ID/ports ------------------------------------ */

void net_ports_open(const char *container, unsigned count);
void net_ports_ready(unsigned index, uint32_t generation, uint32_t events);
/* NULL: it goes nowhere. */
const struct net_address *net_port_target(unsigned port);
/* Accept no connection for a moment: there is no room for one. */
void net_ports_pause(void);

/* ---- relay.c: TCP; session.c: UDP ------------------------------------------------------------------- */

void net_relay_open(unsigned limit);
void net_relay_accept(unsigned port);
void net_relay_ready(unsigned index, uint32_t generation, uint32_t events);

void net_session_open(unsigned limit);
void net_session_prepare(int fd); /* of a published port, before net_confine */
void net_session_receive(unsigned port);
void net_session_ready(unsigned index, uint32_t generation, uint32_t events);
void net_session_clear(void); /* the targets have changed */

/* What each has of timers: the earliest deadline (INT64_MAX: none), acting on those that have passed,
 * and whether anything is under way. */
struct net_timers {
  int64_t (*next)(void);
  void (*expire)(void);
  unsigned (*busy)(void);
};
extern const struct net_timers net_forward_timers, net_stream_timers, net_ports_timers,
    net_relay_timers, net_session_timers;

#endif
