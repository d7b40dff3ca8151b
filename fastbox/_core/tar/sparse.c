#include "sparse.h"

#include <errno.h>
#include <stdlib.h>

#include "header.h"
#include "pax.h"

static const char BAD_MAP[] = "its map of sparse data is malformed";

void sparse_reset(struct sparse *sparse) {
  sparse->count = 0;
  sparse->size = 0;
}

void sparse_free(struct sparse *sparse) {
  free(sparse->segments);
  *sparse = (struct sparse){0};
}

const char *sparse_add(struct sparse *sparse, int64_t offset, int64_t length) {
  if (sparse->count == FB_SPARSE_SEGMENTS) return "it has too many pieces of sparse data";
  if (sparse->count == sparse->room) {
    size_t room = sparse->room ? 2 * sparse->room : 64;
    void *grown = realloc(sparse->segments, room * sizeof(struct segment));
    if (!grown) return "not enough memory for its map of sparse data";
    sparse->segments = grown;
    sparse->room = room;
  }
  sparse->segments[sparse->count++] = (struct segment){offset, length};
  return NULL;
}

const char *sparse_parse_list(struct sparse *sparse, const char *text, size_t length) {
  const char *end = text + length;
  while (text < end) {
    int64_t pair[2];
    for (int i = 0; i < 2; i++) {
      const char *from = text;
      while (text < end && *text != ',') text++;
      if (pax_decimal(from, (size_t)(text - from), &pair[i]) < 0) return BAD_MAP;
      if (text < end)
        text++;
      else if (i == 0)
        return BAD_MAP;
    }
    const char *why = sparse_add(sparse, pair[0], pair[1]);
    if (why) return why;
  }
  return NULL;
}

/* `count` pairs of 12-byte numbers, up to the first empty one. */
static const char *parse_fields(struct sparse *sparse, const uint8_t *field, int count) {
  for (int i = 0; i < count && field[0]; i++, field += 24) {
    int64_t offset, length;
    if (header_number(field, 12, &offset) < 0 || header_number(field + 12, 12, &length) < 0)
      return BAD_MAP;
    const char *why = sparse_add(sparse, offset, length);
    if (why) return why;
  }
  return NULL;
}

const char *sparse_parse_header(struct sparse *sparse, const uint8_t *block, int *more) {
  if (header_number(block + 483, 12, &sparse->size) < 0) return "its size is not a number";
  *more = block[482] != 0;
  return parse_fields(sparse, block + 386, 4);
}

int sparse_read_extensions(struct sparse *sparse, struct stream *stream) {
  uint8_t block[FB_BLOCK];
  do {
    if (stream_read(stream, block, sizeof(block)) < 0) return -1;
    const char *why = parse_fields(sparse, block, 21);
    if (why) return job_fail(stream->job, FB_STEP_MALFORMED, 0, why, stream->entry);
  } while (block[504]);
  return 0;
}

/* A reader of decimal lines out of whole blocks. */
struct lines {
  struct stream *stream;
  int64_t left; /* of the entry's data */
  uint8_t block[FB_BLOCK];
  size_t at;
};

static int next_line(struct lines *lines, int64_t *value) {
  char digits[20];
  size_t n = 0;
  for (;;) {
    if (lines->at == FB_BLOCK) {
      if (lines->left < FB_BLOCK) break;
      if (stream_read(lines->stream, lines->block, FB_BLOCK) < 0) return -1;
      lines->left -= FB_BLOCK;
      lines->at = 0;
    }
    char c = (char)lines->block[lines->at++];
    if (c == '\n') {
      if (pax_decimal(digits, n, value) == 0) return 0;
      break;
    }
    if (n == sizeof(digits)) break;
    digits[n++] = c;
  }
  return job_fail(lines->stream->job, FB_STEP_MALFORMED, 0, BAD_MAP, lines->stream->entry);
}

int sparse_read_map(struct sparse *sparse, struct stream *stream, int64_t size, int64_t *used) {
  struct lines lines = {.stream = stream, .left = size, .at = FB_BLOCK};
  int64_t count, offset, length;
  if (next_line(&lines, &count) < 0) return -1;
  for (; count > 0; count--) {
    if (next_line(&lines, &offset) < 0 || next_line(&lines, &length) < 0) return -1;
    const char *why = sparse_add(sparse, offset, length);
    if (why) return job_fail(stream->job, FB_STEP_MALFORMED, 0, why, stream->entry);
  }
  *used = size - lines.left;
  return 0;
}

const char *sparse_check(const struct sparse *sparse, int64_t data) {
  int64_t end = 0;
  if (sparse->size < 0) return "its size is negative";
  if (sparse->size > FB_SPARSE_SIZE) return "it is a sparse file of more than 64 TiB";
  for (size_t i = 0; i < sparse->count; i++) {
    const struct segment *s = &sparse->segments[i];
    if (s->offset < end || s->length < 0 || s->length > sparse->size ||
        s->offset > sparse->size - s->length)
      return BAD_MAP;
    end = s->offset + s->length;
    data -= s->length;
  }
  return data == 0 ? NULL : "its sparse data and its size do not match";
}
