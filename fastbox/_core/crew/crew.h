/* The threads that work on one job: started together, watched by the caller, stopped by the first
 * error. What they hand each other, and wait on there, is the job's own. */
#ifndef FASTBOX_CREW_CREW_H
#define FASTBOX_CREW_CREW_H

#include <pthread.h>
#include <stdatomic.h>

#include "error.h"

#define CREW_MOST 16 /* threads */

struct crew;

struct crew_member {
  struct crew *crew;
  void (*work)(void *job);
  void *job;
  pthread_t thread;
};

struct crew {
  struct fb_error error;
  atomic_int stop; /* set with the first error */
  int wake;        /* eventfd, readable when the threads are to stop */

  pthread_mutex_t lock;
  pthread_cond_t changed; /* a thread ended, or the job's own news */
  int running;            /* threads that have not ended */

  struct crew_member members[CREW_MOST];
  int count, started;
};

/* Returns 0, or an errno. Either way crew_free has to follow. */
int crew_init(struct crew *crew);
void crew_free(struct crew *crew);

/* A thread more that crew_start starts. `work` returns when it is done, or soon after the stop. */
void crew_add(struct crew *crew, void (*work)(void *job), void *job);

/* Start them all, with all signals blocked. Returns 0, or an errno: those that were started run. */
int crew_start(struct crew *crew);

/* Wait until all threads have ended or the time is up. Returns 1 when they have. `attend`, which may
 * be NULL, is called in between with the lock held, whenever something changed. */
int crew_wait(struct crew *crew, int milliseconds, void (*attend)(void *job), void *job);

/* Join the threads, which have ended. */
void crew_join(struct crew *crew);

/* Record the first error and have everybody stop. `why` and `entry` may be NULL. */
void crew_fail(struct crew *crew, int step, int err, const char *why, const char *entry);

static inline int crew_stopped(const struct crew *crew) {
  return atomic_load_explicit(&crew->stop, memory_order_relaxed);
}

/* poll(2) for a descriptor that may be silent for ever; a stop ends it too. 0, or -1 with errno. */
int crew_poll(const struct crew *crew, int fd, short events);

#endif
