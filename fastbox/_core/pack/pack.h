/* Packing a tree: what the Cython wrapper sees. The inverse of tar/.
 *
 * Several threads work on one archive: the walker reads the tree and writes tar into a ring of
 * chunks; the hasher digests those; as many compressors as there are CPUs compress a chunk each;
 * the writer hands out what they made, in order. So the bytes do not depend on who was faster. The
 * caller waits, asks for progress and may cancel. */
#ifndef FASTBOX_PACK_H
#define FASTBOX_PACK_H

#include <stdint.h>

#include "../crew/error.h"

enum fb_pack_whiteouts {
  FB_PACK_OVERLAY, /* what overlayfs makes of deletions becomes .wh. names */
  FB_PACK_PLAIN,   /* no name means anything */
};

enum fb_pack_compression { FB_PACK_NONE, FB_PACK_GZIP, FB_PACK_ZSTD };

/* What failed. FB_PACK_REFUSED and FB_PACK_CHANGED have no errno. */
enum fb_pack_step {
  FB_PACK_OK,
  FB_PACK_CANCELLED,
  FB_PACK_START, /* threads, memory, libraries */
  FB_PACK_OPEN,
  FB_PACK_LIST,
  FB_PACK_STAT,
  FB_PACK_READ,
  FB_PACK_XATTR,
  FB_PACK_WRITE,
  FB_PACK_CHANGED, /* it became another thing while it was packed */
  FB_PACK_REFUSED, /* an archive cannot say it */
};

struct fb_pack_options {
  int source; /* the directory, not O_PATH; stays open */
  int out;    /* a file, pipe or socket; -1: only digests; stays open */
  int whiteouts;
  int compression;
  int level; /* of the compression */
  int digests;
  int careful; /* open files in two steps, as where the tree cannot be mounted once more */
};

struct fb_pack_result {
  char diff_id[65]; /* sha256 of the archive, hex */
  char digest[65];  /* sha256 of what was written */
  int64_t size, tar_size, unpacked_size, entries;
};

struct fb_pack_job;

/* Start the threads. NULL with errno if not even that is possible. */
struct fb_pack_job *fb_pack_start(const struct fb_pack_options *options);

/* Wait until the job ends or the time is up. Returns 1 when it has ended. */
int fb_pack_wait(struct fb_pack_job *job, int milliseconds);

/* Bytes of the uncompressed archive so far. */
int64_t fb_pack_progress(const struct fb_pack_job *job);

/* Make the job end soon. From any thread, as often as one likes. */
void fb_pack_cancel(struct fb_pack_job *job);

/* Join the threads and free the job. Returns 0 with the result, or -1 with the error. */
int fb_pack_finish(struct fb_pack_job *job, struct fb_pack_result *result,
                   struct fb_error *error);

#endif
