/* Starting, watching and ending the threads of one extraction. */
#include "job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

int job_fail(struct fb_job *job, enum fb_step step, int err, const char *why, const char *entry) {
  crew_fail(&job->crew, step, err, why, entry);
  ring_stop(&job->ring);
  return -1;
}

void fb_tar_cancel(struct fb_job *job) {
  job_fail(job, FB_STEP_CANCELLED, 0, NULL, NULL);
}

int64_t fb_tar_progress(const struct fb_job *job) {
  return atomic_load_explicit(&job->read, memory_order_relaxed);
}

int job_make_opaque(struct fb_job *job, int fd) {
  struct crew *crew = &job->crew;
  int err = ECANCELED;
  pthread_mutex_lock(&crew->lock);
  job->request = FB_REQUEST_ASKED;
  job->request_fd = fd;
  pthread_cond_broadcast(&crew->changed);
  while (job->request != FB_REQUEST_DONE && !job_stopped(job))
    pthread_cond_wait(&crew->changed, &crew->lock);
  /* The lock is held while the request is served: after this, nobody uses the descriptor. */
  if (job->request == FB_REQUEST_DONE) err = job->request_err;
  job->request = FB_REQUEST_NONE;
  pthread_mutex_unlock(&crew->lock);
  return err;
}

static void serve_request(void *argument) {
  struct fb_job *job = argument;
  if (job->request != FB_REQUEST_ASKED) return;
  int status = fsetxattr(job->request_fd, "trusted.overlay.opaque", "y", 1, 0);
  job->request_err = status < 0 ? errno : 0;
  job->request = FB_REQUEST_DONE;
  pthread_cond_broadcast(&job->crew.changed);
}

int fb_tar_wait(struct fb_job *job, int milliseconds) {
  return crew_wait(&job->crew, milliseconds, serve_request, job);
}

static void source_work(void *job) { source_run(job); }
static void hasher_work(void *job) { hasher_run(job); }
static void writer_work(void *job) { writer_run(job); }
static void pour_work(void *job) { pour_run(job); }

static void start_threads(struct fb_job *job) {
  crew_add(&job->crew, source_work, job);
  crew_add(&job->crew, hasher_work, job);
  crew_add(&job->crew, job->options.out >= 0 ? pour_work : writer_work, job);
  int err = crew_start(&job->crew);
  if (err) job_fail(job, FB_STEP_START, err, "cannot start a thread", NULL);
}

static void job_free(struct fb_job *job) {
  ring_destroy(&job->ring);
  crew_free(&job->crew);
  free(job);
}

struct fb_job *fb_tar_start(const struct fb_tar_options *options) {
  struct fb_job *job = calloc(1, sizeof(*job));
  if (!job) return NULL;
  job->options = *options;
  int err = crew_init(&job->crew);
  if (!err) err = ring_init(&job->ring);
  if (err) {
    job_free(job);
    errno = err;
    return NULL;
  }
  start_threads(job);
  return job;
}

int fb_tar_finish(struct fb_job *job, struct fb_tar_result *result, struct fb_error *error) {
  while (!fb_tar_wait(job, 1000)) {
  }
  crew_join(&job->crew);
  *result = job->result;
  if (result->compression == FB_PLAIN) memcpy(result->digest, result->diff_id, 65);
  *error = job->crew.error;
  job_free(job);
  return error->step == FB_STEP_NONE ? 0 : -1;
}
