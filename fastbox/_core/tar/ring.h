/* The bounded ring between the source and its two readers. Every chunk but the last is full, and a
 * chunk is a multiple of tar's block: no header ever straddles two chunks. */
#ifndef FASTBOX_TAR_RING_H
#define FASTBOX_TAR_RING_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define FB_CHUNK (512 * 1024)
#define FB_SLOTS 8

enum fb_reader { FB_READER_HASH, FB_READER_WRITE, FB_READERS };

struct ring {
  pthread_mutex_t lock;
  pthread_cond_t space, data[FB_READERS];
  uint8_t *memory;
  size_t length[FB_SLOTS];
  uint64_t head, tail[FB_READERS];
  int ended, stopped;
};

int ring_init(struct ring *ring); /* 0, or an errno */
void ring_destroy(struct ring *ring);

/* The source's side: a buffer of FB_CHUNK bytes, or NULL once the ring is stopped. */
uint8_t *ring_reserve(struct ring *ring);
void ring_publish(struct ring *ring, size_t length);
void ring_end(struct ring *ring);

/* A reader's side: the next chunk, or NULL at the end and once the ring is stopped. Asking for it
 * gives the chunk before it back. */
const uint8_t *ring_next(struct ring *ring, enum fb_reader who, size_t *length, int first);

/* Wake everybody and give nobody anything any more. */
void ring_stop(struct ring *ring);

#endif
