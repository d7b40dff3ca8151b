/* Making what one entry says. */
#ifndef FASTBOX_TAR_WRITE_H
#define FASTBOX_TAR_WRITE_H

#include <sys/types.h>
#include <time.h>

#include "dirs.h"
#include "names.h"
#include "stream.h"

struct entry {
  char type; /* enum fb_type, files and pax forms resolved to FB_TYPE_FILE */
  struct name name, link; /* link: of a hard link */
  char target[PATH_MAX];  /* of a symbolic link */
  mode_t mode;
  uid_t uid;
  gid_t gid;
  int64_t size; /* of the data in the archive */
  struct timespec mtime;
  dev_t device;
  const struct xattr *xattrs;
  size_t xattr_count;
  const struct sparse *sparse; /* NULL: an ordinary file */
};

struct writer {
  struct fb_job *job;
  struct stream *stream;
  struct paths paths;
  struct dirs dirs;
  uid_t uid; /* whose files the thread makes */
  gid_t gid;
  int has_whiteouts; /* some were made */
};

/* Make the entry and consume its data and padding. 0, or -1 with the error recorded. */
int write_entry(struct writer *writer, const struct entry *entry);

/* For archives that say nothing of their root: it is made as mkdir would. 0 or -1. */
int write_root(struct writer *writer);

#endif
