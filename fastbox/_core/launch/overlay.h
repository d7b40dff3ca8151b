/* A merged view of layers for the engine's own use, without a trace in any mount table. */
#ifndef FASTBOX_OVERLAY_H
#define FASTBOX_OVERLAY_H

/* Mount an overlay with `options` (lowerdir= relative to `directory`) on `target` in a mount
 * namespace of its own, and return an O_PATH descriptor of its root; the mount lives as long as the
 * descriptor. -1 with errno. */
int fb_overlay_view(const char *directory, const char *target, const char *options, int read_only);

#endif
