/* The root of a container, mounted for the engine alone. */
#ifndef FASTBOX_VIEW_H
#define FASTBOX_VIEW_H

#include "../launch/plan.h"

/* Replay a plan's operations, which mount a root and pivot to it, in a mount namespace of its own;
 * return an O_PATH descriptor of that root with all that is mounted below. No mount table shows it;
 * it lives as long as the descriptor. In it, devices cannot be opened and set-id bits mean nothing;
 * with `read_only`, nothing can be changed. -1 with *error. */
int fb_view(struct fb_context *context, int read_only, struct fb_error *error);

/* The root of another mount namespace, without anything that is mounted below it: a descriptor as
 * that of fb_view, read-only. -1 with errno. */
int fb_root_of(int namespace);

/* openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS). -1 with errno. */
int fb_open_in_root(int root, const char *path, uint64_t flags);

#endif
