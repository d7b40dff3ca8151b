/* One archive being made, shared by its threads. */
#ifndef FASTBOX_PACK_JOB_H
#define FASTBOX_PACK_JOB_H

#include "../crew/crew.h"
#include "belt.h"
#include "pack.h"

#define FB_PACKERS 8 /* compressors at most */
_Static_assert(3 + FB_PACKERS <= CREW_MOST, "a crew has room for all threads");

struct fb_pack_job {
  struct fb_pack_options options;
  struct crew crew;
  struct belt belt;
  struct fb_pack_result result;
  atomic_int_least64_t done; /* bytes of the archive */
};

/* Record the first error and stop everything. `entry` may be NULL. Returns -1. */
int pack_fail(struct fb_pack_job *job, enum fb_pack_step step, int err, const char *why,
              const char *entry);

static inline int pack_stopped(const struct fb_pack_job *job) {
  return crew_stopped(&job->crew);
}

/* The threads' work. Each returns when it is done or the job is stopped. */
void walker_run(struct fb_pack_job *job);
void pack_hasher_run(struct fb_pack_job *job);
void compressor_run(struct fb_pack_job *job);
void pack_writer_run(struct fb_pack_job *job);

#endif
