/* Starting, watching and ending the threads of one extraction. */
#include "job.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

int job_fail(struct fb_job *job, enum fb_step step, int err, const char *why, const char *entry) {
  pthread_mutex_lock(&job->lock);
  if (job->error.step == FB_STEP_NONE) {
    job->error.step = step;
    job->error.err = err;
    job->error.why = why;
    if (entry) strncpy(job->error.entry, entry, sizeof(job->error.entry) - 1);
  }
  atomic_store(&job->stop, 1);
  pthread_cond_broadcast(&job->changed);
  pthread_mutex_unlock(&job->lock);
  ring_stop(&job->ring);
  if (eventfd_write(job->wake, 1) < 0) { /* full: it is readable already */
  }
  return -1;
}

void fb_tar_cancel(struct fb_job *job) {
  job_fail(job, FB_STEP_CANCELLED, 0, NULL, NULL);
}

int64_t fb_tar_progress(const struct fb_job *job) {
  return atomic_load_explicit(&job->read, memory_order_relaxed);
}

int job_make_opaque(struct fb_job *job, int fd) {
  int err = ECANCELED;
  pthread_mutex_lock(&job->lock);
  job->request = FB_REQUEST_ASKED;
  job->request_fd = fd;
  pthread_cond_broadcast(&job->changed);
  while (job->request != FB_REQUEST_DONE && !job_stopped(job))
    pthread_cond_wait(&job->changed, &job->lock);
  /* The lock is held while the request is served: after this, nobody uses the descriptor. */
  if (job->request == FB_REQUEST_DONE) err = job->request_err;
  job->request = FB_REQUEST_NONE;
  pthread_mutex_unlock(&job->lock);
  return err;
}

static void serve_request(struct fb_job *job) {
  int status = fsetxattr(job->request_fd, "trusted.overlay.opaque", "y", 1, 0);
  job->request_err = status < 0 ? errno : 0;
  job->request = FB_REQUEST_DONE;
  pthread_cond_broadcast(&job->changed);
}

int fb_tar_wait(struct fb_job *job, int milliseconds) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += milliseconds / 1000;
  until.tv_nsec += (milliseconds % 1000) * 1000000L;
  if (until.tv_nsec >= 1000000000L) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000L;
  }
  int status = 0;
  pthread_mutex_lock(&job->lock);
  while (job->running && status != ETIMEDOUT) {
    if (job->request == FB_REQUEST_ASKED)
      serve_request(job);
    else
      status = pthread_cond_timedwait(&job->changed, &job->lock, &until);
  }
  int ended = job->running == 0;
  pthread_mutex_unlock(&job->lock);
  return ended;
}

static void thread_ended(struct fb_job *job) {
  pthread_mutex_lock(&job->lock);
  job->running--;
  pthread_cond_broadcast(&job->changed);
  pthread_mutex_unlock(&job->lock);
}

static void *source_main(void *job) {
  source_run(job);
  thread_ended(job);
  return NULL;
}

static void *hasher_main(void *job) {
  hasher_run(job);
  thread_ended(job);
  return NULL;
}

static void *writer_main(void *argument) {
  struct fb_job *job = argument;
  if (job->options.out >= 0)
    pour_run(job);
  else
    writer_run(job);
  thread_ended(job);
  return NULL;
}

static void start_threads(struct fb_job *job) {
  void *(*const mains[])(void *) = {source_main, hasher_main, writer_main};
  sigset_t all, before;
  sigfillset(&all);
  /* Signals go to the interpreter's threads. */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_mutex_lock(&job->lock);
  int err = 0;
  for (int i = 0; i < 3 && !err; i++) {
    err = pthread_create(&job->threads[i], NULL, mains[i], job);
    if (!err) job->started++;
  }
  job->running = job->started;
  pthread_mutex_unlock(&job->lock);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (err) job_fail(job, FB_STEP_START, err, "cannot start a thread", NULL);
}

static void job_free(struct fb_job *job) {
  if (job->wake >= 0) close(job->wake);
  ring_destroy(&job->ring);
  pthread_mutex_destroy(&job->lock);
  pthread_cond_destroy(&job->changed);
  free(job);
}

struct fb_job *fb_tar_start(const struct fb_tar_options *options) {
  struct fb_job *job = calloc(1, sizeof(*job));
  if (!job) return NULL;
  job->options = *options;
  pthread_mutex_init(&job->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&job->changed, &attr);
  pthread_condattr_destroy(&attr);
  job->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int err = job->wake < 0 ? errno : ring_init(&job->ring);
  if (err) {
    job_free(job);
    errno = err;
    return NULL;
  }
  start_threads(job);
  return job;
}

int fb_tar_finish(struct fb_job *job, struct fb_tar_result *result, struct fb_tar_error *error) {
  while (!fb_tar_wait(job, 1000)) {
  }
  for (int i = 0; i < job->started; i++) pthread_join(job->threads[i], NULL);
  *result = job->result;
  if (result->compression == FB_PLAIN) memcpy(result->digest, result->diff_id, 65);
  *error = job->error;
  job_free(job);
  return error->step == FB_STEP_NONE ? 0 : -1;
}
