/* What the helper gives up before it reads the first byte of a container. The order is the security:
 * each step takes away something that a later one no longer needs. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../launch/sys.h"
#include "net.h"

#define NOBODY 65534

unsigned net_descriptors(unsigned last) {
  struct rlimit limit;
  syscall(SYS_close_range, last + 1, ~0u, 0);
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return 256;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_max > 1 << 20 ? 1 << 20 : (unsigned)limit.rlim_max;
}

/* ---- system calls ----------------------------------------------------------------------------- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

#ifdef ARCH
static const short allowed[] = {
    SYS_recvmmsg, SYS_sendmmsg, SYS_epoll_pwait, SYS_splice, SYS_recvfrom, SYS_sendto, SYS_recvmsg,
    SYS_sendmsg, SYS_read, SYS_close, SYS_epoll_ctl, SYS_connect, SYS_accept4, SYS_shutdown,
    SYS_getsockopt, SYS_setsockopt, SYS_pipe2, SYS_newfstatat, SYS_fstat, SYS_getdents64,
    SYS_readlinkat, SYS_getrandom, SYS_clock_gettime, SYS_restart_syscall, SYS_rt_sigreturn,
    SYS_exit_group,
#ifdef SYS_epoll_wait
    SYS_epoll_wait,
#endif
};
#define ALLOWED (sizeof allowed / sizeof *allowed)

static struct sock_filter program[2 * ALLOWED + 32];
static unsigned short used;

static void add(unsigned code, unsigned yes, unsigned no, unsigned value) {
  program[used++] = (struct sock_filter){(uint16_t)code, (uint8_t)yes, (uint8_t)no, value};
}

#define IS (BPF_JMP | BPF_JEQ | BPF_K)
#define LOAD (BPF_LD | BPF_W | BPF_ABS)
#define RETURN (BPF_RET | BPF_K)
#define ARGUMENT(n) (unsigned)(offsetof(struct seccomp_data, args) + 8 * (n)) /* its lower half */

/* socket: of the internet only. ioctl: an interface's number. openat: to read. */
static void add_conditions(void) {
  add(IS, 0, 5, SYS_socket);
  add(LOAD, 0, 0, ARGUMENT(0));
  add(IS, 1, 0, AF_INET);
  add(IS, 0, 1, AF_INET6);
  add(RETURN, 0, 0, SECCOMP_RET_ALLOW);
  add(RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS);
  add(IS, 0, 4, SYS_ioctl);
  add(LOAD, 0, 0, ARGUMENT(1));
  add(IS, 0, 1, SIOCGIFINDEX);
  add(RETURN, 0, 0, SECCOMP_RET_ALLOW);
  add(RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS);
  add(IS, 0, 4, SYS_openat);
  add(LOAD, 0, 0, ARGUMENT(2));
  add(BPF_JMP | BPF_JSET | BPF_K, 1, 0, O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND);
  add(RETURN, 0, 0, SECCOMP_RET_ALLOW);
  add(RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS);
}

static int filter(void) {
  add(LOAD, 0, 0, offsetof(struct seccomp_data, arch));
  add(IS, 1, 0, ARCH);
  add(RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS);
  add(LOAD, 0, 0, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < ALLOWED; i++) {
    add(IS, 0, 1, (unsigned)allowed[i]);
    add(RETURN, 0, 0, SECCOMP_RET_ALLOW);
  }
  add_conditions();
  add(RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS);
  struct sock_fprog whole = {used, program};
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &whole);
}
#else
static int filter(void) { return 0; }
#endif

/* ---- rights ----------------------------------------------------------------------------------- */

/* In a user namespace that has no "nobody", the ids stay; the capabilities go all the same. */
static int set_ids(void) {
  if (geteuid() != 0) return 0;
  if (setgroups(0, NULL) < 0) return -1;
  if (setresgid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL) return -1;
  if (setresuid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL) return -1;
  return 0;
}

static int drop_capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2] = {{0}, {0}};
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  return (int)syscall(SYS_capset, &header, none);
}

static void drop_bounding(void) {
  for (int cap = 0; cap < 64; cap++)
    if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) return; /* past the last one, or no right to */
}

int net_confine(int leash) {
  pid_t parent = getppid();
  drop_bounding();
  if (set_ids() < 0 || drop_capabilities() < 0) return -1;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -1;
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return -1;
  /* Without a leash; and only now: a change of ids takes it back. */
  if (!leash &&
      (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent))
    return -1;
  return filter();
}
