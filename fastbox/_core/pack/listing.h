/* The names in one directory, in the order of the archive: whiteouts first (OCI image-spec,
 * layer.md), each kind sorted by bytes. */
#ifndef FASTBOX_PACK_LISTING_H
#define FASTBOX_PACK_LISTING_H

#include <stddef.h>

struct listing {
  char *text;
  char **names; /* each behind a byte of its own, which sorts */
  size_t count, next;
};

/* Read the directory. 0, or -1 with errno. */
int listing_read(struct listing *listing, int fd, int overlay);
void listing_free(struct listing *listing);

/* The next name, or NULL. */
static inline const char *listing_next(struct listing *listing) {
  return listing->next < listing->count ? listing->names[listing->next++] + 1 : NULL;
}

#endif
