#include "ring.h"

#include <errno.h>
#include <stdlib.h>

int ring_init(struct ring *ring) {
  ring->memory = aligned_alloc(4096, (size_t)FB_CHUNK * FB_SLOTS);
  if (!ring->memory) return ENOMEM;
  pthread_mutex_init(&ring->lock, NULL);
  pthread_cond_init(&ring->space, NULL);
  for (int i = 0; i < FB_READERS; i++) pthread_cond_init(&ring->data[i], NULL);
  return 0;
}

void ring_destroy(struct ring *ring) {
  if (!ring->memory) return;
  free(ring->memory);
  pthread_mutex_destroy(&ring->lock);
  pthread_cond_destroy(&ring->space);
  for (int i = 0; i < FB_READERS; i++) pthread_cond_destroy(&ring->data[i]);
}

static int full(const struct ring *ring) {
  for (int i = 0; i < FB_READERS; i++)
    if (ring->head - ring->tail[i] >= FB_SLOTS) return 1;
  return 0;
}

uint8_t *ring_reserve(struct ring *ring) {
  uint8_t *buffer = NULL;
  pthread_mutex_lock(&ring->lock);
  while (!ring->stopped && full(ring)) pthread_cond_wait(&ring->space, &ring->lock);
  if (!ring->stopped) buffer = ring->memory + (ring->head % FB_SLOTS) * FB_CHUNK;
  pthread_mutex_unlock(&ring->lock);
  return buffer;
}

void ring_publish(struct ring *ring, size_t length) {
  pthread_mutex_lock(&ring->lock);
  ring->length[ring->head % FB_SLOTS] = length;
  ring->head++;
  for (int i = 0; i < FB_READERS; i++) pthread_cond_signal(&ring->data[i]);
  pthread_mutex_unlock(&ring->lock);
}

void ring_end(struct ring *ring) {
  pthread_mutex_lock(&ring->lock);
  ring->ended = 1;
  for (int i = 0; i < FB_READERS; i++) pthread_cond_signal(&ring->data[i]);
  pthread_mutex_unlock(&ring->lock);
}

const uint8_t *ring_next(struct ring *ring, enum fb_reader who, size_t *length, int first) {
  const uint8_t *chunk = NULL;
  pthread_mutex_lock(&ring->lock);
  if (!first) {
    ring->tail[who]++;
    /* Let a full ring drain a little first: one wake-up for several chunks. */
    if (ring->head - ring->tail[who] <= FB_SLOTS * 3 / 4) pthread_cond_signal(&ring->space);
  }
  while (!ring->stopped && !ring->ended && ring->head == ring->tail[who])
    pthread_cond_wait(&ring->data[who], &ring->lock);
  if (!ring->stopped && ring->head != ring->tail[who]) {
    uint64_t slot = ring->tail[who] % FB_SLOTS;
    *length = ring->length[slot];
    chunk = ring->memory + slot * FB_CHUNK;
  }
  pthread_mutex_unlock(&ring->lock);
  return chunk;
}

void ring_stop(struct ring *ring) {
  pthread_mutex_lock(&ring->lock);
  ring->stopped = 1;
  pthread_cond_broadcast(&ring->space);
  for (int i = 0; i < FB_READERS; i++) pthread_cond_broadcast(&ring->data[i]);
  pthread_mutex_unlock(&ring->lock);
}
