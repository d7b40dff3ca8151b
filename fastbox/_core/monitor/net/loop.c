/* Waiting, and calling who is concerned. */
#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "net.h"

#define EVENTS 64

int64_t net_now;
static int64_t last_used;
static int epoll = -1;

static const struct net_timers *const timers[] = {
    &net_forward_timers, &net_stream_timers, &net_ports_timers, &net_relay_timers,
    &net_session_timers,
};
#define TIMERS (sizeof timers / sizeof *timers)

static void (*const ready[NET_KINDS])(unsigned, uint32_t, uint32_t) = {
    [NET_DNS] = net_server_ready,        [NET_DNS_ACCEPT] = net_stream_accept,
    [NET_FORWARD] = net_forward_ready,   [NET_CLIENT] = net_stream_client,
    [NET_UPSTREAM] = net_stream_upstream, [NET_PORT] = net_ports_ready,
    [NET_RELAY] = net_relay_ready,       [NET_SESSION] = net_session_ready,
};

static void look_at_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  net_now = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void net_loop_open(void) {
  epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) _exit(125);
  look_at_clock();
  net_used();
}

/* An event carries the kind, the index of the slot, and its generation: one that is about something
 * that an earlier event of the same turn has closed is told apart from its successor. */
static int control(int operation, int fd, uint32_t events, enum net_kind kind, unsigned index,
                   uint32_t generation) {
  struct epoll_event event = {0};
  event.events = events;
  event.data.u64 = (uint64_t)generation << 32 | (uint64_t)kind << 24 | index;
  return epoll_ctl(epoll, operation, fd, &event);
}

int net_watch(int fd, uint32_t events, enum net_kind kind, unsigned index, uint32_t generation) {
  return control(EPOLL_CTL_ADD, fd, events, kind, index, generation);
}

void net_rewatch(int fd, uint32_t events, enum net_kind kind, unsigned index,
                 uint32_t generation) {
  control(EPOLL_CTL_MOD, fd, events, kind, index, generation);
}

void net_used(void) { last_used = net_now; }

/* Milliseconds for epoll_wait; 0 as well when something is due. */
static int time_to_wait(int64_t idle) {
  int64_t until = INT64_MAX;
  unsigned busy = 0;
  for (size_t i = 0; i < TIMERS; i++) {
    int64_t next = timers[i]->next();
    if (next < until) until = next;
    busy += timers[i]->busy();
  }
  if (!busy && last_used + idle < until) until = last_used + idle;
  if (until == INT64_MAX) return -1;
  if (until <= net_now) return 0;
  return until - net_now > INT_MAX ? INT_MAX : (int)(until - net_now);
}

static int is_idle(int64_t idle) {
  for (size_t i = 0; i < TIMERS; i++)
    if (timers[i]->busy()) return 0;
  return net_now - last_used >= idle;
}

void net_loop(int64_t idle) {
  struct epoll_event events[EVENTS];
  do {
    int count = epoll_wait(epoll, events, EVENTS, time_to_wait(idle));
    if (count < 0 && errno != EINTR) return;
    look_at_clock();
    for (int i = 0; i < count; i++) {
      uint64_t data = events[i].data.u64;
      unsigned kind = data >> 24 & 0xff;
      if (kind == NET_LEASH) return;
      ready[kind](data & 0xffffff, (uint32_t)(data >> 32), events[i].events);
    }
    for (size_t i = 0; i < TIMERS; i++) timers[i]->expire();
  } while (!is_idle(idle));
}
