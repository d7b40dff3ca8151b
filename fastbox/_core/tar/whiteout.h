/* Whiteouts: ".wh.NAME" hides NAME of the layers below, ".wh..wh..opq" everything in its directory
 * (OCI image-spec, layer.md). overlayfs has a character device 0:0 for the one and
 * trusted.overlay.opaque for the other. */
#ifndef FASTBOX_TAR_WHITEOUT_H
#define FASTBOX_TAR_WHITEOUT_H

#include "job.h"
#include "names.h"

#define FB_WHITEOUT_PREFIX ".wh."

enum whiteout {
  FB_NO_WHITEOUT,
  FB_WHITEOUT_HIDE,   /* what the base says behind the prefix */
  FB_WHITEOUT_OPAQUE, /* the parent */
  FB_WHITEOUT_IGNORE, /* bookkeeping of aufs, which old engines packed */
  FB_WHITEOUT_REFUSED,
};

enum whiteout whiteout_kind(const struct name *name);

/* What lies at dir/name is a whiteout. */
int whiteout_is(int dir, const char *name);

/* Hide dir/name. What this layer itself has there stays; a directory becomes opaque. 0 or -1. */
int whiteout_hide(struct fb_job *job, int dir, const char *name);

/* Mark the directory dir/name opaque; name "" is dir itself. 0 or -1. */
int whiteout_make_opaque(struct fb_job *job, int dir, const char *name);

#endif
