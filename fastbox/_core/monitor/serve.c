/* Many commands in one box: what enter.c does for one. The server, S, is enter.c's W: on the host, in
 * none of the box's namespaces, seen by nobody in it. It joins the box's v1 cgroups once, because each
 * such move waits for the kernel's RCU, and its children are born in them. For each command it clones a
 * P, which joins the namespaces, is confined, and starts R, the command, as S's child.
 *
 * A request is a packet of one byte on FD_REQUESTS with these descriptors:
 *   0-2 the command's streams, 3 the plan (a memfd), 4 a SOCK_SEQPACKET socket for the answers,
 *   5 the run's group: the directory of a v2 cgroup, or a cgroup.procs file that is open for writing;
 *     may be left out.
 * Answers: a struct fb_error if the command could not be started, then a struct served; end-of-file
 * without the latter: S is gone.
 *
 * fds: 3 requests, 4 pidfd of the box's init. argv: 0 "fastbox-serve", then cgroup.procs files.
 * Ends when nobody can send a request any more, or when the box has ended; its commands with it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "enter.h"
#include "monitor.h"

#define FD_REQUESTS 3
#define FD_BOX 4
#define FD_KEPT 100 /* above the numbers that P gives its descriptors */
#define RUNS 512    /* at once; more wait until one has ended */

enum { PLAN = 3, ANSWERS, GROUP, RIGHTS }; /* in a request */

struct served { /* native byte order, as exec.py reads it */
  int32_t status; /* 128+n if killed by signal n */
  uint32_t reserved;
  uint64_t user_us, system_us; /* of the command and what it has waited for */
  uint64_t max_rss_kb;         /* of the largest process among these */
};

static struct run {
  pid_t pid;
  int answers;
} runs[RUNS];
static int count;
static int requests = FD_KEPT, box = FD_KEPT + 1, signals;
static volatile pid_t *command; /* P tells S what it has started */

static void answer(int fd, int status, const struct rusage *usage) {
  struct served served = {0};
  served.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  served.user_us = (uint64_t)usage->ru_utime.tv_sec * 1000000u + (uint64_t)usage->ru_utime.tv_usec;
  served.system_us =
      (uint64_t)usage->ru_stime.tv_sec * 1000000u + (uint64_t)usage->ru_stime.tv_usec;
  served.max_rss_kb = (uint64_t)usage->ru_maxrss;
  if (send(fd, &served, sizeof served, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) errno = 0; /* nobody waits */
  close(fd);
}

/* Also children that nobody here has started (CLONE_PARENT): they would count as the box's processes
 * for as long as we live. */
static void reap(void) {
  struct signalfd_siginfo info;
  struct rusage usage;
  int status;
  pid_t pid;
  while (read(signals, &info, sizeof info) > 0) errno = 0;
  while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
    int i = 0;
    if (is_traced(pid, status)) continue;
    while (i < count && runs[i].pid != pid) i++;
    if (i == count) continue;
    answer(runs[i].answers, status, &usage);
    runs[i] = runs[--count];
  }
}

/* P: its descriptors get the numbers that join() wants. */
static void become_joiner(const int *rights, int procs) {
  struct fb_context context;
  int group = -1, pairs[6][2] = {{rights[0], 0}, {rights[1], 1}, {rights[2], 2}, {rights[PLAN], FD_PLAN},
                                 {rights[ANSWERS], FD_ERROR}, {box, FD_INIT}};
  for (int i = 0; i < 6; i++) dup3(pairs[i][0], pairs[i][1], i < 3 ? 0 : O_CLOEXEC);
  if (procs) group = dup3(rights[GROUP], 6, O_CLOEXEC);
  load_plan(&context);
  *command = join(&context, &group, group >= 0);
  _exit(0);
}

/* Waits for P, which is soon done: what it has started ends up in *command. */
static void start(const int *rights) {
  struct stat group = {0};
  struct rusage usage;
  int status;
  int is_directory = rights[GROUP] >= 0 && fstat(rights[GROUP], &group) == 0 && S_ISDIR(group.st_mode);
  *command = 0;
  pid_t joiner = clone_into(is_directory ? rights[GROUP] : -1);
  if (joiner == 0) become_joiner(rights, rights[GROUP] >= 0 && !is_directory);
  if (joiner < 0) {
    struct fb_error error = {FB_STEP_CLONE, -1, errno, 1};
    if (send(rights[ANSWERS], &error, sizeof error, MSG_NOSIGNAL) < 0) errno = 0;
    close(rights[ANSWERS]);
    return;
  }
  while (wait4(joiner, &status, 0, &usage) < 0 && errno == EINTR) continue;
  if (*command > 0)
    runs[count++] = (struct run){*command, rights[ANSWERS]};
  else
    answer(rights[ANSWERS], status, &usage);
}

/* 0: nobody will ask any more. */
static int serve_one(void) {
  int rights[RIGHTS];
  char byte;
  struct iovec part = {&byte, 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof rights)];
  } control;
  struct msghdr message = {0};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.space;
  message.msg_controllen = sizeof control.space;
  ssize_t n = recvmsg(requests, &message, MSG_CMSG_CLOEXEC);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (n == 0) return 0;
  memset(rights, -1, sizeof rights);
  if (!CMSG_FIRSTHDR(&message) || control.header.cmsg_type != SCM_RIGHTS) return 1;
  size_t length = control.header.cmsg_len - CMSG_LEN(0);
  memcpy(rights, CMSG_DATA(&control.header), length < sizeof rights ? length : sizeof rights);
  if (rights[ANSWERS] >= 0) start(rights);
  for (int i = 0; i < RIGHTS; i++)
    if (i != ANSWERS && rights[i] >= 0) close(rights[i]);
  return 1;
}

static int prepare(int argc, char **argv) {
  sigset_t child;
  prctl(PR_SET_NAME, "fastbox-serve");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  setsid();
  for (int i = 1; i < argc; i++) {
    int procs = open(argv[i], O_WRONLY | O_CLOEXEC);
    if (procs < 0 || write(procs, "0", 1) != 1) return -1;
    close(procs);
  }
  /* What a request brings is to get none of the low numbers, which P gives away. */
  if (dup3(FD_REQUESTS, requests, O_CLOEXEC) < 0 || dup3(FD_BOX, box, O_CLOEXEC) < 0) return -1;
  syscall(SYS_close_range, 0, FD_KEPT - 1, 0);
  if (chdir("/") < 0) return -1;
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int i = 0; i < 16; i++)
    if (i != null) dup3(null, i, O_CLOEXEC);
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, NULL);
  signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
  command = mmap(NULL, sizeof *command, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return signals < 0 || command == MAP_FAILED ? -1 : 0;
}

int serve_main(int argc, char **argv, char **envp) {
  (void)envp;
  if (prepare(argc, argv) < 0) return 125;
  for (;;) {
    struct pollfd polls[3] = {
        {signals, POLLIN, 0}, {box, POLLIN, 0}, {count < RUNS ? requests : -1, POLLIN, 0}};
    if (poll(polls, 3, -1) < 0) continue;
    if (polls[0].revents) reap();
    if (polls[1].revents) return 0;
    if (polls[2].revents && !serve_one()) return 0;
  }
}
