/* The launch plan: a flat, position-independent buffer that says everything a new process in a
 * container needs, with nothing left to decide. It is built by fastbox/container/plan.py, replayed
 * by this directory's executor, either in a vfork-like child of the engine (start) or in the static
 * helper (exec into a running container). Native byte order; offsets count from the buffer's start,
 * 0 meaning "none".
 */
#ifndef FASTBOX_PLAN_H
#define FASTBOX_PLAN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define FB_PLAN_MAGIC 0x31424246u /* "FBB1" */
#define FB_MAX_GROUPS 1024
#define FB_MAX_SLOTS 1024
#define FB_HOME_MAX 1024

enum fb_op_kind {
  FB_OP_CGROUP_JOIN = 1, /* a: a v1 cgroup.procs file */
  FB_OP_UNSHARE,         /* x: CLONE_NEW* */
  FB_OP_PROPAGATION,     /* x: MS_* for "/" */
  FB_OP_OVERLAY,         /* a: directory that lowerdir= is relative to, b: target, c: options */
  FB_OP_TREE,            /* slot: detached copy of a; x/y: MOUNT_ATTR set/clear, z: propagation */
  FB_OP_PIVOT,           /* a: new root */
  FB_OP_FSMOUNT,         /* a: type, b: target, c: "k=v,k=v", x: MOUNT_ATTR_* */
  FB_OP_ATTACH,          /* slot onto b */
  FB_OP_MKNOD,           /* a: path, x: mode, y: dev, z: uid << 32 | gid */
  FB_OP_SYMLINK,         /* a: content, b: path */
  FB_OP_MASK,            /* a: path */
  FB_OP_READONLY,        /* a: path */
  FB_OP_SYSCTL,          /* a: path below /proc/sys, b: value */
  FB_OP_LOOPBACK,        /* bring lo up */
  FB_OP_HOSTNAME,        /* a */
  FB_OP_DOMAINNAME,      /* a */
  FB_OP_MKDIR,           /* a: path, made with its parents inside the root */
  FB_OP_ROOT_READONLY,
  FB_OP_PROC_WRITE, /* a: path below /proc, b: value */
  FB_OP_RLIMIT,     /* x: resource, y: soft, z: hard */
  FB_OP_CONSOLE,    /* x: rows << 16 | columns: a terminal becomes the standard streams */
  FB_OP_NETLINK,    /* y, z: offset and length of messages; a: interface of their addresses, or 0;
                       x: protocol << 32 | acknowledgements; F_HOST: over the descriptor `slot` */
  FB_OP_NAMES,      /* x: port of the name server at 127.0.0.11 */
  FB_OP_JOIN,       /* x: CLONE_NEW*, slot: descriptor of a namespace to join */
};

/* Steps that are not operations of the list; reported like them. */
enum fb_step {
  FB_STEP_NONE = 0,
  FB_STEP_CLONE = 100,
  FB_STEP_USER,
  FB_STEP_GROUP,
  FB_STEP_STDIO,
  FB_STEP_KEYRING,
  FB_STEP_CWD,
  FB_STEP_CAPS,
  FB_STEP_SETID,
  FB_STEP_SECCOMP,
  FB_STEP_EXEC,
  FB_STEP_MONITOR,
  FB_STEP_SETNS,
  FB_STEP_PLAN,
  FB_STEP_TTY,
};

enum fb_op_flag {
  FB_F_DIR = 1,       /* target is a directory (created when missing) */
  FB_F_FILE = 2,      /* target is a file (created when missing) */
  FB_F_NOFOLLOW = 4,  /* target must not be a symlink */
  FB_F_RECURSIVE = 8, /* TREE: with submounts */
  FB_F_USER = 16,     /* a mount the user asked for: never on or below /proc, but lxcfs's files */
  FB_F_OPTIONAL = 32, /* failure is not an error (a kernel without that feature) */
  FB_F_HOST = 64,     /* NETLINK: over the engine's socket, which is the host's */
};

enum fb_plan_flag {
  FB_P_NO_NEW_PRIVS = 1,
  FB_P_KEYRING = 2,    /* join a new session keyring */
  FB_P_SET_HOME = 4,   /* add HOME from the passwd file */
  FB_P_INIT = 8,       /* the helper stays as PID 1 and runs the command */
  FB_P_USER_NAME = 16, /* user is a name to be looked up */
  FB_P_GROUP = 32,     /* a group was given (gid, or group_name) */
  FB_P_DETACH = 64,     /* exec: nobody waits */
  FB_P_TTY = 128,       /* exec: with a terminal of its own */
  FB_P_WAIT = 256,      /* the helper waits on wait_fd to be told the command (monitor/wait.c) */
};

struct fb_op {
  uint16_t kind, flags;
  uint32_t slot;
  uint32_t a, b, c, reserved;
  uint64_t x, y, z;
};

