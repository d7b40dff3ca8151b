/* exec: a fresh tiny process joins a running container and becomes the command there. It runs from a
 * sealed memfd and is not dumpable, so that nothing in the container can take hold of the engine's
 * own binary or memory through it (CVE-2019-5736, CVE-2016-9962).
 *
 * Three processes, because what is in the container's pid namespace can be attached to by whoever has
 * CAP_SYS_PTRACE there:
 *   W  waits for the command on the host, in no namespace of the container;
 *   P  starts in the container's cgroup, joins every namespace (it keeps its own pid namespace: it is
 *      not visible in the container's) and takes on all that confines the command;
 *   R  P's child, but W's by CLONE_PARENT: from its first instant in the container it has no right
 *      and no descriptor that the command does not get.
 *
 * With a terminal (FB_P_TTY) its master goes to W, which hands a copy to the engine: should the engine
 * leave, W empties it until the command ends.
 *
 * fds: 0-2 the command's streams, 3 the plan (a memfd), 4 errors, 5 pidfd of the container's init,
 * 6 the container's v2 cgroup directory, 7 a socket for the terminal's master.
 * argv: 0 "fastbox-enter", then cgroup.procs files of the container's v1 cgroups.
 * Exits with the command's status; detached, the process that was started exits at once. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../launch/console.h"
#include "../launch/plan.h"
#include "../launch/sys.h"
#include "enter.h"
#include "monitor.h"

#define FD_CGROUP 6
#define FD_CONSOLE 7
#define FD_KEPT 100 /* what W keeps while it waits: signals, master, engine */
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

static void die(int step, int where) {
  struct fb_error error = {(uint32_t)step, -1, errno, (uint32_t)where};
  fb_report(FD_ERROR, &error);
}

void load_plan(struct fb_context *context) {
  struct stat status;
  if (fstat(FD_PLAN, &status) < 0 || status.st_size <= 0 || status.st_size > (64 << 20))
    die(FB_STEP_PLAN, 1);
  size_t length = (size_t)status.st_size;
  void *buffer = mmap(NULL, length, PROT_READ, MAP_PRIVATE, FD_PLAN, 0);
  if (buffer == MAP_FAILED) die(FB_STEP_PLAN, 2);
  void *memory = malloc(fb_context_size(buffer, length) + 1);
  if (!memory || fb_context_init(context, buffer, length, memory) < 0) die(FB_STEP_PLAN, 3);
}

pid_t clone_into(int cgroup) {
  struct fb_clone_args args;
  memset(&args, 0, sizeof args);
  args.exit_signal = SIGCHLD;
  if (cgroup >= 0) {
    args.flags = CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)cgroup;
  }
  return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static void become_command(struct fb_context *context) {
  struct fb_error error = {0, -1, 0, 0};
  setsid();
  if ((context->plan->flags & FB_P_TTY) && fb_control(0) < 0) {
    error.step = FB_STEP_TTY;
    error.error = errno;
    fb_report(context->error_fd, &error);
  }
  if (fb_die_with_parent(context, &error) == 0) fb_exec(context->argv, context->envp, &error);
  fb_report(context->error_fd, &error);
}

/* P */
pid_t join(struct fb_context *context, const int *procs, int nprocs) {
  struct fb_error error = {0, -1, 0, 0};
  for (int i = 0; i < nprocs; i++)
    if (write(procs[i], "0", 1) != 1) die(FB_OP_CGROUP_JOIN, 2);
  for (int i = 0; i < 3; i++) context->stdio[i] = i;
  /* Limits, and writes to /proc/self, which in the container's /proc we do not have. */
  if (fb_run_ops(context, &error) < 0) fb_report(FD_ERROR, &error);
  if (setns(FD_INIT, (int)context->plan->namespaces) < 0) die(FB_STEP_SETNS, 1);
  context->error_fd = FD_ERROR;
  if ((context->plan->flags & FB_P_TTY) && fb_console(context, 0, 0, &error) < 0) {
    error.step = FB_STEP_TTY;
    error.error = errno;
    fb_report(FD_ERROR, &error);
  }
  if (fb_confine(context, &error) < 0) fb_report(context->error_fd, &error);
  pid_t child = (pid_t)syscall(SYS_clone, (long)(CLONE_PARENT | SIGCHLD), NULL, NULL, NULL, NULL);
  if (child == 0) become_command(context);
  if (child > 0) return child;
  error.step = FB_STEP_CLONE;
  error.error = errno;
  error.where = 3;
  fb_report(context->error_fd, &error);
}

