/* The `fastbox` command; see client.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

static const char PYTHON[] = "fastbox-python"; /* pip's script, beside this program */

/* Put something where a standard descriptor is closed, so that nothing of ours gets its number; it
 * is gone again after an exec. Which ones were closed. */
static unsigned occupy_standard_streams(void) {
  unsigned closed = 0;
  for (int fd = 0; fd < 3; fd++)
    if (fcntl(fd, F_GETFD) < 0) {
      closed |= 1U << fd;
      open("/", O_PATH | O_CLOEXEC);
    }
  return closed;
}

static int fail(const char *what, const char *why) {
  dprintf(2, "Error: %s%s%s\n", what, why ? ": " : "", why ? why : "");
  return FB_FAILED;
}

/* Become the Python command line. */
static int run_python(char **argv, char **envp) {
  static char path[4096 + sizeof PYTHON];
  ssize_t size = readlink("/proc/self/exe", path, 4096);
  if (size <= 0) {
    const char *name = (const char *)getauxval(AT_EXECFN);
    if (!name || strlen(name) >= 4096) return fail("running fastbox-python failed", "no /proc");
    size = strlen(strcpy(path, name));
  }
  path[size] = 0;
  char *slash = strrchr(path, '/');
  strcpy(slash ? slash + 1 : path, PYTHON);
  argv[0] = path;
  execve(path, argv, envp);
  static char what[sizeof path + 32];
  snprintf(what, sizeof what, "running %s failed", path);
  return fail(what, errno == ENOENT ? "it has to be beside fastbox, where pip puts both"
                                   : strerror(errno));
}

/* An answer; its descriptor, if one came with it, goes to *fd. 0: the other side has gone, -1: there
 * is none yet. */
static int receive(int connection, struct fb_answer *answer, int *fd) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec part = {answer, sizeof *answer};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  ssize_t size = recvmsg(connection, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return -1;
  struct cmsghdr *rights = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
  if (rights && rights->cmsg_type == SCM_RIGHTS) memcpy(fd, CMSG_DATA(rights), sizeof *fd);
  return size == sizeof *answer;
}

/* Wait until the server takes the command; -1 if it does not. */
static int wait_until_taken(int connection, int *pidfd, pid_t *worker) {
  struct fb_answer answer;
  struct pollfd wait = {connection, POLLIN, 0};
  int64_t until = now_ms() + FB_PATIENCE;
  for (;;) {
    int64_t left = until - now_ms();
    int ready = poll(&wait, 1, left > 0 ? left : 0);
    if (ready < 0 && errno == EINTR) continue;
    int got = receive(connection, &answer, pidfd);
    if (got < 0 && left > 0) continue;
    *worker = answer.value;
    return got > 0 && answer.kind == FB_TAKEN && *pidfd >= 0 ? 0 : -1;
  }
}

/* Relay signals until the command has ended; its exit status. */
static int wait_until_done(int connection, struct relay *relay, int pidfd, pid_t worker) {
  struct pollfd waits[2] = {{connection, POLLIN, 0}, {relay->signals, POLLIN, 0}};
  for (;;) {
    struct fb_answer answer;
    int unused = -1;
    if (poll(waits, 2, -1) < 0) continue;
    int got = receive(connection, &answer, &unused);
    if (got > 0 && answer.kind == FB_STATUS) return answer.value;
    if (got >= 0) break;
    if (waits[1].revents) relay_signals(relay, pidfd, worker);
  }
  relay_die(relay);
  return fail("the fastbox process that did this was killed; what it was doing may be half done",
              NULL);
}

int main(int argc, char **argv, char **envp) {
  unsigned closed = occupy_standard_streams();
  int connection = find_server(argc, argv, envp);
  if (connection < 0) return run_python(argv, envp);
  struct relay relay;
  int pidfd = -1;
  pid_t worker = 0;
  if (relay_open(&relay) == 0) {
    if (send_request(connection, argv, envp, relay.ignored, closed) == 0 &&
        wait_until_taken(connection, &pidfd, &worker) == 0)
      return wait_until_done(connection, &relay, pidfd, worker);
    close(connection); /* first: from here on no worker goes on with it */
    relay_close(&relay);
  } else {
    close(connection);
  }
  return run_python(argv, envp);
}
