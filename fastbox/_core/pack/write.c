/* The threads behind the walker: the one that digests the archive, and the one that hands it out. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../tar/hash.h"
#include "compress.h"

static void no_sha256(struct fb_pack_job *job) {
  pack_fail(job, FB_PACK_START, 0, "libcrypto cannot compute sha256", NULL);
}

void pack_hasher_run(struct fb_pack_job *job) {
  struct hash hash;
  int status = hash_init(&hash);
  for (struct slot *slot = belt_hash_next(&job->belt, 1); slot && !status;
       slot = belt_hash_next(&job->belt, 0))
    status = hash_update(&hash, slot->in, slot->in_length);
  if (!status) status = hash_hex(&hash, job->result.diff_id);
  hash_free(&hash);
  if (status) no_sha256(job);
}

struct outlet {
  struct fb_pack_job *job;
  struct hash hash; /* of what is written, where that is not the archive itself */
  int polled;       /* writes may block for ever: wait for the descriptor and for the stop */
  int whole;        /* as much may be written as one likes: the descriptor takes what it can */
  uint32_t crc;
  int64_t size; /* of the archive */
};

static int wait_writable(struct outlet *o) {
  if (crew_poll(&o->job->crew, o->job->options.out, POLLOUT) < 0)
    return pack_fail(o->job, FB_PACK_WRITE, errno, NULL, NULL);
  return pack_stopped(o->job) ? -1 : 0;
}

/* write(2) that does not block for long, where it could. */
static ssize_t write_some(struct outlet *o, const uint8_t *data, size_t length) {
  int out = o->job->options.out;
  if (!o->polled) return write(out, data, length);
  if (o->whole) {
    struct iovec part = {(void *)data, length};
    ssize_t n = pwritev2(out, &part, 1, -1, RWF_NOWAIT);
    if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)) return n;
    o->whole = 0;
  }
  /* A pipe that can be written to has room for that much (pipe(7)). */
  return write(out, data, length > PIPE_BUF ? PIPE_BUF : length);
}

static int write_bytes(struct outlet *o, const uint8_t *data, size_t length) {
  int hashes = o->job->options.digests && o->job->options.compression != FB_PACK_NONE;
  if (hashes && hash_update(&o->hash, data, length) < 0) {
    no_sha256(o->job);
    return -1;
  }
  while (length) {
    if (pack_stopped(o->job) || (o->polled && wait_writable(o) < 0)) return -1;
    ssize_t n = write_some(o, data, length);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return pack_fail(o->job, FB_PACK_WRITE, errno, NULL, NULL);
    data += n;
    length -= (size_t)n;
    o->job->result.size += n;
  }
  return 0;
}

static int write_slot(struct outlet *o, const struct slot *slot) {
  if (o->job->options.compression == FB_PACK_NONE) return write_bytes(o, slot->in, slot->in_length);
  if (o->job->options.compression == FB_PACK_GZIP) {
    o->crc = gzip_crc(o->crc, slot->in, slot->in_length);
    o->size += (int64_t)slot->in_length;
  }
  return write_bytes(o, slot->out, slot->out_length);
}

static int write_all(struct outlet *o) {
  int gzip = o->job->options.compression == FB_PACK_GZIP;
  int compressed = o->job->options.compression != FB_PACK_NONE;
  uint8_t head[FB_GZIP_HEAD], tail[FB_GZIP_TAIL];
  gzip_head(head);
  if (gzip && write_bytes(o, head, sizeof(head)) < 0) return -1;
  struct slot *slot = belt_write_next(&o->job->belt, compressed, 1);
  while (slot) {
    if (write_slot(o, slot) < 0) return -1;
    slot = belt_write_next(&o->job->belt, compressed, 0);
  }
  if (pack_stopped(o->job)) return -1;
  gzip_tail(tail, o->crc, o->size);
  return gzip ? write_bytes(o, tail, sizeof(tail)) : 0;
}

void pack_writer_run(struct fb_pack_job *job) {
  struct outlet outlet = {.job = job, .whole = 1};
  struct stat st;
  if (fstat(job->options.out, &st) < 0) {
    pack_fail(job, FB_PACK_WRITE, errno, NULL, NULL);
    return;
  }
  outlet.polled = !S_ISREG(st.st_mode);
  if (hash_init(&outlet.hash) < 0)
    no_sha256(job);
  else if (write_all(&outlet) == 0 && hash_hex(&outlet.hash, job->result.digest) < 0)
    no_sha256(job);
  hash_free(&outlet.hash);
}
