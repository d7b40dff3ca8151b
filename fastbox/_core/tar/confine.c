#include "confine.h"

#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(capability) (UINT64_C(1) << (capability))
#define KEPT                                                                           \
  (BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) |        \
   BIT(CAP_MKNOD) | BIT(CAP_SETFCAP))

/* The raw system call: it concerns the calling thread only. */
static int drop_capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  if (syscall(SYS_capget, &header, data) < 0) return -1;
  for (int i = 0; i < 2; i++) {
    uint32_t kept = data[i].permitted & (uint32_t)(KEPT >> (32 * i));
    data[i] = (struct __user_cap_data_struct){.effective = kept, .permitted = kept};
  }
  return (int)syscall(SYS_capset, &header, data);
}

const char *confine_thread(int dest) {
  if (unshare(CLONE_FS) < 0) return "unshare";
  if (fchdir(dest) < 0) return "fchdir";
  if (chroot(".") < 0) return "chroot";
  umask(0);
  if (drop_capabilities() < 0) return "capset";
  return NULL;
}
