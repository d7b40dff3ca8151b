/* One 512-byte header: v7, ustar (POSIX.1-1988), GNU and star. */
#ifndef FASTBOX_TAR_HEADER_H
#define FASTBOX_TAR_HEADER_H

#include <stdint.h>

enum fb_type {
  FB_TYPE_V7 = 0, /* a file, or a directory when its name ends in a slash */
  FB_TYPE_FILE = '0',
  FB_TYPE_LINK = '1',
  FB_TYPE_SYMLINK = '2',
  FB_TYPE_CHAR = '3',
  FB_TYPE_BLOCK = '4',
  FB_TYPE_DIR = '5',
  FB_TYPE_FIFO = '6',
  FB_TYPE_CONTIGUOUS = '7',
  FB_TYPE_PAX = 'x',
  FB_TYPE_PAX_SOLARIS = 'X',
  FB_TYPE_PAX_GLOBAL = 'g',
  FB_TYPE_GNU_NAME = 'L',
  FB_TYPE_GNU_LINK = 'K',
  FB_TYPE_GNU_SPARSE = 'S',
  FB_TYPE_GNU_VOLUME = 'V',
};

struct header {
  char type;
  char name[155 + 1 + 100 + 1]; /* prefix/name */
  char link[100 + 1];
  uint32_t mode; /* 07777 at most */
  int64_t uid, gid, size, mtime, major, minor;
  int gnu; /* GNU magic: sparse maps may follow */
};

int header_is_zero(const uint8_t *block);

/* Returns NULL, or what is wrong with the header. Numbers are not checked beyond being numbers:
 * pax records may replace them. */
const char *header_parse(struct header *header, const uint8_t *block);

/* An octal or base-256 field. 0, or -1 if it is neither or does not fit. */
int header_number(const uint8_t *field, int width, int64_t *value);

#endif
