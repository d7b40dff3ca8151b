#include "outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../launch/start.h"

enum { FILE_, NONBLOCK, SOCKET, POLITE, PACKETS };

void outlet_none(struct outlet *outlet) {
  memset(outlet, 0, sizeof *outlet);
  outlet->fd = outlet->spill = -1;
}

/* O_NONBLOCK would change the descriptor of the client's too, and of its shell: the same pipe or
 * terminal is opened once more. */
static int reopened(int fd) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

void outlet_open(struct outlet *outlet, int fd, int packets, off_t limit) {
  struct stat status;
  outlet_none(outlet);
  if (fd < 0) return;
  outlet->fd = fd;
  outlet->limit = limit;
  if (packets) {
    outlet->kind = PACKETS;
  } else if (fstat(fd, &status) < 0 || S_ISREG(status.st_mode)) {
    outlet->kind = FILE_;
  } else if (S_ISSOCK(status.st_mode)) {
    outlet->kind = SOCKET;
  } else {
    int own = reopened(fd);
    outlet->kind = own < 0 ? POLITE : NONBLOCK;
    if (own >= 0) {
      close(fd);
      outlet->fd = own;
    }
  }
}

void outlet_close(struct outlet *outlet) {
  if (outlet->fd >= 0 && outlet->kind != PACKETS) close(outlet->fd);
  if (outlet->spill >= 0) close(outlet->spill);
  outlet_none(outlet);
}

static ssize_t send_packet(int fd, const char *data, size_t length) {
  char type = OUTLET_PACKET;
  if (length > OUTLET_PIECE) length = OUTLET_PIECE;
  struct iovec parts[2] = {{&type, 1}, {(char *)data, length}};
  struct msghdr message = {0};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  ssize_t n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  return n > 0 ? n - 1 : n;
}

/* Bytes written, 0 when it would have to wait, -1 with errno. */
static ssize_t attempt(struct outlet *outlet, const char *data, size_t length) {
  ssize_t n;
  do {
    switch (outlet->kind) {
      case SOCKET: n = send(outlet->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL); break;
      case PACKETS: n = send_packet(outlet->fd, data, length); break;
      case POLITE: { /* poll promises room for a page of a pipe, and for some of a terminal */
        struct pollfd one = {outlet->fd, POLLOUT, 0};
        if (poll(&one, 1, 0) == 0) return 0;
        n = write(outlet->fd, data, length < 512 ? length : 512);
        break;
      }
      default: n = write(outlet->fd, data, length);
    }
  } while (n < 0 && errno == EINTR);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)) return 0;
  return n;
}

static int put_aside(struct outlet *outlet, const char *data, size_t length) {
  if (outlet->limit && outlet_waiting(outlet) + (off_t)length > outlet->limit) {
    errno = ENOBUFS;
    return -1;
  }
  if (outlet->spill < 0) {
    outlet->spill = openat(FB_FD_DIR, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (outlet->spill < 0) return -1;
  }
  while (length > 0) {
    ssize_t n = pwrite(outlet->spill, data, length, outlet->end);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return -1;
    outlet->end += n;
    data += n;
    length -= (size_t)n;
  }
  return 0;
}

int outlet_write(struct outlet *outlet, const char *data, size_t length) {
  while (length > 0 && outlet_waiting(outlet) == 0) {
    ssize_t n = attempt(outlet, data, length);
    if (n < 0) return -1;
    if (n == 0) break;
    data += n;
    length -= (size_t)n;
  }
  return length > 0 ? put_aside(outlet, data, length) : 0;
}

int outlet_flush(struct outlet *outlet) {
  char piece[OUTLET_PIECE];
  while (outlet_waiting(outlet) > 0) {
    off_t left = outlet_waiting(outlet);
    ssize_t got = pread(outlet->spill, piece, left < OUTLET_PIECE ? (size_t)left : OUTLET_PIECE,
                        outlet->start);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      errno = got == 0 ? EIO : errno;
      return -1;
    }
    ssize_t n = attempt(outlet, piece, (size_t)got);
    if (n < 0) return -1;
    if (n == 0) return 0;
    outlet->start += n;
    /* A reader that never quite catches up must not fill the disk with what it has read. */
    if (outlet->start == outlet->end) {
      if (ftruncate(outlet->spill, 0) < 0) errno = 0;
      outlet->start = outlet->end = 0;
    } else if ((outlet->start >> 20) != ((outlet->start - n) >> 20)) {
      fallocate(outlet->spill, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                outlet->start & ~(off_t)0xfffff);
    }
  }
  return 0;
}
