#include "record.h"

#include <errno.h>
#include <stdio.h>

#define MAX_ID 07777777
#define MAX_NUMBER 077777777777
#define NAME_ROOM 100
#define PREFIX_ROOM 155

int record_add(struct buffer *body, const char *key, const void *value, size_t length) {
  char head[24];
  size_t key_length = strlen(key);
  size_t rest = key_length + length + 3; /* space, equals, newline */
  size_t whole = rest, before;
  do { /* the length counts its own digits */
    before = whole;
    whole = rest + (size_t)snprintf(head, sizeof(head), "%zu", before);
  } while (whole != before);
  int digits = snprintf(head, sizeof(head), "%zu ", whole);
  if (buffer_grow(body, whole) < 0) return -1;
  buffer_add(body, head, (size_t)digits);
  buffer_add(body, key, key_length);
  buffer_add(body, "=", 1);
  buffer_add(body, value, length);
  buffer_add(body, "\n", 1);
  return 0;
}

static int add_number(struct buffer *body, const char *key, int64_t value) {
  char text[24];
  int length = snprintf(text, sizeof(text), "%lld", (long long)value);
  return record_add(body, key, text, (size_t)length);
}

/* "[-]seconds[.fraction]" without zeros at its end. */
static int add_time(struct buffer *body, int64_t seconds, long nanoseconds) {
  char text[40];
  const char *sign = "";
  if (seconds < 0) {
    sign = "-";
    seconds = -seconds;
    if (nanoseconds) {
      seconds -= 1;
      nanoseconds = 1000000000 - nanoseconds;
    }
  }
  int length = snprintf(text, sizeof(text), "%s%lld.%09ld", sign, (long long)seconds, nanoseconds);
  while (text[length - 1] == '0') length--;
  if (text[length - 1] == '.') length--;
  return record_add(body, "mtime", text, (size_t)length);
}

static int is_utf8(const char *text, size_t length) {
  const unsigned char *at = (const unsigned char *)text, *end = at + length;
  while (at < end) {
    unsigned char c = *at++;
    int more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : -1;
    if (more < 0 || end - at < more) return 0;
    /* Overlong forms, surrogates, beyond U+10FFFF. */
    if (more && ((c == 0xe0 && *at < 0xa0) || (c == 0xed && *at > 0x9f) ||
                 (c == 0xf0 && *at < 0x90) || (c == 0xf4 && *at > 0x8f)))
      return 0;
    while (more--)
      if ((*at++ & 0xc0) != 0x80) return 0;
  }
  return 1;
}

/* Where a name that is too long for its field is cut in two: the index of a slash; 0: nowhere. */
static size_t split_at(const char *name, size_t length) {
  size_t last = length > PREFIX_ROOM ? PREFIX_ROOM : length - 2; /* something stays behind it */
  for (size_t i = last; i > 0 && length - i - 1 <= NAME_ROOM; i--)
    if (name[i] == '/') return i;
  return 0;
}

/* The pax records. 0, or -1 without memory. */
static int describe(struct buffer *body, const struct record *r, int long_name) {
  int long_link = r->link_length > NAME_ROOM, bad = 0;
  if ((long_name && !is_utf8(r->name, r->name_length)) ||
      (long_link && !is_utf8(r->link, r->link_length)))
    bad |= record_add(body, "hdrcharset", "BINARY", 6);
  if (long_name) bad |= record_add(body, "path", r->name, r->name_length);
  if (long_link) bad |= record_add(body, "linkpath", r->link, r->link_length);
  if (r->size > MAX_NUMBER) bad |= add_number(body, "size", r->size);
  if (r->uid > MAX_ID) bad |= add_number(body, "uid", r->uid);
  if (r->gid > MAX_ID) bad |= add_number(body, "gid", r->gid);
  if (r->mtime_ns || r->mtime < 0 || r->mtime > MAX_NUMBER)
    bad |= add_time(body, r->mtime, r->mtime_ns);
  if (r->xattrs) bad |= buffer_add(body, r->xattrs->at, r->xattrs->length);
  return bad;
}

/* Octal digits and a NUL. What does not fit is 0: a pax record says it. */
static void octal(char *field, int width, int64_t value) {
  int64_t most = (INT64_C(1) << (3 * (width - 1))) - 1;
  if (value < 0 || value > most) value = 0;
  field[width - 1] = 0;
  for (int i = width - 2; i >= 0; i--, value >>= 3) field[i] = (char)('0' + (value & 7));
}

static int put_block(struct tape *tape, const struct record *r, size_t split) {
  char block[FB_TAR_BLOCK] = {0};
  const char *name = split ? r->name + split + 1 : r->name;
  size_t length = split ? r->name_length - split - 1 : r->name_length;
  memcpy(block, name, length > NAME_ROOM ? NAME_ROOM : length);
  octal(block + 100, 8, r->mode);
  octal(block + 108, 8, r->uid);
  octal(block + 116, 8, r->gid);
  octal(block + 124, 12, r->size);
  octal(block + 136, 12, r->mtime);
  memset(block + 148, ' ', 8);
  block[156] = r->type;
  if (r->link) memcpy(block + 157, r->link, r->link_length > NAME_ROOM ? NAME_ROOM : r->link_length);
  memcpy(block + 257, "ustar\00000", 8);
  octal(block + 329, 8, r->major);
  octal(block + 337, 8, r->minor);
  if (split) memcpy(block + 345, r->name, split);
  unsigned sum = 0;
  for (int i = 0; i < FB_TAR_BLOCK; i++) sum += (unsigned char)block[i];
  octal(block + 148, 7, sum); /* six digits, NUL, space */
  return tape_put(tape, block, sizeof(block));
}

int record_put(struct tape *tape, const struct record *r, struct buffer *body) {
  size_t split = 0;
  int long_name = r->name_length > NAME_ROOM;
  if (long_name && r->name_length <= PREFIX_ROOM + 1 + NAME_ROOM) {
    split = split_at(r->name, r->name_length);
    long_name = split == 0;
  }
  body->length = 0;
  if (describe(body, r, long_name) < 0) return pack_fail(tape->job, FB_PACK_START, ENOMEM, NULL, r->name);
  if (body->length) {
    static const char name[] = "PaxHeaders/x";
    struct record pax = {.type = 'x', .name = name, .name_length = sizeof(name) - 1, .mode = 0644};
    pax.size = (int64_t)body->length;
    if (put_block(tape, &pax, 0) < 0 || tape_put(tape, body->at, body->length) < 0 ||
        tape_pad(tape, pax.size) < 0)
      return -1;
  }
  return put_block(tape, r, split);
}
