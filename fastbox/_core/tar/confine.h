/* The writer's first barrier: it sees nothing but the destination, and can do little to that. */
#ifndef FASTBOX_TAR_CONFINE_H
#define FASTBOX_TAR_CONFINE_H

/* Make `dest` the root and working directory of this thread alone, set its umask to 0, and leave it
 * only the capabilities that unpacking needs. Returns NULL, or the step that failed, with errno. */
const char *confine_thread(int dest);

#endif
