#include "../tree/remove.h"
#include "write.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "header.h"
#include "whiteout.h"
#include "xattrs.h"

#define FB_HOLE (64 * 1024) /* bytes of zeros that are not worth being written */

static int failed(struct writer *w, const struct entry *e, enum fb_step step) {
  return job_fail(w->job, step, errno, NULL, e->name.path);
}

static int refuse(struct writer *w, const struct entry *e, const char *why) {
  return job_fail(w->job, FB_STEP_MALFORMED, 0, why, e->name.path);
}

static int foreign(const struct writer *w, const struct entry *e) {
  return e->uid != w->uid || e->gid != w->gid;
}

/* Whether something is mounted there. In the mount namespace of a container, where we are not, the
 * kernel lets us remove a name that is mounted on, and unmounts what is there. */
static int is_mount(int parent, const char *base) {
  struct statx found;
  const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
  if (statx(parent, base, flags, 0, &found) < 0) return 0;
  return (found.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/* Remove what is at the name. A merge never puts a directory in the place of something else, or the
 * other way round: ENOTDIR, EISDIR. */
static int displace(struct writer *w, const struct entry *e, int parent) {
  int merge = w->job->options.merge;
  if (merge && e->type == FB_TYPE_DIR) {
    errno = ENOTDIR;
    return failed(w, e, FB_STEP_REMOVE);
  }
  if (merge && is_mount(parent, name_base(&e->name))) {
    errno = EBUSY;
    return failed(w, e, FB_STEP_REMOVE);
  }
  int status = unlinkat(parent, name_base(&e->name), 0);
  if (status < 0 && !merge) status = fb_remove_tree(parent, name_base(&e->name));
  int err = errno;
  /* Descriptors that were found through what is gone are no longer right. The parent's is closed
   * with them: the caller opens it again. */
  paths_forget(&w->paths);
  errno = err;
  return status < 0 ? failed(w, e, FB_STEP_REMOVE) : 0;
}

static int open_parent(struct writer *w, const struct entry *e) {
  int fd = paths_open(&w->paths, e->name.path, name_parent_length(&e->name), 1);
  if (fd < 0) failed(w, e, FB_STEP_PARENT);
  return fd;
}

/* ---- regular files --------------------------------------------------------------------------- */

static int write_span(int fd, const uint8_t *data, size_t length, int64_t offset) {
  while (length) {
    ssize_t n = offset < 0 ? write(fd, data, length) : pwrite(fd, data, length, offset);
    if (n < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    data += n;
    length -= (size_t)n;
    if (offset >= 0) offset += n;
  }
  return 0;
}

/* The next `length` bytes of the archive, at the offset. */
static int write_segment(struct writer *w, const struct entry *e, int fd, int64_t length,
                         int64_t offset) {
  while (length > 0) {
    size_t n;
    const uint8_t *span = stream_span(w->stream, length, &n);
    if (!span) return -1;
    if (write_span(fd, span, n, offset) < 0) return failed(w, e, FB_STEP_WRITE);
    length -= (int64_t)n;
    offset += (int64_t)n;
  }
  return 0;
}

static int is_hole(const uint8_t *data, size_t length) {
  return length >= FB_HOLE && data[0] == 0 && !memcmp(data, data + 1, FB_HOLE - 1);
}

/* How many bytes from here on are a hole, or are not. */
static size_t run_length(const uint8_t *data, size_t length, int hole) {
  size_t n = 0;
  do
    n += length - n > FB_HOLE ? FB_HOLE : length - n;
  while (n < length && is_hole(data + n, length - n) == hole);
  return n;
}

/* Write a span where the file stands. Long runs of zeros become holes: most archives cannot say
 * that a file (a lastlog, a database) has some, and without them it may fill the disk. 1 when the
 * file ends with one, 0, -1. */
static int write_with_holes(int fd, const uint8_t *data, size_t length) {
  int hole = 0;
  for (size_t at = 0, n; at < length; at += n) {
    hole = is_hole(data + at, length - at);
    n = run_length(data + at, length - at, hole);
    if ((hole ? lseek(fd, (off_t)n, SEEK_CUR) : write_span(fd, data + at, n, -1)) < 0) return -1;
  }
  return hole;
}

/* The whole content of a file that is not sparse in the archive. */
static int write_data(struct writer *w, const struct entry *e, int fd) {
  int hole = 0;
  for (int64_t length = e->size; length > 0;) {
    size_t n;
    const uint8_t *span = stream_span(w->stream, length, &n);
    if (!span) return -1;
    hole = write_with_holes(fd, span, n);
    if (hole < 0) return failed(w, e, FB_STEP_WRITE);
    length -= (int64_t)n;
  }
  return hole && ftruncate(fd, e->size) < 0 ? failed(w, e, FB_STEP_WRITE) : 0;
}

static int write_sparse(struct writer *w, const struct entry *e, int fd) {
  for (size_t i = 0; i < e->sparse->count; i++) {
    const struct segment *s = &e->sparse->segments[i];
    if (write_segment(w, e, fd, s->length, s->offset) < 0) return -1;
  }
  return ftruncate(fd, e->sparse->size) < 0 ? failed(w, e, FB_STEP_WRITE) : 0;
}

static int set_xattrs(struct writer *w, const struct entry *e, int fd) {
  for (size_t i = 0; i < e->xattr_count; i++) {
    const struct xattr *x = &e->xattrs[i];
    if (xattr_policy(x->name, 0) != FB_XATTR_SET) continue;
    if (xattr_set(fd, x->name, x->value.at, x->value.length) < 0)
      return failed(w, e, FB_STEP_XATTR);
  }
  return 0;
}

/* The order matters: writing and chown clear set-user-id and capabilities, all of it the time. */
static int fill_file(struct writer *w, const struct entry *e, int fd) {
  struct timespec times[2] = {e->mtime, e->mtime};
  if ((e->sparse ? write_sparse(w, e, fd) : write_data(w, e, fd)) < 0) return -1;
  if (foreign(w, e) && fchown(fd, e->uid, e->gid) < 0) return failed(w, e, FB_STEP_OWNER);
  if (e->mode & 07000 && fchmod(fd, e->mode) < 0) return failed(w, e, FB_STEP_MODE);
  if (set_xattrs(w, e, fd) < 0) return -1;
  return futimens(fd, times) < 0 ? failed(w, e, FB_STEP_TIME) : 0;
}

/* Sparse files may claim more than 63 bits count. */
static void add_size(struct writer *w, int64_t size) {
  int64_t *sum = &w->job->result.unpacked_size;
  if (__builtin_add_overflow(*sum, size, sum)) *sum = INT64_MAX;
}

static int make_file(struct writer *w, const struct entry *e, int parent) {
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  int fd = openat(parent, name_base(&e->name), flags, e->mode & 0777);
  if (fd < 0 && errno == EEXIST) {
    if (displace(w, e, parent) < 0 || (parent = open_parent(w, e)) < 0) return -1;
    fd = openat(parent, name_base(&e->name), flags, e->mode & 0777);
  }
  if (fd < 0) return failed(w, e, FB_STEP_CREATE);
  int status = fill_file(w, e, fd);
  if (close(fd) < 0 && status == 0) status = failed(w, e, FB_STEP_WRITE);
  add_size(w, e->sparse ? e->sparse->size : e->size);
  return status;
}

/* ---- the other kinds ------------------------------------------------------------------------- */

static int same_file(int dir1, const char *name1, int dir2, const char *name2) {
  struct stat a, b;
  return fstatat(dir1, name1, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
         fstatat(dir2, name2, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

static int link_once(struct writer *w, const struct entry *e) {
  /* Both directories have to be open: the second lookup may evict the first one's descriptor. */
  int from = paths_open(&w->paths, e->link.path, name_parent_length(&e->link), 0);
  if (from >= 0) from = fcntl(from, F_DUPFD_CLOEXEC, 0);
  if (from < 0) return failed(w, e, FB_STEP_LINK);
  if (w->has_whiteouts && whiteout_is(from, name_base(&e->link))) {
    close(from);
    return refuse(w, e, "it is a hard link to a name that is whited out");
  }
  int parent = open_parent(w, e);
  int status = -1, err = 0;
  if (parent >= 0) {
    status = linkat(from, name_base(&e->link), parent, name_base(&e->name), 0);
    err = status < 0 ? errno : 0;
    if (err == EEXIST && same_file(from, name_base(&e->link), parent, name_base(&e->name)))
      status = err = 0;
  }
  close(from);
  errno = err;
  return status;
}

/* linkat without AT_SYMLINK_FOLLOW: a link to a symbolic link is that, and stays in the root. */
static int make_link(struct writer *w, const struct entry *e) {
  int status = link_once(w, e);
  if (status < 0 && !job_stopped(w->job) && errno == EEXIST) {
    int parent = open_parent(w, e);
    if (parent < 0 || displace(w, e, parent) < 0) return -1;
    status = link_once(w, e);
  }
  if (status < 0 && !job_stopped(w->job)) return failed(w, e, FB_STEP_LINK);
  return status;
}

static int make_node(int parent, const struct entry *e) {
  switch (e->type) {
    case FB_TYPE_SYMLINK:
      return symlinkat(e->target, parent, name_base(&e->name));
    case FB_TYPE_FIFO:
      return mknodat(parent, name_base(&e->name), S_IFIFO | (e->mode & 0777), 0);
    case FB_TYPE_CHAR:
      return mknodat(parent, name_base(&e->name), S_IFCHR | (e->mode & 0777), e->device);
    default:
      return mknodat(parent, name_base(&e->name), S_IFBLK | (e->mode & 0777), e->device);
  }
}

/* Symbolic links, fifos and devices. */
static int make_special(struct writer *w, const struct entry *e, int parent) {
  struct timespec times[2] = {e->mtime, e->mtime};
  const char *base = name_base(&e->name);
  int status = make_node(parent, e);
  if (status < 0 && errno == EEXIST) {
    if (displace(w, e, parent) < 0 || (parent = open_parent(w, e)) < 0) return -1;
    status = make_node(parent, e);
  }
  if (status < 0) return failed(w, e, FB_STEP_CREATE);
  if (foreign(w, e) && fchownat(parent, base, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
    return failed(w, e, FB_STEP_OWNER);
  /* fchmodat follows links, but this thread has just made the node, and it is none; unless somebody
   * else is at work in the directory, who could have swapped it (CVE-2021-41089). */
  if (e->type != FB_TYPE_SYMLINK && e->mode & 07000 && !w->job->options.merge &&
      fchmodat(parent, base, e->mode, 0) < 0)
    return failed(w, e, FB_STEP_MODE);
  if (utimensat(parent, base, times, AT_SYMLINK_NOFOLLOW) < 0)
    return failed(w, e, FB_STEP_TIME);
  return 0;
}

/* ---- directories ----------------------------------------------------------------------------- */

/* The directory is there: 1 if it was before, 0 if it was made now, -1. */
static int make_directory(struct writer *w, const struct entry *e, int parent) {
  const char *base = name_base(&e->name);
  struct stat st;
  if (mkdirat(parent, base, e->mode & 01777) == 0) return 0;
  if (errno != EEXIST) return failed(w, e, FB_STEP_CREATE);
  if (fstatat(parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0) return failed(w, e, FB_STEP_CREATE);
  if (S_ISDIR(st.st_mode)) return 1;
  int was_whiteout = whiteout_is(parent, base);
  if (displace(w, e, parent) < 0 || (parent = open_parent(w, e)) < 0) return -1;
  if (mkdirat(parent, base, e->mode & 01777) < 0) return failed(w, e, FB_STEP_CREATE);
  if (was_whiteout && whiteout_make_opaque(w->job, parent, base) < 0)
    return failed(w, e, FB_STEP_XATTR);
  return 0;
}

static int make_dir(struct writer *w, const struct entry *e, int parent) {
  int is_root = e->name.length == 0;
  int existed = is_root ? 1 : make_directory(w, e, parent);
  if (existed < 0) return -1;
  struct dir dir = {
      .path_length = (uint32_t)e->name.length,
      .mode = e->mode,
      .uid = e->uid,
      .gid = e->gid,
      .set_owner = existed ? !w->job->options.owned : foreign(w, e),
      .set_mode = existed || (e->mode & 06000) != 0, /* mkdir ignores those two bits */
      .mtime = e->mtime.tv_sec,
      .mtime_ns = e->mtime.tv_nsec,
  };
  if (dirs_add(&w->dirs, w->paths.root, &dir, e->name.path, e->xattrs, e->xattr_count) < 0)
    return failed(w, e, FB_STEP_WRITE);
  return 0;
}

int write_root(struct writer *w) {
  struct stat st;
  int root = w->paths.root;
  enum fb_step step = FB_STEP_OWNER;
  if (fstat(root, &st) < 0) return job_fail(w->job, FB_STEP_CONFINE, errno, "fstat", NULL);
  int status = 0;
  if (st.st_uid != w->uid || st.st_gid != w->gid) status = fchown(root, w->uid, w->gid);
  if (status == 0 && (st.st_mode & 07777) != 0755) {
    step = FB_STEP_MODE;
    status = fchmod(root, 0755);
  }
  return status < 0 ? job_fail(w->job, step, errno, NULL, NULL) : 0;
}

/* ---- dispatch -------------------------------------------------------------------------------- */

static int make_whiteout(struct writer *w, const struct entry *e, enum whiteout kind) {
  int parent = open_parent(w, e);
  if (parent < 0) return -1;
  const char *hidden = name_base(&e->name) + sizeof(FB_WHITEOUT_PREFIX) - 1;
  int opaque = kind == FB_WHITEOUT_OPAQUE;
  w->has_whiteouts = 1;
  if (opaque && name_parent_length(&e->name) == 0) w->job->result.opaque_root = 1;
  if ((opaque ? whiteout_make_opaque(w->job, parent, "")
              : whiteout_hide(w->job, parent, hidden)) < 0)
    return failed(w, e, opaque ? FB_STEP_XATTR : FB_STEP_CREATE);
  return 0;
}

static int skip_data(struct writer *w, const struct entry *e) {
  return stream_skip(w->stream, e->size);
}

static int make(struct writer *w, const struct entry *e) {
  if (w->job->options.whiteouts == FB_WHITEOUTS_OVERLAY) {
    enum whiteout kind = whiteout_kind(&e->name);
    if (kind == FB_WHITEOUT_REFUSED) return refuse(w, e, "its name is not a valid whiteout");
    if (kind == FB_WHITEOUT_IGNORE) return skip_data(w, e);
    if (kind != FB_NO_WHITEOUT) return make_whiteout(w, e, kind) < 0 ? -1 : skip_data(w, e);
  }
  if (e->name.length == 0 && e->type != FB_TYPE_DIR)
    return refuse(w, e, "the root has to be a directory");
  if (e->name.length == 0 && w->job->options.merge) return 0;
  if (e->type == FB_TYPE_LINK) return make_link(w, e);
  int parent = open_parent(w, e);
  if (parent < 0) return -1;
  if (e->type == FB_TYPE_DIR) return make_dir(w, e, parent);
  if (e->type == FB_TYPE_FILE) return make_file(w, e, parent);
  return make_special(w, e, parent);
}

int write_entry(struct writer *w, const struct entry *e) {
  return make(w, e) < 0 ? -1 : stream_pad(w->stream, e->size);
}
