/* The extended attributes of a file or directory. */
#ifndef FASTBOX_PACK_ATTRIBUTES_H
#define FASTBOX_PACK_ATTRIBUTES_H

#include "buffer.h"

struct attributes {
  struct buffer records; /* pax records of those that are kept */
  int opaque;            /* overlayfs hides what the layers below have in this directory */
  const char *why;       /* set with FB_PACK_REFUSED */
  char *names, *value;   /* room to work in */
};

int attributes_init(struct attributes *attributes); /* 0, or -1 without memory */
void attributes_free(struct attributes *attributes);

/* Read them. 0; -1 with errno, which is 0 when `why` says why they are refused. `overlay`: also what
 * overlayfs says with them. */
int attributes_read(struct attributes *attributes, int fd, int is_directory, int overlay);

#endif
