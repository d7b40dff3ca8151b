/* engine thread -> A -> B -> C, each by a clone that shares memory and suspends its parent until the
 * child execs or exits (posix_spawn's way), so that the size of the Python process costs nothing.
 * C becomes init: it execs the helper's sealed copy, which execs the command while B execs the monitor.
 * A ends at once, so that B is nobody's zombie later. */
#include "start.h"

#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "sys.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

long fb_vclone(struct fb_clone_args *args, void (*fn)(void *), void *arg) {
  long result;
  args->flags |= CLONE_VM | CLONE_VFORK | CLONE_CLEAR_SIGHAND;
#if defined(__x86_64__)
  /* The child goes on below this frame (past the red zone) and never returns into it. */
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "sub $256, %%rsp\n\t"
      "and $-16, %%rsp\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %[arg], %%rdi\n\t"
      "call *%[fn]\n\t"
      "ud2\n"
      "1:"
      : "=a"(result)
      : "0"((long)SYS_clone3), "D"(args), "S"(sizeof *args), [fn] "r"(fn), [arg] "r"(arg)
      : "rcx", "r11", "memory", "cc");
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = SYS_clone3;
  register long x0 __asm__("x0") = (long)args;
  register long x1 __asm__("x1") = (long)sizeof *args;
  __asm__ volatile(
      "svc #0\n\t"
      "cbnz x0, 1f\n\t"
      "sub sp, sp, #256\n\t"
      "mov x0, %[arg]\n\t"
      "blr %[fn]\n\t"
      "brk #1\n"
      "1:"
      : "+r"(x0)
      : "r"(x8), "r"(x1), [fn] "r"(fn), [arg] "r"(arg)
      : "memory", "cc", "x30");
  result = x0;
#else
#error "fastbox runs on x86_64 and aarch64"
#endif
  if (result < 0 && result > -4096) {
    errno = (int)-result;
    return -1;
  }
  return result;
}

static void leave(int status) {
  for (;;) syscall(SYS_exit_group, status);
}

static void run_init(void *arg) {
  struct fb_start *start = arg;
  fb_mark(start->context, FB_T_INIT);
  syscall(SYS_setsid);
  syscall(SYS_umask, 022); /* not the caller's: of what is made in the container on the way */
  if (fb_run_ops(start->context, &start->error) == 0) fb_finish(start->context, &start->error);
  leave(127);
}

static void format_pid(char *buffer, pid_t pid) {
  char digits[12];
  int n = 0;
  do digits[n++] = (char)('0' + pid % 10);
  while ((pid /= 10) > 0);
  while (n > 0) *buffer++ = digits[--n];
  *buffer = 0;
}

static void become_monitor(struct fb_start *start) {
  start->fds[FB_FD_PIDFD] = start->pidfd;
  for (int i = FB_FD_PIDFD; i < FB_FD_END; i++) {
    if (start->fds[i] == i) /* only the pidfd can be: the others are above */
      fcntl(i, F_SETFD, 0);
    else if (start->fds[i] >= 0)
      syscall(SYS_dup3, start->fds[i], i, 0);
    else
      syscall(SYS_close, i);
  }
  for (int i = 0; i < start->nports; i++) syscall(SYS_dup3, start->ports[i], FB_FD_END + i, 0);
  syscall(SYS_close_range, FB_FD_END + start->nports, ~0u, 0);
  int null = open("/dev/null", O_RDWR);
  for (int i = 0; i < 3; i++) syscall(SYS_dup3, null, i, 0);
  if (null > 2) syscall(SYS_close, null);
  format_pid(start->monitor_argv[1], start->pid);
  uint64_t none = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
  fb_mark(start->context, FB_T_SPAWNED);
  execve(start->monitor_path, start->monitor_argv, start->monitor_envp);
}

static void run_monitor(void *arg) {
  struct fb_start *start = arg;
  int pipe[2];
  fb_mark(start->context, FB_T_MONITOR);
  syscall(SYS_setsid);
  if (syscall(SYS_pipe2, pipe, O_CLOEXEC) < 0) {
    start->error.step = FB_STEP_CLONE;
    start->error.error = errno;
    leave(1);
  }
  start->context->error_fd = pipe[1];
  struct fb_clone_args args = {0};
  args.flags = start->context->plan->namespaces | CLONE_PIDFD;
  args.exit_signal = SIGCHLD;
  args.pidfd = (uint64_t)(uintptr_t)&start->pidfd;
  if (start->cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)start->cgroup_fd;
  }
  start->pid = (pid_t)fb_vclone(&args, run_init, start);
  if (start->pid < 0) {
    start->error.step = FB_STEP_CLONE;
    start->error.error = errno;
    leave(1);
  }
  fb_mark(start->context, FB_T_HELPER);
  syscall(SYS_close, pipe[1]);
  if (start->error.step == FB_STEP_NONE) {
    /* While the helper's copy execs the command, or says why it could not: see await_exec there. */
    start->fds[FB_FD_EXEC] = fcntl(pipe[0], F_DUPFD_CLOEXEC, FB_FD_END + start->nports);
    become_monitor(start);
    start->error.step = FB_STEP_MONITOR;
    start->error.error = errno;
    syscall(SYS_kill, start->pid, SIGKILL);
  }
  syscall(SYS_wait4, start->pid, NULL, __WALL, NULL);
  leave(1);
}

