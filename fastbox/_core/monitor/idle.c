/* PID 1 of a box (fastbox/sandbox/): nothing of the image runs until somebody asks for it. It has
 * the rights of the box's commands and no others, reaps orphans, and ends, and the box with it, when
 * the process that made the box is gone: that holds the other end of the pipe at descriptor 0.
 *
 * fds: 0 that pipe, 3 errors: closed when this runs. argv: 0 "fastbox-idle". */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"

int idle_main(int argc, char **argv, char **envp) {
  (void)argc, (void)argv, (void)envp;
  sigset_t all;
  prctl(PR_SET_NAME, "fastbox-idle");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* its pipe is nobody's business in the box */
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, NULL);
  sigemptyset(&all);
  sigaddset(&all, SIGCHLD);
  int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) return 125;
  for (int i = 1; i < 4; i++) close(i);
  for (;;) {
    struct pollfd polls[2] = {{0, 0, 0}, {signals, POLLIN, 0}};
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    if (poll(polls, 2, -1) < 0) continue;
    if (polls[0].revents) return 0;
    while (read(signals, &info, sizeof info) > 0) errno = 0;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) is_traced(pid, status);
  }
}
