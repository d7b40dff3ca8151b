/* The last stretch, the same for a container's init and for a process that joins it. The order is
 * the security: each line takes away something that a later line no longer needs. */
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "plan.h"
#include "sys.h"
#include "users.h"

void fb_report(int fd, const struct fb_error *error) {
  if (fd >= 0) {
    ssize_t ignored = write(fd, error, sizeof *error);
    (void)ignored;
  }
  syscall(SYS_exit_group, 127);
  __builtin_unreachable();
}

static int fail(struct fb_error *error, int step, unsigned where) {
  error->step = (uint32_t)step;
  error->error = errno;
  error->where = where;
  return -1;
}

static int is_null(int fd) {
  struct stat status;
  if (fstat(fd, &status) < 0) return 0;
  return S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

/* The container's own /dev/null, which must be the real one: a volume over /dev may hold a FIFO, or
 * a link to anything, under that name (CVE-2026-88265). */
static int open_null(void) {
  int fd = fb_openat2(AT_FDCWD, "/dev/null", O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0,
                      FB_RESOLVE_NO_MAGICLINKS);
  if (fd < 0 || is_null(fd)) return fd;
  fb_close(fd);
  errno = ENODEV;
  return -1;
}

static int set_stdio(struct fb_context *context, const struct fb_user *user,
                     struct fb_error *error) {
  int own_terminal = context->console_fd >= 0 ? context->stdio[0] : -1;
  for (int i = 0; i < 3; i++) {
    int fd = context->stdio[i];
    /* The host's /dev/null too: through it, root in the container could chmod the host's inode. */
    if (fd < 0 || is_null(fd)) {
      fd = open_null();
      if (fd >= 0) fcntl(fd, F_SETFL, 0);
    }
    if (fd < 0) return fail(error, FB_STEP_STDIO, 1);
    if (fd == i) {
      if (fcntl(fd, F_SETFD, 0) < 0) return fail(error, FB_STEP_STDIO, 2);
    } else if (syscall(SYS_dup3, fd, i, 0) < 0) {
      return fail(error, FB_STEP_STDIO, 3);
    }
    /* A process that isn't root may want to reopen /dev/stdout: pipes belong to it (as runc has it),
     * and its own terminal; never a file or device, which may be the host's (CVE-2026-88265). */
    struct stat status;
    if (user->uid && fstat(i, &status) == 0 && status.st_uid == 0 &&
        (S_ISFIFO(status.st_mode) || fd == own_terminal)) {
      int ignored = fchown(i, user->uid, (gid_t)-1);
      (void)ignored;
    }
  }
  return 0;
}

/* A working directory through a leaked descriptor would be outside (CVE-2024-21626): then the kernel
 * calls it "(unreachable)". */
static int set_cwd(const char *path, struct fb_error *error) {
  char where[4096];
  if (chdir(path) < 0) return fail(error, FB_STEP_CWD, 1);
  long n = syscall(SYS_getcwd, where, sizeof where);
  if (n < 0) return fail(error, FB_STEP_CWD, 2);
  if (where[0] != '/') {
    errno = ENOENT;
    return fail(error, FB_STEP_CWD, 3);
  }
  return 0;
}

static int drop_bounding(uint64_t keep, struct fb_error *error) {
  for (int cap = 0; cap < 64; cap++) {
    if (keep >> cap & 1) continue;
    if (syscall(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
      if (errno == EINVAL) return 0; /* past the last one this kernel knows */
      return fail(error, FB_STEP_CAPS, 1);
    }
  }
  return 0;
}

static int set_caps(uint64_t effective, uint64_t permitted, uint64_t inheritable,
                    uint64_t ambient, struct fb_error *error) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2];
  for (int i = 0; i < 2; i++) {
    data[i].effective = (uint32_t)(effective >> (32 * i));
    data[i].permitted = (uint32_t)(permitted >> (32 * i));
    data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
  }
  if (syscall(SYS_capset, &header, data) < 0) return fail(error, FB_STEP_CAPS, 2);
  if (syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
    return fail(error, FB_STEP_CAPS, 3);
  for (int cap = 0; cap < 64; cap++)
    if (ambient >> cap & 1 &&
        syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
      return fail(error, FB_STEP_CAPS, 4);
  return 0;
}

static int set_ids(const struct fb_user *user, struct fb_error *error) {
  if (syscall(SYS_setgroups, (size_t)user->ngroups, user->groups) < 0)
    return fail(error, FB_STEP_SETID, 1);
  if (syscall(SYS_setresgid, user->gid, user->gid, user->gid) < 0)
    return fail(error, FB_STEP_SETID, 2);
  if (syscall(SYS_setresuid, user->uid, user->uid, user->uid) < 0)
    return fail(error, FB_STEP_SETID, 3);
  return 0;
}

static int load_seccomp(const struct fb_plan *plan, struct fb_error *error) {
  if (!plan->seccomp_count) return 0;
  struct sock_fprog program = {
      (unsigned short)plan->seccomp_count,
      (struct sock_filter *)((uintptr_t)plan + plan->seccomp),
  };
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, plan->seccomp_flags, &program) < 0)
    return fail(error, FB_STEP_SECCOMP, 1);
  return 0;
}

