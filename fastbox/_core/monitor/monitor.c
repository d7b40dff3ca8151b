/* The monitor: parent of a container's init. It drains stdout and stderr, or the terminal, to the log
 * and to attached clients, hands their input on, reaps init, and on exit goes in this order: drain the
 * pipes, remove the cgroup, write the exit record, tell who waits, clean up (conmon's order). It is
 * small on purpose: no heap, no libc stdio streams, a few pages of memory.
 *
 * argv: as enum argument has it, then cgroup directories, then "--" and the command to run at the end
 * (what cleans up, for containers whose removal is more than deleting their directory; or what starts
 * the supervisor).
 * Flags: 't' terminal, 'i' input is open, 'o' and closed when its first client is done,
 * 'x' remove the container, 'd' run the command, 'r' run it when the client that waits is gone,
 * 's' run it when no supervisor is there.
 * 'w' init is a prepared one: wait until it is taken (waiting.c); 'v' if it is not, leave its
 * directory, which has anonymous volumes, to the engine.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../launch/start.h"
#include "../tree/remove.h"
#include "clients.h"
#include "journal.h"
#include "log.h"
#include "memory.h"
#include "monitor.h"
#include "network.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef PIDFD_GET_MNT_NAMESPACE
#define PIDFD_GET_MNT_NAMESPACE _IO(0xFF, 3)
#endif
enum argument {
  ARG_PID = 1,
  ARG_RUN,       /* number of this run */
  ARG_LOG,       /* its driver; these are log_options */
  ARG_MAX_SIZE,
  ARG_MAX_FILES,
  ARG_LOG_SOCKET,
  ARG_LOG_HEADER,
  ARG_OOM_FILE,  /* where the kernel counts OOM kills, or "" */
  ARG_FLAGS,
  ARG_ROOT,
  ARG_RUNTIME,
  ARG_ID,
  ARG_NAME,
  ARG_JOURNAL,    /* of events, or "" */
  ARG_ATTRIBUTES, /* what its events tell of the container */
  ARG_PORTS,      /* how many published ports' sockets there are */
  ARG_CGROUPS,
};

#define READ_SIZE 65536
#define DRAIN_MS 2000 /* after init's end somebody may still hold the pipe open */
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static int streams[2] = {-1, -1}; /* read ends of the container's output; -1: at its end */
static struct input input = {-1, -1, 0};
static int slave = -1; /* the terminal's other side: while somebody has it open there is no EIO */

static const char *oom_path;
static int oom_fd = -1;
static short oom_events;

static int if_open(int fd) { return fcntl(fd, F_GETFD) < 0 ? -1 : fd; }

static void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

static void open_streams(const char *flags) {
  if (strchr(flags, 't')) {
    int master = receive_fd(FB_FD_CONSOLE, MSG_DONTWAIT); /* from init, see launch/console.c */
    close(FB_FD_CONSOLE);
    if (master < 0) return;
    slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    streams[0] = input.tty = master;
    input.fd = strchr(flags, 'i') ? master : -1;
  } else {
    streams[0] = if_open(FB_FD_OUT);
    streams[1] = if_open(FB_FD_ERR);
    input.fd = if_open(FB_FD_STDIN);
    input.once = strchr(flags, 'o') != NULL;
  }
  if (input.fd >= 0) set_nonblocking(input.fd);
  if (input.tty >= 0) set_nonblocking(input.tty);
}

static void close_stream(int number) {
  /* A terminal's master stays open for those who still write to it. */
  if (streams[number] >= 0 && input.tty < 0) close(streams[number]);
  streams[number] = -1;
}

