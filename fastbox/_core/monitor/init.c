/* --init: PID 1 that starts the command, passes signals on and reaps orphans (what tini does).
 * argv: 0 "fastbox-init", 1 "--", then the command. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"

static int start_command(char **argv, sigset_t *mask) {
  pid_t child = fork();
  if (child != 0) return child;
  setpgid(0, 0);
  tcsetpgrp(0, getpgrp()); /* fails without a terminal, which is fine */
  sigprocmask(SIG_SETMASK, mask, NULL);
  signal(SIGTTIN, SIG_DFL);
  signal(SIGTTOU, SIG_DFL);
  execvp(argv[0], argv);
  int status = errno == ENOENT ? 127 : 126;
  char text[512];
  int n = snprintf(text, sizeof text, "[FATAL fastbox-init] exec %s failed: %s\n", argv[0],
                   strerror(errno));
  if (n > 0 && write(2, text, (size_t)n) < 0) status = 126;
  _exit(status);
}

int is_traced(pid_t pid, int status) {
  if (!WIFSTOPPED(status)) return 0;
  int number = WSTOPSIG(status);
  ptrace(PTRACE_DETACH, pid, NULL, (long)(number == SIGTRAP ? 0 : number));
  return 1;
}

/* Reap everything that has ended; returns the command's status once it has, else -1. */
static int reap(pid_t child) {
  int status, result = -1;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
    if (!is_traced(pid, status) && pid == child)
      result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

int init_main(int argc, char **argv, char **envp) {
  (void)envp;
  if (argc < 3) return 127;
  prctl(PR_SET_NAME, "fastbox-init");
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  signal(SIGTTIN, SIG_IGN);
  signal(SIGTTOU, SIG_IGN);
  pid_t child = start_command(argv + 2, &before);
  if (child < 0) return 126;
  for (;;) {
    siginfo_t info;
    int number = sigwaitinfo(&all, &info);
    if (number < 0) continue;
    if (number != SIGCHLD) {
      kill(child, number);
      continue;
    }
    int status = reap(child);
    if (status >= 0) return status;
  }
}
