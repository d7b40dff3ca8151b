/* Signals: the worker gets those that a command may want to see, and what stops us stops it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

/* What is not here ends (or stops) this program as it always does, and the worker sees that it has
 * gone, as a command that was killed. */
static const int RELAYED[] = {SIGHUP,  SIGINT,   SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
                              SIGCONT, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU};
enum { COUNT = sizeof RELAYED / sizeof *RELAYED, SETTLE = 200 /* ms, for a worker to stop */ };

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* -1: some are blocked already, which is more than a worker can take on. */
int relay_open(struct relay *relay) {
  sigset_t ours;
  sigemptyset(&ours);
  relay->ignored = 0;
  for (int i = 0; i < COUNT; i++) {
    struct sigaction action;
    sigaddset(&ours, RELAYED[i]);
    if (sigaction(RELAYED[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN)
      relay->ignored |= 1ULL << (RELAYED[i] - 1);
  }
  sigprocmask(SIG_BLOCK, &ours, &relay->before);
  for (int i = 0; i < COUNT; i++)
    if (sigismember(&relay->before, RELAYED[i])) {
      sigprocmask(SIG_SETMASK, &relay->before, NULL);
      return -1;
    }
  relay->ending = 0;
  relay->signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
  return relay->signals < 0 ? -1 : 0;
}

void relay_close(struct relay *relay) {
  if (relay->signals >= 0) close(relay->signals);
  sigprocmask(SIG_SETMASK, &relay->before, NULL);
}

static void tell(int worker, int number) {
  syscall(SYS_pidfd_send_signal, worker, number, NULL, 0);
}

static int has_stopped(pid_t worker) {
  char path[32], text[256];
  snprintf(path, sizeof path, "/proc/%d/stat", worker);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 1;
  ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  if (size <= 0) return 1;
  text[size] = 0;
  char *state = strrchr(text, ')');
  return !state || !strchr("SDR", state[2]);
}

/* Stop: the worker first, which may have the screen to tidy up; then this process, so that the
 * shell sees it. Where it is ignored, or the worker's group is orphaned, SIGSTOP does it. */
static void stop_both(struct relay *relay, int number, int pidfd, pid_t worker) {
  if (relay->ignored >> (number - 1) & 1) return;
  struct timespec tick = {0, 1000000};
  sigset_t only;
  tell(pidfd, number);
  for (int waited = 0; waited < SETTLE && !has_stopped(worker); waited++) nanosleep(&tick, NULL);
  if (!has_stopped(worker)) tell(pidfd, SIGSTOP);
  sigemptyset(&only);
  sigaddset(&only, number);
  raise(number);
  sigprocmask(SIG_UNBLOCK, &only, NULL); /* here we stand until SIGCONT */
  sigprocmask(SIG_BLOCK, &only, NULL);
  tell(pidfd, SIGCONT);
}

void relay_signals(struct relay *relay, int worker_pidfd, pid_t worker) {
  struct signalfd_siginfo info;
  while (read(relay->signals, &info, sizeof info) == sizeof info) {
    int number = info.ssi_signo;
    switch (number) {
      case SIGTSTP:
      case SIGTTIN:
      case SIGTTOU:
        stop_both(relay, number, worker_pidfd, worker);
        break;
      default:
        tell(worker_pidfd, number);
        if (number == SIGCONT || number == SIGWINCH) break;
        relay->ending = number;
        relay->ended_at = now_ms();
    }
  }
}

void relay_die(struct relay *relay) {
  if (!relay->ending || now_ms() - relay->ended_at > 2000) return;
  signal(relay->ending, SIG_DFL);
  raise(relay->ending);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, relay->ending);
  sigprocmask(SIG_UNBLOCK, &only, NULL);
}
