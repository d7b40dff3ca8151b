/* The monitor: parent of a container's init. It drains stdout and stderr to the log (and to an
 * attached client), reaps init, and on exit goes in this order: drain the pipes, remove the cgroup,
 * write the exit record, tell who waits, clean up (conmon's order). It is small on purpose: no heap,
 * no libc stdio streams, one page or two of stack.
 *
 * argv: as enum argument has it, then cgroup directories, then "--" and the command that cleans up
 * (for containers whose removal is more than deleting their directory).
 * Flags: 'l' log, 'x' remove the container, 'd' run the command, 'r' run the command when the client
 * that waits is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../launch/start.h"
#include "../tree/remove.h"
#include "monitor.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
enum argument {
  ARG_PID = 1,
  ARG_RUN,       /* number of this run */
  ARG_MAX_SIZE,  /* of a log file, bytes */
  ARG_MAX_FILES,
  ARG_OOM_FILE,  /* where the kernel counts OOM kills, or "" */
  ARG_FLAGS,
  ARG_ROOT,
  ARG_RUNTIME,
  ARG_ID,
  ARG_NAME,
  ARG_CGROUPS,
};

#define READ_SIZE 65536
#define DRAIN_MS 2000 /* after init's end somebody may still hold the pipe open */

struct stream {
  int fd;     /* read end of the container's stream, -1 at its end */
  int client; /* where it goes too, -1: nowhere */
  int client_is_pipe;
  const char *name;
  char *buffer; /* [start, end) waits for the client */
  size_t start, end;
};

/* Twice a pipe's capacity: one read that a slow client has not taken, and what is left in the pipe
 * when init has ended. Untouched pages cost nothing. */
static char buffers[2][READ_SIZE * 3];

static struct log log_file;
static int logging;

static void stream_init(struct stream *stream, int fd, int client, const char *name, char *buffer) {
  struct stat status;
  stream->fd = fcntl(fd, F_GETFD) < 0 ? -1 : fd;
  stream->client = fcntl(client, F_GETFD) < 0 ? -1 : client;
  stream->client_is_pipe =
      stream->client >= 0 && fstat(client, &status) == 0 && !S_ISREG(status.st_mode);
  stream->name = name;
  stream->buffer = buffer;
  stream->start = stream->end = 0;
}

static void drop_client(struct stream *stream) {
  close(stream->client);
  stream->client = -1;
  stream->start = stream->end = 0;
  /* The reader of the client's stream went away: let the container's writer know, as in a shell
   * pipeline. */
  if (stream->fd >= 0) close(stream->fd);
  stream->fd = -1;
}

static int client_error; /* of the first write to a client that failed for good */

static void feed_client(struct stream *stream) {
  size_t length = stream->end - stream->start;
  /* poll promises room for PIPE_BUF bytes only; more could block and keep us from the log. */
  if (stream->client_is_pipe && length > 4096) length = 4096;
  ssize_t n = write(stream->client, stream->buffer + stream->start, length);
  if (n < 0) {
    if (errno == EINTR || errno == EAGAIN) return;
    if (errno != EPIPE) client_error = errno; /* a full disk: whoever waits is told */
    drop_client(stream);
    return;
  }
  stream->start += (size_t)n;
  if (stream->start == stream->end) stream->start = stream->end = 0;
}

static void read_stream(struct stream *stream) {
  char *at = stream->buffer + stream->end;
  ssize_t n = read(stream->fd, at, READ_SIZE);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) {
    close(stream->fd);
    stream->fd = -1;
    return;
  }
  if (logging) log_write(&log_file, stream->name, at, (size_t)n);
  if (stream->client >= 0) stream->end += (size_t)n;
}

