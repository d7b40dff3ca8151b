/* Sparse files: where their data lies. GNU's old header map, and the pax forms 0.0, 0.1 and 1.0. */
#ifndef FASTBOX_TAR_SPARSE_H
#define FASTBOX_TAR_SPARSE_H

#include "stream.h"

#define FB_SPARSE_SEGMENTS (512 * 1024)         /* 8 MiB of map */
#define FB_SPARSE_SIZE (INT64_C(64) << 40)      /* 64 TiB */

struct segment {
  int64_t offset, length;
};

struct sparse {
  struct segment *segments;
  size_t count, room;
  int64_t size; /* of the whole file */
};

/* Each returns NULL or what is wrong. */
const char *sparse_add(struct sparse *sparse, int64_t offset, int64_t length);
/* "offset,length,offset,length…" */
const char *sparse_parse_list(struct sparse *sparse, const char *text, size_t length);
/* The old header's four segments; *more is set when extension blocks follow. */
const char *sparse_parse_header(struct sparse *sparse, const uint8_t *block, int *more);
/* The map fits the file, and holds `data` bytes. */
const char *sparse_check(const struct sparse *sparse, int64_t data);

/* Extension blocks of the old format. 0, or -1 with the error recorded. */
int sparse_read_extensions(struct sparse *sparse, struct stream *stream);
/* The map before the data in format 1.0; *used is its length. 0, or -1 with the error recorded. */
int sparse_read_map(struct sparse *sparse, struct stream *stream, int64_t size, int64_t *used);

void sparse_reset(struct sparse *sparse);
void sparse_free(struct sparse *sparse);

#endif
