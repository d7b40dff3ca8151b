/* Starting, watching and ending the threads that make one archive. */
#include "job.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "compress.h"

int pack_fail(struct fb_pack_job *job, enum fb_pack_step step, int err, const char *why,
              const char *entry) {
  crew_fail(&job->crew, step, err, why, entry);
  belt_stop(&job->belt);
  return -1;
}

void fb_pack_cancel(struct fb_pack_job *job) {
  pack_fail(job, FB_PACK_CANCELLED, 0, NULL, NULL);
}

int64_t fb_pack_progress(const struct fb_pack_job *job) {
  return atomic_load_explicit(&job->done, memory_order_relaxed);
}

int fb_pack_wait(struct fb_pack_job *job, int milliseconds) {
  return crew_wait(&job->crew, milliseconds, NULL, NULL);
}

static void walker_work(void *job) { walker_run(job); }
static void hasher_work(void *job) { pack_hasher_run(job); }
static void writer_work(void *job) { pack_writer_run(job); }
static void compressor_work(void *job) { compressor_run(job); }

static void start_threads(struct fb_pack_job *job, int compressors) {
  crew_add(&job->crew, walker_work, job);
  if (job->options.digests) crew_add(&job->crew, hasher_work, job);
  if (job->options.out >= 0) crew_add(&job->crew, writer_work, job);
  for (int i = 0; i < compressors; i++) crew_add(&job->crew, compressor_work, job);
  int err = crew_start(&job->crew);
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
  belt_free(&job->belt);
  crew_free(&job->crew);
  free(job);
}

struct fb_pack_job *fb_pack_start(const struct fb_pack_options *options) {
  struct fb_pack_job *job = calloc(1, sizeof(*job));
  if (!job) return NULL;
  job->options = *options;
  if (options->out < 0) job->options.compression = FB_PACK_NONE;
  int compressors = compressors_of(options);
  size_t room = compressors ? compress_bound(options->compression) : 0;
  int err = crew_init(&job->crew);
  if (!err)
    err = belt_init(&job->belt, 6 + 2 * (unsigned)compressors, room, options->digests,
                    options->out >= 0);
  if (err) {
    job_free(job);
    errno = err;
    return NULL;
  }
  start_threads(job, compressors);
  return job;
}

int fb_pack_finish(struct fb_pack_job *job, struct fb_pack_result *result,
                   struct fb_error *error) {
  while (!fb_pack_wait(job, 1000)) {
  }
  crew_join(&job->crew);
  if (job->options.compression == FB_PACK_NONE) {
    memcpy(job->result.digest, job->result.diff_id, sizeof(job->result.digest));
    if (job->options.out < 0) job->result.size = job->result.tar_size;
  }
  *result = job->result;
  *error = job->crew.error;
  job_free(job);
  return error->step == FB_PACK_OK ? 0 : -1;
}
