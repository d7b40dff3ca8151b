/* State and exit records: JSON on one line, made visible by one rename. No fsync: they need to
 * survive kill -9 of anything, and after a power loss the container is gone anyway. */
#include <errno.h>
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

#define EXIT_ROOM 512
#define EXIT_NEW ".exit.new"

static int open_new(int directory, const char *name, int flags) {
  return openat(directory, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
}

/* Write the file under its temporary name, then give it its real one. */
static int publish(int directory, const char *name, const char *temporary, int flags,
                   const char *text, size_t length) {
  int fd = open_new(directory, temporary, flags);
  if (fd < 0) return -1;
  ssize_t n = write(fd, text, length);
  if (n >= 0 && (size_t)n != length) errno = ENOSPC;
  int saved = errno;
  close(fd);
  if (n == (ssize_t)length && renameat(directory, temporary, directory, name) == 0) return 0;
  if (n == (ssize_t)length) saved = errno;
  unlinkat(directory, temporary, 0);
  errno = saved;
  return -1;
}

/* Of this boot: after the next one, the same pid and start time are another process. */
static void read_boot_id(char *buffer, size_t size) {
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? 0 : read(fd, buffer, size - 1);
  if (fd >= 0) close(fd);
  buffer[n > 0 ? n : 0] = 0;
  buffer[strcspn(buffer, "\n")] = 0;
}

static struct {
  pid_t pid; /* 0: not looked up */
  unsigned long long started, monitor_started;
  char boot[64];
} known;

void look_up_state(pid_t pid) {
  known.pid = pid;
  known.started = process_start_time(pid);
  known.monitor_started = process_start_time(getpid());
  read_boot_id(known.boot, sizeof known.boot);
}

int record_state(int directory, const char *run, pid_t pid) {
  char text[640], when[32];
  format_time(when);
  if (known.pid != pid) look_up_state(pid);
  int n = snprintf(text, sizeof text,
                   "{\"version\":1,\"run\":%s,\"pid\":%d,\"pid_starttime\":%llu,"
                   "\"monitor_pid\":%d,\"monitor_starttime\":%llu,\"started_at\":\"%s\","
                   "\"boot_id\":\"%s\"}\n",
                   run, (int)pid, known.started, (int)getpid(), known.monitor_started, when,
                   known.boot);
  return publish(directory, "state.json", ".state.json.new", O_TRUNC, text, (size_t)n);
}

void reserve_exit(int directory) {
  char blank[EXIT_ROOM];
  memset(blank, '\n', sizeof blank);
  int fd = open_new(directory, EXIT_NEW, O_TRUNC);
  if (fd < 0) return;
  ssize_t ignored = write(fd, blank, sizeof blank);
  (void)ignored;
  close(fd);
}

int format_exit(char *text, size_t size, const char *run, const struct exit_record *record) {
  char when[32];
  format_time(when);
  return snprintf(text, size,
                  "{\"version\":1,\"run\":%s,\"exit_code\":%d,\"signal\":%d,\"oom_killed\":%s,"
                  "\"finished_at\":\"%s\",\"log_bytes_dropped\":%llu,\"client_error\":%d}\n",
                  run, record->code, record->signal, record->oom ? "true" : "false", when,
                  (unsigned long long)record->dropped, record->client_error);
}

void record_exit(int directory, const char *run, const struct exit_record *record) {
  char text[EXIT_ROOM];
  int n = format_exit(text, sizeof text, run, record);
  /* Over the reserved room: the newlines behind the text are white space to every reader. */
  publish(directory, "exit", EXIT_NEW, 0, text, (size_t)n);
}
