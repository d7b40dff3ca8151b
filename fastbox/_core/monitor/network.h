/* The monitor's part of a container's network: it keeps the sockets of published ports and of the
 * name server, starts what serves them when somebody calls, and gives everything back at the end. */
#ifndef FASTBOX_MONITOR_NETWORK_H
#define FASTBOX_MONITOR_NETWORK_H

#include <poll.h>

#define NETWORK_POLLS 1

void network_start(const char *runtime, const char *id, const char *ports);
/* What to wait for; returns how many entries of `polls` were filled. */
int network_prepare(struct pollfd *polls);
/* After poll, if there was something. */
void network_serve(void);
/* The container has ended: its ports are free, its addresses and names given back. */
void network_end(void);
/* Tell of it, after the container's own end. */
void network_told(void);
/* The last thing that the monitor does; it closes all descriptors. */
void network_linger(void);

#endif
