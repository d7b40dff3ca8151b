#include "dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "xattrs.h"

/* Holds some 30,000 directories, and more than the largest record: a path and 1 MiB of pax. */
#define BUFFER ((size_t)4 << 20)

int dirs_init(struct dirs *dirs) {
  dirs->used = 0;
  dirs->spilled = 0;
  dirs->file = -1;
  dirs->buffer = malloc(BUFFER);
  return dirs->buffer ? 0 : -1;
}

void dirs_free(struct dirs *dirs) {
  if (dirs->file >= 0) close(dirs->file);
  free(dirs->buffer);
}

/* A file without a name. Not by O_TMPFILE, which some file systems lack. */
static int open_spill(int root) {
  int fd;
  char name[48];
  for (int i = 0;; i++) { /* the archive may have taken the name */
    snprintf(name, sizeof(name), ".fastbox-directories-%d", i);
    fd = openat(root, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 || errno != EEXIST) break;
  }
  if (fd >= 0) unlinkat(root, name, 0);
  return fd;
}

static int spill(struct dirs *dirs, int root) {
  if (dirs->file < 0) dirs->file = open_spill(root);
  if (dirs->file < 0) return -1;
  for (size_t at = 0; at < dirs->used;) {
    ssize_t n = pwrite(dirs->file, dirs->buffer + at, dirs->used - at, dirs->spilled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    at += (size_t)n;
    dirs->spilled += n;
  }
  dirs->used = 0;
  return 0;
}

static void append(struct dirs *dirs, const void *data, size_t length) {
  memcpy(dirs->buffer + dirs->used, data, length);
  dirs->used += length;
}

int dirs_add(struct dirs *dirs, int root, const struct dir *dir, const char *path,
             const struct xattr *xattrs, size_t count) {
  struct dir head = *dir;
  size_t size = sizeof(head) + head.path_length + 1;
  head.xattrs = 0;
  for (size_t i = 0; i < count; i++) {
    if (xattr_policy(xattrs[i].name, 1) != FB_XATTR_SET) continue;
    head.xattrs++;
    size += strlen(xattrs[i].name) + 1 + sizeof(uint32_t) + xattrs[i].value.length;
  }
  size = (size + 7) & ~(size_t)7; /* records are read in place */
  head.size = (uint32_t)size;
  if (dirs->used + size > BUFFER && spill(dirs, root) < 0) return -1;
  size_t start = dirs->used;
  append(dirs, &head, sizeof(head));
  append(dirs, path, head.path_length + 1);
  for (size_t i = 0; i < count; i++) {
    if (xattr_policy(xattrs[i].name, 1) != FB_XATTR_SET) continue;
    uint32_t length = (uint32_t)xattrs[i].value.length;
    append(dirs, xattrs[i].name, strlen(xattrs[i].name) + 1);
    append(dirs, &length, sizeof(length));
    append(dirs, xattrs[i].value.at, length);
  }
  dirs->used = start + size;
  return 0;
}

/* ---- applying -------------------------------------------------------------------------------- */

static int set_xattrs(int fd, const struct dir *dir, const char *at) {
  for (uint32_t i = 0; i < dir->xattrs; i++) {
    const char *name = at;
    uint32_t length;
    at += strlen(name) + 1;
    memcpy(&length, at, sizeof(length));
    at += sizeof(length);
    if (xattr_set(fd, name, at, length) < 0) return -1;
    at += length;
  }
  return 0;
}

/* Whether something else took its place, or its parent's, later in the archive. */
static int is_gone(int err) {
  return err == ENOENT || err == ENOTDIR || err == ELOOP;
}

static int apply_one(struct fb_job *job, struct paths *paths, const struct dir *dir) {
  const char *path = (const char *)(dir + 1);
  const char *slash = memrchr(path, '/', dir->path_length);
  const char *base = !*path ? "." : slash ? slash + 1 : path;
  int parent = paths_open(paths, path, slash ? (size_t)(slash - path) : 0, 0);
  if (parent < 0)
    return is_gone(errno) ? 0 : job_fail(job, FB_STEP_PARENT, errno, NULL, path);
  struct stat st;
  if (fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return is_gone(errno) ? 0 : job_fail(job, FB_STEP_PARENT, errno, NULL, path);
  if (!S_ISDIR(st.st_mode)) return 0;

  if (dir->set_owner && fchownat(parent, base, dir->uid, dir->gid, AT_SYMLINK_NOFOLLOW) < 0)
    return job_fail(job, FB_STEP_OWNER, errno, NULL, path);
  if (dir->set_mode || dir->xattrs) {
    int fd = openat(parent, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return job_fail(job, FB_STEP_PARENT, errno, NULL, path);
    enum fb_step step = FB_STEP_MODE;
    int status = dir->set_mode ? fchmod(fd, dir->mode) : 0;
    if (status == 0) {
      step = FB_STEP_XATTR;
      status = set_xattrs(fd, dir, path + dir->path_length + 1);
    }
    int err = errno;
    close(fd);
    if (status < 0) return job_fail(job, step, err, NULL, path);
  }
  struct timespec times[2] = {{dir->mtime, dir->mtime_ns}, {dir->mtime, dir->mtime_ns}};
  if (utimensat(parent, base, times, AT_SYMLINK_NOFOLLOW) < 0)
    return job_fail(job, FB_STEP_TIME, errno, NULL, path);
  return 0;
}

/* Apply the whole records in the buffer; what is left of the last one moves to its beginning. */
static int apply_buffer(struct dirs *dirs, struct fb_job *job, struct paths *paths) {
  size_t at = 0;
  while (dirs->used - at >= sizeof(struct dir)) {
    const struct dir *dir = (const struct dir *)(dirs->buffer + at);
    if (dirs->used - at < dir->size) break;
    if (job_stopped(job) || apply_one(job, paths, dir) < 0) return -1;
    at += dir->size;
  }
  memmove(dirs->buffer, dirs->buffer + at, dirs->used - at);
  dirs->used -= at;
  return 0;
}

int dirs_apply(struct dirs *dirs, struct fb_job *job, struct paths *paths) {
  if (dirs->file < 0) return apply_buffer(dirs, job, paths);
  if (spill(dirs, paths->root) < 0) return job_fail(job, FB_STEP_WRITE, errno, NULL, NULL);
  for (int64_t at = 0; at < dirs->spilled;) {
    ssize_t n = pread(dirs->file, dirs->buffer + dirs->used, BUFFER - dirs->used, at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return job_fail(job, FB_STEP_READ, n < 0 ? errno : EIO, NULL, NULL);
    at += n;
    dirs->used += (size_t)n;
    if (apply_buffer(dirs, job, paths) < 0) return -1;
  }
  return 0;
}
