/* Directories are emptied through descriptors; the way up is "..", checked to be where we came from
 * (somebody may move a directory away under us). */
#include "remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define BUFFER_SIZE 32768

struct entry { /* struct linux_dirent64 */
  uint64_t inode;
  int64_t offset;
  unsigned short length;
  unsigned char type;
  char name[];
};

struct level {
  char name[256]; /* of the directory we descended into */
  dev_t device;   /* identity of the one it is in */
  ino_t inode;
};

struct trail {
  struct level *levels;
  size_t depth, capacity;
};

static int push(struct trail *trail, int fd, const char *name) {
  if (trail->depth == trail->capacity) {
    size_t capacity = trail->capacity ? trail->capacity * 2 : 16;
    struct level *levels = realloc(trail->levels, capacity * sizeof *levels);
    if (!levels) return -1;
    trail->levels = levels;
    trail->capacity = capacity;
  }
  struct stat status;
  if (fstat(fd, &status) < 0) return -1;
  struct level *level = &trail->levels[trail->depth++];
  strncpy(level->name, name, sizeof level->name - 1);
  level->name[sizeof level->name - 1] = 0;
  level->device = status.st_dev;
  level->inode = status.st_ino;
  return 0;
}

/* Unlink all that can be; 1 and the name of a directory that is not empty, 0 when nothing is left,
 * -1 on error. */
static int clear_files(int fd, char *buffer, char *full) {
  int found = 0;
  if (lseek(fd, 0, SEEK_SET) < 0) return -1;
  for (;;) {
    long n = syscall(SYS_getdents64, fd, buffer, BUFFER_SIZE);
    if (n < 0) return -1;
    if (n == 0) return found;
    for (long at = 0; at < n;) {
      struct entry *entry = (struct entry *)(buffer + at);
      at += entry->length;
      if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0) continue;
      if (entry->type != DT_DIR) {
        if (unlinkat(fd, entry->name, 0) == 0 || errno == ENOENT) continue;
        if (errno != EISDIR) return -1;
      }
      if (unlinkat(fd, entry->name, AT_REMOVEDIR) == 0 || errno == ENOENT) continue;
      if (errno != ENOTEMPTY && errno != EEXIST) return -1;
      strncpy(full, entry->name, 255);
      full[255] = 0;
      found = 1;
    }
  }
}

static int climb(int fd, struct trail *trail) {
  struct level *level = &trail->levels[--trail->depth];
  int above = openat(fd, "..", OPEN_FLAGS);
  struct stat status;
  if (above < 0) return -1;
  if (fstat(above, &status) < 0 || status.st_dev != level->device ||
      status.st_ino != level->inode) {
    close(above);
    errno = ESTALE;
    return -1;
  }
  if (unlinkat(above, level->name, AT_REMOVEDIR) < 0 && errno != ENOENT && errno != ENOTEMPTY) {
    int saved = errno;
    close(above);
    errno = saved;
    return -1;
  }
  close(fd);
  return above;
}

static int empty(int top, char *buffer, struct trail *trail) {
  char full[256];
  int fd = dup(top);
  while (fd >= 0) {
    int left = clear_files(fd, buffer, full);
    int next = -1;
    if (left == 0 && trail->depth == 0) {
      close(fd);
      return 0;
    }
    if (left == 0)
      next = climb(fd, trail);
    else if (left > 0) {
      next = openat(fd, full, OPEN_FLAGS);
      if (next < 0 && errno == ENOENT) continue; /* another process deletes it too */
      if (next >= 0 && push(trail, fd, full) < 0) {
        close(next);
        next = -1;
      }
      if (next >= 0) close(fd);
    }
    if (next < 0) {
      int saved = errno;
      close(fd);
      errno = saved;
      return -1;
    }
    fd = next;
  }
  return -1;
}

static int remove_once(int parent, const char *name) {
  if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return 0;
  if (errno != EISDIR && errno != EPERM) return -1;
  if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
  int top = openat(parent, name, OPEN_FLAGS);
  if (top < 0) return errno == ENOENT ? 0 : -1;
  char *buffer = malloc(BUFFER_SIZE);
  struct trail trail = {0};
  int result = buffer ? empty(top, buffer, &trail) : -1;
  int saved = errno;
  free(buffer);
  free(trail.levels);
  close(top);
  errno = saved;
  if (result == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT) return -1;
  return result;
}

int fb_remove_tree(int parent, const char *name) {
  int result = -1;
  /* Somebody else may be deleting it too: then what we stand in goes away under us. */
  for (int tries = 0; tries < 64; tries++) {
    result = remove_once(parent, name);
    if (result == 0 || (errno != ENOENT && errno != ENOTEMPTY && errno != ESTALE)) break;
  }
  return result;
}
