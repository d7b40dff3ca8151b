/* The first thread: reads the archive, finds out its compression, fills the ring. */
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stream.h"

static int wait_readable(struct source *source) {
  if (crew_poll(&source->job->crew, source->job->options.fd, POLLIN) < 0)
    return job_fail(source->job, FB_STEP_READ, errno, NULL, NULL);
  return job_stopped(source->job) ? -1 : 0;
}

ssize_t source_read(struct source *source, uint8_t *to, size_t room) {
  struct fb_job *job = source->job;
  for (;;) {
    if (job_stopped(job) || (source->polled && wait_readable(source) < 0)) return -1;
    ssize_t n = read(job->options.fd, to, room);
    if (n >= 0) {
      atomic_fetch_add_explicit(&job->read, n, memory_order_relaxed);
      job->result.size += n;
      return n;
    }
    if (errno != EINTR && errno != EAGAIN) return job_fail(job, FB_STEP_READ, errno, NULL, NULL);
  }
}

/* Before more is waited for, what there is goes on its way, in whole blocks: the entries of a slow
 * writer are unpacked, or refused, as they come. 0, or -1 when the job is stopped. */
static int pass_on(struct source *source) {
  size_t rest = source->filled % FB_BLOCK, whole = source->filled - rest;
  uint8_t block[FB_BLOCK];
  struct pollfd fd = {.fd = source->job->options.fd, .events = POLLIN};
  if (!source->polled || !whole || poll(&fd, 1, 0) != 0) return 0;
  memcpy(block, source->chunk + whole, rest);
  ring_publish(&source->job->ring, whole);
  source->filled = rest;
  source->chunk = ring_reserve(&source->job->ring);
  if (!source->chunk) return -1;
  memcpy(source->chunk, block, rest);
  return 0;
}

int source_fill(struct source *source) {
  if (source->in_length) return 1;
  if (pass_on(source) < 0) return -1;
  ssize_t n = source_read(source, source->memory, FB_CHUNK);
  if (n <= 0) return (int)n;
  if (source->job->options.digests && hash_update(&source->hash, source->memory, (size_t)n) < 0)
    return job_fail(source->job, FB_STEP_START, 0, "libcrypto cannot compute sha256", NULL);
  source->in = source->memory;
  source->in_length = (size_t)n;
  return 1;
}

uint8_t *source_out(struct source *source, size_t *room) {
  if (source->filled == FB_CHUNK) {
    ring_publish(&source->job->ring, source->filled);
    source->chunk = NULL;
    source->filled = 0;
  }
  if (!source->chunk) source->chunk = ring_reserve(&source->job->ring);
  if (!source->chunk) return NULL;
  *room = FB_CHUNK - source->filled;
  return source->chunk + source->filled;
}

int source_produced(struct source *source, size_t length) {
  source->filled += length;
  source->produced += (int64_t)length;
  if (source->produced > source->job->options.max_bytes)
    return job_fail(source->job, FB_STEP_LIMIT, 0, "it unpacks to more than is allowed", NULL);
  return 0;
}

/* Plain archives are read straight into the ring, after the few bytes that were looked at. */
static int copy_run(struct source *source) {
  ssize_t n = (ssize_t)source->in_length;
  size_t room;
  uint8_t *to = source_out(source, &room);
  if (!to) return -1;
  memcpy(to, source->in, (size_t)n);
  while (n > 0) {
    if (source_produced(source, (size_t)n) < 0 || pass_on(source) < 0) return -1;
    to = source_out(source, &room);
    if (!to) return -1;
    n = source_read(source, to, room);
  }
  return (int)n;
}

#define MAGIC_LENGTH 6

/* Which compression, by the first bytes. -1 for one that fastbox does not read. */
static int detect(struct source *source) {
  static const struct {
    const char *name;
    unsigned char magic[MAGIC_LENGTH], length;
    int compression;
  } known[] = {
      {NULL, {0x1f, 0x8b}, 2, FB_GZIP},
      {NULL, {0x28, 0xb5, 0x2f, 0xfd}, 4, FB_ZSTD},
      {"it is compressed with xz, which layers may not be", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, -1},
      {"it is compressed with bzip2, which layers may not be", {'B', 'Z', 'h'}, 3, -1},
      {"it is compressed with lz4, which layers may not be", {4, 0x22, 0x4d, 0x18}, 4, -1},
  };
  const uint8_t *in = source->in;
  size_t length = source->in_length;
  /* zstd may begin with a skippable frame: 0x184D2A5?. */
  if (length >= 4 && (in[0] & 0xf0) == 0x50 && !memcmp(in + 1, "\x2a\x4d\x18", 3)) return FB_ZSTD;
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
    if (length < known[i].length || memcmp(in, known[i].magic, known[i].length)) continue;
    if (known[i].compression < 0)
      return job_fail(source->job, FB_STEP_MALFORMED, 0, known[i].name, NULL);
    return known[i].compression;
  }
  return FB_PLAIN;
}

/* A pipe may deliver less than a magic number at a time. */
static int read_start(struct source *source) {
  source->in = source->memory;
  while (source->in_length < MAGIC_LENGTH) {
    ssize_t n = source_read(source, source->memory + source->in_length,
                            FB_CHUNK - source->in_length);
    if (n < 0) return -1;
    if (n == 0) break;
    source->in_length += (size_t)n;
  }
  return 0;
}

static int run(struct source *source) {
  struct fb_job *job = source->job;
  if (read_start(source) < 0) return -1;
  int compression = detect(source);
  if (compression < 0) return -1;
  job->result.compression = compression;
  if (compression == FB_PLAIN) return copy_run(source);
  if (hash_update(&source->hash, source->in, source->in_length) < 0)
    return job_fail(job, FB_STEP_START, 0, "libcrypto cannot compute sha256", NULL);
  if ((compression == FB_GZIP ? inflate_run(source) : unzstd_run(source)) < 0) return -1;
  if (hash_hex(&source->hash, job->result.digest) < 0)
    return job_fail(job, FB_STEP_START, 0, "libcrypto cannot compute sha256", NULL);
  return 0;
}

void source_run(struct fb_job *job) {
  struct source source = {.job = job};
  struct stat st;
  if (fstat(job->options.fd, &st) < 0) {
    job_fail(job, FB_STEP_READ, errno, NULL, NULL);
    return;
  }
  source.polled = !S_ISREG(st.st_mode);
  if (!source.polled) posix_fadvise(job->options.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  source.memory = malloc(FB_CHUNK);
  if (!source.memory || hash_init(&source.hash) < 0)
    job_fail(job, FB_STEP_START, ENOMEM, NULL, NULL);
  else if (run(&source) == 0) {
    if (source.filled) ring_publish(&job->ring, source.filled);
    job->result.tar_size = source.produced;
    ring_end(&job->ring);
  }
  hash_free(&source.hash);
  free(source.memory);
}
