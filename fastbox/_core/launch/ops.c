/* The executor: replays a plan's operations in the new process. It decides nothing; every path and
 * number was resolved by the engine. Only async-signal-safe calls: the process may share memory with
 * a threaded Python (STYLE: the plan as data, as bubblewrap has it). */
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "console.h"
#include "network.h"
#include "paths.h"
#include "plan.h"
#include "sys.h"

#define PROC_SUPER_MAGIC 0x9fa0

/* Where in a step it failed, so that an error names the system call. */
#define FAIL_AT(number)   \
  do {                    \
    error->where = number; \
    return -1;            \
  } while (0)

static int write_all(int fd, const char *text) {
  size_t length = strlen(text);
  ssize_t written = write(fd, text, length);
  if (written >= 0 && (size_t)written != length) {
    errno = EIO;
    return -1;
  }
  return written < 0 ? -1 : 0;
}

static int cgroup_join(const char *path, struct fb_error *error) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) FAIL_AT(1);
  int result = write_all(fd, "0");
  fb_close(fd);
  if (result < 0) FAIL_AT(2);
  return 0;
}

static int overlay(const char *directory, const char *target, const char *options,
                   struct fb_error *error) {
  if (chdir(directory) < 0) FAIL_AT(1);
  if (mount("overlay", target, "overlay", 0, options) < 0) FAIL_AT(2);
  return 0;
}

/* A detached copy of a host path's mount, with its attributes set before anybody can reach it. */
static int tree(struct fb_context *context, const struct fb_op *op, const char *source,
                struct fb_error *error) {
  unsigned recursive = (op->flags & FB_F_RECURSIVE) ? FB_AT_RECURSIVE : 0;
  int fd = fb_open_tree(AT_FDCWD, source, FB_OPEN_TREE_CLONE | recursive);
  if (fd < 0) FAIL_AT(1);
  struct fb_mount_attr attr = {op->x, op->y, op->z, 0};
  if ((attr.attr_set || attr.attr_clr || attr.propagation) &&
      fb_mount_setattr(fd, recursive, &attr) < 0) {
    fb_close(fd);
    FAIL_AT(2);
  }
  context->slots[op->slot] = fd;
  return 0;
}

static int attach(struct fb_context *context, const struct fb_op *op, const char *path,
                  struct fb_error *error) {
  int from = context->slots[op->slot];
  int to = fb_target(path, op->flags);
  if (to < 0) FAIL_AT(1);
  if ((op->flags & FB_F_USER) && fb_is_guarded(to, path)) {
    fb_close(to);
    errno = EPERM;
    FAIL_AT(9);
  }
  int result = fb_move_mount(from, to);
  fb_close(to);
  if (result < 0) FAIL_AT(2);
  fb_close(from);
  context->slots[op->slot] = -1;
  return 0;
}

/* "." to "." stacks the new root over the old one; detaching the top one leaves only the new
 * (pivot_root(2), notes). */
static int pivot(const char *root, struct fb_error *error) {
  if (chdir(root) < 0) FAIL_AT(1);
  if (syscall(SYS_pivot_root, ".", ".") < 0) FAIL_AT(2);
  if (umount2(".", MNT_DETACH) < 0) FAIL_AT(3);
  if (chdir("/") < 0) FAIL_AT(4);
  return 0;
}

static int fs_configure(int fs, const char *options) {
  char item[512];
  while (options && *options) {
    size_t length = strcspn(options, ",");
    if (length >= sizeof item) {
      errno = ENAMETOOLONG;
      return -1;
    }
    memcpy(item, options, length);
    item[length] = 0;
    options += length + (options[length] == ',');
    if (!length) continue;
    char *value = strchr(item, '=');
    if (value) *value++ = 0;
    if (syscall(SYS_fsconfig, fs, value ? FB_FSCONFIG_SET_STRING : FB_FSCONFIG_SET_FLAG, item,
                value, 0) < 0)
      return -1;
  }
  return (int)syscall(SYS_fsconfig, fs, FB_FSCONFIG_CMD_CREATE, NULL, NULL, 0);
}

static int fs_mount(const struct fb_op *op, const char *type, const char *path, const char *options,
                    struct fb_error *error) {
  int fs = (int)syscall(SYS_fsopen, type, FB_FSOPEN_CLOEXEC);
  if (fs < 0) FAIL_AT(1);
  if (fs_configure(fs, options) < 0) {
    fb_close(fs);
    FAIL_AT(2);
  }
  int mounted = (int)syscall(SYS_fsmount, fs, FB_FSMOUNT_CLOEXEC, op->x);
  fb_close(fs);
  if (mounted < 0) FAIL_AT(3);
  int to = fb_target(path, op->flags);
  if (to < 0) {
    fb_close(mounted);
    FAIL_AT(4);
  }
  if ((op->flags & FB_F_USER) && fb_is_guarded(to, path)) {
    fb_close(to);
    fb_close(mounted);
    errno = EPERM;
    FAIL_AT(9);
  }
  int result = fb_move_mount(mounted, to);
  fb_close(to);
  fb_close(mounted);
  if (result < 0) FAIL_AT(5);
  return 0;
}