/* W: P ends first or last; the other child is the command. -1: neither has ended that counts
 * (only with WNOHANG). */
static int await_command(pid_t joiner, int options) {
  int status;
  for (;;) {
    pid_t pid = waitpid(-1, &status, options);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) return 255;
    if (pid == 0) return -1;
    if (pid == joiner && WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    if (is_traced(pid, status)) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
}

/* The master from P, a copy of it to the engine; -1: P has failed, and says why itself. */
static int pass_master(int from, int engine) {
  int master = receive_fd(from, 0);
  if (master >= 0 && engine >= 0 && fb_send_fd(engine, master) < 0) errno = 0; /* it has left */
  return master;
}

/* Should the engine go away, the command's output is thrown away, so that it can go on. */
static int await_with_terminal(pid_t joiner, int signals, int master, int engine) {
  int kept[3] = {signals, master, engine};
  for (int i = 0; i < 3; i++)
    if (kept[i] >= 0) dup3(kept[i], FD_KEPT + i, O_CLOEXEC);
  syscall(SYS_close_range, 0, FD_KEPT - 1, 0);
  syscall(SYS_close_range, FD_KEPT + 3, ~0u, 0);
  struct pollfd polls[3] = {
      {FD_KEPT, POLLIN, 0}, {-1, POLLIN, 0}, {master < 0 || engine < 0 ? -1 : FD_KEPT + 2, 0, 0}};
  if (engine < 0 && master >= 0) polls[1].fd = FD_KEPT + 1;
  for (;;) {
    char rest[4096];
    if (poll(polls, 3, -1) < 0) continue;
    if (polls[2].revents) {
      polls[2].fd = -1;
      polls[1].fd = FD_KEPT + 1;
    }
    if (polls[1].revents && read(FD_KEPT + 1, rest, sizeof rest) <= 0 && errno != EAGAIN)
      polls[1].fd = -1;
    if (polls[0].revents && read(FD_KEPT, rest, sizeof rest) > 0) {
      int status = await_command(joiner, WNOHANG);
      if (status >= 0) return status;
    }
  }
}

int enter_main(int argc, char **argv, char **envp) {
  struct fb_context context;
  int procs[32], nprocs = 0;
  (void)envp;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  load_plan(&context);
  /* Before another file gets these numbers. */
  int cgroup = fcntl(FD_CGROUP, F_GETFD) < 0 ? -1 : FD_CGROUP;
  int engine = fcntl(FD_CONSOLE, F_GETFD) < 0 ? -1 : FD_CONSOLE;
  for (int i = 3; i < 8; i++) fcntl(i, F_SETFD, FD_CLOEXEC);
  for (int i = 1; i < argc && nprocs < 32; i++) {
    procs[nprocs] = open(argv[i], O_WRONLY | O_CLOEXEC);
    if (procs[nprocs] < 0) die(FB_OP_CGROUP_JOIN, 1);
    nprocs++;
  }
  /* Detached, we stay as the command's parent, nobody's child: if it were left to the host's init,
   * the container's end would wait until that reaps it. */
  if (context.plan->flags & FB_P_DETACH) {
    pid_t ours = fork();
    if (ours < 0) die(FB_STEP_CLONE, 2);
    if (ours > 0) _exit(0);
    setsid();
  }
  int terminal = context.plan->flags & FB_P_TTY, pair[2] = {-1, -1}, signals = -1;
  if (terminal) {
    sigset_t child;
    setsid(); /* the end of the client's session is not the command's */
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    signals = signalfd(-1, &child, SFD_CLOEXEC);
    if (signals < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
      die(FB_STEP_TTY, 9);
    context.console_fd = pair[1];
  }
  pid_t joiner = clone_into(cgroup);
  if (joiner < 0) die(FB_STEP_CLONE, 1);
  if (joiner == 0) {
    join(&context, procs, nprocs);
    _exit(0);
  }
  if (chdir("/") < 0) return 255; /* keep nobody's directory busy */
  if (terminal) {
    close(pair[1]);
    close(FD_ERROR);
    return await_with_terminal(joiner, signals, pass_master(pair[0], engine), engine);
  }
  syscall(SYS_close_range, 0, ~0u, 0);
  return await_command(joiner, 0);
}
