/* A pseudo-terminal of the container's own. */
#ifndef FASTBOX_CONSOLE_H
#define FASTBOX_CONSOLE_H

#include "plan.h"

/* Open a pair in the container's devpts, which must be mounted in this process's root; its master
 * goes through context->console_fd to whoever serves the terminal, its slave becomes the standard
 * streams. `size` is rows << 16 | columns, 0: unknown. With `bind` the slave is /dev/console too.
 * 0, or -1 with *error's `where` and errno. */
int fb_console(struct fb_context *context, uint64_t size, int bind, struct fb_error *error);
/* Hand a descriptor, or up to two, over with one byte. 0, or -1 with errno. */
int fb_send_fds(int socket, const int *fds, int count);
int fb_send_fd(int socket, int fd);
/* Make the terminal on descriptor `fd` the controlling one of this session, which has none. */
int fb_control(int fd);

#endif