static int parent_of(const char *path, const char **name) {
  char directory[4096];
  const char *slash = strrchr(path, '/');
  size_t length = slash ? (size_t)(slash - path) : 0;
  if (!slash || length >= sizeof directory) {
    errno = EINVAL;
    return -1;
  }
  memcpy(directory, path, length);
  directory[length] = 0;
  *name = slash + 1;
  return fb_target(length ? directory : "/", FB_F_DIR);
}

static int make_node(const struct fb_op *op, const char *path, struct fb_error *error) {
  const char *name;
  int parent = parent_of(path, &name);
  if (parent < 0) FAIL_AT(1);
  mode_t mode = (mode_t)op->x;
  uid_t uid = (uid_t)(op->z >> 32);
  gid_t gid = (gid_t)op->z;
  int result = mknodat(parent, name, mode, (dev_t)op->y);
  if (result < 0 && errno == EEXIST) { /* a user mount over /dev brought its own */
    fb_close(parent);
    return 0;
  }
  if (result == 0) result = fchmodat(parent, name, mode & 07777, 0);
  if (result == 0 && (uid || gid)) result = fchownat(parent, name, uid, gid, AT_SYMLINK_NOFOLLOW);
  fb_close(parent);
  if (result < 0) FAIL_AT(2);
  return 0;
}

static int make_symlink(const char *content, const char *path, struct fb_error *error) {
  const char *name;
  int parent = parent_of(path, &name);
  if (parent < 0) FAIL_AT(1);
  int result = symlinkat(content, parent, name);
  fb_close(parent);
  if (result < 0 && errno != EEXIST) FAIL_AT(2);
  return 0;
}

/* A copy of /dev/null's mount, which must be the real one: an image or a volume over /dev may have
 * put another file there (CVE-2025-31133). */
static int clone_null(void) {
  int fd = fb_openat2(AT_FDCWD, "/dev/null", O_PATH | O_NOFOLLOW, 0, FB_RESOLVE_NO_MAGICLINKS);
  if (fd < 0) return -1;
  struct stat status;
  int ok = fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) &&
           status.st_rdev == makedev(1, 3);
  int copy = -1;
  if (ok)
    copy = fb_open_tree(fd, "", FB_OPEN_TREE_CLONE | AT_EMPTY_PATH);
  else
    errno = ENODEV;
  fb_close(fd);
  return copy;
}

/* An empty read-only directory. All masks share one superblock: copies of the first. */
static int empty_directory(struct fb_context *context) {
  if (context->mask_fd >= 0)
    return fb_open_tree(context->mask_fd, "", FB_OPEN_TREE_CLONE | AT_EMPTY_PATH);
  int fs = (int)syscall(SYS_fsopen, "tmpfs", FB_FSOPEN_CLOEXEC);
  if (fs < 0) return -1;
  int mounted = -1;
  if (fs_configure(fs, "nr_blocks=1,nr_inodes=1,mode=0555") == 0)
    mounted = (int)syscall(SYS_fsmount, fs, FB_FSMOUNT_CLOEXEC,
                           FB_MOUNT_ATTR_RDONLY | 0x0e /* nosuid, nodev, noexec */);
  fb_close(fs);
  return mounted;
}

static int mask(struct fb_context *context, const char *path, struct fb_error *error) {
  int to = fb_openat2(AT_FDCWD, path, O_PATH, 0, FB_RESOLVE_NO_MAGICLINKS);
  if (to < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return 0;
    FAIL_AT(1);
  }
  struct stat status;
  if (fstat(to, &status) < 0) {
    fb_close(to);
    FAIL_AT(2);
  }
  int directory = S_ISDIR(status.st_mode);
  int from = directory ? empty_directory(context) : clone_null();
  if (from < 0) {
    fb_close(to);
    FAIL_AT(3);
  }
  int result = fb_move_mount(from, to);
  fb_close(to);
  if (result == 0 && directory && context->mask_fd < 0)
    context->mask_fd = from;
  else
    fb_close(from);
  if (result < 0) FAIL_AT(4);
  return 0;
}

static int read_only(const char *path, struct fb_error *error) {
  int to = fb_openat2(AT_FDCWD, path, O_PATH, 0, FB_RESOLVE_NO_MAGICLINKS);
  if (to < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return 0;
    FAIL_AT(1);
  }
  int copy = fb_open_tree(to, "", FB_OPEN_TREE_CLONE | AT_EMPTY_PATH | FB_AT_RECURSIVE);
  if (copy < 0) {
    fb_close(to);
    FAIL_AT(2);
  }
  struct fb_mount_attr attr = {FB_MOUNT_ATTR_RDONLY, 0, 0, 0};
  int result = fb_mount_setattr(copy, FB_AT_RECURSIVE, &attr);
  if (result == 0) result = fb_move_mount(copy, to);
  fb_close(copy);
  fb_close(to);
  if (result < 0) FAIL_AT(3);
  return 0;
}

