/* Reading the archive, and the decompressors that stand on it. */
#ifndef FASTBOX_TAR_SOURCE_H
#define FASTBOX_TAR_SOURCE_H

#include <sys/types.h>

#include "hash.h"
#include "job.h"

struct source {
  struct fb_job *job;
  struct hash hash; /* of what is read; unused for plain archives, whose diff-id says the same */
  int polled;       /* reads may block for ever: wait for the descriptor and for the stop */
  uint8_t *in;      /* what was read and not yet used */
  size_t in_length;
  uint8_t *memory;

  uint8_t *chunk; /* the one being filled */
  size_t filled;
  int64_t produced;
};

/* Read up to `room` bytes, blocking until there is at least one. Returns the count, 0 at the end of
 * the file, -1 when the job failed or is stopped. */
ssize_t source_read(struct source *source, uint8_t *to, size_t room);

/* Have at least one byte in in/in_length. 1, 0 at the end of the file, -1. */
int source_fill(struct source *source);

/* Where decompressed bytes go: `*room` > 0 bytes at the result, or NULL when the job is stopped. */
uint8_t *source_out(struct source *source, size_t *room);

/* `length` bytes were put there. 0, or -1 when that is more than the caller allows. */
int source_produced(struct source *source, size_t length);

/* The whole of a compressed stream. 0 or -1. */
int inflate_run(struct source *source);
int unzstd_run(struct source *source);

#endif