static int may_read(const struct stream *stream, int exited) {
  if (stream->fd < 0) return 0;
  return exited ? stream->end + READ_SIZE <= sizeof buffers[0] : stream->end == 0;
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int waiter = -1; /* where whoever waits gets the exit record, -1: nobody waits */

/* The client was killed: its streams are closed, or their readers would wait for the container. The
 * container and its log go on. */
static void lose_waiter(struct stream *streams) {
  close(waiter);
  waiter = -1;
  for (int i = 0; i < 2; i++) {
    if (streams[i].client >= 0) close(streams[i].client);
    streams[i].client = -1;
    streams[i].start = streams[i].end = 0;
  }
}

/* Until init has ended and its output is in the log. */
static void pump(struct stream *streams, siginfo_t *info) {
  long deadline = 0;
  int exited = 0;
  for (;;) {
    struct pollfd polls[6];
    struct stream *owner[6] = {0};
    int count = 0;
    if (waiter >= 0) polls[count++] = (struct pollfd){waiter, 0, 0}; /* POLLERR: no reader */
    if (!exited) polls[count++] = (struct pollfd){FB_FD_PIDFD, POLLIN, 0};
    for (int i = 0; i < 2; i++) {
      if (may_read(&streams[i], exited)) {
        owner[count] = &streams[i];
        polls[count++] = (struct pollfd){streams[i].fd, POLLIN, 0};
      }
      if (streams[i].end > 0) {
        owner[count] = &streams[i];
        polls[count++] = (struct pollfd){streams[i].client, POLLOUT, 0};
      }
    }
    if (exited && streams[0].fd < 0 && streams[1].fd < 0) return;
    int wait_ms = exited ? (int)(deadline - now_ms()) : -1;
    if (exited && wait_ms <= 0) return;
    if (poll(polls, (nfds_t)count, wait_ms) < 0) continue;
    for (int i = 0; i < count; i++) {
      if (!polls[i].revents) continue;
      if (polls[i].events == 0) {
        lose_waiter(streams);
        break; /* the other entries may be about closed descriptors */
      } else if (polls[i].fd == FB_FD_PIDFD) {
        if (waitid(P_PIDFD, FB_FD_PIDFD, info, WEXITED) == 0) {
          exited = 1;
          deadline = now_ms() + DRAIN_MS;
        }
      } else if (polls[i].events == POLLOUT) {
        if (owner[i]->client >= 0) feed_client(owner[i]);
      } else if (owner[i]->fd >= 0) {
        read_stream(owner[i]);
      }
    }
  }
}

/* What a slow client has not read yet; the log has it, the record is written, so it may take long. */
static void flush_clients(struct stream *streams) {
  for (int i = 0; i < 2; i++) {
    while (streams[i].client >= 0 && streams[i].end > 0) {
      struct pollfd two[2] = {{streams[i].client, POLLOUT, 0}, {waiter, 0, 0}};
      if (poll(two, 2, -1) < 0) continue;
      if (two[1].revents)
        lose_waiter(streams);
      else
        feed_client(&streams[i]);
    }
    if (streams[i].client >= 0) close(streams[i].client);
    streams[i].client = -1;
  }
}

/* "oom_kill N" of memory.events (v2) or memory.oom_control (v1). */
static int oom_kills(const char *path) {
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

static void remove_cgroups(char **directories) {
  for (; *directories && strcmp(*directories, "--") != 0; directories++) {
    /* Zombies that somebody else must reap keep it busy for a moment; what stays is removed by the
     * next command. */
    for (int tries = 0; tries < 50; tries++) {
      if (rmdir(*directories) == 0 || errno != EBUSY) break;
      struct timespec pause = {0, 2000000};
      nanosleep(&pause, NULL);
    }
  }
}

/* Give the name back, unless it is another container's by now; the lock is the one of release_name
 * in container/store.py. */
static void release_name(char **argv) {
  char path[4096], holder[128];
  snprintf(path, sizeof path, "%s/names", argv[ARG_ROOT]);
  int names = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (names < 0) return;
  flock(names, LOCK_EX);
  ssize_t n = readlinkat(names, argv[ARG_NAME], holder, sizeof holder - 1);
  if (n > 0) {
    holder[n] = 0;
    if (strcmp(holder, argv[ARG_ID]) == 0) unlinkat(names, argv[ARG_NAME], 0);
  }
  close(names);
}

/* --rm: from the rename on, the container does not exist. One that is being restarted stays. */
static void forget_container(char **argv, char *trash, size_t size) {
  char path[4096];
  if (faccessat(FB_FD_DIR, "restarting", F_OK, 0) == 0) return;
  snprintf(trash, size, "%s/trash/%s", argv[ARG_ROOT], argv[ARG_ID]);
  snprintf(path, sizeof path, "%s/containers/%s", argv[ARG_ROOT], argv[ARG_ID]);
  flock(FB_FD_DIR, LOCK_EX | LOCK_NB); /* a sweep of the trash leaves it to us */
  if (rename(path, trash) < 0) {
    *trash = 0;
    return;
  }
  release_name(argv);
}

/* Deletes what forget_container moved away, once nobody reads the exit record any more (`wait` holds
 * upper/ locked until it has). */
static void delete_container(char **argv, const char *trash) {
  char path[4096];
  if (!*trash) return;
  int fd = openat(FB_FD_DIR, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (int tries = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && tries < 400; tries++) {
    struct timespec pause = {0, 5000000};
    nanosleep(&pause, NULL);
  }
  /* The trash last: what it holds tells a sweep what else there may be. */
  snprintf(path, sizeof path, "%s/%s", argv[ARG_RUNTIME], argv[ARG_ID]);
  fb_remove_path(path);
  fb_remove_path(trash);
}

static void run_command(char **argv, char **envp) {
  char **command = argv + ARG_CGROUPS;
  while (*command && strcmp(*command, "--") != 0) command++;
  if (!*command || !command[1]) return;
  for (int fd = 3; fd < FB_FD_END; fd++) close(fd);
  execve(command[1], command + 1, envp);
}

static void ignore_signals(void) {
  static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2,
                                SIGTSTP, SIGTTIN, SIGTTOU, SIGXFSZ};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], SIG_IGN);
}

