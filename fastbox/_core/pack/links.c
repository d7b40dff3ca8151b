#include "links.h"

#include <stdlib.h>
#include <string.h>

static struct known *place(struct known *table, size_t room, uint64_t dev, uint64_t ino) {
  uint64_t hash = (ino ^ dev << 32) * UINT64_C(0x9e3779b97f4a7c15);
  for (size_t i = hash >> 32;; i++) {
    struct known *known = &table[i & (room - 1)];
    if (!known->path || (known->dev == dev && known->ino == ino)) return known;
  }
}

const char *links_find(const struct links *links, uint64_t dev, uint64_t ino) {
  return links->room ? place(links->table, links->room, dev, ino)->path : NULL;
}

static int grow(struct links *links) {
  size_t room = links->room ? links->room * 2 : 64;
  struct known *table = calloc(room, sizeof(*table));
  if (!table) return -1;
  for (size_t i = 0; i < links->room; i++) {
    const struct known *known = &links->table[i];
    if (known->path) *place(table, room, known->dev, known->ino) = *known;
  }
  free(links->table);
  links->table = table;
  links->room = room;
  return 0;
}

int links_add(struct links *links, uint64_t dev, uint64_t ino, const char *path, size_t length) {
  if (links->count * 2 >= links->room && grow(links) < 0) return -1;
  struct known *known = place(links->table, links->room, dev, ino);
  if (known->path) return 0;
  char *copy = malloc(length + 1);
  if (!copy) return -1;
  memcpy(copy, path, length);
  copy[length] = 0;
  *known = (struct known){dev, ino, copy};
  links->count++;
  return 0;
}

void links_free(struct links *links) {
  for (size_t i = 0; i < links->room; i++) free(links->table[i].path);
  free(links->table);
}
