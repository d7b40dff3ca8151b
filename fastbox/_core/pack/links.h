/* Which files are in the archive already: one with several names is packed once. */
#ifndef FASTBOX_PACK_LINKS_H
#define FASTBOX_PACK_LINKS_H

#include <stddef.h>
#include <stdint.h>

struct known {
  uint64_t dev, ino;
  char *path; /* NULL: the place is free */
};

struct links {
  struct known *table;
  size_t count, room; /* room: a power of two */
};

/* The name under which the file is in the archive, or NULL. */
const char *links_find(const struct links *links, uint64_t dev, uint64_t ino);

/* 0, or -1 without memory. */
int links_add(struct links *links, uint64_t dev, uint64_t ino, const char *path, size_t length);

void links_free(struct links *links);

#endif
