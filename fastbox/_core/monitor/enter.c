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
 * fds: 0-2 the command's streams, 3 the plan (a memfd), 4 errors, 5 pidfd of the container's init,
 * 6 the container's v2 cgroup directory.
 * argv: 0 "fastbox-enter", then cgroup.procs files of the container's v1 cgroups.
 * Exits with the command's status; detached, the process that was started exits at once. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../launch/plan.h"
#include "../launch/sys.h"
#include "monitor.h"

#define FD_PLAN 3
#define FD_ERROR 4
#define FD_INIT 5
#define FD_CGROUP 6
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

static void die(int step, int where) {
  struct fb_error error = {(uint32_t)step, -1, errno, (uint32_t)where};
  fb_report(FD_ERROR, &error);
}

static void load_plan(struct fb_context *context) {
  struct stat status;
  if (fstat(FD_PLAN, &status) < 0 || status.st_size <= 0 || status.st_size > (64 << 20))
    die(FB_STEP_PLAN, 1);
  size_t length = (size_t)status.st_size;
  void *buffer = mmap(NULL, length, PROT_READ, MAP_PRIVATE, FD_PLAN, 0);
  if (buffer == MAP_FAILED) die(FB_STEP_PLAN, 2);
  void *memory = malloc(fb_context_size(buffer, length) + 1);
  if (!memory || fb_context_init(context, buffer, length, memory) < 0) die(FB_STEP_PLAN, 3);
}

/* A plain clone into the container's cgroup: the child never runs outside of it. */
static pid_t clone_into(int cgroup) {
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
  if (fb_die_with_parent(context, &error) == 0) fb_exec(context->argv, context->envp, &error);
  fb_report(context->error_fd, &error);
}

/* P */
static void join(struct fb_context *context, const int *procs, int nprocs) {
  struct fb_error error = {0, -1, 0, 0};
  for (int i = 0; i < nprocs; i++)
    if (write(procs[i], "0", 1) != 1) die(FB_OP_CGROUP_JOIN, 2);
  for (int i = 0; i < 3; i++) context->stdio[i] = i;
  /* Limits, and writes to /proc/self, which in the container's /proc we do not have. */
  if (fb_run_ops(context, &error) < 0) fb_report(FD_ERROR, &error);
  if (setns(FD_INIT, (int)context->plan->namespaces) < 0) die(FB_STEP_SETNS, 1);
  context->error_fd = FD_ERROR;
  if (fb_confine(context, &error) < 0) fb_report(context->error_fd, &error);
  pid_t child = (pid_t)syscall(SYS_clone, (long)(CLONE_PARENT | SIGCHLD), NULL, NULL, NULL, NULL);
  if (child == 0) become_command(context);
  if (child > 0) _exit(0);
  error.step = FB_STEP_CLONE;
  error.error = errno;
  error.where = 3;
  fb_report(context->error_fd, &error);
}

/* W: P ends first or last; the other child is the command. */
static int await_command(pid_t joiner) {
  int status;
  for (;;) {
    pid_t pid = waitpid(-1, &status, 0);
    if (pid < 0 && errno == EINTR) continue;
    if (pid < 0) return 255;
    if (pid == joiner && WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
}

int enter_main(int argc, char **argv, char **envp) {
  struct fb_context context;
  int procs[32], nprocs = 0;
  (void)envp;
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  load_plan(&context);
  int cgroup = fcntl(FD_CGROUP, F_GETFD) < 0 ? -1 : FD_CGROUP; /* before another file gets 6 */
  for (int i = 3; i < 7; i++) fcntl(i, F_SETFD, FD_CLOEXEC);
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
  pid_t joiner = clone_into(cgroup);
  if (joiner < 0) die(FB_STEP_CLONE, 1);
  if (joiner == 0) join(&context, procs, nprocs);
  syscall(SYS_close_range, 0, ~0u, 0);
  if (chdir("/") < 0) return 255; /* keep nobody's directory busy */
  return await_command(joiner);
}
