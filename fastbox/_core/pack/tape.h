/* The archive as the walker writes it: into the belt's chunks. */
#ifndef FASTBOX_PACK_TAPE_H
#define FASTBOX_PACK_TAPE_H

#include "job.h"

#define FB_TAR_BLOCK 512

struct tape {
  struct fb_pack_job *job;
  uint8_t *chunk; /* the one being filled, NULL before it is needed */
  size_t filled;
  int64_t written;
};

/* Where the next bytes go: `*room` > 0 of them, or NULL when the job is stopped. */
uint8_t *tape_room(struct tape *tape, size_t *room);

/* `length` bytes were put there. */
void tape_advance(struct tape *tape, size_t length);

int tape_put(struct tape *tape, const void *data, size_t length); /* 0 or -1 */
int tape_zeros(struct tape *tape, int64_t length);                /* 0 or -1 */

/* Fill the last block of `length` bytes of data. */
int tape_pad(struct tape *tape, int64_t length);

/* The archive's end: two blocks of zeros. */
int tape_end(struct tape *tape);

#endif
