/* A short-lived thread mounts and hands out a copy of the tree; its namespace ends with it, the copy
 * stays. So there is no process to wait for, and nothing to undo should the engine be killed. */
#include "view.h"

#include <pthread.h>
#include <sched.h>

#include "../launch/sys.h"

#define MOUNT_ATTR_GUARD 0x0e /* nosuid, nodev, noexec */

struct job {
  struct fb_context *context;
  struct fb_error *error;
  int read_only, namespace, fd;
  pid_t thread;
};

/* `recursive`: FB_AT_RECURSIVE for all that is mounted below, or 0. */
static int copy_root(int read_only, unsigned recursive) {
  int fd = fb_open_tree(AT_FDCWD, "/", FB_OPEN_TREE_CLONE | recursive);
  if (fd < 0) return -1;
  struct fb_mount_attr attr = {0};
  attr.attr_set = MOUNT_ATTR_GUARD | (read_only ? FB_MOUNT_ATTR_RDONLY : 0);
  if (fb_mount_setattr(fd, recursive, &attr) == 0) return fd;
  fb_close(fd);
  return -1;
}

static void *make_view(void *arg) {
  struct job *job = arg;
  job->thread = (pid_t)syscall(SYS_gettid);
  if (unshare(CLONE_FS | CLONE_NEWNS) < 0) {
    *job->error = (struct fb_error){FB_STEP_CLONE, -1, errno, 1};
    return NULL;
  }
  if (fb_run_ops(job->context, job->error) < 0) return NULL;
  job->fd = copy_root(job->read_only, FB_AT_RECURSIVE);
  if (job->fd < 0) *job->error = (struct fb_error){FB_OP_TREE, -1, errno, 3};
  return NULL;
}

/* Mounts that an operation left detached when a later one failed. */
static void close_slots(struct fb_context *context) {
  for (uint32_t i = 0; i < context->plan->nslots; i++)
    if (context->slots[i] >= 0) fb_close(context->slots[i]);
}

/* Run in a thread of its own, and see it gone. 0, or an errno. */
static int in_thread(void *(*run)(void *), struct job *job) {
  pthread_t thread;
  sigset_t all, before;
  sigfillset(&all); /* signals go to the interpreter's threads */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&thread, NULL, run, job);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) return failed;
  pthread_join(thread, NULL);
  /* The thread's memory is released before its namespace, and with that the first mount: once it is
   * gone altogether, the upper directory is only in use while our descriptor is open. */
  for (int i = 0; i < 100000 && syscall(SYS_tgkill, getpid(), job->thread, 0) == 0; i++)
    sched_yield();
  return 0;
}

int fb_view(struct fb_context *context, int read_only, struct fb_error *error) {
  struct job job = {.context = context, .error = error, .read_only = read_only, .fd = -1};
  int failed = in_thread(make_view, &job);
  if (failed) {
    *error = (struct fb_error){FB_STEP_CLONE, -1, failed, 2};
    return -1;
  }
  close_slots(context);
  return job.fd;
}

/* The namespace's processes do not see the thread: it is none of theirs. */
static void *copy_foreign_root(void *arg) {
  struct job *job = arg;
  job->thread = (pid_t)syscall(SYS_gettid);
  if (unshare(CLONE_FS) == 0 && setns(job->namespace, CLONE_NEWNS) == 0)
    job->fd = copy_root(1, 0);
  if (job->fd < 0) job->error->error = errno;
  return NULL;
}

int fb_root_of(int namespace) {
  struct fb_error error = {0};
  struct job job = {.error = &error, .namespace = namespace, .fd = -1};
  int failed = in_thread(copy_foreign_root, &job);
  errno = failed ? failed : error.error;
  return job.fd;
}

int fb_open_in_root(int root, const char *path, uint64_t flags) {
  return fb_openat2(root, path, flags, 0, FB_RESOLVE_IN_ROOT | FB_RESOLVE_NO_MAGICLINKS);
}