static void run_middle(void *arg) {
  struct fb_start *start = arg;
  struct fb_clone_args args = {0};
  args.exit_signal = SIGCHLD;
  start->monitor_pid = (pid_t)fb_vclone(&args, run_monitor, start);
  if (start->monitor_pid < 0) {
    start->error.step = FB_STEP_CLONE;
    start->error.error = errno;
  } else if (start->error.step != FB_STEP_NONE) {
    syscall(SYS_wait4, start->monitor_pid, NULL, __WALL, NULL);
  }
  leave(0);
}

/* A set*id call in a child that shares our memory makes *our* memory undumpable (commit_creds),
 * and /proc/self then belongs to root: put it back. */
static long clone_and_wait(struct fb_clone_args *args, void (*fn)(void *), void *arg) {
  uint64_t all = ~0ull, before;
  long dumpable = syscall(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8);
  long pid = fb_vclone(args, fn, arg);
  int saved = errno;
  if (pid > 0)
    while (syscall(SYS_wait4, pid, NULL, __WALL, NULL) < 0 && errno == EINTR) continue;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
  if (dumpable == 1) syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
  errno = saved;
  return pid;
}

static void fail_in_monitor(struct fb_start *start, int error, unsigned where) {
  start->error = (struct fb_error){FB_STEP_MONITOR, -1, error, where};
}

static void await_monitor(struct fb_start *start, int fd) {
  struct fb_ready ready;
  ssize_t n;
  do n = read(fd, &ready, sizeof ready);
  while (n < 0 && errno == EINTR);
  if (n != (ssize_t)sizeof ready) {
    fail_in_monitor(start, EPIPE, FB_WHERE_ENDED);
    return;
  }
  start->error = ready.error;
  if (start->context->times) start->context->times[FB_T_EXEC] = ready.exec_at;
}

static int start_both(struct fb_start *start) {
  struct fb_clone_args args = {0}; /* exit_signal 0: the engine's SIGCHLD handlers see nothing */
  int pipe[2];
  if (syscall(SYS_pipe2, pipe, O_CLOEXEC) < 0) return -1;
  int writer = fcntl(pipe[1], F_DUPFD_CLOEXEC, FB_FD_END + start->nports);
  start->fds[FB_FD_READY] = writer;
  long pid = writer < 0 ? -1 : clone_and_wait(&args, run_middle, start);
  int saved = errno;
  syscall(SYS_close, pipe[1]);
  if (writer >= 0) syscall(SYS_close, writer);
  if (pid >= 0 && start->error.step == FB_STEP_NONE) await_monitor(start, pipe[0]);
  syscall(SYS_close, pipe[0]);
  errno = saved;
  return pid < 0 ? -1 : 0;
}

int fb_start(struct fb_start *start) {
  memset(&start->error, 0, sizeof start->error);
  start->error.index = -1;
  start->pid = start->monitor_pid = -1;
  start->pidfd = -1;
  fb_mark(start->context, FB_T_CALL);
  if (start_both(start) < 0) {
    start->error.step = FB_STEP_CLONE;
    start->error.error = errno;
  }
  fb_mark(start->context, FB_T_RETURN);
  return start->error.step == FB_STEP_NONE ? 0 : -1;
}

struct helper {
  int fd;
  char **argv, **envp;
  const int *fds;
  int nfds;
  int error;
};

static void run_helper(void *arg) {
  struct helper *helper = arg;
  /* First above all numbers that are filled, or closed, one after the other. */
  int program = fcntl(helper->fd, F_DUPFD_CLOEXEC, FB_HELPER_FDS), moved[FB_HELPER_FDS];
  for (int i = 0; i < helper->nfds; i++)
    moved[i] = helper->fds[i] < 0 ? -1 : fcntl(helper->fds[i], F_DUPFD_CLOEXEC, FB_HELPER_FDS);
  for (int i = 0; i < helper->nfds; i++) {
    if (helper->fds[i] < 0)
      syscall(SYS_close, i);
    else if (syscall(SYS_dup3, moved[i], i, 0) < 0) {
      helper->error = errno;
      leave(127);
    }
  }
  uint64_t none = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
  syscall(SYS_execveat, program, "", helper->argv, helper->envp, AT_EMPTY_PATH);
  helper->error = errno;
  leave(127);
}

pid_t fb_spawn_helper(int helper_fd, char **argv, char **envp, const int *fds, int nfds) {
  struct helper helper = {helper_fd, argv, envp, fds, nfds, 0};
  struct fb_clone_args args = {0};
  args.exit_signal = 0;
  uint64_t all = ~0ull, before;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8);
  pid_t pid = (pid_t)fb_vclone(&args, run_helper, &helper);
  int saved = errno;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
  if (pid > 0 && helper.error) {
    syscall(SYS_wait4, pid, NULL, __WALL, NULL);
    errno = helper.error;
    return -1;
  }
  errno = saved;
  return pid;
}
