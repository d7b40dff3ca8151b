/* One entry of a directory: looked at, and added. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "walk.h"

#define WHITEOUT ".wh."
#define SPARSE_LEAST (64 * 1024)

static struct record record_of(const struct walk *walk, char type, const struct stat *st) {
  return (struct record){
      .type = type,
      .name = walk->path.at,
      .name_length = walk->path.length,
      .mode = st->st_mode & 07777,
      .uid = st->st_uid,
      .gid = st->st_gid,
      .mtime = st->st_mtim.tv_sec,
      .mtime_ns = st->st_mtim.tv_nsec,
  };
}

static enum outcome put(struct walk *walk, const struct record *record) {
  if (record_put(&walk->tape, record, &walk->body) < 0) return FB_FAILED;
  walk->job->result.entries++;
  return FB_DONE;
}

/* ---- regular files --------------------------------------------------------------------------- */

/* Open a name that was a regular file when it was looked at, and may be a device by now, which must
 * not be opened: that can rewind a tape or start a watchdog. -1 with errno. */
static int open_file(const struct walk *walk, const char *name) {
  const int flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  if (walk->guarded) return openat(walk_directory(walk), name, O_RDONLY | flags);
  int found = openat(walk_directory(walk), name, O_PATH | flags);
  if (found < 0) return -1;
  struct stat st;
  int fd = -1;
  if (fstat(found, &st) == 0 && S_ISREG(st.st_mode)) {
    char path[40];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", found);
    fd = open(path, O_RDONLY | O_CLOEXEC);
  } else {
    errno = ENXIO;
  }
  int err = errno;
  close(found);
  errno = err;
  return fd;
}

static enum outcome shorter(struct walk *walk) {
  return walk_fail(walk, FB_PACK_CHANGED, 0, "became shorter");
}

