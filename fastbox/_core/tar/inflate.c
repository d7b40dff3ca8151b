/* gzip (RFC 1952), several members long, through ISA-L. */
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>

#include "source.h"

static const char *reason(int status) {
  switch (status) {
    case ISAL_INVALID_WRAPPER:
      return "damaged gzip data: not a gzip header";
    case ISAL_INCORRECT_CHECKSUM:
      return "damaged gzip data: the checksum does not match";
    default:
      return "damaged gzip data";
  }
}

/* Uncompress one member. 0 or -1. */
static int member(struct source *source, struct inflate_state *state) {
  struct fb_job *job = source->job;
  while (state->block_state != ISAL_BLOCK_FINISH) {
    int more = source_fill(source);
    if (more < 0) return -1;
    size_t room;
    uint8_t *out = source_out(source, &room);
    if (!out) return -1;
    state->next_in = source->in;
    state->avail_in = (uint32_t)source->in_length;
    state->next_out = out;
    state->avail_out = (uint32_t)room;
    int status = isal_inflate(state);
    if (status != ISAL_DECOMP_OK) return job_fail(job, FB_STEP_MALFORMED, 0, reason(status), NULL);
    size_t made = room - state->avail_out;
    int idle = made == 0 && state->avail_in == source->in_length;
    source->in = state->next_in;
    source->in_length = state->avail_in;
    if (source_produced(source, made) < 0) return -1;
    if (idle && state->block_state != ISAL_BLOCK_FINISH)
      return job_fail(job, FB_STEP_MALFORMED, 0,
                      more ? "damaged gzip data" : "the gzip data ends too early", NULL);
  }
  return 0;
}

/* After a member: 1 if another one follows, 0 at the end. Zeros are padding, as gzip(1) has it;
 * anything else is refused, since two readers could differ about it. */
static int another(struct source *source) {
  for (;;) {
    int more = source_fill(source);
    if (more <= 0) return more;
    if (source->in[0] == 0x1f) return 1;
    while (source->in_length && source->in[0] == 0) {
      source->in++;
      source->in_length--;
    }
    if (source->in_length && source->in[0] != 0x1f)
      return job_fail(source->job, FB_STEP_MALFORMED, 0, "garbage after the gzip data", NULL);
  }
}

int inflate_run(struct source *source) {
  struct inflate_state *state = malloc(sizeof(*state));
  if (!state) return job_fail(source->job, FB_STEP_START, ENOMEM, NULL, NULL);
  int more;
  do {
    isal_inflate_init(state);
    state->crc_flag = ISAL_GZIP;
    more = member(source, state);
    if (more == 0) more = another(source);
  } while (more > 0);
  free(state);
  return more;
}
