/* One extraction, shared by its threads. */
#ifndef FASTBOX_TAR_JOB_H
#define FASTBOX_TAR_JOB_H

#include "../crew/crew.h"
#include "ring.h"
#include "tar.h"

/* The writer asks the waiting thread to mark a directory opaque: trusted.* attributes take
 * CAP_SYS_ADMIN, which the writer has given up. */
enum fb_request { FB_REQUEST_NONE, FB_REQUEST_ASKED, FB_REQUEST_DONE };

struct fb_job {
  struct fb_tar_options options;
  struct crew crew;
  struct ring ring;
  struct fb_tar_result result;
  atomic_int_least64_t read; /* bytes of the archive */

  /* Guarded by the crew's lock. */
  enum fb_request request;
  int request_fd, request_err;
};

/* Record the first error and stop everything. `entry` may be NULL. Returns -1. */
int job_fail(struct fb_job *job, enum fb_step step, int err, const char *why, const char *entry);

static inline int job_stopped(const struct fb_job *job) {
  return crew_stopped(&job->crew);
}

/* Have trusted.overlay.opaque set on the directory. Returns 0, or an errno; ECANCELED when the job
 * is stopped meanwhile. */
int job_make_opaque(struct fb_job *job, int fd);

/* The three threads' work. Each returns when it is done or the job is stopped. */
void source_run(struct fb_job *job);
void hasher_run(struct fb_job *job);
void writer_run(struct fb_job *job);
void pour_run(struct fb_job *job); /* instead of the writer's, with options.out */

#endif
