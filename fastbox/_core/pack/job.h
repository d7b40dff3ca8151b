/* One archive being made, shared by its threads. */
#ifndef FASTBOX_PACK_JOB_H
#define FASTBOX_PACK_JOB_H

#include <pthread.h>
#include <stdatomic.h>

#include "belt.h"
#include "pack.h"

#define FB_PACKERS 8 /* compressors at most */

struct fb_pack_job {
  struct fb_pack_options options;
  struct belt belt;
  struct fb_pack_result result;
  struct fb_pack_error error;
  atomic_int stop;           /* set with the first error */
  atomic_int_least64_t done; /* bytes of the archive */
  int wake;                  /* eventfd, readable when the job is to stop */

  pthread_mutex_t lock;
  pthread_cond_t changed;
  int running; /* threads that have not ended */

  pthread_t threads[3 + FB_PACKERS];
  int started;
};

/* Record the first error and stop everything. `entry` may be NULL. Returns -1. */
int pack_fail(struct fb_pack_job *job, enum fb_pack_step step, int err, const char *why,
              const char *entry);

static inline int pack_stopped(const struct fb_pack_job *job) {
  return atomic_load_explicit(&job->stop, memory_order_relaxed);
}

/* The threads' work. Each returns when it is done or the job is stopped. */
void walker_run(struct fb_pack_job *job);
void pack_hasher_run(struct fb_pack_job *job);
void compressor_run(struct fb_pack_job *job);
void pack_writer_run(struct fb_pack_job *job);

#endif
