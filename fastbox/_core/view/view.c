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
  int read_only, fd;
  pid_t thread;
};

static int copy_root(int read_only) {
  int fd = fb_open_tree(AT_FDCWD, "/", FB_OPEN_TREE_CLONE | FB_AT_RECURSIVE);
  if (fd < 0) return -1;
  struct fb_mount_attr attr = {0};
  attr.attr_set = MOUNT_ATTR_GUARD | (read_only ? FB_MOUNT_ATTR_RDONLY : 0);
  if (fb_mount_setattr(fd, FB_AT_RECURSIVE, &attr) == 0) return fd;
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
  job->fd = copy_root(job->read_only);
  if (job->fd < 0) *job->error = (struct fb_error){FB_OP_TREE, -1, errno, 3};
  return NULL;
}

/* Mounts that an operation left detached when a later one failed. */
static void close_slots(struct fb_context *context) {
  for (uint32_t i = 0; i < context->plan->nslots; i++)
    if (context->slots[i] >= 0) fb_close(context->slots[i]);
}

int fb_view(struct fb_context *context, int read_only, struct fb_error *error) {
  struct job job = {context, error, read_only, -1, 0};
  pthread_t thread;
  sigset_t all, before;
  sigfillset(&all); /* signals go to the interpreter's threads */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&thread, NULL, make_view, &job);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) {
    *error = (struct fb_error){FB_STEP_CLONE, -1, failed, 2};
    return -1;
  }
  pthread_join(thread, NULL);
  /* The thread's memory is released before its namespace, and with that the first mount: once it is
   * gone altogether, the upper directory is only in use while our descriptor is open. */
  for (int i = 0; i < 100000 && syscall(SYS_tgkill, getpid(), job.thread, 0) == 0; i++)
    sched_yield();
  close_slots(context);
  return job.fd;
}

int fb_open_in_root(int root, const char *path, uint64_t flags) {
  return fb_openat2(root, path, flags, 0, FB_RESOLVE_IN_ROOT | FB_RESOLVE_NO_MAGICLINKS);
}
