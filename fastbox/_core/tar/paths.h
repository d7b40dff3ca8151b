/* The writer's second barrier: directories below the root, as descriptors. No lookup follows a link
 * out of the root, and the last component of a name is never followed at all. */
#ifndef FASTBOX_TAR_PATHS_H
#define FASTBOX_TAR_PATHS_H

#include <limits.h>

#include "job.h"

#define FB_PATHS_CACHED 16
#define FB_PATHS_LINKS 40 /* as the kernel has it */
#define FB_PATHS_WAY (16 * PATH_MAX)

struct cached {
  int fd;
  size_t length;
  uint64_t used;
  char path[PATH_MAX];
};

struct paths {
  struct fb_job *job;
  int root;
  int walk; /* no openat2: component by component */
  uint64_t clock;
  char way[FB_PATHS_WAY]; /* what a walk has still to go, links resolved */
  int count, last;
  struct cached cache[FB_PATHS_CACHED];
};

void paths_init(struct paths *paths, struct fb_job *job, int root, int walk);
void paths_free(struct paths *paths);

/* An O_PATH descriptor of the directory path[0..length), resolved in the root; owned by `paths` and
 * valid until the next call. With `create`, missing directories are made (root's, 0755). Returns -1
 * with errno. */
int paths_open(struct paths *paths, const char *path, size_t length, int create);

/* Something that a path may lead through was removed or replaced. */
void paths_forget(struct paths *paths);

#endif