static void read_stream(int number) {
  static char buffer[READ_SIZE];
  ssize_t n = read(streams[number], buffer, sizeof buffer);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) { /* of a terminal: EIO */
    close_stream(number);
    return;
  }
  log_write(number, buffer, (size_t)n);
  clients_write(number, buffer, (size_t)n);
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until init has ended and its output is in the log. */
static void pump(siginfo_t *info) {
  long deadline = 0;
  int exited = 0;
  for (;;) {
    struct pollfd polls[4 + NETWORK_POLLS + CLIENT_POLLS];
    int owner[4 + NETWORK_POLLS], own = 0; /* a stream, or: */
    enum { INIT = 2, MEMORY, NETWORK };
    if (!exited) {
      owner[own] = INIT;
      polls[own++] = (struct pollfd){FB_FD_PIDFD, POLLIN, 0};
      owner[own] = MEMORY;
      if (oom_fd >= 0) polls[own++] = (struct pollfd){oom_fd, oom_events, 0};
      owner[own] = NETWORK;
      own += network_prepare(polls + own);
    }
    for (int i = 0; i < 2; i++) {
      if (clients_broken(i)) close_stream(i);
      if (streams[i] < 0 || (!exited && clients_full(i))) continue;
      owner[own] = i;
      polls[own++] = (struct pollfd){streams[i], POLLIN, 0};
    }
    if (exited && streams[0] < 0 && streams[1] < 0) return;
    int wait_ms = exited ? (int)(deadline - now_ms()) : -1;
    if (exited && wait_ms <= 0) return;
    int theirs = clients_prepare(polls + own);
    if (poll(polls, (nfds_t)(own + theirs), wait_ms) < 0) continue;
    for (int i = 0; i < own; i++) {
      if (!polls[i].revents) continue;
      if (owner[i] < INIT) {
        read_stream(owner[i]);
      } else if (owner[i] == MEMORY) {
        if (memory_changed(oom_fd, oom_path)) journal_note("oom", "");
      } else if (owner[i] == NETWORK) {
        network_serve();
      } else if (waitid(P_PIDFD, FB_FD_PIDFD, info, WEXITED) == 0) {
        exited = 1;
        deadline = now_ms() + DRAIN_MS;
        if (slave >= 0) close(slave);
      }
    }
    clients_serve(polls + own, theirs);
  }
}

