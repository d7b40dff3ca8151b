#include "stream.h"

#include <string.h>

/* 1 when there are bytes at data + at, 0 at the end or when the job is stopped. */
static int available(struct stream *stream) {
  if (stream->data && stream->at < stream->length) return 1;
  if (stream->begun && !stream->data) return 0;
  stream->data = ring_next(&stream->job->ring, FB_READER_WRITE, &stream->length, !stream->begun);
  stream->begun = 1;
  stream->at = 0;
  return stream->data != NULL;
}

static int truncated(struct stream *stream) {
  return job_fail(stream->job, FB_STEP_MALFORMED, 0, "the archive ends too early", stream->entry);
}

const uint8_t *stream_block(struct stream *stream, int *failed) {
  *failed = 0;
  if (!available(stream)) {
    *failed = job_stopped(stream->job);
    return NULL;
  }
  if (stream->length - stream->at < FB_BLOCK) {
    truncated(stream);
    *failed = 1;
    return NULL;
  }
  const uint8_t *block = stream->data + stream->at;
  stream->at += FB_BLOCK;
  stream->consumed += FB_BLOCK;
  return block;
}

const uint8_t *stream_span(struct stream *stream, int64_t most, size_t *length) {
  if (!available(stream)) {
    truncated(stream);
    return NULL;
  }
  const uint8_t *span = stream->data + stream->at;
  size_t there = stream->length - stream->at;
  if ((int64_t)there > most) there = (size_t)most;
  *length = there;
  stream->at += there;
  stream->consumed += (int64_t)there;
  return span;
}

int stream_read(struct stream *stream, void *to, size_t length) {
  uint8_t *at = to;
  while (length) {
    size_t n;
    const uint8_t *span = stream_span(stream, (int64_t)length, &n);
    if (!span) return -1;
    memcpy(at, span, n);
    at += n;
    length -= n;
  }
  return 0;
}

int stream_skip(struct stream *stream, int64_t length) {
  while (length > 0) {
    size_t n;
    if (!stream_span(stream, length, &n)) return -1;
    length -= (int64_t)n;
  }
  return 0;
}

int stream_pad(struct stream *stream, int64_t length) {
  return stream_skip(stream, -length & (FB_BLOCK - 1));
}

int stream_drain(struct stream *stream) {
  while (available(stream)) stream->at = stream->length;
  return job_stopped(stream->job) ? -1 : 0;
}
