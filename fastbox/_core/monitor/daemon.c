/* journald (systemd.io/JOURNAL_NATIVE_PROTOCOL) and syslog (RFC 3164, as syslog(3) sends it): lines
 * as datagrams. A daemon that is away or does not keep up never holds up the container: after a
 * second in which it took nothing, lines are dropped and counted until it takes one again. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define LINE 16384 /* longer lines are sent in pieces, as docker does */
#define PATIENCE_MS 1000

static struct {
  char text[LINE];
  size_t length;
  int continued; /* a piece of this line has been sent */
} lines[2];

static struct sockaddr_un address;
static const char *header;
static int journald, fd = -1, stalled;

void daemon_open(const struct log_options *options) {
  journald = strcmp(options->driver, "journald") == 0;
  header = options->header;
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", options->socket);
}

static int connect_daemon(void) {
  if (fd >= 0) close(fd);
  fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return 0;
  if (fd >= 0) close(fd);
  fd = -1;
  return -1;
}

static int deliver(struct iovec *parts, int count) {
  struct msghdr message = {0};
  message.msg_iov = parts;
  message.msg_iovlen = (size_t)count;
  for (int tries = 0; tries < 4; tries++) {
    if (fd < 0 && connect_daemon() < 0) return -1;
    if (sendmsg(fd, &message, MSG_NOSIGNAL) >= 0) {
      stalled = 0;
      return 0;
    }
    if (errno == EAGAIN && !stalled) {
      struct pollfd room = {fd, POLLOUT, 0};
      if (poll(&room, 1, PATIENCE_MS) > 0) continue;
      stalled = 1;
      return -1;
    }
    if (errno == EAGAIN) return -1;
    if (errno != EINTR) { /* it was restarted: its socket is another one now */
      close(fd);
      fd = -1;
    }
  }
  return -1;
}

static int send_to_journal(int stream, int partial) {
  static const char *const priorities[2] = {"PRIORITY=6\n", "PRIORITY=3\n"};
  const char *mark = partial ? "CONTAINER_PARTIAL_MESSAGE=true\n" : "";
  struct iovec parts[6] = {{"MESSAGE=", 8},
                           {lines[stream].text, lines[stream].length},
                           {"\n", 1},
                           {(char *)priorities[stream], 11},
                           {(char *)header, strlen(header)},
                           {(char *)mark, strlen(mark)}};
  return deliver(parts, 6);
}

static int send_to_syslog(int stream) {
  char *tag, head[512];
  char when[32];
  time_t now = time(NULL);
  struct tm tm;
  long facility = strtol(header, &tag, 10);
  localtime_r(&now, &tm);
  strftime(when, sizeof when, "%b %e %H:%M:%S", &tm);
  int n = snprintf(head, sizeof head, "<%ld>%s%s[%d]: ", facility + (stream ? 3 : 6), when, tag,
                   (int)getpid());
  struct iovec parts[2] = {{head, (size_t)(n < (int)sizeof head ? n : (int)sizeof head - 1)},
                           {lines[stream].text, lines[stream].length}};
  return deliver(parts, 2);
}

/* What is in the buffer; returns the bytes that were dropped. */
static uint64_t send_line(int stream, int partial) {
  if (lines[stream].continued && !partial && lines[stream].length == 0) {
    lines[stream].continued = 0;
    return 0;
  }
  int failed = journald ? send_to_journal(stream, partial) : send_to_syslog(stream);
  uint64_t lost = failed ? lines[stream].length : 0;
  lines[stream].length = 0;
  lines[stream].continued = partial;
  return lost;
}

uint64_t daemon_write(int stream, const char *data, size_t length) {
  uint64_t lost = 0;
  while (length > 0) {
    size_t room = LINE - lines[stream].length, piece = length < room ? length : room;
    const char *newline = memchr(data, '\n', piece);
    if (newline) piece = (size_t)(newline - data);
    memcpy(lines[stream].text + lines[stream].length, data, piece);
    lines[stream].length += piece;
    data += piece;
    length -= piece;
    if (newline) {
      data++;
      length--;
      lost += send_line(stream, 0);
    } else if (lines[stream].length == LINE) {
      lost += send_line(stream, 1);
    }
  }
  return lost;
}

uint64_t daemon_close(void) {
  uint64_t lost = 0;
  for (int stream = 0; stream < 2; stream++)
    if (lines[stream].length > 0) lost += send_line(stream, 0);
  return lost;
}
