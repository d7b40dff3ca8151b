#include "pax.h"

#include <stdlib.h>
#include <string.h>

static const char MALFORMED[] = "its pax header is malformed";

void pax_reset(struct pax *pax) {
  /* The attributes need no clearing: their count says how many there are. */
  char *body = pax->body;
  size_t room = pax->room;
  memset(pax, 0, offsetof(struct pax, xattrs));
  memset((char *)pax + offsetof(struct pax, xattr_count), 0,
         sizeof(*pax) - offsetof(struct pax, xattr_count));
  pax->body = body;
  pax->room = room;
}

void pax_free(struct pax *pax) {
  free(pax->body);
  pax->body = NULL;
}

char *pax_room(struct pax *pax, size_t length) {
  if (length <= pax->room) return pax->body;
  char *grown = realloc(pax->body, length);
  if (!grown) return NULL;
  pax->body = grown;
  pax->room = length;
  return grown;
}

int pax_decimal(const char *text, size_t length, int64_t *value) {
  int64_t v = 0;
  if (length == 0) return -1;
  for (size_t i = 0; i < length; i++) {
    if (text[i] < '0' || text[i] > '9') return -1;
    int digit = text[i] - '0';
    if (v > (INT64_MAX - digit) / 10) return -1;
    v = v * 10 + digit;
  }
  *value = v;
  return 0;
}

/* "[-]seconds[.fraction]"; the fraction is cut to nanoseconds, towards the past. */
static int parse_time(struct text text, int64_t *seconds, long *nanoseconds) {
  const char *at = text.at, *end = at + text.length;
  int negative = at < end && *at == '-';
  if (negative) at++;
  const char *dot = memchr(at, '.', (size_t)(end - at));
  if (pax_decimal(at, (size_t)((dot ? dot : end) - at), seconds) < 0) return -1;
  long ns = 0, unit = 100000000;
  int rest = 0;
  for (at = dot ? dot + 1 : end; at < end; at++, unit /= 10) {
    if (*at < '0' || *at > '9') return -1;
    ns += (*at - '0') * unit;
    if (!unit && *at != '0') rest = 1;
  }
  if (negative) {
    *seconds = -*seconds;
    ns += rest;
    if (ns) {
      *seconds -= 1;
      ns = 1000000000 - ns;
    }
  }
  *nanoseconds = ns;
  return 0;
}

static int is(struct text key, const char *name) {
  return key.length == strlen(name) && !memcmp(key.at, name, key.length);
}

static int number(struct text value, int64_t *to, int *has) {
  *has = 1;
  return pax_decimal(value.at, value.length, to);
}

static const char *sparse_record(struct pax *pax, struct text key, struct text value,
                                 struct sparse *sparse) {
  int ignored, bad = 0;
  int64_t length;
  if (is(key, "GNU.sparse.major"))
    bad = number(value, &pax->sparse_major, &pax->has_sparse_version);
  else if (is(key, "GNU.sparse.minor"))
    bad = number(value, &pax->sparse_minor, &pax->has_sparse_version);
  else if (is(key, "GNU.sparse.size") || is(key, "GNU.sparse.realsize"))
    bad = number(value, &pax->sparse_size, &pax->has_sparse_size);
  else if (is(key, "GNU.sparse.name"))
    pax->sparse_name = value;
  else if (is(key, "GNU.sparse.numblocks"))
    bad = number(value, &length, &pax->has_sparse_map);
  else if (is(key, "GNU.sparse.offset")) {
    if (pax->has_sparse_offset) return MALFORMED;
    bad = number(value, &pax->sparse_offset, &pax->has_sparse_offset);
  } else if (is(key, "GNU.sparse.numbytes")) {
    if (!pax->has_sparse_offset || number(value, &length, &ignored) < 0) return MALFORMED;
    pax->has_sparse_offset = 0;
    return sparse_add(sparse, pax->sparse_offset, length);
  } else if (is(key, "GNU.sparse.map")) {
    pax->has_sparse_map = 1;
    sparse->count = 0;
    return sparse_parse_list(sparse, value.at, value.length);
  }
  return bad ? MALFORMED : NULL;
}

