/* Bytes that grow. */
#ifndef FASTBOX_PACK_BUFFER_H
#define FASTBOX_PACK_BUFFER_H

#include <stdlib.h>
#include <string.h>

struct buffer {
  char *at;
  size_t length, room;
};

/* Room for `more` bytes behind what is there. 0, or -1 without memory. */
static inline int buffer_grow(struct buffer *buffer, size_t more) {
  if (buffer->room - buffer->length >= more) return 0;
  size_t room = buffer->room ? buffer->room : 256;
  while (room - buffer->length < more) room *= 2;
  char *grown = realloc(buffer->at, room);
  if (!grown) return -1;
  buffer->at = grown;
  buffer->room = room;
  return 0;
}

static inline int buffer_add(struct buffer *buffer, const void *data, size_t length) {
  if (length == 0) return 0;
  if (buffer_grow(buffer, length) < 0) return -1;
  memcpy(buffer->at + buffer->length, data, length);
  buffer->length += length;
  return 0;
}

static inline void buffer_free(struct buffer *buffer) {
  free(buffer->at);
  *buffer = (struct buffer){0};
}

#endif