/* Write below /proc: it must be a procfs and the path must not leave it, or a mount over it could
 * redirect the write to another file such as core_pattern (CVE-2019-16884, CVE-2025-52881). */
static int proc_write(const char *path, const char *value, struct fb_error *error) {
  int proc = open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (proc < 0) FAIL_AT(1);
  struct statfs fs;
  if (fstatfs(proc, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC) {
    fb_close(proc);
    errno = EXDEV;
    FAIL_AT(2);
  }
  int fd = fb_openat2(proc, path, O_WRONLY, 0, FB_RESOLVE_NO_XDEV | FB_RESOLVE_NO_MAGICLINKS);
  fb_close(proc);
  if (fd < 0) FAIL_AT(3);
  int result = write_all(fd, value);
  fb_close(fd);
  if (result < 0) FAIL_AT(4);
  return 0;
}

static int loopback_up(struct fb_error *error) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) FAIL_AT(1);
  struct ifreq request;
  memset(&request, 0, sizeof request);
  memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  int result = ioctl(fd, SIOCSIFFLAGS, &request);
  fb_close(fd);
  if (result < 0) FAIL_AT(2);
  return 0;
}

static int root_read_only(struct fb_error *error) {
  int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) FAIL_AT(1);
  struct fb_mount_attr attr = {FB_MOUNT_ATTR_RDONLY, 0, 0, 0};
  int result = fb_mount_setattr(root, 0, &attr);
  fb_close(root);
  if (result < 0) FAIL_AT(2);
  return 0;
}

static int make_directory(const char *path, struct fb_error *error) {
  int fd = fb_target(path, FB_F_DIR);
  if (fd < 0) FAIL_AT(1);
  fb_close(fd);
  return 0;
}

static int set_limit(const struct fb_op *op, struct fb_error *error) {
  uint64_t limits[2] = {op->y, op->z};
  if (syscall(SYS_prlimit64, 0, (int)op->x, limits, NULL) < 0) FAIL_AT(1);
  return 0;
}

static int run_op(struct fb_context *context, const struct fb_op *op, struct fb_error *error) {
  const struct fb_plan *plan = context->plan;
  const char *a = fb_string(plan, op->a), *b = fb_string(plan, op->b), *c = fb_string(plan, op->c);
  switch ((enum fb_op_kind)op->kind) {
    case FB_OP_CGROUP_JOIN: return cgroup_join(a, error);
    case FB_OP_UNSHARE: return unshare((int)op->x);
    case FB_OP_PROPAGATION: return mount(NULL, "/", NULL, op->x, NULL);
    case FB_OP_OVERLAY: return overlay(a, b, c, error);
    case FB_OP_TREE: return tree(context, op, a, error);
    case FB_OP_PIVOT: return pivot(a, error);
    case FB_OP_FSMOUNT: return fs_mount(op, a, b, c, error);
    case FB_OP_ATTACH: return attach(context, op, b, error);
    case FB_OP_MKNOD: return make_node(op, a, error);
    case FB_OP_SYMLINK: return make_symlink(a, b, error);
    case FB_OP_MASK: return mask(context, a, error);
    case FB_OP_READONLY: return read_only(a, error);
    case FB_OP_SYSCTL:
    case FB_OP_PROC_WRITE: return proc_write(a, b, error);
    case FB_OP_LOOPBACK: return loopback_up(error);
    case FB_OP_HOSTNAME: return sethostname(a, strlen(a));
    case FB_OP_DOMAINNAME: return setdomainname(a, strlen(a));
    case FB_OP_MKDIR: return make_directory(a, error);
    case FB_OP_ROOT_READONLY: return root_read_only(error);
    case FB_OP_RLIMIT: return set_limit(op, error);
    case FB_OP_NETLINK: return fb_netlink(context, op, a, error);
    case FB_OP_NAMES: return fb_name_server(context, (uint16_t)op->x, error);
    case FB_OP_JOIN: return setns((int)op->slot, (int)op->x);
    case FB_OP_CONSOLE: /* init leads its session since start.c */
      return fb_console(context, op->x, 1, error) < 0 ? -1 : fb_control(context->stdio[0]);
  }
  errno = ENOSYS;
  return -1;
}

int fb_run_ops(struct fb_context *context, struct fb_error *error) {
  for (uint32_t i = 0; i < context->plan->nops; i++) {
    const struct fb_op *op = &context->ops[i];
    error->where = 0;
    int result = run_op(context, op, error), saved = errno;
    fb_mark(context, FB_T_END + i);
    if (result < 0 && !(op->flags & FB_F_OPTIONAL)) {
      error->step = op->kind;
      error->index = (int32_t)i;
      error->error = saved;
      return -1;
    }
  }
  fb_mark(context, FB_T_OPS);
  return 0;
}
