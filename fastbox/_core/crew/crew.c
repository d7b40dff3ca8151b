#include "crew.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int crew_init(struct crew *crew) {
  memset(crew, 0, sizeof(*crew));
  pthread_mutex_init(&crew->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&crew->changed, &attr);
  pthread_condattr_destroy(&attr);
  crew->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return crew->wake < 0 ? errno : 0;
}

void crew_free(struct crew *crew) {
  if (crew->wake >= 0) close(crew->wake);
  pthread_mutex_destroy(&crew->lock);
  pthread_cond_destroy(&crew->changed);
}

void crew_add(struct crew *crew, void (*work)(void *job), void *job) {
  struct crew_member *member = &crew->members[crew->count++];
  member->crew = crew;
  member->work = work;
  member->job = job;
}

static void *member_main(void *argument) {
  struct crew_member *member = argument;
  struct crew *crew = member->crew;
  member->work(member->job);
  pthread_mutex_lock(&crew->lock);
  crew->running--;
  pthread_cond_broadcast(&crew->changed);
  pthread_mutex_unlock(&crew->lock);
  return NULL;
}

int crew_start(struct crew *crew) {
  sigset_t all, before;
  int err = 0;
  sigfillset(&all);
  /* Signals go to the interpreter's threads. */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_mutex_lock(&crew->lock);
  while (!err && crew->started < crew->count) {
    struct crew_member *member = &crew->members[crew->started];
    err = pthread_create(&member->thread, NULL, member_main, member);
    if (!err) crew->started++;
  }
  crew->running = crew->started;
  pthread_mutex_unlock(&crew->lock);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return err;
}

static struct timespec in_milliseconds(int milliseconds) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += milliseconds / 1000;
  until.tv_nsec += (milliseconds % 1000) * 1000000L;
  if (until.tv_nsec >= 1000000000L) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000L;
  }
  return until;
}

int crew_wait(struct crew *crew, int milliseconds, void (*attend)(void *job), void *job) {
  struct timespec until = in_milliseconds(milliseconds);
  int status = 0;
  pthread_mutex_lock(&crew->lock);
  while (crew->running && status != ETIMEDOUT) {
    if (attend) attend(job);
    status = pthread_cond_timedwait(&crew->changed, &crew->lock, &until);
  }
  int ended = crew->running == 0;
  pthread_mutex_unlock(&crew->lock);
  return ended;
}

void crew_join(struct crew *crew) {
  for (int i = 0; i < crew->started; i++) pthread_join(crew->members[i].thread, NULL);
}

void crew_fail(struct crew *crew, int step, int err, const char *why, const char *entry) {
  pthread_mutex_lock(&crew->lock);
  if (crew->error.step == 0) {
    crew->error.step = step;
    crew->error.err = err;
    crew->error.why = why;
    if (entry) strncpy(crew->error.entry, entry, sizeof(crew->error.entry) - 1);
  }
  atomic_store(&crew->stop, 1);
  pthread_cond_broadcast(&crew->changed);
  pthread_mutex_unlock(&crew->lock);
  if (eventfd_write(crew->wake, 1) < 0) { /* full: it is readable already */
  }
}

int crew_poll(const struct crew *crew, int fd, short events) {
  struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = crew->wake, .events = POLLIN}};
  while (poll(fds, 2, -1) < 0)
    if (errno != EINTR) return -1;
  return 0;
}