struct fb_group { /* a supplementary group that was asked for */
  uint32_t name; /* offset, or 0: gid */
  uint32_t gid;
};

struct fb_plan {
  uint32_t magic, size;
  uint32_t nops, ops;
  uint32_t argc, argv; /* array of offsets */
  uint32_t envc, envp;
  uint32_t cwd;
  uint32_t user_name, group_name;
  uint32_t uid, gid;
  uint32_t ngroups, groups;
  uint32_t flags;
  uint32_t umask;
  uint32_t nslots;
  uint32_t seccomp, seccomp_count; /* struct sock_filter[] */
  uint32_t seccomp_flags, reserved;
  uint64_t namespaces;             /* CLONE_NEW* of the clone, or of setns */
  uint64_t cap_bounding, cap_effective, cap_permitted, cap_inheritable, cap_ambient;
};

/* What a child that failed says; end-of-file without a record means that exec happened. */
struct fb_error {
  uint32_t step;  /* enum fb_op_kind or fb_step */
  int32_t index;  /* of the operation, or -1 */
  int32_t error;  /* errno */
  uint32_t where; /* which system call within the step, for the engine's authors */
};

/* A plan made ready before the clone: pointers resolved, nothing left to allocate. */
struct fb_context {
  const struct fb_plan *plan;
  const struct fb_op *ops;
  char **argv;
  char **envp; /* one spare slot for HOME */
  uint32_t envc;
  int *slots;
  int stdio[3];
  int helper_fd; /* a sealed copy of the helper, which execs the command */
  int error_fd;  /* where the helper reports that it could not */
  int console_fd; /* socket on which a terminal's master is handed over */
  int names_fd;   /* and one for the sockets of a name server */
  int wait_fd;    /* and one on which the helper waits for the command */
  int mask_fd; /* the empty directory that masks others, once it is mounted somewhere */
  uint64_t *times; /* NULL, or FB_T_END + nops instants: see fb_mark */
  char home[FB_HOME_MAX];
};

/* What a start notes the time of, where a trace is asked for (fastbox/container/traced.py). From
 * FB_T_END on: the end of each operation. 0 where it did not get there. */
enum fb_time {
  FB_T_CALL,     /* the engine calls */
  FB_T_MONITOR,  /* B runs, the later monitor */
  FB_T_INIT,     /* C runs, in its namespaces */
  FB_T_OPS,      /* end of the operations */
  FB_T_USER,     /* end of each part of fb_confine: looking up the user, */
  FB_T_STDIO,    /* streams, keyring and descriptors, */
  FB_T_CWD,      /* working directory and signals, */
  FB_T_CONFINED, /* capabilities, ids, seccomp */
  FB_T_HELPER,   /* B goes on: C has exec'ed the helper's copy, or failed */
  FB_T_SPAWNED,  /* B execs the monitor */
  FB_T_EXEC,     /* the helper's copy has exec'ed the command, or failed, as the monitor saw it */
  FB_T_RETURN,   /* the engine goes on */
  FB_T_END,
};

/* CLOCK_MONOTONIC in nanoseconds, through the vDSO: nothing is allocated, no system call is made. */
static inline void fb_mark(const struct fb_context *context, uint32_t number) {
  if (!context->times) return;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  context->times[number] = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Check a buffer and resolve it. `memory` must hold fb_context_size() bytes.
 * Returns 0, or -1 with errno EINVAL when the buffer is not a well-formed plan. */
size_t fb_context_size(const void *buffer, size_t length);
int fb_context_init(struct fb_context *context, const void *buffer, size_t length, void *memory);

static inline const char *fb_string(const struct fb_plan *plan, uint32_t offset) {
  return offset ? (const char *)plan + offset : NULL;
}

/* Replay the operations of the list; returns 0, or -1 with *error filled. Async-signal-safe. */
int fb_run_ops(struct fb_context *context, struct fb_error *error);
/* Take on all that confines the command: user, streams, working directory, capabilities, seccomp. Of
 * other descriptors only error_fd (now 3), helper_fd (4) and wait_fd (5) stay open. Returns 0, or
 * -1 with *error. */
int fb_confine(struct fb_context *context, struct fb_error *error);
/* SIGKILL when the parent ends (unless detached): never a container that nobody watches. */
int fb_die_with_parent(const struct fb_context *context, struct fb_error *error);
/* execvpe without malloc: the first executable in PATH; EACCES is remembered, as shells do. Returns
 * only on error. */
void fb_exec(char **argv, char **envp, struct fb_error *error);
/* From a prepared root to the command, by way of the helper. Returns only on error. */
void fb_finish(struct fb_context *context, struct fb_error *error);
/* Write the record and end the process. */
void fb_report(int fd, const struct fb_error *error) __attribute__((noreturn));

#endif
