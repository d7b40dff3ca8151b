#include "hash.h"
#include "job.h"

/* The thread that computes the diff-id. */
void hasher_run(struct fb_job *job) {
  struct hash hash;
  size_t length;
  int status = hash_init(&hash);
  const uint8_t *chunk = ring_next(&job->ring, FB_READER_HASH, &length, 1);
  while (chunk && !status) {
    if (job->options.digests) status = hash_update(&hash, chunk, length);
    chunk = ring_next(&job->ring, FB_READER_HASH, &length, 0);
  }
  if (!status) status = hash_hex(&hash, job->result.diff_id);
  hash_free(&hash);
  if (status) job_fail(job, FB_STEP_START, 0, "libcrypto cannot compute sha256", NULL);
}
