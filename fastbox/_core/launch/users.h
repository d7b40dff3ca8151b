/* Looking up users and groups in the container's own files. */
#ifndef FASTBOX_USERS_H
#define FASTBOX_USERS_H

#include "plan.h"

struct fb_user {
  uint32_t uid, gid;
  gid_t groups[FB_MAX_GROUPS];
  int ngroups;
  char home[FB_HOME_MAX]; /* "HOME=…" */
};

/* Resolve the plan's user, group and supplementary groups with /etc/passwd and /etc/group of the
 * current root. Returns 0, or -1 with error->step FB_STEP_USER or FB_STEP_GROUP (errno ENOENT: no
 * such entry). */
int fb_resolve_user(const struct fb_context *context, struct fb_user *user, struct fb_error *error);

#endif
