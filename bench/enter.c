/* What `exec` costs on this kernel when nothing but the system calls is paid for: a process in the
 * container's cgroup joins its namespaces, takes on capabilities and filter, and its child, which is
 * in the pid namespace too, execs the command. Bare C, as floor.c is for a start. Prints the
 * nanoseconds of each run, from before the first clone to the command's end, one per line.
 *
 *   enter [-n RUNS] [-s FILTER] [-c CGROUP] -p PID COMMAND [ARG…]
 *
 * FILTER is a file of struct sock_filter. CGROUP is the container's directory in the cgroup v2
 * hierarchy. PID is its init.
 */
#include "common.h"

#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

static char **command;
static int init = -1, cgroup = -1;

static void join(void) {
  CHECK(setns(init, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |
                        CLONE_NEWCGROUP));
  if (filter.len) /* before the capabilities go: a filter without no_new_privs needs CAP_SYS_ADMIN */
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &filter));
  drop_capabilities();
  long child = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
  CHECK(child);
  if (child > 0) _exit(0);
  CHECK(setsid());
  execv(command[0], command);
  die(command[0]);
}

static void run_once(void) {
  struct clone_args args;
  memset(&args, 0, sizeof args);
  args.exit_signal = SIGCHLD;
  if (cgroup >= 0) {
    args.flags = CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)cgroup;
  }
  long pid = syscall(SYS_clone3, &args, sizeof args);
  CHECK(pid);
  if (pid == 0) join();
  int status, left = 2;
  while (left > 0 && wait(&status) > 0) {
    left--;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    fprintf(stderr, "enter: the command ended with wait status %d\n", status);
    exit(1);
  }
}

int main(int argc, char **argv) {
  int runs = 1, option, pid = 0;
  while ((option = getopt(argc, argv, "+n:s:c:p:")) != -1) switch (option) {
      case 'n': runs = atoi(optarg); break;
      case 's': read_filter(optarg); break;
      case 'c': CHECK(cgroup = open(optarg, O_DIRECTORY | O_RDONLY | O_CLOEXEC)); break;
      case 'p': pid = atoi(optarg); break;
      default: return 2;
    }
  command = argv + optind;
  if (!pid || !*command) {
    fprintf(stderr, "enter: -p and a command are needed\n");
    return 2;
  }
  CHECK(init = (int)syscall(SYS_pidfd_open, pid, 0));
  for (int i = 0; i < runs; i++) {
    uint64_t start = now();
    run_once();
    printf("%llu\n", (unsigned long long)(now() - start));
  }
  return 0;
}
