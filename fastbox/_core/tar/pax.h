/* pax extended headers (POSIX.1-2001): what they say about the next entry. */
#ifndef FASTBOX_TAR_PAX_H
#define FASTBOX_TAR_PAX_H

#include <stddef.h>
#include <stdint.h>

#include "sparse.h"

#define FB_PAX_SIZE (1024 * 1024)
#define FB_PAX_XATTRS 1024

struct text {
  const char *at; /* NULL: not given */
  size_t length;
};

struct xattr {
  const char *name; /* ends with NUL */
  struct text value;
};

enum fb_pax_sparse { FB_SPARSE_NONE, FB_SPARSE_MAP_IN_PAX, FB_SPARSE_MAP_IN_DATA };

struct pax {
  char *body; /* everything below points into it */
  size_t room;
  struct text path, link, sparse_name;
  int64_t size, uid, gid;
  int has_size, has_uid, has_gid, has_mtime, has_sparse_size;
  int64_t mtime;
  long mtime_ns;
  struct xattr xattrs[FB_PAX_XATTRS];
  size_t xattr_count;
  int64_t sparse_size, sparse_major, sparse_minor, sparse_offset;
  int has_sparse_offset, has_sparse_version, has_sparse_map;
};

void pax_reset(struct pax *pax);
void pax_free(struct pax *pax);

/* Room for a body of `length` bytes, at most FB_PAX_SIZE. NULL without memory. */
char *pax_room(struct pax *pax, size_t length);

/* Parse the body; sparse segments go to `sparse`. NULL, or what is wrong. */
const char *pax_parse(struct pax *pax, size_t length, struct sparse *sparse);

/* Which sparse form the records announce. NULL, or what is wrong. */
const char *pax_sparse_form(const struct pax *pax, enum fb_pax_sparse *form);

/* Decimal digits only. 0, or -1 if it is no number or does not fit 63 bits. */
int pax_decimal(const char *text, size_t length, int64_t *value);

#endif