static const char *find_env(char **envp, const char *name) {
  size_t length = strlen(name);
  for (; *envp; envp++)
    if (strncmp(*envp, name, length) == 0 && (*envp)[length] == '=') return *envp + length + 1;
  return NULL;
}

void fb_exec(char **argv, char **envp, struct fb_error *error) {
  char path[4096 + 256 + 2];
  if (strchr(argv[0], '/')) {
    execve(argv[0], argv, envp);
    fail(error, FB_STEP_EXEC, 1);
    return;
  }
  const char *list = find_env(envp, "PATH");
  size_t name_length = strlen(argv[0]);
  int denied = 0;
  errno = ENOENT;
  if (!list || !*list || name_length > 255 || name_length == 0) {
    fail(error, FB_STEP_EXEC, 2);
    return;
  }
  while (1) {
    size_t length = strcspn(list, ":");
    if (length < 4096) {
      memcpy(path, list, length);
      if (length) path[length++] = '/'; /* an empty entry is the working directory */
      memcpy(path + length, argv[0], name_length + 1);
      struct stat status;
      int there = stat(path, &status) == 0;
      /* A directory of that name is not what was meant; execve would say EACCES. */
      if (there ? !S_ISDIR(status.st_mode) : errno != ENOENT) {
        execve(path, argv, envp);
        if (errno == EACCES)
          denied = 1;
        else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
          break;
        else if (stat(path, &status) == 0)
          break; /* the file is there, its interpreter is not */
      }
    }
    list += strcspn(list, ":");
    if (!*list++) {
      errno = denied ? EACCES : ENOENT;
      fail(error, FB_STEP_EXEC, 2);
      return;
    }
  }
  if (errno == 0) errno = ENOENT;
  fail(error, FB_STEP_EXEC, 3);
}

static void reset_signals(void) {
  for (int i = 1; i < 65; i++) {
    struct { /* struct sigaction as the kernel has it */
      void *handler;
      unsigned long flags;
      void *restorer;
      unsigned long mask;
    } action = {0};
    syscall(SYS_rt_sigaction, i, &action, NULL, 8);
  }
  uint64_t none = 0;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
}