/* A small file of the runtime directory, NUL-terminated; NULL if there is none. */
static char *read_small(const char *name, char *buffer, size_t size) {
  int fd = openat(FB_FD_RUN_DIR, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  ssize_t n = fd < 0 ? -1 : read(fd, buffer, size - 1);
  if (fd >= 0) close(fd);
  if (n <= 0) return NULL;
  buffer[n] = 0;
  return buffer;
}

/* The first line, which ends here; the rest goes into *rest. */
static char *first_line(char *text, char **rest) {
  *rest = text + strcspn(text, "\n");
  if (**rest) *(*rest)++ = 0;
  return text;
}

/* Everybody may read a command line; labels are not everybody's business. */
static const char *keep_private(char *argument) {
  static char kept[64 << 10]; /* untouched beyond what there is */
  size_t length = strnlen(argument, sizeof kept - 1);
  memcpy(kept, argument, length);
  memset(argument, ' ', strlen(argument));
  return kept;
}

/* A rename since the start: the new name and the new attributes of events. */
static void apply_rename(char **argv) {
  static char text[(64 << 10) + 512]; /* untouched unless there is one */
  char *rest;
  if (!read_small("renamed", text, sizeof text)) return;
  argv[ARG_NAME] = first_line(text, &rest);
  argv[ARG_ATTRIBUTES] = first_line(rest, &rest);
  journal_open(argv[ARG_JOURNAL], argv[ARG_ID], argv[ARG_ATTRIBUTES]);
}

/* The groups of a box's runs (container/runs.py), which are right below its own. */
static void remove_cgroups_below(const char *directory) {
  struct entry { /* struct linux_dirent64 */
    uint64_t inode, offset;
    unsigned short length;
    unsigned char type;
    char name[];
  };
  _Alignas(8) char buffer[4096];
  long n;
  int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  while (fd >= 0 && (n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
    for (long place = 0; place < n;) {
      struct entry *entry = (struct entry *)(buffer + place);
      place += entry->length;
      if (strncmp(entry->name, "run-", 4) == 0) unlinkat(fd, entry->name, AT_REMOVEDIR);
    }
  if (fd >= 0) close(fd);
}

static void remove_cgroup(const char *directory) {
  /* Zombies that somebody else must reap keep it busy for a moment; what stays is removed by the
   * next command. */
  for (int tries = 0; tries < 50; tries++) {
    if (rmdir(directory) == 0 || errno != EBUSY) break;
    remove_cgroups_below(directory);
    if (rmdir(directory) == 0) break;
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
  }
}

/* Groups that the container was moved into while it ran (container/update.py): a line each, and
 * "oom FILE" for where the kernel counts its kills. Returns that count. */
static int leave_later_cgroups(void) {
  char text[16384], *rest = text;
  int kills = 0;
  if (!read_small("cgroups", text, sizeof text)) return 0;
  while (*rest) {
    const char *line = first_line(rest, &rest);
    if (strncmp(line, "oom ", 4) == 0)
      kills += memory_kills(line + 4);
    else if (*line == '/')
      remove_cgroup(line);
  }
  return kills;
}

static void remove_cgroups(char **directories) {
  for (; *directories && strcmp(*directories, "--") != 0; directories++) remove_cgroup(*directories);
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

/* From the rename on, the container does not exist. Returns 0 if it is done. */
static int move_away(char **argv, char *trash, size_t size) {
  char path[4096];
  snprintf(trash, size, "%s/trash/%s", argv[ARG_ROOT], argv[ARG_ID]);
  snprintf(path, sizeof path, "%s/containers/%s", argv[ARG_ROOT], argv[ARG_ID]);
  flock(FB_FD_DIR, LOCK_EX | LOCK_NB); /* a sweep of the trash leaves it to us */
  if (rename(path, trash) < 0) {
    *trash = 0;
    return -1;
  }
  release_name(argv);
  return 0;
}

/* --rm. One that is being restarted stays. */
static void forget_container(char **argv, char *trash, size_t size) {
  if (faccessat(FB_FD_DIR, "restarting", F_OK, 0) == 0) return;
  if (move_away(argv, trash, size) == 0) journal_note("destroy", "");
}

/* Deletes what move_away did, once nobody reads the exit record any more (`wait` holds
 * work/ locked until it has). */
static void delete_container(char **argv, const char *trash) {
  char path[4096];
  if (!*trash) return;
  int fd = openat(FB_FD_DIR, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
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
  syscall(SYS_close_range, 3, ~0u, 0);
  execve(command[1], command + 1, envp);
}

/* A supervisor holds its lock for as long as it lives; one that was told to stop leaves a mark. */
static int supervisor_is_missing(const char *runtime) {
  char path[4096];
  snprintf(path, sizeof path, "%s/supervisor.stopped", runtime);
  if (access(path, F_OK) == 0) return 0;
  snprintf(path, sizeof path, "%s/supervisor.lock", runtime);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  int held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0;
  if (fd >= 0) close(fd);
  return !held;
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
  record.oom = memory_kills(argv[ARG_OOM_FILE]) + leave_later_cgroups() > 0;
  record.dropped = log_dropped();
  return record;
}

static void note_end(const struct exit_record *record, time_t seconds) {
  char more[96];
  if (record->oom && oom_fd < 0) journal_note("oom", "");
  snprintf(more, sizeof more, ",\"exitCode\":\"%d\",\"execDuration\":\"%lld\"", record->code,
           (long long)seconds);
  journal_note("die", more);
}

struct ending {
  const char *run;
  struct exit_record record;
};

static size_t describe_end(void *data, char *buffer, size_t size) {
  struct ending *ending = data;
  ending->record.client_error = clients_error();
  return (size_t)format_exit(buffer, size, ending->run, &ending->record);
}

static struct fb_ready ready;

static void tell_starter(int taken, int failed) {
  if (taken) {
    answer_take(failed);
    return;
  }
  if (failed) ready.error = (struct fb_error){FB_STEP_MONITOR, -1, failed, FB_WHERE_STATE};
  if (write(FB_FD_READY, &ready, sizeof ready) < 0) errno = 0;
  close(FB_FD_READY);
}

/* The helper's copy in the container says why it could not exec the command; end-of-file: it did.
 * This process was started meanwhile. -1: there is no container. */
static int await_exec(siginfo_t *info) {
  struct timespec now;
  ssize_t n;
  do n = read(FB_FD_EXEC, &ready.error, sizeof ready.error);
  while (n < 0 && errno == EINTR);
  close(FB_FD_EXEC);
  clock_gettime(CLOCK_MONOTONIC, &now);
  ready.exec_at = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
  if (n != (ssize_t)sizeof ready.error) return 0;
  waitid(P_PIDFD, FB_FD_PIDFD, info, WEXITED);
  if (write(FB_FD_READY, &ready, sizeof ready) < 0) errno = 0;
  return -1;
}

/* A container that is removed at its end is told to have ended before its mounts are taken apart and
 * its cgroup is removed, which takes longer than all else then: a descriptor of its mount namespace
 * keeps them meanwhile. (One that stays may be started again at once, and its upper directory must be
 * free by then.) */
static int hold_mounts(char **argv) {
  int fd = ioctl(FB_FD_PIDFD, PIDFD_GET_MNT_NAMESPACE, 0); /* Linux 6.11 */
  if (fd < 0) {
    char path[48];
    snprintf(path, sizeof path, "/proc/%s/ns/mnt", argv[ARG_PID]);
    fd = open(path, O_RDONLY | O_CLOEXEC);
  }
  if (fd < 0) return -1;
  /* Numbers below stand for what a monitor is handed, if it is. */
  int kept = fcntl(fd, F_DUPFD_CLOEXEC, FB_FD_END + atoi(argv[ARG_PORTS]));
  close(fd);
  return kept;
}

/* Without its state nobody would find the container: better none. */
static int announce(char **argv, siginfo_t *info, int taken) {
  int lost = record_state(FB_FD_RUN_DIR, argv[ARG_RUN], (pid_t)atoi(argv[ARG_PID])) < 0 ? errno : 0;
  if (lost) {
    syscall(SYS_pidfd_send_signal, FB_FD_PIDFD, SIGKILL, NULL, 0);
    waitid(P_PIDFD, FB_FD_PIDFD, info, WEXITED);
  }
  if (!lost) journal_note("start", "");
  if (!lost) flock(FB_FD_DIR, LOCK_UN); /* the starter's lock, see container/launch.start */
  tell_starter(taken, lost);
  return lost ? -1 : 0;
}

/* A prepared container that nobody gets, or that could not run its command: it leaves nothing. */
static int throw_away(char **argv, int taken, char *trash, size_t size) {
  remove_cgroups(argv + ARG_CGROUPS);
  network_start(argv[ARG_RUNTIME], argv[ARG_ID], argv[ARG_PORTS]);
  network_end();
  if (taken) network_told();
  if (!strchr(argv[ARG_FLAGS], 'v')) move_away(argv, trash, size);
  if (taken) journal_note("destroy", "");
  delete_container(argv, trash);
  return 1;
}

int monitor_main(int argc, char **argv, char **envp) {
  siginfo_t info;
  char trash[4096] = "";
  if (argc <= ARG_CGROUPS) return 125;
  const char *flags = argv[ARG_FLAGS], *run = argv[ARG_RUN];
  ignore_signals();
  prctl(PR_SET_NAME, "fastbox-monitor");
  if (chdir("/") < 0) errno = 0; /* keep nobody's directory busy */
  journal_open(argv[ARG_JOURNAL], argv[ARG_ID], keep_private(argv[ARG_ATTRIBUTES]));
  memset(&info, 0, sizeof info);
  int goes = strchr(flags, 'x') != NULL, prepared = strchr(flags, 'w') != NULL;
  int mounts = goes ? hold_mounts(argv) : -1;
  look_up_state((pid_t)atoi(argv[ARG_PID]));
  if (await_exec(&info) < 0) return 1;
  if (prepared) {
    tell_starter(0, 0);
    int taken = await_take(&flags);
    if (taken < 0) return throw_away(argv, taken == -2, trash, sizeof trash);
  }
  if (announce(argv, &info, prepared) < 0) return 1;
  if (!goes) reserve_exit(FB_FD_DIR);
  log_open(&(struct log_options){argv[ARG_LOG], FB_FD_DIR, atoll(argv[ARG_MAX_SIZE]),
                                 atoi(argv[ARG_MAX_FILES]), argv[ARG_LOG_SOCKET],
                                 argv[ARG_LOG_HEADER]});
  long started = now_ms();
  oom_path = argv[ARG_OOM_FILE];
  oom_fd = memory_watch(oom_path, &oom_events);
  open_streams(flags);
  clients_start(&input, FB_FD_CLIENT, FB_FD_CLIENT_OUT, FB_FD_CLIENT_ERR);
  clients_listen();
  network_start(argv[ARG_RUNTIME], argv[ARG_ID], argv[ARG_PORTS]);
  pump(&info);
  log_close();

  struct ending ending = {run, make_record(&info, argv)};
  if (!goes) remove_cgroups(argv + ARG_CGROUPS);
  network_end();
  record_exit(FB_FD_DIR, run, &ending.record);
  apply_rename(argv);
  note_end(&ending.record, (now_ms() - started) / 1000);
  network_told();
  if (goes) forget_container(argv, trash, sizeof trash);
  int alone = !clients_end(describe_end, &ending);
  if (mounts >= 0) close(mounts);
  if (goes) remove_cgroups(argv + ARG_CGROUPS);
  delete_container(argv, trash);
  if (strchr(flags, 'd') || (alone && strchr(flags, 'r')) ||
      (strchr(flags, 's') && supervisor_is_missing(argv[ARG_RUNTIME])))
    run_command(argv, envp);
  network_linger();
  return 0;
}
