#include "belt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int belt_init(struct belt *belt, unsigned count, size_t out_room, int hashes, int writes) {
  const size_t each = FB_PIECE + out_room;
  memset(belt, 0, sizeof(*belt));
  belt->memory = aligned_alloc(4096, (each * count + 4095) & ~(size_t)4095);
  if (!belt->memory) return ENOMEM;
  belt->count = count;
  for (unsigned i = 0; i < count; i++) {
    belt->slots[i].in = belt->memory + (size_t)FB_PIECE * i;
    belt->slots[i].out = belt->memory + (size_t)FB_PIECE * count + out_room * i;
  }
  belt->hashed = hashes ? 0 : UINT64_MAX;
  belt->written = writes ? 0 : UINT64_MAX;
  pthread_mutex_init(&belt->lock, NULL);
  pthread_cond_init(&belt->space, NULL);
  pthread_cond_init(&belt->data, NULL);
  pthread_cond_init(&belt->packed, NULL);
  return 0;
}

void belt_free(struct belt *belt) {
  if (!belt->memory) return;
  free(belt->memory);
  pthread_mutex_destroy(&belt->lock);
  pthread_cond_destroy(&belt->space);
  pthread_cond_destroy(&belt->data);
  pthread_cond_destroy(&belt->packed);
}

static struct slot *slot_at(struct belt *belt, uint64_t number) {
  return &belt->slots[number % belt->count];
}

static int full(const struct belt *belt) {
  uint64_t tail = belt->head;
  if (belt->hashed < tail) tail = belt->hashed;
  if (belt->written < tail) tail = belt->written;
  return belt->head - tail >= belt->count;
}

struct slot *belt_reserve(struct belt *belt) {
  struct slot *slot = NULL;
  pthread_mutex_lock(&belt->lock);
  while (!belt->stopped && full(belt)) pthread_cond_wait(&belt->space, &belt->lock);
  if (!belt->stopped) slot = slot_at(belt, belt->head);
  pthread_mutex_unlock(&belt->lock);
  return slot;
}

void belt_publish(struct belt *belt, size_t length, int last) {
  pthread_mutex_lock(&belt->lock);
  struct slot *slot = slot_at(belt, belt->head);
  slot->in_length = length;
  slot->last = last;
  slot->packed = 0;
  belt->head++;
  belt->ended = last;
  pthread_cond_broadcast(&belt->data);
  pthread_mutex_unlock(&belt->lock);
}

/* Wait for the slot `number` to be filled. Called with the lock. */
static struct slot *filled(struct belt *belt, uint64_t number) {
  while (!belt->stopped && !belt->ended && belt->head <= number)
    pthread_cond_wait(&belt->data, &belt->lock);
  return !belt->stopped && belt->head > number ? slot_at(belt, number) : NULL;
}

struct slot *belt_hash_next(struct belt *belt, int first) {
  pthread_mutex_lock(&belt->lock);
  if (!first) {
    belt->hashed++;
    pthread_cond_signal(&belt->space);
  }
  struct slot *slot = filled(belt, belt->hashed);
  pthread_mutex_unlock(&belt->lock);
  return slot;
}

struct slot *belt_claim(struct belt *belt) {
  struct slot *slot = NULL;
  pthread_mutex_lock(&belt->lock);
  /* Another compressor may take the one that was waited for. */
  while (!belt->stopped && !belt->ended && belt->head <= belt->claimed)
    pthread_cond_wait(&belt->data, &belt->lock);
  if (!belt->stopped && belt->head > belt->claimed) slot = slot_at(belt, belt->claimed++);
  pthread_mutex_unlock(&belt->lock);
  return slot;
}

void belt_packed(struct belt *belt, struct slot *slot, size_t length) {
  pthread_mutex_lock(&belt->lock);
  slot->out_length = length;
  slot->packed = 1;
  pthread_cond_signal(&belt->packed);
  pthread_mutex_unlock(&belt->lock);
}

struct slot *belt_write_next(struct belt *belt, int compressed, int first) {
  pthread_mutex_lock(&belt->lock);
  if (!first) {
    belt->written++;
    pthread_cond_signal(&belt->space);
  }
  struct slot *slot = filled(belt, belt->written);
  while (slot && compressed && !slot->packed && !belt->stopped)
    pthread_cond_wait(&belt->packed, &belt->lock);
  if (belt->stopped) slot = NULL;
  pthread_mutex_unlock(&belt->lock);
  return slot;
}

void belt_stop(struct belt *belt) {
  pthread_mutex_lock(&belt->lock);
  belt->stopped = 1;
  pthread_cond_broadcast(&belt->space);
  pthread_cond_broadcast(&belt->data);
  pthread_cond_broadcast(&belt->packed);
  pthread_mutex_unlock(&belt->lock);
}
