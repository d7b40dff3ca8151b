/* Names of entries and targets of hard links, as the archive gives them. */
#ifndef FASTBOX_TAR_NAMES_H
#define FASTBOX_TAR_NAMES_H

#include <limits.h>
#include <stddef.h>

/* A path below the root: no leading, trailing or double slash, no "." and no "..". */
struct name {
  char path[PATH_MAX];
  size_t length;
  size_t base; /* where the last component begins; the parent is path[0 .. base-1) */
};

/* Clean `raw` into `name`. Absolute names are relative to the root; ".." takes back the component
 * before it. Returns NULL, or why the name is refused. */
const char *name_clean(struct name *name, const char *raw, size_t length);

static inline const char *name_base(const struct name *name) {
  return name->path + name->base;
}

static inline size_t name_parent_length(const struct name *name) {
  return name->base ? name->base - 1 : 0;
}

#endif
