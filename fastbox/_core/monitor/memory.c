#include "memory.h"

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int memory_kills(const char *path) {
  char text[1024];
  int fd = *path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  for (char *line = text; line; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, "oom_kill ", 9) == 0) return atoi(line + 9);
  }
  return 0;
}

/* cgroup v1 (Documentation/admin-guide/cgroup-v1/memory.rst, 9): an eventfd is told of it. */
static int watch_v1(const char *path) {
  char control[4096], line[32];
  const char *slash = strrchr(path, '/');
  int file = open(path, O_RDONLY | O_CLOEXEC), event = -1;
  if (file < 0) return -1;
  snprintf(control, sizeof control, "%.*s/cgroup.event_control", (int)(slash - path), path);
  int to = open(control, O_WRONLY | O_CLOEXEC);
  if (to >= 0) event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event >= 0) {
    int n = snprintf(line, sizeof line, "%d %d", event, file);
    if (write(to, line, (size_t)n) != n) {
      close(event);
      event = -1;
    }
  }
  if (to >= 0) close(to);
  close(file);
  return event;
}

static int is_v1(const char *path) { return strstr(path, "oom_control") != NULL; }

int memory_watch(const char *path, short *events) {
  if (!*path) return -1;
  if (is_v1(path)) {
    *events = POLLIN;
    return watch_v1(path);
  }
  *events = POLLPRI; /* kernfs: the file was modified */
  return open(path, O_RDONLY | O_CLOEXEC);
}

int memory_changed(int fd, const char *path) {
  static int known;
  uint64_t count;
  char text[1024];
  /* v2: the file has to be read, or poll returns at once. */
  if (is_v1(path)) {
    if (read(fd, &count, sizeof count) < 0) return 0;
    return 1; /* the kill comes a moment later */
  }
  if (pread(fd, text, sizeof text, 0) < 0) return 0;
  int kills = memory_kills(path), more = kills > known;
  known = kills;
  return more;
}
