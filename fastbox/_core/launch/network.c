/* A container's network is made by its own first process: netlink messages that the engine has
 * prepared are sent from inside the new namespace, where a veth's peer can be put by "pid 1", and over
 * sockets that the engine has opened on the host. So it needs no second process, no wait for one
 * another, and no look at what the kernel numbered. */
#include "network.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "console.h"
#include "sys.h"

#define FAIL_AT(number)    \
  do {                     \
    error->where = number; \
    return -1;             \
  } while (0)

#define NAME_SERVER 0x7f00000b /* 127.0.0.11, as Docker's */
#define NAME_BACKLOG 64
#define MAX_MESSAGES 32768

/* Its number, which the kernel chose, into the messages that give the interface an address. */
static int number_addresses(char *data, size_t length, const char *interface) {
  struct ifreq request;
  int fd = -1, result = 0;
  for (size_t at = 0; at + sizeof(struct nlmsghdr) + sizeof(struct ifaddrmsg) <= length;) {
    struct nlmsghdr *header = (struct nlmsghdr *)(data + at);
    if (header->nlmsg_len < sizeof *header || header->nlmsg_len > length - at) break;
    if (header->nlmsg_type == RTM_NEWADDR) {
      if (fd < 0) {
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0) return -1;
        memset(&request, 0, sizeof request);
        strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
        result = ioctl(fd, SIOCGIFINDEX, &request);
        if (result < 0) break;
      }
      struct ifaddrmsg *address = NLMSG_DATA(header);
      address->ifa_index = (uint32_t)request.ifr_ifindex;
    }
    at += NLMSG_ALIGN(header->nlmsg_len);
  }
  if (fd >= 0) fb_close(fd);
  return result < 0 ? -1 : 0;
}

/* Until as many have been acknowledged, or one was refused. */
static int await_answers(int fd, uint64_t count) {
  char buffer[8192] __attribute__((aligned(8)));
  while (count > 0) {
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    for (size_t at = 0; at + sizeof(struct nlmsghdr) <= (size_t)n;) {
      struct nlmsghdr *header = (struct nlmsghdr *)(buffer + at);
      if (header->nlmsg_len < sizeof *header || header->nlmsg_len > (size_t)n - at) break;
      if (header->nlmsg_type == NLMSG_ERROR) {
        int code = ((struct nlmsgerr *)NLMSG_DATA(header))->error;
        if (code) {
          errno = -code;
          return -1;
        }
        if (count > 0) count--;
      }
      at += NLMSG_ALIGN(header->nlmsg_len);
    }
  }
  return 0;
}

int fb_netlink(struct fb_context *context, const struct fb_op *op, const char *interface,
               struct fb_error *error) {
  char data[MAX_MESSAGES] __attribute__((aligned(8)));
  if (op->z > sizeof data) {
    errno = EMSGSIZE;
    FAIL_AT(1);
  }
  memcpy(data, (const char *)context->plan + op->y, op->z);
  if (interface && number_addresses(data, op->z, interface) < 0) FAIL_AT(2);
  int host = (op->flags & FB_F_HOST) != 0;
  int fd = host ? (int)op->slot : socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, (int)(op->x >> 32));
  if (fd < 0) FAIL_AT(3);
  int result = send(fd, data, op->z, 0) < 0 ? -1 : await_answers(fd, op->x & 0xffffffff);
  if (!host) fb_close(fd);
  if (result < 0) FAIL_AT(4);
  return 0;
}

/* The sockets of the container's name server. They are there before its command is: the monitor gets
 * them, and answers. */
int fb_name_server(struct fb_context *context, uint16_t port, struct fb_error *error) {
  struct sockaddr_in address;
  int fds[2];
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(NAME_SERVER);
  for (int i = 0; i < 2; i++) {
    int kind = (i == 0 ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK;
    fds[i] = socket(AF_INET, kind, 0);
    if (fds[i] < 0) FAIL_AT(1);
    if (bind(fds[i], (struct sockaddr *)&address, sizeof address) < 0) FAIL_AT(2);
  }
  if (listen(fds[1], NAME_BACKLOG) < 0) FAIL_AT(3);
  if (fb_send_fds(context->names_fd, fds, 2) < 0) FAIL_AT(4);
  fb_close(fds[0]);
  fb_close(fds[1]);
  return 0;
}
