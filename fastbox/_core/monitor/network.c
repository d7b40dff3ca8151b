/* See network.h. Most containers never need the helper (net/): the kernel forwards to published ports,
 * and few ask for names. So it is a process of its own, started when one of the sockets becomes
 * readable; it ends when nobody has called for a while, and then the monitor listens again. */
#include "network.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../launch/start.h"
#include "journal.h"
#include "monitor.h"

#define HELPER_FDS 7 /* published ports are the helper's descriptors from here on */
#define RETRY_SECONDS 1
#define BATCH 8192
#define LINGER_MS 60

static const char *container;
static int networks = -1;   /* RUNTIME/networks */
static int calls = -1;      /* epoll: somebody calls */
static int waiting = -1;    /* the helper's pidfd, or a timer, while `calls` is not looked at */
static pid_t helper;        /* 0: none */
static int names[2] = {-1, -1};
static int nports;
static const char *lines;   /* of the file `release` */
static size_t lines_length;

static void watch(int fd) {
  struct epoll_event event = {.events = EPOLLIN};
  if (fd >= 0) epoll_ctl(calls, EPOLL_CTL_ADD, fd, &event);
}

void network_start(const char *runtime, const char *id, const char *ports) {
  char path[4096];
  container = id;
  nports = atoi(ports);
  snprintf(path, sizeof path, "%s/networks", runtime);
  networks = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fcntl(FB_FD_NAMES, F_GETFD) >= 0) {
    receive_fds(FB_FD_NAMES, MSG_DONTWAIT, names, 2);
    close(FB_FD_NAMES);
  }
  if (names[0] < 0 && !nports) return;
  calls = epoll_create1(EPOLL_CLOEXEC);
  watch(names[0]);
  watch(names[1]);
  for (int i = 0; i < nports; i++) watch(FB_FD_END + i);
}

int network_prepare(struct pollfd *polls) {
  int fd = waiting >= 0 ? waiting : calls;
  if (fd < 0) return 0;
  *polls = (struct pollfd){fd, POLLIN, 0};
  return 1;
}

static void move(int from, int to) {
  if (from >= 0)
    dup2(from, to);
  else
    close(to);
}

static void become_helper(pid_t parent) {
  char count[16];
  char *argv[] = {"fastbox-net", (char *)container, count, NULL}, *envp[] = {NULL};
  int above = FB_FD_END + nports, kept[3];
  sigset_t none;
  snprintf(count, sizeof count, "%d", nports);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  int own[3] = {networks, names[0], names[1]};
  for (int i = 0; i < 3; i++) kept[i] = own[i] < 0 ? -1 : fcntl(own[i], F_DUPFD, above);
  for (int i = 0; i < nports; i++) dup2(FB_FD_END + i, HELPER_FDS + i); /* downwards */
  for (int i = 0; i < 3; i++) move(kept[i], 3 + i);
  close(6);
  syscall(SYS_close_range, HELPER_FDS + nports, ~0u, 0);
  execve("/proc/self/exe", argv, envp);
  _exit(127);
}

/* Not again at once: what ends by itself will do so once more. */
static void pause_calls(void) {
  struct itimerspec time = {.it_value = {RETRY_SECONDS, 0}};
  waiting = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  if (waiting >= 0) timerfd_settime(waiting, 0, &time, NULL);
}

static void start_helper(void) {
  pid_t self = getpid();
  helper = fork();
  if (helper == 0) become_helper(self);
  if (helper > 0) waiting = (int)syscall(SYS_pidfd_open, helper, 0);
  if (helper < 0) helper = 0;
  if (waiting < 0) pause_calls();
}

void network_serve(void) {
  if (waiting < 0) {
    start_helper();
    return;
  }
  int status = 0;
  close(waiting);
  waiting = -1;
  if (!helper) return; /* the pause is over */
  waitpid(helper, &status, 0);
  helper = 0;
  if (status != 0) pause_calls();
}

