/* The CRI log format: "<RFC 3339 ns> <stdout|stderr> <F|P> <text>\n"; P marks a piece of a line that
 * did not end with a newline (kubernetes/design-proposals, kubelet-cri-logging). Nothing is held
 * back: what was read is in the file before the next read, so a kill loses no byte that left the
 * pipe. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log.h"
#include "monitor.h"

#define BATCH 256

static struct {
  int directory;
  int fd; /* -1: not open yet: many containers write nothing */
  int64_t size, max_size;
  int max_files;
} file;

static void open_current(int flags) {
  file.fd = openat(file.directory, "container.log",
                   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
  struct stat status;
  file.size = file.fd >= 0 && fstat(file.fd, &status) == 0 ? status.st_size : 0;
}

void cri_open(const struct log_options *options) {
  file.directory = options->directory;
  file.max_size = options->max_size;
  file.max_files = options->max_files < 1 ? 1 : options->max_files;
  file.fd = -1;
}

static void rotate(void) {
  char from[40], to[40];
  if (file.fd >= 0) close(file.fd);
  if (file.max_files == 1) {
    open_current(O_TRUNC);
    return;
  }
  for (int i = file.max_files - 1; i >= 1; i--) {
    if (i == 1)
      strcpy(from, "container.log");
    else
      snprintf(from, sizeof from, "container.log.%d", i - 1);
    snprintf(to, sizeof to, "container.log.%d", i);
    renameat(file.directory, from, file.directory, to);
  }
  open_current(0);
}

/* A full disk never stalls the container: what does not fit is dropped, by whole lines, so that the
 * next one does not continue a torn one. */
static uint64_t write_batch(struct iovec *parts, int count, size_t total) {
  if (file.fd < 0) open_current(0); /* the first line, or a full disk earlier: try again */
  if (file.max_size > 0 && file.size > 0 && file.size + (int64_t)total > file.max_size) rotate();
  size_t written = 0, lines = 0; /* bytes; of them, those up to the last end of a line */
  while (written < total && file.fd >= 0) {
    ssize_t n = writev(file.fd, parts, count);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    size_t left = (size_t)n;
    while (count > 0 && left >= parts->iov_len) {
      written += parts->iov_len;
      left -= parts->iov_len;
      if (((char *)parts->iov_base)[parts->iov_len - 1] == '\n') lines = written;
      parts++;
      count--;
    }
    written += left;
    if (count > 0) {
      parts->iov_base = (char *)parts->iov_base + left;
      parts->iov_len -= left;
    }
  }
  if (lines < written && ftruncate(file.fd, file.size + (off_t)lines) < 0) lines = written;
  file.size += (int64_t)lines;
  return total - lines;
}

uint64_t cri_write(int stream, const char *data, size_t length) {
  const char *name = stream ? "stderr" : "stdout";
  uint64_t dropped = 0;
  char full[64], partial[64], when[32];
  struct iovec parts[BATCH * 2];
  format_time(when);
  int full_length = snprintf(full, sizeof full, "%s %s F ", when, name);
  int partial_length = snprintf(partial, sizeof partial, "%s %s P ", when, name);
  while (length > 0) {
    int count = 0;
    size_t total = 0;
    while (length > 0 && count + 3 <= BATCH * 2) {
      const char *newline = memchr(data, '\n', length);
      size_t line = newline ? (size_t)(newline - data) + 1 : length;
      parts[count].iov_base = newline ? full : partial;
      parts[count].iov_len = (size_t)(newline ? full_length : partial_length);
      total += parts[count++].iov_len;
      parts[count].iov_base = (char *)data;
      parts[count++].iov_len = line;
      total += line;
      if (!newline) {
        parts[count].iov_base = "\n";
        parts[count++].iov_len = 1;
        total++;
      }
      data += line;
      length -= line;
    }
    dropped += write_batch(parts, count, total);
  }
  return dropped;
}
