/* The uncompressed archive as the writer reads it: blocks, and the data between them. */
#ifndef FASTBOX_TAR_STREAM_H
#define FASTBOX_TAR_STREAM_H

#include "job.h"

#define FB_BLOCK 512

struct stream {
  struct fb_job *job;
  const uint8_t *data; /* the chunk, NULL before the first and after the last */
  size_t length, at;
  int64_t consumed;
  int begun;
  const char *entry; /* name for errors */
};

/* The next block. NULL at the end of the archive, with *failed set when that is not between two
 * blocks or the job is stopped. Valid until the next call. */
const uint8_t *stream_block(struct stream *stream, int *failed);

/* Up to `most` contiguous bytes. NULL with the error recorded when there are none left. */
const uint8_t *stream_span(struct stream *stream, int64_t most, size_t *length);

int stream_read(struct stream *stream, void *to, size_t length); /* 0 or -1 */
int stream_skip(struct stream *stream, int64_t length);
/* Skip what fills the last block of `length` bytes of data. */
int stream_pad(struct stream *stream, int64_t length);
/* Take everything that is left. 0, or -1 when the job is stopped. */
int stream_drain(struct stream *stream);

#endif
