#include "header.h"

#include <string.h>

#include "stream.h"

int header_is_zero(const uint8_t *block) {
  static const uint8_t zeros[FB_BLOCK];
  return !memcmp(block, zeros, FB_BLOCK);
}

static int base256(const uint8_t *field, int width, int64_t *value) {
  /* Two's complement; the first bit marks the encoding, the second is the sign. */
  int negative = field[0] & 0x40;
  uint64_t v = negative ? ~UINT64_C(0) : 0;
  for (int i = 0; i < width; i++) {
    uint8_t byte = field[i];
    if (i == 0) byte = negative ? byte | 0x80 : byte & 0x7f;
    if (v >> 56 != (negative ? 0xff : 0)) return -1;
    v = v << 8 | byte;
  }
  if ((v >> 63 != 0) != (negative != 0)) return -1;
  *value = (int64_t)v;
  return 0;
}

int header_number(const uint8_t *field, int width, int64_t *value) {
  if (field[0] & 0x80) return base256(field, width, value);
  int i = 0;
  int64_t v = 0;
  while (i < width && (field[i] == ' ' || field[i] == 0)) i++;
  for (; i < width && field[i] >= '0' && field[i] <= '7'; i++) v = v << 3 | (field[i] - '0');
  for (; i < width; i++)
    if (field[i] != ' ' && field[i] != 0) return -1;
  *value = v; /* 12 digits at most: 36 bits */
  return 0;
}

/* The sum of the bytes of `words` words, and how many of them have their first bit set. Four sums
 * of 16 bits at a time: 64 words, with two bytes each, stay below that. */
static int64_t add_up(const uint8_t *bytes, int words, int *high) {
  const uint64_t even = UINT64_C(0x00ff00ff00ff00ff), first = UINT64_C(0x8080808080808080);
  uint64_t sums = 0;
  for (int i = 0; i < words; i++) {
    uint64_t word;
    memcpy(&word, bytes + 8 * i, 8);
    sums += (word & even) + (word >> 8 & even);
    *high += __builtin_popcountll(word & first);
  }
  return (int64_t)((sums & 0xffff) + (sums >> 16 & 0xffff) + (sums >> 32 & 0xffff) + (sums >> 48));
}

/* The sum of all bytes, the sum's own field taken as spaces. Old writers summed signed bytes. */
static int checksum_fits(const uint8_t *block) {
  int64_t stored;
  int high = 0, own_high = 0;
  if (header_number(block + 148, 8, &stored) < 0) return 0;
  int64_t plain = add_up(block, FB_BLOCK / 8, &high) - add_up(block + 148, 1, &own_high) + 8 * ' ';
  return stored == plain || stored == plain - 256 * (high - own_high);
}

static size_t copy_text(char *to, const uint8_t *field, size_t width) {
  size_t n = strnlen((const char *)field, width);
  memcpy(to, field, n);
  to[n] = 0;
  return n;
}

/* How much of the prefix field is a prefix: GNU and v7 have other things there, star a shorter one. */
static size_t prefix_width(const uint8_t *block) {
  if (memcmp(block + 257, "ustar\0", 6)) return 0;
  return memcmp(block + 508, "tar\0", 4) ? 155 : 131;
}

const char *header_parse(struct header *header, const uint8_t *block) {
  if (!checksum_fits(block)) return "the header checksum does not match";
  header->type = (char)block[156];
  header->gnu = !memcmp(block + 257, "ustar  ", 7);
  size_t prefix = copy_text(header->name, block + 345, prefix_width(block));
  if (prefix) header->name[prefix++] = '/';
  copy_text(header->name + prefix, block, 100);
  copy_text(header->link, block + 157, 100);
  int64_t mode;
  if (header_number(block + 100, 8, &mode) < 0) return "its mode is not a number";
  header->mode = (uint32_t)mode & 07777; /* some writers add the file type */
  if (header_number(block + 108, 8, &header->uid) < 0) return "its owner is not a number";
  if (header_number(block + 116, 8, &header->gid) < 0) return "its group is not a number";
  if (header_number(block + 124, 12, &header->size) < 0) return "its size is not a number";
  if (header_number(block + 136, 12, &header->mtime) < 0) return "its time is not a number";
  header->major = header->minor = 0;
  if (header->type != FB_TYPE_CHAR && header->type != FB_TYPE_BLOCK) return NULL;
  if (header_number(block + 329, 8, &header->major) < 0 ||
      header_number(block + 337, 8, &header->minor) < 0)
    return "its device number is not a number";
  return NULL;
}
