/* An entry's header: one ustar block, before it pax records of what does not fit (POSIX.1-2001). */
#ifndef FASTBOX_PACK_RECORD_H
#define FASTBOX_PACK_RECORD_H

#include "buffer.h"
#include "tape.h"

struct record {
  char type;
  const char *name; /* of a directory: with a slash at its end */
  size_t name_length;
  const char *link; /* target of a link, else NULL */
  size_t link_length;
  uint32_t mode, uid, gid;
  int64_t size, mtime;
  long mtime_ns;
  unsigned major, minor;
  const struct buffer *xattrs; /* records ready to be written, or NULL */
};

/* Add "LENGTH KEY=VALUE\n". 0, or -1 without memory. */
int record_add(struct buffer *body, const char *key, const void *value, size_t length);

/* Write headers; `body` is room to work in. 0, or -1 with the error recorded. */
int record_put(struct tape *tape, const struct record *record, struct buffer *body);

#endif