static enum outcome put_bytes(struct walk *walk, int fd, int64_t at, int64_t end) {
  while (at < end) {
    size_t room;
    uint8_t *to = tape_room(&walk->tape, &room);
    if (!to) return FB_FAILED;
    if ((int64_t)room > end - at) room = (size_t)(end - at);
    ssize_t n = pread(fd, to, room, at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return walk_fail(walk, FB_PACK_READ, errno, NULL);
    if (n == 0) return shorter(walk);
    tape_advance(&walk->tape, (size_t)n);
    at += n;
  }
  return FB_DONE;
}

/* Holes are not read: the kernel would fill its cache with them. */
static enum outcome put_sparse(struct walk *walk, int fd, int64_t size) {
  for (int64_t at = 0; at < size;) {
    off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return put_bytes(walk, fd, at, size); /* it knows no holes */
    if (data < 0 || data > size) data = size;
    if (tape_zeros(&walk->tape, data - at) < 0) return FB_FAILED;
    off_t hole = data < size ? lseek(fd, data, SEEK_HOLE) : size;
    if (hole <= data || hole > size) hole = size;
    if (put_bytes(walk, fd, data, hole) != FB_DONE) return FB_FAILED;
    at = hole;
  }
  struct stat st;
  return fstat(fd, &st) == 0 && st.st_size < size ? shorter(walk) : FB_DONE;
}

/* As many bytes as the header says, although the file may be another size by now. */
static enum outcome put_content(struct walk *walk, int fd, const struct stat *st) {
  int64_t size = st->st_size;
  if (size > FB_PIECE) posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  int sparse = size > SPARSE_LEAST && st->st_blocks < size / 512;
  enum outcome outcome = sparse ? put_sparse(walk, fd, size) : put_bytes(walk, fd, 0, size);
  if (outcome == FB_DONE && tape_pad(&walk->tape, size) < 0) return FB_FAILED;
  int64_t *sum = &walk->job->result.unpacked_size;
  if (__builtin_add_overflow(*sum, size, sum)) *sum = INT64_MAX;
  return outcome;
}

static enum outcome put_file(struct walk *walk, int fd, const struct stat *st) {
  if (attributes_read(&walk->attributes, fd, 0, walk->overlay) < 0)
    return errno ? walk_fail(walk, FB_PACK_XATTR, errno, NULL)
                 : walk_fail(walk, FB_PACK_REFUSED, 0, walk->attributes.why);
  struct record record = record_of(walk, '0', st);
  record.size = st->st_size;
  record.xattrs = &walk->attributes.records;
  if (put(walk, &record) != FB_DONE) return FB_FAILED;
  return put_content(walk, fd, st);
}

static int know(struct walk *walk, const struct stat *st) {
  if (st->st_nlink < 2) return 0;
  if (links_add(&walk->links, st->st_dev, st->st_ino, walk->path.at, walk->path.length) < 0)
    return walk_fail(walk, FB_PACK_START, ENOMEM, NULL);
  return 0;
}

/* Whether the name is no longer what it was. */
static int is_another(const struct walk *walk, const char *name, const struct stat *st) {
  struct stat now;
  if (fstatat(walk_directory(walk), name, &now, AT_SYMLINK_NOFOLLOW) < 0) return 1;
  return now.st_ino != st->st_ino || now.st_dev != st->st_dev ||
         (now.st_mode & S_IFMT) != (st->st_mode & S_IFMT);
}

static enum outcome add_file(struct walk *walk, const char *name, const struct stat *before) {
  int fd = open_file(walk, name);
  if (fd < 0) {
    int err = errno;
    if (err == ENOENT) return FB_GONE;
    return is_another(walk, name, before) ? FB_AGAIN : walk_fail(walk, FB_PACK_OPEN, err, NULL);
  }
  struct stat st;
  enum outcome outcome = FB_AGAIN;
  if (fstat(fd, &st) < 0)
    outcome = walk_fail(walk, FB_PACK_STAT, errno, NULL);
  else if (S_ISREG(st.st_mode))
    outcome = know(walk, &st) < 0 ? FB_FAILED : put_file(walk, fd, &st);
  close(fd);
  return outcome;
}

/* ---- the other kinds ------------------------------------------------------------------------- */

static enum outcome add_directory(struct walk *walk, const char *name) {
  int fd = openat(walk_directory(walk), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0) return directory_add(walk, fd);
  if (errno == ENOENT) return FB_GONE;
  if (errno == ENOTDIR || errno == ELOOP) return FB_AGAIN;
  return walk_fail(walk, FB_PACK_OPEN, errno, NULL);
}

static enum outcome add_symlink(struct walk *walk, const char *name, const struct stat *st) {
  walk->target.length = 0;
  if (buffer_grow(&walk->target, PATH_MAX) < 0) return walk_fail(walk, FB_PACK_START, ENOMEM, NULL);
  ssize_t n = readlinkat(walk_directory(walk), name, walk->target.at, PATH_MAX);
  if (n < 0 && errno == ENOENT) return FB_GONE;
  if (n < 0 && errno == EINVAL) return FB_AGAIN;
  if (n < 0) return walk_fail(walk, FB_PACK_READ, errno, NULL);
  struct record record = record_of(walk, '2', st);
  record.link = walk->target.at;
  record.link_length = (size_t)n;
  return know(walk, st) < 0 ? FB_FAILED : put(walk, &record);
}

static enum outcome add_node(struct walk *walk, char type, const struct stat *st) {
  struct record record = record_of(walk, type, st);
  if (type != '6') {
    record.major = major(st->st_rdev);
    record.minor = minor(st->st_rdev);
  }
  return know(walk, st) < 0 ? FB_FAILED : put(walk, &record);
}

static enum outcome add_link(struct walk *walk, const char *first, const struct stat *st) {
  struct record record = record_of(walk, '1', st);
  record.link = first;
  record.link_length = strlen(first);
  return put(walk, &record);
}

static enum outcome add_whiteout(struct walk *walk, const char *name) {
  size_t parent = walk->path.length - strlen(name);
  if (walk_name(walk, parent, WHITEOUT) < 0 || walk_name(walk, walk->path.length, name) < 0)
    return FB_FAILED;
  struct record record = {
      .type = '0', .name = walk->path.at, .name_length = walk->path.length, .mode = 0600};
  return put(walk, &record);
}

static enum outcome add_kind(struct walk *walk, const char *name, const struct stat *st) {
  switch (st->st_mode & S_IFMT) {
    case S_IFREG:
      return add_file(walk, name, st);
    case S_IFLNK:
      return add_symlink(walk, name, st);
    case S_IFIFO:
      return add_node(walk, '6', st);
    case S_IFCHR:
      return add_node(walk, '3', st);
    case S_IFBLK:
      return add_node(walk, '4', st);
    default: /* a socket: without its listener it is nothing, and tar knows none */
      return FB_DONE;
  }
}

enum outcome entry_add(struct walk *walk, const char *name) {
  struct stat st;
  if (fstatat(walk_directory(walk), name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
    return errno == ENOENT ? FB_GONE : walk_fail(walk, FB_PACK_STAT, errno, NULL);
  if (walk->overlay && S_ISCHR(st.st_mode) && st.st_rdev == 0) return add_whiteout(walk, name);
  if (walk->overlay && !strncmp(name, WHITEOUT, strlen(WHITEOUT)))
    return walk_fail(walk, FB_PACK_REFUSED, 0, "in a layer, its name would delete another file");
  if (S_ISDIR(st.st_mode)) return add_directory(walk, name);
  if (st.st_nlink > 1 && !S_ISSOCK(st.st_mode)) {
    const char *first = links_find(&walk->links, st.st_dev, st.st_ino);
    if (first) return add_link(walk, first, &st);
  }
  return add_kind(walk, name, &st);
}
