/* PID 1 of a prepared container (docs/pool.md). All that confines a command is in force already: this
 * process has no right and no descriptor that the command does not get, but the socket on which it is
 * told which command. Nothing of the image has run. It reads one packet and replaces itself.
 *
 * It says "W" when it waits. A packet to it: struct order, then its strings, each with its NUL;
 * where that is too much for a packet, the same in a memfd. The socket's end-of-file tells the other side that exec happened; before it, a
 * struct fb_error that it did not.
 *
 * fds: 0 the container's /dev/null, 1-2 pipes to the monitor, 5 the socket.
 * argv: 0 "fastbox-wait", 1 "--init" if the command is to have an init. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../launch/plan.h"
#include "../launch/sys.h"
#include "monitor.h"

#define FD_WAIT 5
#define PACKET 65536

struct order {
  uint32_t argc, envc;
  uint32_t has_stdin; /* it is the first descriptor of the packet */
  uint32_t in_memfd;  /* the packet ends here: all of it is in the last descriptor */
};

static char packet[PACKET] __attribute__((aligned(8)));

static void die(int step, int error, unsigned where) {
  struct fb_error record = {(uint32_t)step, -1, error, where};
  fb_report(FD_WAIT, &record);
}

static ssize_t receive(int *fds, int count) {
  struct iovec part = {packet, sizeof packet};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(2 * sizeof(int))];
  } control;
  struct msghdr message = {0};
  ssize_t n;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.space;
  message.msg_controllen = sizeof control.space;
  do n = recvmsg(FD_WAIT, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n > 0 && CMSG_FIRSTHDR(&message) && control.header.cmsg_type == SCM_RIGHTS) {
    size_t length = control.header.cmsg_len - CMSG_LEN(0);
    if (length <= (size_t)count * sizeof(int)) memcpy(fds, CMSG_DATA(&control.header), length);
  }
  if (n > 0 && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) die(FB_STEP_PLAN, EMSGSIZE, 1);
  return n;
}

/* The whole order, from a memfd where it did not fit into the packet. */
static const struct order *whole(const int *fds, size_t *length) {
  const struct order *order = (const struct order *)packet;
  if (*length < sizeof *order) die(FB_STEP_PLAN, EINVAL, 2);
  if (!order->in_memfd) return order;
  int fd = fds[order->has_stdin ? 1 : 0];
  struct stat status;
  if (fstat(fd, &status) < 0) die(FB_STEP_PLAN, errno, 3);
  if (status.st_size < (off_t)sizeof *order || status.st_size > (64 << 20))
    die(FB_STEP_PLAN, EINVAL, 4);
  *length = (size_t)status.st_size;
  void *memory = mmap(NULL, *length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  if (memory == MAP_FAILED) die(FB_STEP_PLAN, errno, 5);
  return memory;
}

/* `count` strings into a vector with room for one more; returns what follows them. */
static char *split(char *text, char *end, uint32_t count, char **vector) {
  for (uint32_t i = 0; i < count; i++) {
    char *next = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;
    if (!next) die(FB_STEP_PLAN, EINVAL, 6);
    vector[i] = text;
    text = next + 1;
  }
  vector[count] = vector[count + 1] = NULL;
  return text;
}

static char *home_of(char **envp) {
  for (; *envp; envp++)
    if (strncmp(*envp, "HOME=", 5) == 0) return *envp;
  return NULL;
}

/* The host's /dev/null never goes in: root in the container could chmod the host's inode. */
static void take_stdin(int fd) {
  struct stat null, given;
  if (fstat(fd, &given) < 0 || fstat(0, &null) < 0) die(FB_STEP_STDIO, errno, 1);
  if (S_ISCHR(given.st_mode) && given.st_rdev == null.st_rdev) return;
  if (syscall(SYS_dup3, fd, 0, 0) < 0) die(FB_STEP_STDIO, errno, 3);
  /* A pipe may be reopened by its user, see set_stdio in launch/finish.c; nobody else is. */
}

/* A seccomp profile may not allow what is done later: better known now than by whoever takes it. */
static void say_ready(void) {
  struct msghdr message = {0};
  recvmsg(FD_WAIT, &message, MSG_DONTWAIT | MSG_PEEK);
  syscall(SYS_dup3, 0, 0, 0);
  syscall(SYS_close_range, FD_WAIT + 1, ~0u, 0);
  if (write(FD_WAIT, "W", 1) < 0) errno = 0;
}

int wait_main(int argc, char **argv, char **envp) {
  int fds[2] = {-1, -1}, init = argc > 1 && strcmp(argv[1], "--init") == 0;
  struct fb_error error = {0, -1, 0, 0};
  prctl(PR_SET_NAME, "fastbox-wait");
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (fcntl(FD_WAIT, F_SETFD, FD_CLOEXEC) < 0) return 127;
  say_ready();
  ssize_t n = receive(fds, 2);
  if (n <= 0) return 0; /* nobody is left to take it */
  size_t length = (size_t)n;
  const struct order *order = whole(fds, &length);
  if (!order->argc || order->argc > length || order->envc > length) die(FB_STEP_PLAN, EINVAL, 7);
  char **vector = malloc(((size_t)order->argc + order->envc + 6) * sizeof *vector);
  if (!vector) die(FB_STEP_PLAN, ENOMEM, 8);
  char **command = vector + 2, **variables = command + order->argc + 2;
  char *end = (char *)order + length;
  char *rest = split((char *)(uintptr_t)(order + 1), end, order->argc, command);
  split(rest, end, order->envc, variables);
  if (!home_of(variables)) variables[order->envc] = home_of(envp);
  if (order->has_stdin) take_stdin(fds[0]);
  syscall(SYS_close_range, FD_WAIT + 1, ~0u, 0);
  if (init) { /* as it would have been started: /proc/self/exe is this sealed copy */
    vector[0] = (char *)"fastbox-init";
    vector[1] = (char *)"--";
    execve("/proc/self/exe", vector, variables);
    die(FB_STEP_EXEC, errno, 4);
  }
  fb_exec(command, variables, &error);
  fb_report(FD_WAIT, &error);
}
