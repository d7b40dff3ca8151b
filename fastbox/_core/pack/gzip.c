#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>

#include "compress.h"

int gzip_init(struct packer *packer) {
  static const uint32_t rooms[] = {ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT,
                                   ISAL_DEF_LVL2_DEFAULT, ISAL_DEF_LVL3_DEFAULT};
  uint32_t room = rooms[packer->level];
  packer->state = malloc(sizeof(struct isal_zstream));
  packer->memory = room ? malloc(room) : NULL;
  return packer->state && (packer->memory || !room) ? 0 : -1;
}

int gzip_chunk(struct packer *packer, struct slot *slot, size_t room, size_t *length) {
  static const uint32_t rooms[] = {ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT,
                                   ISAL_DEF_LVL2_DEFAULT, ISAL_DEF_LVL3_DEFAULT};
  struct isal_zstream *z = packer->state;
  isal_deflate_stateless_init(z);
  z->level = (uint32_t)packer->level;
  z->level_buf = packer->memory;
  z->level_buf_size = rooms[packer->level];
  z->flush = FULL_FLUSH;
  z->end_of_stream = (uint32_t)slot->last;
  z->next_in = slot->in;
  z->avail_in = (uint32_t)slot->in_length;
  z->next_out = slot->out;
  z->avail_out = (uint32_t)room;
  if (isal_deflate_stateless(z) != COMP_OK || z->avail_in) return -1;
  *length = room - z->avail_out;
  return 0;
}

void gzip_free(struct packer *packer) {
  free(packer->state);
  free(packer->memory);
}

void gzip_head(uint8_t head[FB_GZIP_HEAD]) {
  /* Deflate; no name, no time, so that equal trees are equal bytes; made on no particular system. */
  static const uint8_t fixed[FB_GZIP_HEAD] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff};
  memcpy(head, fixed, sizeof(fixed));
}

uint32_t gzip_crc(uint32_t crc, const uint8_t *data, size_t length) {
  return crc32_gzip_refl(crc, data, length);
}

static void little_endian(uint8_t *to, uint32_t value) {
  for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (8 * i));
}

void gzip_tail(uint8_t tail[FB_GZIP_TAIL], uint32_t crc, int64_t size) {
  little_endian(tail, crc);
  little_endian(tail + 4, (uint32_t)size);
}