static struct exit_record make_record(const siginfo_t *info, char **argv) {
  struct exit_record record = {0};
  record.signal = info->si_code == CLD_EXITED ? 0 : info->si_status;
  record.code = record.signal ? 128 + record.signal : info->si_status;
  record.oom = oom_kills(argv[ARG_OOM_FILE]) > 0;
  record.dropped = log_file.dropped;
  return record;
}

int monitor_main(int argc, char **argv, char **envp) {
  struct stream streams[2];
  siginfo_t info;
  char trash[4096] = "";
  if (argc <= ARG_CGROUPS) return 125;
  const char *flags = argv[ARG_FLAGS], *run = argv[ARG_RUN];
  ignore_signals();
  prctl(PR_SET_NAME, "fastbox-monitor");
  logging = strchr(flags, 'l') != NULL;
  if (chdir("/") < 0) errno = 0; /* keep nobody's directory busy */
  /* Without its state nobody would find the container: better none. */
  char ready = 'R';
  int lost = record_state(FB_FD_RUN_DIR, run, (pid_t)atoi(argv[ARG_PID])) < 0 ? errno : 0;
  if (lost) {
    syscall(SYS_pidfd_send_signal, FB_FD_PIDFD, SIGKILL, NULL, 0);
    waitid(P_PIDFD, FB_FD_PIDFD, &info, WEXITED);
    ready = (char)lost;
  }
  if (!lost) flock(FB_FD_DIR, LOCK_UN); /* the starter's lock, see container/launch.start */
  if (write(FB_FD_READY, &ready, 1) < 0) errno = 0;
  close(FB_FD_READY);
  if (lost) return 1;
  if (!strchr(flags, 'x')) reserve_exit(FB_FD_DIR);
  if (logging) log_open(&log_file, FB_FD_DIR, atoll(argv[ARG_MAX_SIZE]), atoi(argv[ARG_MAX_FILES]));
  stream_init(&streams[0], FB_FD_OUT, FB_FD_CLIENT_OUT, "stdout", buffers[0]);
  stream_init(&streams[1], FB_FD_ERR, FB_FD_CLIENT_ERR, "stderr", buffers[1]);

  waiter = fcntl(FB_FD_STATUS, F_GETFD) < 0 ? -1 : FB_FD_STATUS;

  memset(&info, 0, sizeof info);
  pump(streams, &info);

  struct exit_record record = make_record(&info, argv);
  remove_cgroups(argv + ARG_CGROUPS);
  record_exit(FB_FD_DIR, -1, run, &record);
  flush_clients(streams);
  record.client_error = client_error;
  if (strchr(flags, 'x')) forget_container(argv, trash, sizeof trash);
  int alone = waiter < 0 || record_exit(-1, waiter, run, &record) < 0;
  if (waiter >= 0) close(waiter); /* whoever waits goes on */
  delete_container(argv, trash);
  if (strchr(flags, 'd') || (alone && strchr(flags, 'r'))) run_command(argv, envp);
  return 0;
}
