/* Raw system calls for use after clone: no libc state is touched (glibc's set*id wrappers signal
 * all threads, its clone wrappers run fork handlers), and calls newer than the libc are available. */
#ifndef FASTBOX_SYS_H
#define FASTBOX_SYS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#define FB_OPEN_TREE_CLONE 1
#define FB_AT_RECURSIVE 0x8000
#define FB_MOVE_MOUNT_F_EMPTY_PATH 0x04
#define FB_MOVE_MOUNT_T_EMPTY_PATH 0x40
#define FB_FSOPEN_CLOEXEC 1
#define FB_FSMOUNT_CLOEXEC 1
#define FB_FSCONFIG_SET_FLAG 0
#define FB_FSCONFIG_SET_STRING 1
#define FB_FSCONFIG_CMD_CREATE 6
#define FB_MOUNT_ATTR_RDONLY 0x01
#define FB_RESOLVE_NO_XDEV 0x01
#define FB_RESOLVE_NO_MAGICLINKS 0x02
#define FB_RESOLVE_NO_SYMLINKS 0x04
#define FB_RESOLVE_IN_ROOT 0x10
#define FB_CLOSE_RANGE_CLOEXEC 4

struct fb_mount_attr {
  uint64_t attr_set, attr_clr, propagation, userns_fd;
};

struct fb_open_how {
  uint64_t flags, mode, resolve;
};

struct fb_clone_args { /* struct clone_args, CLONE_ARGS_SIZE_VER2 (Linux 5.7) */
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
      set_tid_size, cgroup;
};

static inline int fb_openat2(int dir, const char *path, uint64_t flags, uint64_t mode,
                             uint64_t resolve) {
  struct fb_open_how how = {flags | O_CLOEXEC, mode, resolve};
  for (int tries = 0;; tries++) { /* EAGAIN: a rename raced with ".." (openat2(2)) */
    int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR) || tries > 128) return fd;
  }
}

static inline int fb_open_tree(int dir, const char *path, unsigned flags) {
  return (int)syscall(SYS_open_tree, dir, path, flags | O_CLOEXEC);
}

static inline int fb_move_mount(int from, int to) {
  return (int)syscall(SYS_move_mount, from, "", to, "",
                      FB_MOVE_MOUNT_F_EMPTY_PATH | FB_MOVE_MOUNT_T_EMPTY_PATH);
}

static inline int fb_mount_setattr(int fd, unsigned flags, struct fb_mount_attr *attr) {
  return (int)syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | flags, attr, sizeof *attr);
}

static inline void fb_close(int fd) {
  int saved = errno;
  syscall(SYS_close, fd);
  errno = saved;
}

#endif
