/* Removing a tree of any depth and size in constant memory and with few descriptors. Symlinks are
 * removed, never followed. */
#include "remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Directories deeper than this are moved up to the top, to be found there again. */
#define DEPTH 32
#define BUFFER 32768

struct entry64 { /* struct linux_dirent64 */
  uint64_t ino;
  int64_t next;
  unsigned short length;
  unsigned char type;
  char name[];
};

struct level {
  int fd;
  int removed; /* in this pass */
  char name[NAME_MAX + 1];
};

struct removal {
  int dir; /* that holds the tree */
  int depth;
  unsigned moved;
  char *buffer;
  struct level levels[DEPTH];
};

static int descend(struct removal *r, int dir, const char *name) {
  struct level *level = &r->levels[r->depth];
  level->fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (level->fd < 0) return -1;
  level->removed = 0;
  strncpy(level->name, name, NAME_MAX);
  level->name[NAME_MAX] = 0;
  r->depth++;
  return 0;
}

/* Move the deepest level's directory `name` up to the top level. */
static int move_up(struct removal *r, const char *name) {
  char to[32];
  do {
    snprintf(to, sizeof(to), ".fastbox-removed-%u", r->moved++);
    if (syscall(SYS_renameat2, r->levels[r->depth - 1].fd, name, r->levels[0].fd, to, 1) == 0)
      return 0; /* 1: RENAME_NOREPLACE */
  } while (errno == EEXIST);
  return -1;
}

/* 1 when dir/name is gone, 0 when it is a directory that is not empty. */
static int remove_one(int dir, const char *name, unsigned char type) {
  if (type != DT_DIR) {
    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT) return 1;
    if (errno != EISDIR) return -1;
  }
  if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 1;
  return errno == ENOTEMPTY || errno == EEXIST ? 0 : -1;
}

/* Go through the deepest level until it is done or a directory in it comes first. 0 or -1; *done
 * is set when everything in it was looked at. */
static int sweep(struct removal *r, int *done) {
  struct level *level = &r->levels[r->depth - 1];
  for (;;) {
    long n = syscall(SYS_getdents64, level->fd, r->buffer, BUFFER);
    *done = n == 0;
    if (n <= 0) return n < 0 ? -1 : 0;
    for (char *at = r->buffer; at < r->buffer + n;) {
      struct entry64 *e = (struct entry64 *)at;
      at += e->length;
      if (!strcmp(e->name, ".") || !strcmp(e->name, "..")) continue;
      int gone = remove_one(level->fd, e->name, e->type);
      if (gone < 0) return -1;
      level->removed = 1;
      if (gone) continue;
      /* The kernel keeps the position: go on behind this entry when its contents are gone. */
      if (lseek(level->fd, e->next, SEEK_SET) < 0) return -1;
      return r->depth < DEPTH ? descend(r, level->fd, e->name) : move_up(r, e->name);
    }
  }
}

/* The deepest level was looked through: remove it, or look again for what was moved there. */
static int ascend(struct removal *r) {
  struct level *level = &r->levels[r->depth - 1];
  int parent = r->depth > 1 ? r->levels[r->depth - 2].fd : r->dir;
  if (unlinkat(parent, level->name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
    int again = (errno == ENOTEMPTY || errno == EEXIST) && level->removed;
    if (!again || lseek(level->fd, 0, SEEK_SET) < 0) return -1;
    level->removed = 0;
    return 0;
  }
  close(level->fd);
  r->depth--;
  return 0;
}

static int remove_once(int dir, const char *name) {
  int gone = remove_one(dir, name, DT_UNKNOWN);
  if (gone) return gone < 0 ? -1 : 0;
  struct removal *r = calloc(1, sizeof(*r));
  int status = r && (r->buffer = malloc(BUFFER)) ? 0 : -1;
  if (!status) {
    r->dir = dir;
    status = descend(r, dir, name);
    int done = 0;
    while (!status && r->depth) {
      status = sweep(r, &done);
      if (!status && done) status = ascend(r);
    }
  }
  int err = errno;
  if (r) {
    while (r->depth) close(r->levels[--r->depth].fd);
    free(r->buffer);
    free(r);
  }
  errno = err;
  return status;
}

int fb_remove_tree(int dir, const char *name) {
  int status = -1;
  /* Another process may be deleting it too: then what we stand in goes away under us. */
  for (int tries = 0; tries < 64; tries++) {
    status = remove_once(dir, name);
    if (status == 0 || (errno != ENOENT && errno != ENOTEMPTY && errno != EEXIST)) break;
  }
  return status;
}

int fb_remove_path(const char *path) {
  const char *slash = strrchr(path, '/');
  char directory[PATH_MAX];
  size_t length = slash ? (size_t)(slash - path) : 0;
  if (!slash || length == 0 || length >= sizeof directory || !slash[1]) {
    errno = EINVAL;
    return -1;
  }
  memcpy(directory, path, length);
  directory[length] = 0;
  int parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) return errno == ENOENT ? 0 : -1;
  int status = fb_remove_tree(parent, slash + 1);
  int err = errno;
  close(parent);
  errno = err;
  return status;
}
