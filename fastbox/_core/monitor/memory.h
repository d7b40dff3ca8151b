/* What the kernel says about a container that has run out of memory. */
#ifndef FASTBOX_MEMORY_H
#define FASTBOX_MEMORY_H

/* How many processes of a group the kernel killed: "oom_kill N" of memory.events (v2) or
 * memory.oom_control (v1); 0 when it does not tell. */
int memory_kills(const char *path);
/* Descriptor to poll for `*events`, readable when a group runs out of memory; -1: not to be had. */
int memory_watch(const char *path, short *events);
/* After poll: whether processes were killed since the last call. */
int memory_changed(int fd, const char *path);

#endif
