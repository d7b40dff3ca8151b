/* The bounded ring of chunks between the walker, the hasher, the compressors and the writer. Every
 * chunk but the last is full. */
#ifndef FASTBOX_PACK_BELT_H
#define FASTBOX_PACK_BELT_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define FB_PIECE (1024 * 1024)
#define FB_BELT_MOST 32

struct slot {
  uint8_t *in, *out;
  size_t in_length, out_length;
  int last;   /* nothing follows */
  int packed; /* `out` is ready */
};

struct belt {
  pthread_mutex_t lock;
  pthread_cond_t space, data, packed;
  uint8_t *memory;
  struct slot slots[FB_BELT_MOST];
  unsigned count;
  uint64_t head;            /* filled by the walker */
  uint64_t claimed;         /* taken by a compressor */
  uint64_t hashed, written; /* done with; where nobody does that, it is the largest number */
  int ended, stopped;
};

/* Chunks for `count` slots, with `out_room` bytes each for what they are compressed to; 0: they are
 * not. `hashes`, `writes`: whether somebody does. 0, or an errno. */
int belt_init(struct belt *belt, unsigned count, size_t out_room, int hashes, int writes);
void belt_free(struct belt *belt);

/* The walker: a slot whose `in` has FB_PIECE bytes, or NULL once the belt is stopped. */
struct slot *belt_reserve(struct belt *belt);
void belt_publish(struct belt *belt, size_t length, int last);

/* The hasher: the next slot, or NULL at the end. Asking gives the one before it back. */
struct slot *belt_hash_next(struct belt *belt, int first);

/* A compressor: any slot that nobody has, or NULL at the end. */
struct slot *belt_claim(struct belt *belt);
void belt_packed(struct belt *belt, struct slot *slot, size_t length);

/* The writer: the next slot, compressed if that is wanted, or NULL at the end. */
struct slot *belt_write_next(struct belt *belt, int compressed, int first);

/* Wake everybody and give nobody anything any more. */
void belt_stop(struct belt *belt);

#endif
