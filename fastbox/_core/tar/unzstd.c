/* zstd (RFC 8878), several frames long. */
#include <errno.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "source.h"

/* 128 MiB: what zstd(1) accepts unasked, and what `zstd --ultra -22` makes. The window is the one
 * thing whose memory the archive chooses. */
#define WINDOW_LOG 27

static int run(struct source *source, ZSTD_DStream *stream) {
  struct fb_job *job = source->job;
  size_t left = 0; /* 0: between two frames */
  for (;;) {
    int more = source_fill(source);
    if (more < 0) return -1;
    if (!more && left == 0) return 0;
    size_t room;
    uint8_t *to = source_out(source, &room);
    if (!to) return -1;
    ZSTD_inBuffer in = {source->in, source->in_length, 0};
    ZSTD_outBuffer out = {to, room, 0};
    left = ZSTD_decompressStream(stream, &out, &in);
    if (ZSTD_isError(left)) {
      const char *why = "damaged zstd data";
      if (ZSTD_getErrorCode(left) == ZSTD_error_frameParameter_windowTooLarge)
        why = "its zstd window is larger than 128 MiB";
      return job_fail(job, FB_STEP_MALFORMED, 0, why, NULL);
    }
    source->in += in.pos;
    source->in_length -= in.pos;
    if (source_produced(source, out.pos) < 0) return -1;
    if (!more && !out.pos && left)
      return job_fail(job, FB_STEP_MALFORMED, 0, "the zstd data ends too early", NULL);
  }
}

int unzstd_run(struct source *source) {
  ZSTD_DStream *stream = ZSTD_createDStream();
  if (!stream || ZSTD_isError(ZSTD_DCtx_setParameter(stream, ZSTD_d_windowLogMax, WINDOW_LOG))) {
    ZSTD_freeDStream(stream);
    return job_fail(source->job, FB_STEP_START, ENOMEM, NULL, NULL);
  }
  int status = run(source, stream);
  ZSTD_freeDStream(stream);
  return status;
}
