/* State and exit records: JSON on one line, made visible by one rename. No fsync: they need to
 * survive kill -9 of anything, and after a power loss the container is gone anyway. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "monitor.h"

int format_time(char *buffer) {
  struct timespec now;
  struct tm tm;
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  return snprintf(buffer, 32, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", tm.tm_year + 1900,
                  tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec);
}

uint64_t process_start_time(pid_t pid) {
  char path[32], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  char *at = strrchr(text, ')'); /* the name before it may hold anything */
  if (!at) return 0;
  for (int field = 2; field < 22 && at; field++) {
    at = strchr(at + 1, ' ');
  }
  uint64_t value = 0;
  for (at = at ? at + 1 : NULL; at && *at >= '0' && *at <= '9'; at++)
    value = value * 10 + (uint64_t)(*at - '0');
  return value;
}

static void write_file(int directory, const char *name, const char *temporary, const char *text,
                       int length) {
  int fd = openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;
  int ok = write(fd, text, (size_t)length) == length;
  close(fd);
  if (ok)
    renameat(directory, temporary, directory, name);
  else
    unlinkat(directory, temporary, 0);
}

void record_state(int directory, const char *run, pid_t pid) {
  char text[512], when[32];
  format_time(when);
  int n = snprintf(text, sizeof text,
                   "{\"version\":1,\"run\":%s,\"pid\":%d,\"pid_starttime\":%llu,"
                   "\"monitor_pid\":%d,\"monitor_starttime\":%llu,\"started_at\":\"%s\"}\n",
                   run, (int)pid, (unsigned long long)process_start_time(pid), (int)getpid(),
                   (unsigned long long)process_start_time(getpid()), when);
  write_file(directory, "state.json", ".state.json.new", text, n);
}

int record_exit(int directory, int status_fd, const char *run, const struct exit_record *record) {
  char text[512], when[32];
  format_time(when);
  int n = snprintf(text, sizeof text,
                   "{\"version\":1,\"run\":%s,\"exit_code\":%d,\"signal\":%d,\"oom_killed\":%s,"
                   "\"finished_at\":\"%s\",\"log_bytes_dropped\":%llu}\n",
                   run, record->code, record->signal, record->oom ? "true" : "false", when,
                   (unsigned long long)record->dropped);
  if (directory >= 0) write_file(directory, "exit", ".exit.new", text, n);
  if (status_fd < 0) return 0;
  return write(status_fd, text, (size_t)n) == n ? 0 : -1;
}
