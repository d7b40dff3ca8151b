/* The `fastbox` program: hands its command line to a worker of the command server (docs/client.md),
 * or becomes the Python command line. Static, small, without heap.
 *
 * One packet goes each way over RUNTIME/command.sock (SOCK_SEQPACKET). The request: struct
 * fb_request, then argv and environment as they lie in memory; by SCM_RIGHTS the working directory,
 * the open ones of descriptors 0-2 and, where argv and environment do not fit into a packet, a memfd
 * that holds them. The answers: struct fb_answer. Python's side is fastbox/cli/serving/protocol.py. */
#ifndef FASTBOX_CLIENT_H
#define FASTBOX_CLIENT_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef FASTBOX_VERSION
#define FASTBOX_VERSION "unknown"
#endif

enum {
  FB_MAGIC = 0x31584246, /* "FBX1": changes with anything below */
  FB_PACKET = 60 * 1024, /* bytes of argv and environment that go into the packet */
  FB_MOST = 8 << 20,     /* … and into a memfd; beyond that the Python command line runs */
  FB_NAMESPACES = 8,
  FB_LIMITS = 16,
  FB_PATIENCE = 1000, /* ms that the server has to take a command */
  FB_FAILED = 125,
};

/* What a process's behaviour depends on and a worker cannot take on. It serves only who is the same
 * in all of this, so it compares bytes. */
struct fb_likeness {
  char version[32];
  uint32_t uid, euid, gid, egid;
  int32_t nice;
  int32_t no_new_privileges, seccomp;
  uint32_t root_mount; /* which mount of it / is: a chroot may be into a bind mount; 0: not known */
  uint64_t effective, bounding; /* capabilities */
  uint64_t root_device, root_inode;
  uint64_t namespaces[FB_NAMESPACES];
  unsigned char cpus[128]; /* sched_getaffinity(2) */
};

struct fb_request {
  uint32_t magic;
  uint32_t in_memfd; /* whether argv and environment are there, not in the packet */
  struct fb_likeness likeness;
  uint64_t ignored;               /* bit N-1: signal N is ignored */
  uint64_t limits[FB_LIMITS][2]; /* soft, hard */
  uint32_t umask;
  uint32_t open; /* bit N: descriptor N (0-2) is open */
  uint32_t arguments, variables; /* how many */
  uint32_t arguments_size, variables_size; /* bytes, the ending zeros included */
};

enum { FB_TAKEN = 'A', FB_STATUS = 'S', FB_REFUSED = 'R' };

/* FB_TAKEN: value is the worker's pid, with its pidfd by SCM_RIGHTS. FB_STATUS: the exit status. */
struct fb_answer {
  uint32_t kind;
  int32_t value;
};

/* likeness.c: fill in; -1: /proc is not there. */
int likeness_of_self(struct fb_likeness *like);

/* find.c: a connection to a server of the same user, -1 if the command line is to be run here. */
int find_server(int argc, char **argv, char **envp);

/* request.c: -1 if it could not be handed over. */
int send_request(int connection, char **argv, char **envp, uint64_t ignored,
                 unsigned closed);

/* relay.c: signals for the worker. */
struct relay {
  int signals;      /* signalfd */
  sigset_t before;  /* the mask to go back to */
  uint64_t ignored; /* bit N-1: signal N was ignored when we started */
  int ending;       /* the last signal sent on that may end a process */
  int64_t ended_at; /* … when, CLOCK_MONOTONIC in ms */
};
int relay_open(struct relay *relay);
void relay_close(struct relay *relay);
void relay_signals(struct relay *relay, int worker_pidfd, pid_t worker);
void relay_die(struct relay *relay); /* of the signal that ended the worker, if one did */
int64_t now_ms(void);

#endif
