/* Unpacking a layer: what the Cython wrapper sees.
 *
 * Three threads work on one archive: the source reads, hashes and decompresses it into a ring of
 * buffers; the hasher digests those; the writer parses them and makes the files, confined to the
 * destination. The caller waits, asks for progress and may cancel. Memory does not depend on the
 * archive. */
#ifndef FASTBOX_TAR_H
#define FASTBOX_TAR_H

#include <stdint.h>

#include "../crew/error.h"

enum fb_compression { FB_PLAIN, FB_GZIP, FB_ZSTD };

enum fb_whiteouts {
  FB_WHITEOUTS_OVERLAY, /* .wh. names become what overlayfs wants */
  FB_WHITEOUTS_KEEP,    /* .wh. names are names */
};

/* What failed. FB_STEP_MALFORMED and FB_STEP_LIMIT have no errno. */
enum fb_step {
  FB_STEP_NONE,
  FB_STEP_MALFORMED, /* the archive breaks its format, or asks for what is refused */
  FB_STEP_LIMIT,     /* it is larger than the caller allows */
  FB_STEP_CANCELLED,
  FB_STEP_START, /* threads, memory, libraries */
  FB_STEP_READ,
  FB_STEP_CONFINE,
  FB_STEP_PARENT, /* opening or making the directory that holds the entry */
  FB_STEP_CREATE,
  FB_STEP_WRITE,
  FB_STEP_LINK,
  FB_STEP_REMOVE, /* of what an entry replaces */
  FB_STEP_OWNER,
  FB_STEP_MODE,
  FB_STEP_TIME,
  FB_STEP_XATTR,
};

struct fb_tar_options {
  int fd;   /* the archive: file, pipe or socket; stays open */
  int dest; /* the destination directory, not O_PATH; stays open */
  int out;  /* -1, or a pipe that gets the uncompressed archive: then nothing is unpacked */
  int whiteouts;
  int walk;            /* resolve paths without openat2 */
  int64_t max_bytes;   /* of the uncompressed archive */
  int64_t max_entries; /* headers of all kinds */

  /* For trees that people copy: the destination holds things already. Its own owner and mode stay,
   * and no directory gives way to something else, nor the other way round. */
  int merge;
  int harmless;   /* no devices, set-id bits, capabilities, ACLs */
  int digests;    /* compute them */
  int owned;      /* all is uid's and gid's, whatever the archive says */
  uint32_t uid, gid;
};

struct fb_tar_result {
  char digest[65];  /* sha256 of what was read, hex */
  char diff_id[65]; /* sha256 of it uncompressed */
  int compression;
  int opaque_root; /* the archive hides everything below it */
  int64_t size, tar_size, unpacked_size, entries;
};

struct fb_job;

/* Start the threads. NULL with errno if not even that is possible. */
struct fb_job *fb_tar_start(const struct fb_tar_options *options);

/* Wait until the job ends or the time is up. Returns 1 when it has ended. Only the thread that
 * waits has the privilege to mark directories opaque, so it has to keep coming back. */
int fb_tar_wait(struct fb_job *job, int milliseconds);

/* Bytes of the archive read so far. */
int64_t fb_tar_progress(const struct fb_job *job);

/* Make the job end soon. From any thread, as often as one likes. */
void fb_tar_cancel(struct fb_job *job);

/* Join the threads and free the job. Returns 0 with the result, or -1 with the error. */
int fb_tar_finish(struct fb_job *job, struct fb_tar_result *result, struct fb_error *error);

#endif
