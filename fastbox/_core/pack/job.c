/* Starting, watching and ending the threads that make one archive. */
#include "job.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "compress.h"

int pack_fail(struct fb_pack_job *job, enum fb_pack_step step, int err, const char *why,
              const char *entry) {
  pthread_mutex_lock(&job->lock);
  if (job->error.step == FB_PACK_OK) {
    job->error.step = step;
    job->error.err = err;
    job->error.why = why;
    if (entry) strncpy(job->error.entry, entry, sizeof(job->error.entry) - 1);
  }
  atomic_store(&job->stop, 1);
  pthread_mutex_unlock(&job->lock);
  belt_stop(&job->belt);
  if (eventfd_write(job->wake, 1) < 0) { /* full: it is readable already */
  }
  return -1;
}

void fb_pack_cancel(struct fb_pack_job *job) {
  pack_fail(job, FB_PACK_CANCELLED, 0, NULL, NULL);
}

int64_t fb_pack_progress(const struct fb_pack_job *job) {
  return atomic_load_explicit(&job->done, memory_order_relaxed);
}

int fb_pack_wait(struct fb_pack_job *job, int milliseconds) {
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
  while (job->running && status != ETIMEDOUT)
    status = pthread_cond_timedwait(&job->changed, &job->lock, &until);
  int ended = job->running == 0;
  pthread_mutex_unlock(&job->lock);
  return ended;
}

static void thread_ended(struct fb_pack_job *job) {
  pthread_mutex_lock(&job->lock);
  job->running--;
  pthread_cond_broadcast(&job->changed);
  pthread_mutex_unlock(&job->lock);
}

static void *walker_main(void *job) {
  walker_run(job);
  thread_ended(job);
  return NULL;
}

static void *hasher_main(void *job) {
  pack_hasher_run(job);
  thread_ended(job);
  return NULL;
}

static void *writer_main(void *job) {
  pack_writer_run(job);
  thread_ended(job);
  return NULL;
}

static void *compressor_main(void *job) {
  compressor_run(job);
  thread_ended(job);
  return NULL;
}

static int start_thread(struct fb_pack_job *job, void *(*run)(void *)) {
  int err = pthread_create(&job->threads[job->started], NULL, run, job);
  if (!err) job->started++;
  return err;
}

static void start_threads(struct fb_pack_job *job, int compressors) {
  sigset_t all, before;
  sigfillset(&all);
  /* Signals go to the interpreter's threads. */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_mutex_lock(&job->lock);
  int err = start_thread(job, walker_main);
  if (!err && job->options.digests) err = start_thread(job, hasher_main);
  if (!err && job->options.out >= 0) err = start_thread(job, writer_main);
  for (int i = 0; i < compressors && !err; i++) err = start_thread(job, compressor_main);
  job->running = job->started;
  pthread_mutex_unlock(&job->lock);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (err) pack_fail(job, FB_PACK_START, err, "cannot start a thread", NULL);
}

static int usable_cpus(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) < 0) return 1;
  return CPU_COUNT(&set);
}

static int compressors_of(const struct fb_pack_options *options) {
  if (options->out < 0 || options->compression == FB_PACK_NONE) return 0;
  int cpus = usable_cpus();
  return cpus > FB_PACKERS ? FB_PACKERS : cpus;
}

static void job_free(struct fb_pack_job *job) {
  if (job->wake >= 0) close(job->wake);
  belt_free(&job->belt);
  pthread_mutex_destroy(&job->lock);
  pthread_cond_destroy(&job->changed);
  free(job);
}

struct fb_pack_job *fb_pack_start(const struct fb_pack_options *options) {
  struct fb_pack_job *job = calloc(1, sizeof(*job));
  if (!job) return NULL;
  job->options = *options;
  if (options->out < 0) job->options.compression = FB_PACK_NONE;
  pthread_mutex_init(&job->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&job->changed, &attr);
  pthread_condattr_destroy(&attr);
  int compressors = compressors_of(options);
  size_t room = compressors ? compress_bound(options->compression) : 0;
  job->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int err = job->wake < 0 ? errno
                          : belt_init(&job->belt, 6 + 2 * (unsigned)compressors, room,
                                      options->digests, options->out >= 0);
  if (err) {
    job_free(job);
    errno = err;
    return NULL;
  }
  start_threads(job, compressors);
  return job;
}

int fb_pack_finish(struct fb_pack_job *job, struct fb_pack_result *result,
                   struct fb_pack_error *error) {
  while (!fb_pack_wait(job, 1000)) {
  }
  for (int i = 0; i < job->started; i++) pthread_join(job->threads[i], NULL);
  if (job->options.compression == FB_PACK_NONE) {
    memcpy(job->result.digest, job->result.diff_id, sizeof(job->result.digest));
    if (job->options.out < 0) job->result.size = job->result.tar_size;
  }
  *result = job->result;
  *error = job->error;
  job_free(job);
  return error->step == FB_PACK_OK ? 0 : -1;
}
