#include <zstd.h>

#include "compress.h"

int zstd_init(struct packer *packer) {
  packer->state = ZSTD_createCCtx();
  return packer->state ? 0 : -1;
}

int zstd_chunk(struct packer *packer, struct slot *slot, size_t room, size_t *length) {
  *length = ZSTD_compressCCtx(packer->state, slot->out, room, slot->in, slot->in_length,
                              packer->level);
  return ZSTD_isError(*length) ? -1 : 0;
}

void zstd_free(struct packer *packer) {
  ZSTD_freeCCtx(packer->state);
}
