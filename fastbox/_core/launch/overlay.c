/* Mount namespaces belong to threads: a short-lived one mounts, opens, detaches and ends, and the
 * process's own namespace never sees the mount. */
#include "overlay.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#include "sys.h"

struct view {
  const char *directory, *target, *options;
  int read_only, fd, error;
};

static void *make_view(void *arg) {
  struct view *view = arg;
  view->fd = -1;
  if (unshare(CLONE_FS | CLONE_NEWNS) < 0 ||
      mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || chdir(view->directory) < 0 ||
      mount("overlay", view->target, "overlay",
            MS_NODEV | MS_NOSUID | MS_NOEXEC | (view->read_only ? MS_RDONLY : 0),
            view->options) < 0) {
    view->error = errno;
    return NULL;
  }
  view->fd = open(view->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  view->error = errno;
  umount2(view->target, MNT_DETACH);
  return NULL;
}

int fb_overlay_view(const char *directory, const char *target, const char *options, int read_only) {
  struct view view = {directory, target, options, read_only, -1, 0};
  pthread_t thread;
  int error = pthread_create(&thread, NULL, make_view, &view);
  if (error) {
    errno = error;
    return -1;
  }
  pthread_join(thread, NULL);
  errno = view.error;
  return view.fd;
}
