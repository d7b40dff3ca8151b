/* Starting a container's init and its monitor from a threaded process. */
#ifndef FASTBOX_START_H
#define FASTBOX_START_H

#include "plan.h"
#include "sys.h"

/* Descriptors that the monitor finds at fixed numbers; -1 where there is none. */
enum fb_monitor_fd {
  FB_FD_PIDFD = 3,   /* of init */
  FB_FD_OUT,         /* read ends of the container's output */
  FB_FD_ERR,
  FB_FD_DIR,         /* the container's directory: log, exit record */
  FB_FD_RUN_DIR,     /* the container's runtime directory: state.json */
  FB_FD_READY,       /* struct fb_ready is written, once; made by fb_start */
  FB_FD_CLIENT,      /* socket of the client that started it (see monitor/clients.c) */
  FB_FD_CLIENT_OUT,  /* that client's streams */
  FB_FD_CLIENT_ERR,
  FB_FD_STDIN,       /* write end of the container's stdin */
  FB_FD_CONSOLE,     /* socket on which init has handed over its terminal's master */
  FB_FD_NAMES,       /* socket on which init has handed over its name server's sockets */
  FB_FD_NETFILTER,   /* nfnetlink socket of the host's (see monitor/network.c) */
  FB_FD_WAIT,        /* the other end of the socket on which a prepared init waits */
  FB_FD_EXEC,        /* init's exec: end-of-file, or why there was none; made by fb_start */
  FB_FD_END,         /* from here on: sockets of published ports */
};

/* What the monitor says when init has exec'ed the command and state.json stands, or what failed. */
struct fb_ready {
  struct fb_error error;
  uint64_t exec_at; /* when init exec'ed, or failed to: CLOCK_MONOTONIC, nanoseconds */
};
enum { FB_WHERE_STATE = 2, FB_WHERE_ENDED }; /* FB_STEP_MONITOR: what failed in it */

struct fb_start {
  struct fb_context *context;
  int cgroup_fd; /* -1: none */
  const char *monitor_path;
  char **monitor_argv; /* argv[1] is overwritten with init's pid: room for 16 bytes */
  char **monitor_envp;
  int fds[FB_FD_END]; /* all >= FB_FD_END + nports */
  const int *ports;   /* published ports' sockets, likewise */
  int nports;
  /* results */
  struct fb_error error;
  pid_t pid;         /* init */
  pid_t monitor_pid;
  int pidfd;         /* scratch */
};

/* Blocks, without touching the heap or the GIL, until init has exec'ed and the monitor has written
 * down that it runs, or either failed. Returns 0, or -1 with start->error. */
int fb_start(struct fb_start *start);

#define FB_HELPER_FDS 16

/* Run the static helper `helper_fd` with fds[i] (-1: none) as its descriptor i; at most
 * FB_HELPER_FDS. Returns the child's pid or -1 (errno). */
pid_t fb_spawn_helper(int helper_fd, char **argv, char **envp, const int *fds, int nfds);

/* clone3 with CLONE_VM | CLONE_VFORK semantics: fn(arg) runs in the child on this stack. */
long fb_vclone(struct fb_clone_args *args, void (*fn)(void *), void *arg);

#endif
