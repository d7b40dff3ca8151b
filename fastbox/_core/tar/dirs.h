/* What directories get last: making files in them changes their times, and set-group-id or a
 * default ACL would be inherited. Kept in memory up to a limit, then in an unlinked file. */
#ifndef FASTBOX_TAR_DIRS_H
#define FASTBOX_TAR_DIRS_H

#include <stdint.h>

#include "paths.h"
#include "pax.h"

struct dir {
  uint32_t path_length, xattrs; /* which follow the record: path; name NUL length value … */
  uint32_t size;                /* of all that */
  uint32_t mode, uid, gid;
  int32_t set_owner, set_mode;
  int64_t mtime, mtime_ns;
};

struct dirs {
  uint8_t *buffer;
  size_t used;
  int64_t spilled;
  int file; /* -1: none yet */
};

int dirs_init(struct dirs *dirs); /* 0 or -1 */
void dirs_free(struct dirs *dirs);

/* Remember a directory. 0 or -1 with errno. */
int dirs_add(struct dirs *dirs, int root, const struct dir *dir, const char *path,
             const struct xattr *xattrs, size_t count);

/* Apply everything, in the order of the archive. 0, or -1 with the error recorded. */
int dirs_apply(struct dirs *dirs, struct fb_job *job, struct paths *paths);

#endif
