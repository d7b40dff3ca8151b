/* enter.c's way into a running container, for all that go it (enter.c itself, serve.c). */
#ifndef FASTBOX_ENTER_H
#define FASTBOX_ENTER_H

#include <sys/types.h>

#include "../launch/plan.h"

#define FD_PLAN 3
#define FD_ERROR 4
#define FD_INIT 5

/* Reads the plan from FD_PLAN; what fails is reported on FD_ERROR, and ends the process. */
void load_plan(struct fb_context *context);
/* A plain clone into a v2 cgroup's directory (-1: none): the child never runs outside of it. */
pid_t clone_into(int cgroup);
/* Join the container of FD_INIT and start the command there, as a child of our parent's; its pid as
 * we see it. What fails is reported on FD_ERROR, and ends the process.
 * procs: cgroup.procs files that are to be joined before. */
pid_t join(struct fb_context *context, const int *procs, int nprocs);

#endif
