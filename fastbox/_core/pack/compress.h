/* Compressing chunks, each by itself, so that it does not matter who compresses which. */
#ifndef FASTBOX_PACK_COMPRESS_H
#define FASTBOX_PACK_COMPRESS_H

#include "job.h"

#define FB_GZIP_HEAD 10
#define FB_GZIP_TAIL 8

/* One compressor's state. */
struct packer {
  int level;
  void *state, *memory;
};

/* Room that the compressed form of a chunk may take. */
size_t compress_bound(int compression);

/* gzip: the chunk's part of one deflate stream (RFC 1951), which ends at a byte. Each: 0 or -1. */
int gzip_init(struct packer *packer);
int gzip_chunk(struct packer *packer, struct slot *slot, size_t room, size_t *length);
void gzip_free(struct packer *packer);

/* What stands around that stream (RFC 1952). `crc` goes over all the data: 0 in the beginning. */
void gzip_head(uint8_t head[FB_GZIP_HEAD]);
uint32_t gzip_crc(uint32_t crc, const uint8_t *data, size_t length);
void gzip_tail(uint8_t tail[FB_GZIP_TAIL], uint32_t crc, int64_t size);

/* zstd: a frame of its own for each chunk (RFC 8878). */
int zstd_init(struct packer *packer);
int zstd_chunk(struct packer *packer, struct slot *slot, size_t room, size_t *length);
void zstd_free(struct packer *packer);

#endif
