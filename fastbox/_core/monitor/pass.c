/* The receiving side of fb_send_fds (launch/console.c). */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "monitor.h"

void receive_fds(int socket, int flags, int *fds, int count) {
  char byte;
  struct iovec part = {&byte, 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(2 * sizeof(int))];
  } control;
  struct msghdr message = {0};
  for (int i = 0; i < count; i++) fds[i] = -1;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.space;
  message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
  ssize_t n;
  do n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n != 1 || !CMSG_FIRSTHDR(&message) || control.header.cmsg_type != SCM_RIGHTS) return;
  size_t length = control.header.cmsg_len - CMSG_LEN(0);
  if (length <= (size_t)count * sizeof(int)) memcpy(fds, CMSG_DATA(&control.header), length);
}

int receive_fd(int socket, int flags) {
  int fd;
  receive_fds(socket, flags, &fd, 1);
  return fd;
}
