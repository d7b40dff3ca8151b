/* Finding and making paths inside the container's root, which is the process's root by now. */
#ifndef FASTBOX_PATHS_H
#define FASTBOX_PATHS_H

#include "plan.h"

/* O_PATH descriptor of `path` inside "/", symlinks resolved inside it and no magic links followed.
 * flags: FB_F_DIR or FB_F_FILE create what is missing, FB_F_NOFOLLOW refuses a symlink. */
int fb_target(const char *path, unsigned flags);
/* Is the descriptor on a procfs, other than the files that lxcfs may cover? */
int fb_is_guarded(int fd, const char *path);

#endif
