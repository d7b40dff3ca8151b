/* DNS messages. What is parsed comes from containers and from the network: each read is checked
 * against the message's end, and no compression pointer is followed. */
#include <string.h>

#include "net.h"

#define HEADER 12
#define OPT_SIZE 11 /* of a bare OPT record */
#define FLAG_ANSWER 0x8000u
#define FLAG_AUTHORITATIVE 0x0400u
#define FLAG_TRUNCATED 0x0200u
#define FLAG_RECURSION 0x0100u
#define FLAG_RECURSION_THERE 0x0080u
#define FLAG_UNCHECKED 0x0010u
#define CLASS_IN 1
#define TTL 1     /* seconds: a container may be gone, and its address another's, at any time */
#define BADVERS 1 /* the upper bits of rcode 16 */

static unsigned get16(const uint8_t *at) { return (unsigned)at[0] << 8 | at[1]; }

static void put16(uint8_t *at, unsigned value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static int lower(int c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

static int is_plain(int c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* The question's name; returns where it ends, or 0. name: see struct net_query. */
static size_t parse_name(const uint8_t *packet, size_t length, char name[256]) {
  size_t at = HEADER, used = 0;
  int plain = 1;
  for (;;) {
    if (at >= length) return 0;
    unsigned size = packet[at++];
    if (size == 0) break;
    /* No pointer: there is nothing before it to point at. The whole has 255 bytes at most. */
    if (size > 63 || size > length - at || at + size - HEADER > 254) return 0;
    if (used) name[used++] = '.';
    for (unsigned i = 0; i < size; i++) {
      int c = lower(packet[at + i]);
      plain &= is_plain(c);
      name[used++] = (char)c;
    }
    at += size;
  }
  name[plain ? used : 0] = 0;
  return at;
}

/* Where a record's name ends, or 0. */
static size_t skip_name(const uint8_t *packet, size_t length, size_t at) {
  while (at < length) {
    unsigned size = packet[at++];
    if (size == 0) return at;
    if (size >= 0xc0) return at < length ? at + 1 : 0;
    if (size > 63 || size > length - at) return 0;
    at += size;
  }
  return 0;
}

/* What follows the question; of interest is only the client's OPT record. */
static int parse_records(struct net_query *query) {
  const uint8_t *packet = query->packet;
  unsigned before = get16(packet + 6) + get16(packet + 8), extra = get16(packet + 10);
  size_t at = query->end, length = query->length;
  for (unsigned i = 0; i < before + extra; i++) {
    int is_root = at < length && packet[at] == 0;
    at = skip_name(packet, length, at);
    if (!at || length - at < 10) return NET_FORMERR;
    unsigned type = get16(packet + at), size = get16(packet + at + 8);
    if (length - at - 10 < size) return NET_FORMERR;
    if (type == NET_OPT && i >= before) {
      if (query->edns || !is_root) return NET_FORMERR;
      query->edns = 1;
      query->version = packet[at + 5];
      if (get16(packet + at + 2) > query->size) query->size = get16(packet + at + 2);
    }
    at += 10 + size;
  }
  return NET_NOERROR;
}

int net_parse(const uint8_t *packet, size_t length, struct net_query *query) {
  query->packet = packet;
  query->length = length;
  query->end = 0;
  query->name[0] = 0;
  query->type = query->class = 0;
  query->size = 512;
  query->edns = query->version = 0;
  if (length < HEADER) return -1;
  unsigned flags = get16(packet + 2);
  if (flags & FLAG_ANSWER) return -1;
  if (flags >> 11 & 15) return NET_NOTIMP; /* not a standard query */
  if (get16(packet + 4) != 1) return NET_FORMERR;
  size_t at = parse_name(packet, length, query->name);
  if (!at || length - at < 4) return NET_FORMERR;
  query->type = get16(packet + at);
  query->class = get16(packet + at + 2);
  query->end = at + 4;
  if (query->class != CLASS_IN) query->name[0] = 0;
  return parse_records(query);
}

void net_reply_begin(struct net_reply *reply, const struct net_query *query, int rcode,
                     uint8_t *data, size_t room) {
  unsigned flags = get16(query->packet + 2) & (0x7800 | FLAG_RECURSION | FLAG_UNCHECKED);
  flags |= FLAG_ANSWER | FLAG_RECURSION_THERE | (unsigned)rcode;
  if (rcode == NET_NOERROR) flags |= FLAG_AUTHORITATIVE;
  reply->data = data;
  reply->room = room - (query->edns ? OPT_SIZE : 0);
  reply->answers = 0;
  memset(data, 0, HEADER);
  memcpy(data, query->packet, 2);
  put16(data + 2, flags);
  reply->length = HEADER;
  if (query->end) {
    put16(data + 4, 1);
    memcpy(data + HEADER, query->packet + HEADER, query->end - HEADER);
    reply->length = query->end;
  }
}

/* A record about the question's name, up to its data. */
static uint8_t *add_record(struct net_reply *reply, unsigned type, size_t size) {
  uint8_t *at = reply->data + reply->length;
  if (reply->length + 12 + size > reply->room) {
    put16(reply->data + 2, get16(reply->data + 2) | FLAG_TRUNCATED);
    return NULL;
  }
  put16(at, 0xc000 | HEADER);
  put16(at + 2, type);
  put16(at + 4, CLASS_IN);
  put16(at + 6, 0);
  put16(at + 8, TTL);
  put16(at + 10, (unsigned)size);
  reply->length += 12 + size;
  reply->answers++;
  return at + 12;
}

int net_reply_address(struct net_reply *reply, int family, const uint8_t *address) {
  size_t size = family == AF_INET ? 4 : 16;
  uint8_t *at = add_record(reply, family == AF_INET ? NET_A : NET_AAAA, size);
  if (!at) return -1;
  memcpy(at, address, size);
  return 0;
}

int net_reply_pointer(struct net_reply *reply, const char *name) {
  uint8_t wire[256];
  size_t used = 0;
  while (*name) {
    size_t size = strcspn(name, ".");
    if (size == 0 || size > 63 || used + 1 + size + 1 > 255) return -1;
    wire[used++] = (uint8_t)size;
    memcpy(wire + used, name, size);
    used += size;
    name += size + (name[size] == '.');
  }
  wire[used++] = 0;
  uint8_t *at = add_record(reply, NET_PTR, used);
  if (!at) return -1;
  memcpy(at, wire, used);
  return 0;
}

size_t net_reply_end(struct net_reply *reply, const struct net_query *query) {
  put16(reply->data + 6, reply->answers);
  if (query->edns) {
    uint8_t *at = reply->data + reply->length;
    memset(at, 0, OPT_SIZE);
    put16(at + 1, NET_OPT);
    put16(at + 3, NET_QUERY_MAX);
    if (query->version) at[5] = BADVERS;
    put16(reply->data + 10, 1);
    reply->length += OPT_SIZE;
  }
  return reply->length;
}

static int same_question(const uint8_t *one, const uint8_t *two, size_t end) {
  for (size_t i = HEADER; i < end; i++) {
    /* The letters of a name may come back in another case; lengths are below 'A', and type and class
     * are compared as they are. */
    if (i < end - 4 ? lower(one[i]) != lower(two[i]) : one[i] != two[i]) return 0;
  }
  return 1;
}

int net_is_answer(const uint8_t *packet, size_t length, const uint8_t *query, size_t end,
                  uint16_t id) {
  if (length < HEADER || get16(packet) != id || !(packet[2] & 0x80)) return 0;
  int rcode = packet[3] & 15, helpless = rcode == NET_SERVFAIL || rcode == NET_REFUSED;
  /* Some that can't read a query don't repeat its question. */
  if (get16(packet + 4) == 0) return rcode == NET_FORMERR || helpless ? -1 : 0;
  if (get16(packet + 4) != 1 || length < end || !same_question(packet, query, end)) return 0;
  return helpless ? -1 : 1;
}