static int unhex(char letter) {
  if (letter >= '0' && letter <= '9') return letter - '0';
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* Messages that delete something. It may be gone: the table was flushed, the link died. */
static void send_messages(int fd, const char *hex, size_t length) {
  char data[BATCH] __attribute__((aligned(8)));
  if (fd < 0 || length / 2 > sizeof data) return;
  for (size_t i = 0; i + 1 < length; i += 2) {
    int high = unhex(hex[i]), low = unhex(hex[i + 1]);
    if (high < 0 || low < 0) return;
    data[i / 2] = (char)(high << 4 | low);
  }
  if (send(fd, data, length / 2, 0) < 0) errno = 0;
}

static int netfilter = -1, route = -1;

/* "ID PATH": a symlink goes if it is still this container's. */
static void unlink_own(char *line) {
  char target[128], *path = strchr(line, ' ');
  if (!path) return;
  *path++ = 0;
  ssize_t n = readlinkat(networks, path, target, sizeof target);
  size_t length = strlen(line);
  if (n >= (ssize_t)length && memcmp(target, line, length) == 0 &&
      (n == (ssize_t)length || target[length] == '/'))
    unlinkat(networks, path, 0);
}

static void undo(const char *line, size_t length) {
  char path[1024];
  if (line[0] == 'n') {
    send_messages(netfilter, line + 2, length - 2);
  } else if (line[0] == 'l') {
    send_messages(route, line + 2, length - 2);
  } else if ((line[0] == 'u' || line[0] == 'r' || line[0] == 'o') && length - 2 < sizeof path) {
    memcpy(path, line + 2, length - 2);
    path[length - 2] = 0;
    if (line[0] == 'o')
      unlink_own(path);
    else
      unlinkat(networks, path, line[0] == 'r' ? AT_REMOVEDIR : 0);
  }
}

/* The file `release` (network/release.py): a line for each thing to undo, in order: "n HEX" a batch of
 * nftables messages, "l HEX" rtnetlink messages, "e JSON" an event; below RUNTIME/networks "u PATH" a
 * file, "r PATH" a directory, "o ID PATH" a symlink of this container's. */
static void read_lines(void) {
  struct stat status;
  int fd = openat(FB_FD_RUN_DIR, "release", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return;
  if (fstat(fd, &status) == 0 && status.st_size > 0) {
    lines = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (lines == MAP_FAILED)
      lines = NULL;
    else
      lines_length = (size_t)status.st_size;
  }
  close(fd);
}

static void each_line(void (*act)(const char *line, size_t length)) {
  const char *line = lines;
  size_t left = lines_length;
  while (left > 0) {
    const char *end = memchr(line, '\n', left);
    size_t length = end ? (size_t)(end - line) : left;
    if (length > 2 && line[1] == ' ') act(line, length);
    if (!end) break;
    left -= length + 1;
    line = end + 1;
  }
}

static void release(void) {
  read_lines();
  if (!lines) return;
  if (networks >= 0) {
    /* Not closed: that waits for an RCU grace period (10 ms) when anybody has just deleted something,
     * and whoever waits for the container's end would wait along. For the same reason it is the
     * socket that the start has used, which need not close it either. */
    netfilter = FB_FD_NETFILTER;
    if (fcntl(netfilter, F_GETFD) < 0)
      netfilter = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    route = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    each_line(undo);
    if (route >= 0) close(route);
  }
  unlinkat(FB_FD_RUN_DIR, "release", 0); /* before the exit record: then others look after it */
}

static void tell(const char *line, size_t length) {
  if (line[0] == 'e') journal_write(line + 2, length - 2);
}

void network_told(void) { each_line(tell); }

void network_end(void) {
  if (helper) {
    kill(helper, SIGKILL);
    waitpid(helper, NULL, 0);
  }
  /* The name server's sockets would keep the container's network namespace. */
  for (int i = 0; i < 2; i++)
    if (names[i] >= 0) close(names[i]);
  /* Ports last: who gets one next has an element of the packet filter by the same key. */
  release();
  for (int i = 0; i < nports; i++) close(FB_FD_END + i);
}

/* The close would wait with the lock of the namespace's rule sets held: a container that is started
 * right after this one, `restart` for example, would wait for it to publish its ports. After the
 * grace period there is nothing to wait for. */
void network_linger(void) {
  struct timespec time = {0, LINGER_MS * 1000000L};
  if (!nports || netfilter < 0) return;
  dup2(netfilter, 3);
  syscall(SYS_close_range, 4, ~0u, 0); /* a client's standard output may be among them */
  nanosleep(&time, NULL);
}
