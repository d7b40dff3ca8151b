/* Going through a tree that may be hostile and may change: by descriptors, never through a link, and
 * as deep as there is memory for. */
#ifndef FASTBOX_PACK_WALK_H
#define FASTBOX_PACK_WALK_H

#include "attributes.h"
#include "links.h"
#include "listing.h"
#include "record.h"

struct level {
  struct listing listing;
  size_t path_length; /* of the directory, with its slash */
  uint64_t dev, ino;
  int fd; /* -1: closed meanwhile */
};

struct walk {
  struct fb_pack_job *job;
  struct tape tape;
  struct level *levels;
  size_t depth, room;
  struct buffer path; /* of the entry, ends with NUL */
  struct buffer body, target;
  struct attributes attributes;
  struct links links;
  int overlay; /* convert whiteouts */
  int guarded; /* no device can be opened: the mount forbids it */
};

/* How an entry went. */
enum outcome { FB_FAILED = -1, FB_DONE, FB_GONE, FB_AGAIN };

static inline int walk_fail(struct walk *walk, enum fb_pack_step step, int err, const char *why) {
  return pack_fail(walk->job, step, err, why, walk->path.at);
}

/* The open directory that the walk is in. */
static inline int walk_directory(const struct walk *walk) {
  return walk->levels[walk->depth - 1].fd;
}

/* Set the path to `length` bytes of what it was and `name`. 0, or -1 with the error recorded. */
int walk_name(struct walk *walk, size_t length, const char *name);

/* Add what is called `name` in the directory, whose path is set. A directory is gone down into. */
enum outcome entry_add(struct walk *walk, const char *name);

/* Add the directory of an open descriptor, and go down into it. It owns the descriptor. */
enum outcome directory_add(struct walk *walk, int fd);

#endif