#define XATTR_PREFIX "SCHILY.xattr."

static const char *xattr_record(struct pax *pax, struct text key, struct text value) {
  size_t prefix = strlen(XATTR_PREFIX);
  if (key.length == prefix || key.length - prefix > 255) return "a name of its xattrs is refused";
  if (value.length > 65536) return "the value of an xattr is longer than 64 KiB";
  if (pax->xattr_count == FB_PAX_XATTRS) return "it has more than 1024 xattrs";
  /* The key ends where '=' stood, which is NUL by now. */
  pax->xattrs[pax->xattr_count++] = (struct xattr){key.at + prefix, value};
  return NULL;
}

static const char *record(struct pax *pax, struct text key, struct text value,
                          struct sparse *sparse) {
  if (key.length == 0 || memchr(key.at, 0, key.length)) return MALFORMED;
  if (key.length >= strlen(XATTR_PREFIX) && !memcmp(key.at, XATTR_PREFIX, strlen(XATTR_PREFIX)))
    return xattr_record(pax, key, value);
  if (value.length == 0) return NULL; /* as if it were not there */
  if (is(key, "path"))
    pax->path = value;
  else if (is(key, "linkpath"))
    pax->link = value;
  else if (is(key, "size"))
    return number(value, &pax->size, &pax->has_size) ? "its size is not a number" : NULL;
  else if (is(key, "uid"))
    return number(value, &pax->uid, &pax->has_uid) ? "its owner is not a number" : NULL;
  else if (is(key, "gid"))
    return number(value, &pax->gid, &pax->has_gid) ? "its group is not a number" : NULL;
  else if (is(key, "mtime")) {
    pax->has_mtime = 1;
    return parse_time(value, &pax->mtime, &pax->mtime_ns) ? "its time is not a number" : NULL;
  } else if (key.length > 11 && !memcmp(key.at, "GNU.sparse.", 11))
    return sparse_record(pax, key, value, sparse);
  return NULL;
}

/* "LENGTH key=value\n", where LENGTH counts all of it. */
const char *pax_parse(struct pax *pax, size_t length, struct sparse *sparse) {
  char *at = pax->body, *end = at + length;
  while (at < end) {
    int64_t size;
    char *space = memchr(at, ' ', (size_t)(end - at));
    if (!space || space - at > 7 || pax_decimal(at, (size_t)(space - at), &size) < 0)
      return MALFORMED;
    if (size > end - at || size < space - at + 3) return MALFORMED;
    char *last = at + size - 1;
    char *equals = memchr(space + 1, '=', (size_t)(last - space - 1));
    if (*last != '\n' || !equals) return MALFORMED;
    struct text key = {space + 1, (size_t)(equals - space - 1)};
    struct text value = {equals + 1, (size_t)(last - equals - 1)};
    *equals = 0;
    const char *why = record(pax, key, value, sparse);
    if (why) return why;
    at += size;
  }
  return pax->has_sparse_offset ? MALFORMED : NULL;
}

const char *pax_sparse_form(const struct pax *pax, enum fb_pax_sparse *form) {
  *form = FB_SPARSE_NONE;
  if (pax->has_sparse_version) {
    if (pax->sparse_major == 1 && pax->sparse_minor == 0)
      *form = FB_SPARSE_MAP_IN_DATA;
    else if (pax->sparse_major == 0 && pax->sparse_minor <= 1)
      *form = FB_SPARSE_MAP_IN_PAX;
    else
      return "its form of sparse data is not known";
  } else if (pax->has_sparse_map) {
    *form = FB_SPARSE_MAP_IN_PAX;
  }
  if (*form != FB_SPARSE_NONE && !pax->has_sparse_size) return "its sparse data has no size";
  return NULL;
}
