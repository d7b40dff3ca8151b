/* fastbox-net CONTAINERID NPORTS [IDLE_SECONDS]: see net.h for its descriptors. Exits with 0 when
 * nobody has wanted anything for that long (30), or when the leash has ended. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../monitor.h"
#include "net.h"

#define IDLE_SECONDS 30
#define PORTS_MAX 60000
#define FAILED 125
#define RECEIVE_ROOM (512 << 10) /* some thousand queries: a burst is answered, not lost */

static int is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

/* Nothing that is opened later gets the number of a standard stream. */
static void take_standard_streams(void) {
  int fd = open("/dev/null", O_RDWR);
  for (int i = 0; i < 3 && fd >= 0; i++)
    if (fd != i) dup2(fd, i);
  if (fd > 2) close(fd);
}

/* Nor the number of a descriptor that we were not given: it would be taken for that. */
static void fill_gaps(int end) {
  for (int fd = NET_FD_NETWORKS; fd < end; fd++)
    if (!is_open(fd)) dup2(0, fd);
}

static void watch_sockets(void) {
  int type, room = RECEIVE_ROOM;
  socklen_t size = sizeof type;
  if (getsockopt(NET_FD_DNS, SOL_SOCKET, SO_TYPE, &type, &size) == 0) {
    setsockopt(NET_FD_DNS, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    net_watch(NET_FD_DNS, EPOLLIN, NET_DNS, 0, 0);
  }
  if (getsockopt(NET_FD_DNS_TCP, SOL_SOCKET, SO_TYPE, &type, &size) == 0) {
    fcntl(NET_FD_DNS_TCP, F_SETFL, fcntl(NET_FD_DNS_TCP, F_GETFL) | O_NONBLOCK);
    net_watch(NET_FD_DNS_TCP, EPOLLIN, NET_DNS_ACCEPT, 0, 0);
  }
}

static unsigned smaller(unsigned one, unsigned two) { return one < two ? one : two; }

/* A relayed connection has two descriptors, and up to four more while data is on its way. */
static void size_tables(unsigned limit, unsigned ports) {
  unsigned taken = NET_FD_PORTS + ports + 16;
  unsigned left = limit > taken + 64 ? limit - taken : 64;
  net_forward_open(smaller(512, left / 4));
  net_stream_open(smaller(64, left / 16));
  net_session_open(smaller(1024, left / 4));
  net_relay_open(smaller(1024, left / 8));
}

int net_main(int argc, char **argv, char **envp) {
  long ports = argc > 2 ? net_number(argv[2], PORTS_MAX) : -1;
  long idle = argc > 3 ? net_number(argv[3], 86400) : IDLE_SECONDS;
  (void)envp;
  if (ports < 0 || idle < 0 || strlen(argv[1]) > 64 || !net_is_name(argv[1])) return FAILED;
  int end = NET_FD_PORTS + (int)ports, leash = is_open(NET_FD_LEASH);
  take_standard_streams();
  fill_gaps(end);
  unsigned limit = net_descriptors((unsigned)end - 1);
  signal(SIGPIPE, SIG_IGN);
  if (chdir("/") < 0) return FAILED;
  net_loop_open();
  net_server_open();
  size_tables(limit, (unsigned)ports);
  net_config_open(argv[1]);
  net_ports_open(argv[1], (unsigned)ports);
  watch_sockets();
  if (leash) net_watch(NET_FD_LEASH, EPOLLIN, NET_LEASH, 0, 0);
  if (net_confine(leash) < 0) return FAILED;
  net_loop(idle * 1000);
  return 0;
}
