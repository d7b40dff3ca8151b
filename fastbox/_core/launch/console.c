/* The pair is opened through the container's own devpts, so that its name inside is right and the
 * host's devpts is never involved. The image, a volume over /dev or a running container may have put
 * anything there, so it is checked what was opened, and the slave is asked of the master itself
 * (TIOCGPTPEER, Linux 4.13) and not looked up by name (CVE-2025-52565, CVE-2016-9962's family). */
#include "console.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "paths.h"
#include "sys.h"

#define DEVPTS_SUPER_MAGIC 0x1cd1
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

#define FAIL_AT(number)    \
  do {                     \
    error->where = number; \
    return -1;             \
  } while (0)

static int open_master(void) {
  struct stat status;
  struct statfs fs;
  int fd = fb_openat2(AT_FDCWD, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK, 0,
                      FB_RESOLVE_NO_SYMLINKS | FB_RESOLVE_NO_MAGICLINKS);
  if (fd < 0) return -1;
  if (fstat(fd, &status) == 0 && fstatfs(fd, &fs) == 0 && fs.f_type == DEVPTS_SUPER_MAGIC &&
      S_ISCHR(status.st_mode) && status.st_rdev == makedev(5, 2)) {
    fcntl(fd, F_SETFL, O_RDWR);
    return fd;
  }
  fb_close(fd);
  errno = ENODEV;
  return -1;
}

int fb_send_fds(int socket, const int *fds, int count) {
  char byte = 'D';
  struct iovec part = {&byte, 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(2 * sizeof(int))];
  } control;
  struct msghdr message;
  memset(&message, 0, sizeof message);
  memset(&control, 0, sizeof control);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.space;
  message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
  control.header.cmsg_level = SOL_SOCKET;
  control.header.cmsg_type = SCM_RIGHTS;
  control.header.cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
  memcpy(CMSG_DATA(&control.header), fds, (size_t)count * sizeof(int));
  return syscall(SYS_sendmsg, socket, &message, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int fb_send_fd(int socket, int fd) { return fb_send_fds(socket, &fd, 1); }

static int bind_console(int slave) {
  int to = fb_target("/dev/console", FB_F_FILE | FB_F_NOFOLLOW);
  if (to < 0) return -1;
  int copy = fb_open_tree(slave, "", FB_OPEN_TREE_CLONE | AT_EMPTY_PATH);
  int result = copy < 0 ? -1 : fb_move_mount(copy, to);
  if (copy >= 0) fb_close(copy);
  fb_close(to);
  return result;
}

static int connect_pair(struct fb_context *context, int master, int slave, uint64_t size, int bind,
                        struct fb_error *error) {
  if (size) {
    struct winsize window = {(unsigned short)(size >> 16), (unsigned short)size, 0, 0};
    if (ioctl(master, TIOCSWINSZ, &window) < 0) FAIL_AT(4);
  }
  if (bind && bind_console(slave) < 0) FAIL_AT(5);
  if (fb_send_fd(context->console_fd, master) < 0) FAIL_AT(6);
  for (int i = 0; i < 3; i++) context->stdio[i] = slave;
  return 0;
}

int fb_console(struct fb_context *context, uint64_t size, int bind, struct fb_error *error) {
  int unlocked = 0;
  int master = open_master();
  if (master < 0) FAIL_AT(1);
  if (ioctl(master, TIOCSPTLCK, &unlocked) < 0) {
    fb_close(master);
    FAIL_AT(2);
  }
  int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) {
    fb_close(master);
    FAIL_AT(3);
  }
  int result = connect_pair(context, master, slave, size, bind, error);
  fb_close(master);
  if (result < 0) fb_close(slave);
  return result;
}

int fb_control(int fd) { return ioctl(fd, TIOCSCTTY, 0) < 0 ? -1 : 0; }
