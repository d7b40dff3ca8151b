/* A prepared container's monitor: nothing has been written down, logged or told yet. On FB_FD_CLIENT is
 * whoever owns it; on FB_FD_WAIT, which they share, is init's own socket (wait.c).
 *
 * From the owner: "T" and the flags of the run; 'a': a client waits for its end, whose stdout ('O') and
 * stderr ('E') come with it. Before that, the owner has told init the command.
 * To the owner: "S": it runs; "F" and a struct fb_error: it does not, and is thrown away.
 * The owner's leaving, at any time before "S", is the end of the container. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../launch/plan.h"
#include "../launch/start.h"
#include "journal.h"
#include "monitor.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static char flags_of_run[64];
static int attached;

static int end_init(void) {
  siginfo_t info;
  syscall(SYS_pidfd_send_signal, FB_FD_PIDFD, SIGKILL, NULL, 0);
  waitid(P_PIDFD, FB_FD_PIDFD, &info, WEXITED);
  return -1;
}

static void say_failed(const struct fb_error *error) {
  char text[1 + sizeof *error] = "F";
  memcpy(text + 1, error, sizeof *error);
  send(FB_FD_CLIENT, text, sizeof text, MSG_NOSIGNAL);
}

/* The packet with which the owner has it run; 0, or -1: the owner has left. */
static int receive_flags(void) {
  struct iovec part = {flags_of_run, sizeof flags_of_run - 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(2 * sizeof(int))];
  } control;
  struct msghdr message = {0};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.space;
  message.msg_controllen = sizeof control.space;
  ssize_t n;
  do n = recvmsg(FB_FD_CLIENT, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n <= 0 || flags_of_run[0] != 'T') return -1;
  flags_of_run[n] = 0;
  attached = strchr(flags_of_run, 'a') != NULL;
  if (!CMSG_FIRSTHDR(&message) || control.header.cmsg_type != SCM_RIGHTS) return 0;
  int fds[2], count = (int)((control.header.cmsg_len - CMSG_LEN(0)) / sizeof(int));
  if (count > 2) return -1;
  memcpy(fds, CMSG_DATA(&control.header), (size_t)count * sizeof(int));
  for (int i = count - 1; i >= 0; i--) { /* the second may have got the first one's number */
    int to = i == 1 || !strchr(flags_of_run, 'O') ? FB_FD_CLIENT_ERR : FB_FD_CLIENT_OUT;
    if (fds[i] == to) continue;
    dup2(fds[i], to);
    close(fds[i]);
  }
  return 0;
}

/* Init has its command: end-of-file is its exec, before that a record why there was none; then -2. */
static int await_command(void) {
  struct fb_error error;
  ssize_t n;
  do n = recv(FB_FD_WAIT, &error, sizeof error, 0);
  while (n < 0 && errno == EINTR);
  close(FB_FD_WAIT);
  if (n != (ssize_t)sizeof error) return 0;
  end_init();
  say_failed(&error);
  return -2;
}

/* Init's end is not looked at: it may have run its command before we hear of that. If it was killed
 * while it waited, whoever owns it sees that, and leaves. */
int await_take(const char **flags) {
  if (receive_flags() < 0) return end_init();
  journal_note("create", "");
  for (;;) {
    struct pollfd polls[2] = {{FB_FD_WAIT, POLLIN, 0}, {FB_FD_CLIENT, 0, 0}};
    if (poll(polls, 2, -1) < 0) continue;
    *flags = flags_of_run + 1;
    if (polls[0].revents) return await_command();
    end_init();
    return -2;
  }
}

void answer_take(int failed) {
  struct fb_error error = {FB_STEP_MONITOR, -1, failed, 1};
  if (failed)
    say_failed(&error);
  else
    send(FB_FD_CLIENT, "S", 1, MSG_NOSIGNAL);
  if (!attached) close(FB_FD_CLIENT);
}
