/* The receiving side of fb_send_fd (launch/console.c). */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "monitor.h"

int receive_fd(int socket, int flags) {
  char byte;
  struct iovec part = {&byte, 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {0};
  int fd = -1;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.space;
  message.msg_controllen = sizeof control.space;
  ssize_t n;
  do n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n == 1 && CMSG_FIRSTHDR(&message) && control.header.cmsg_type == SCM_RIGHTS)
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
  return fd;
}
