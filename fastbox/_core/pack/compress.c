#include "compress.h"

#include <errno.h>
#include <zstd.h>

static const struct {
  int (*init)(struct packer *);
  int (*chunk)(struct packer *, struct slot *, size_t, size_t *);
  void (*free)(struct packer *);
} KINDS[] = {
    [FB_PACK_GZIP] = {gzip_init, gzip_chunk, gzip_free},
    [FB_PACK_ZSTD] = {zstd_init, zstd_chunk, zstd_free},
};

size_t compress_bound(int compression) {
  /* Deflate: stored blocks of 64 KiB take five bytes more each. */
  return compression == FB_PACK_ZSTD ? ZSTD_COMPRESSBOUND(FB_PIECE) : FB_PIECE + FB_PIECE / 16;
}

void compressor_run(struct fb_pack_job *job) {
  int compression = job->options.compression;
  size_t room = compress_bound(compression), length;
  struct packer packer = {.level = job->options.level};
  if (KINDS[compression].init(&packer) < 0)
    pack_fail(job, FB_PACK_START, ENOMEM, NULL, NULL);
  struct slot *slot;
  while (!pack_stopped(job) && (slot = belt_claim(&job->belt))) {
    if (KINDS[compression].chunk(&packer, slot, room, &length) < 0)
      pack_fail(job, FB_PACK_START, 0, "the compression failed", NULL);
    else
      belt_packed(&job->belt, slot, length);
  }
  KINDS[compression].free(&packer);
}
