/* The operations by which a new process gets its network: see network.c. */
#ifndef FASTBOX_NETWORK_H
#define FASTBOX_NETWORK_H

#include "plan.h"

int fb_netlink(struct fb_context *context, const struct fb_op *op, const char *interface,
               struct fb_error *error);
int fb_name_server(struct fb_context *context, uint16_t port, struct fb_error *error);

#endif
