/* What a worker must have in common with its client. */
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client.h"

static const char *const NAMESPACES[FB_NAMESPACES] = {
    "/proc/self/ns/cgroup", "/proc/self/ns/ipc", "/proc/self/ns/mnt",  "/proc/self/ns/net",
    "/proc/self/ns/pid",    "/proc/self/ns/time", "/proc/self/ns/user", "/proc/self/ns/uts",
};

static uint64_t effective_capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}, {0}};
  if (syscall(SYS_capget, &header, data) < 0) return 0;
  return data[0].effective | (uint64_t)data[1].effective << 32;
}

static uint64_t bounding_set(void) {
  uint64_t found = 0;
  for (int number = 0; number < 64; number++) {
    int has = prctl(PR_CAPBSET_READ, number, 0, 0, 0);
    if (has < 0) break;
    found |= (uint64_t)has << number;
  }
  return found;
}

/* statx(2); musl's header may be older than STATX_MNT_ID. */
static uint32_t mount_of_root(void) {
  enum { WANTED = 0x1000, MASK = 0, MOUNT = 144 / 4 };
  static uint32_t found[64] __attribute__((aligned(8)));
  if (syscall(SYS_statx, AT_FDCWD, "/", 0, WANTED, found) < 0) return 0;
  return found[MASK] & WANTED ? found[MOUNT] : 0;
}

int likeness_of_self(struct fb_likeness *like) {
  struct stat found;
  memset(like, 0, sizeof *like);
  memcpy(like->version, FASTBOX_VERSION, sizeof FASTBOX_VERSION);
  like->uid = getuid();
  like->euid = geteuid();
  like->gid = getgid();
  like->egid = getegid();
  like->nice = getpriority(PRIO_PROCESS, 0);
  like->no_new_privileges = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
  like->seccomp = prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
  like->effective = effective_capabilities();
  like->bounding = bounding_set();
  syscall(SYS_sched_getaffinity, 0, sizeof like->cpus, like->cpus);
  if (stat("/", &found) < 0) return -1;
  like->root_mount = mount_of_root();
  like->root_device = found.st_dev;
  like->root_inode = found.st_ino;
  for (int i = 0; i < FB_NAMESPACES; i++) {
    if (stat(NAMESPACES[i], &found) == 0) like->namespaces[i] = found.st_ino;
    else if (i == 4) return -1; /* every kernel has that one: /proc is missing */
  }
  return 0;
}
