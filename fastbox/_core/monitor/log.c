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

#include "monitor.h"

#define BATCH 256

static void open_current(struct log *log, int flags) {
  log->fd = openat(log->directory, "container.log",
                   O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
  struct stat status;
  log->size = log->fd >= 0 && fstat(log->fd, &status) == 0 ? status.st_size : 0;
}

void log_open(struct log *log, int directory, int64_t max_size, int max_files) {
  log->directory = directory;
  log->max_size = max_size;
  log->max_files = max_files < 1 ? 1 : max_files;
  log->dropped = 0;
  log->fd = -1; /* opened with the first line: many containers write none */
}

static void rotate(struct log *log) {
  char from[40], to[40];
  if (log->fd >= 0) close(log->fd);
  if (log->max_files == 1) {
    open_current(log, O_TRUNC);
    return;
  }
  for (int i = log->max_files - 1; i >= 1; i--) {
    if (i == 1)
      strcpy(from, "container.log");
    else
      snprintf(from, sizeof from, "container.log.%d", i - 1);
    snprintf(to, sizeof to, "container.log.%d", i);
    renameat(log->directory, from, log->directory, to);
  }
  open_current(log, 0);
}

/* A full disk never stalls the container: what does not fit is dropped, by whole lines, so that the
 * next one does not continue a torn one. */
static void write_batch(struct log *log, struct iovec *parts, int count, size_t total) {
  if (log->fd < 0) open_current(log, 0); /* the first line, or a full disk earlier: try again */
  if (log->max_size > 0 && log->size > 0 && log->size + (int64_t)total > log->max_size) rotate(log);
  size_t written = 0, lines = 0; /* bytes; of them, those up to the last end of a line */
  while (written < total && log->fd >= 0) {
    ssize_t n = writev(log->fd, parts, count);
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
  if (lines < written && ftruncate(log->fd, log->size + (off_t)lines) < 0) lines = written;
  log->size += (int64_t)lines;
  log->dropped += total - lines;
}

void log_write(struct log *log, const char *stream, const char *data, size_t length) {
  char full[64], partial[64], when[32];
  struct iovec parts[BATCH * 2];
  format_time(when);
  int full_length = snprintf(full, sizeof full, "%s %s F ", when, stream);
  int partial_length = snprintf(partial, sizeof partial, "%s %s P ", when, stream);
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
    write_batch(log, parts, count, total);
  }
}
