#include "tape.h"

#include <string.h>

uint8_t *tape_room(struct tape *tape, size_t *room) {
  if (tape->filled == FB_PIECE) {
    belt_publish(&tape->job->belt, tape->filled, 0);
    tape->chunk = NULL;
    tape->filled = 0;
  }
  if (!tape->chunk) {
    struct slot *slot = belt_reserve(&tape->job->belt);
    if (!slot) return NULL;
    tape->chunk = slot->in;
  }
  *room = FB_PIECE - tape->filled;
  return tape->chunk + tape->filled;
}

void tape_advance(struct tape *tape, size_t length) {
  tape->filled += length;
  tape->written += (int64_t)length;
  atomic_store_explicit(&tape->job->done, tape->written, memory_order_relaxed);
}

int tape_put(struct tape *tape, const void *data, size_t length) {
  const uint8_t *from = data;
  while (length) {
    size_t room;
    uint8_t *to = tape_room(tape, &room);
    if (!to) return -1;
    if (room > length) room = length;
    memcpy(to, from, room);
    tape_advance(tape, room);
    from += room;
    length -= room;
  }
  return 0;
}

int tape_zeros(struct tape *tape, int64_t length) {
  while (length > 0) {
    size_t room;
    uint8_t *to = tape_room(tape, &room);
    if (!to) return -1;
    if ((int64_t)room > length) room = (size_t)length;
    memset(to, 0, room);
    tape_advance(tape, room);
    length -= (int64_t)room;
  }
  return 0;
}

int tape_pad(struct tape *tape, int64_t length) {
  return tape_zeros(tape, -length & (FB_TAR_BLOCK - 1));
}

int tape_end(struct tape *tape) {
  if (tape_zeros(tape, 2 * FB_TAR_BLOCK) < 0) return -1;
  tape->job->result.tar_size = tape->written;
  belt_publish(&tape->job->belt, tape->filled, 1);
  return 0;
}