static int confine(struct fb_context *context, const struct fb_user *user,
                   struct fb_error *error) {
  const struct fb_plan *plan = context->plan;
  if (drop_bounding(plan->cap_bounding, error) < 0) return -1;
  /* Without no_new_privs only CAP_SYS_ADMIN may load a filter, so it comes before the set*id calls;
   * with it, as late as possible, so that a filter may forbid what is done here. */
  if (!(plan->flags & FB_P_NO_NEW_PRIVS) && load_seccomp(plan, error) < 0) return -1;
  if (set_ids(user, error) < 0) return -1;
  if (!user->uid) {
    if (set_caps(plan->cap_effective, plan->cap_permitted, plan->cap_inheritable,
                 plan->cap_ambient, error) < 0)
      return -1;
  } else if (set_caps(0, 0, 0, 0, error) < 0) { /* setresuid cleared all but the inheritable set */
    return -1;
  }
  if (plan->flags & FB_P_NO_NEW_PRIVS) {
    if (syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
      return fail(error, FB_STEP_CAPS, 5);
    if (load_seccomp(plan, error) < 0) return -1;
  }
  return 0;
}

/* Nothing but the standard streams, the error pipe (3), the helper (4) and what a prepared container
 * waits on (5) stays open: an executable, its interpreter or a working directory could be named
 * through any other descriptor, close-on-exec or not (CVE-2016-9962, CVE-2024-21626). */
static int keep_few(struct fb_context *context, struct fb_error *error) {
  int *kept[3] = {&context->error_fd, &context->helper_fd, &context->wait_fd};
  for (int i = 0; i < 3; i++) {
    if (*kept[i] < 0) continue;
    *kept[i] = fcntl(*kept[i], F_DUPFD_CLOEXEC, 16);
    if (*kept[i] < 0) return fail(error, FB_STEP_STDIO, 5);
  }
  for (int i = 0; i < 3; i++) {
    if (*kept[i] < 0)
      syscall(SYS_close, 3 + i);
    else if (syscall(SYS_dup3, *kept[i], 3 + i, O_CLOEXEC) < 0)
      return fail(error, FB_STEP_STDIO, 6);
    else
      *kept[i] = 3 + i;
  }
  if (syscall(SYS_close_range, 6, ~0u, 0) < 0) return fail(error, FB_STEP_STDIO, 4);
  return 0;
}

int fb_confine(struct fb_context *context, struct fb_error *error) {
  const struct fb_plan *plan = context->plan;
  struct fb_user user;
  if (fb_resolve_user(context, &user, error) < 0) {
    error->error = errno;
    return -1;
  }
  if ((plan->flags & FB_P_SET_HOME) && !find_env(context->envp, "HOME")) {
    memcpy(context->home, user.home, sizeof context->home);
    context->envp[context->envc] = context->home;
    context->envp[context->envc + 1] = NULL;
  }
  fb_mark(context, FB_T_USER);
  syscall(SYS_umask, plan->umask);
  if (set_stdio(context, &user, error) < 0) return -1;
  if ((plan->flags & FB_P_KEYRING) &&
      syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0) < 0 && errno != ENOSYS &&
      errno != EPERM && errno != EDQUOT)
    return fail(error, FB_STEP_KEYRING, 1);
  if (keep_few(context, error) < 0) return -1;
  fb_mark(context, FB_T_STDIO);
  if (set_cwd(fb_string(plan, plan->cwd), error) < 0) return -1;
  reset_signals();
  fb_mark(context, FB_T_CWD);
  if (confine(context, &user, error) < 0) return -1;
  fb_mark(context, FB_T_CONFINED);
  return 0;
}

int fb_die_with_parent(const struct fb_context *context, struct fb_error *error) {
  if (context->plan->flags & FB_P_DETACH) return 0;
  if (syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
    return fail(error, FB_STEP_EXEC, 9);
  return 0;
}

/* Until the next exec, /proc/self/exe is the program of the memory that we share: Python's. An image
 * whose command or "#!" line names that link would get to run, and then to rewrite, the host's
 * interpreter (CVE-2019-5736). So the command is executed by the helper's sealed copy. */
void fb_finish(struct fb_context *context, struct fb_error *error) {
  if (fb_confine(context, error) < 0 || fb_die_with_parent(context, error) < 0) return;
  /* Its end-of-file says that the command was executed; where the helper stays, that the helper was. */
  if (!(context->plan->flags & (FB_P_INIT | FB_P_WAIT))) fcntl(context->error_fd, F_SETFD, 0);
  if (context->plan->flags & FB_P_WAIT) fcntl(context->wait_fd, F_SETFD, 0);
  execve("/proc/self/fd/4", context->argv, context->envp);
  /* Where that is not to be found; a seccomp profile may know execve only, so this comes second. */
  syscall(SYS_execveat, context->helper_fd, "", context->argv, context->envp, AT_EMPTY_PATH);
  fail(error, FB_STEP_EXEC, 4);
}
