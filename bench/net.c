/* Traffic for the benchmarks: a server and its clients, one static program that runs on the host
 * and, bound into it, in a container of any engine.
 *
 *   net serve PORT                          one connection after the other, for ever
 *   net send ADDRESS PORT SECONDS           one stream; prints bytes per second, as received
 *   net call ADDRESS PORT COUNT             connect, a byte there and back, close; prints the
 *                                           median and the mean in nanoseconds
 *   net ask ADDRESS PORT SECONDS WINDOW NAME
 *                                           A queries, WINDOW of them under way; prints answers
 *                                           per second, the median latency in nanoseconds, how
 *                                           many were lost
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (128 * 1024)
#define MAX_CALLS 1000000
#define MAX_WINDOW 1024
#define LOST_MS 1000

static char chunk[CHUNK];
static uint64_t taken[MAX_CALLS];
static size_t count;

static void die(const char *what) {
  fprintf(stderr, "net: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in place(const char *address, const char *port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  if (inet_pton(AF_INET, address, &to.sin_addr) != 1) {
    fprintf(stderr, "net: bad address %s\n", address);
    exit(1);
  }
  return to;
}

static void note(uint64_t nanoseconds) {
  if (count < MAX_CALLS) taken[count++] = nanoseconds;
}

static int compare(const void *one, const void *other) {
  uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
  return a < b ? -1 : a > b;
}

static uint64_t median(void) {
  qsort(taken, count, sizeof taken[0], compare);
  return count ? taken[count / 2] : 0;
}

/* ---- streams ---------------------------------------------------------------------------- */

static int dial(const struct sockaddr_in *to) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0) die("connect");
  return fd;
}

static void answer(int fd) {
  char kind;
  if (read(fd, &kind, 1) != 1) return;
  if (kind == 'e') {
    if (write(fd, &kind, 1) != 1) return;
    return;
  }
  uint64_t total = 0;
  ssize_t n;
  while ((n = read(fd, chunk, CHUNK)) > 0) total += (uint64_t)n;
  if (write(fd, &total, sizeof total) < 0) return;
}

static void serve(const char *port) {
  struct sockaddr_in at = place("0.0.0.0", port);
  int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) die("bind");
  if (listen(fd, 128) < 0) die("listen");
  for (;;) {
    int one = accept(fd, NULL, NULL);
    if (one < 0) continue;
    answer(one);
    close(one);
  }
}

static void send_stream(char **argv) {
  struct sockaddr_in to = place(argv[0], argv[1]);
  int fd = dial(&to);
  uint64_t start = now(), end = start + (uint64_t)(atof(argv[2]) * 1e9), total;
  if (write(fd, "s", 1) != 1) die("write");
  while (now() < end)
    if (write(fd, chunk, CHUNK) < 0) die("write");
  shutdown(fd, SHUT_WR);
  if (recv(fd, &total, sizeof total, MSG_WAITALL) != sizeof total) die("read");
  printf("%.0f\n", (double)total / ((double)(now() - start) / 1e9));
}

static void call(char **argv) {
  struct sockaddr_in to = place(argv[0], argv[1]);
  uint64_t start = now();
  long calls = atol(argv[2]);
  for (long i = 0; i < calls; i++) {
    uint64_t from = now();
    char byte = 'e';
    int fd = dial(&to);
    if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) die("call");
    note(now() - from);
    if (read(fd, &byte, 1) != 0) die("end"); /* the server closes first: TIME_WAIT is its own */
    close(fd);
  }
  uint64_t mean = (now() - start) / (uint64_t)(calls > 0 ? calls : 1);
  printf("%llu %llu\n", (unsigned long long)median(), (unsigned long long)mean);
}

/* ---- names ------------------------------------------------------------------------------ */

static size_t query(uint8_t *into, const char *name) {
  static const uint8_t head[12] = {0, 0, 1, 0, 0, 1}; /* recursion wanted, one question */
  memcpy(into, head, sizeof head);
  size_t at = sizeof head;
  while (*name) {
    size_t length = strcspn(name, ".");
    into[at++] = (uint8_t)length;
    memcpy(into + at, name, length);
    at += length;
    name += length + (name[length] == '.');
  }
  into[at++] = 0;
  memcpy(into + at, "\0\1\0\1", 4); /* A, IN */
  return at + 4;
}

struct asking {
  int fd;
  size_t size;
  uint8_t packet[512];
  uint64_t sent[MAX_WINDOW]; /* by the number of the query; 0: it is not under way */
};

static void ask_one(struct asking *a, unsigned slot) {
  a->packet[0] = (uint8_t)(slot >> 8);
  a->packet[1] = (uint8_t)slot;
  a->sent[slot] = now();
  if (send(a->fd, a->packet, a->size, 0) < 0 && errno != ECONNREFUSED) die("send");
}

static void check(const uint8_t *reply, ssize_t size) {
  if (size < 12 || !(reply[2] & 0x80) || (reply[3] & 0xf) || !(reply[6] | reply[7])) {
    fprintf(stderr, "net: no answer, code %d\n", size < 12 ? -1 : reply[3] & 0xf);
    exit(1);
  }
}

static void ask(char **argv) {
  static struct asking a;
  struct sockaddr_in to = place(argv[0], argv[1]);
  unsigned window = (unsigned)atoi(argv[3]);
  if (window < 1 || window > MAX_WINDOW || strlen(argv[4]) > 250) die("bad arguments");
  a.size = query(a.packet, argv[4]);
  a.fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (a.fd < 0 || connect(a.fd, (struct sockaddr *)&to, sizeof to) < 0) die("socket");
  uint64_t start = now(), end = start + (uint64_t)(atof(argv[2]) * 1e9), answers = 0, lost = 0;
  for (unsigned slot = 0; slot < window; slot++) ask_one(&a, slot);
  while (now() < end) {
    uint8_t reply[512];
    struct pollfd wait = {.fd = a.fd, .events = POLLIN};
    ssize_t size = recv(a.fd, reply, sizeof reply, MSG_DONTWAIT);
    if (size < 0) {
      if (poll(&wait, 1, LOST_MS) > 0) continue;
      for (unsigned slot = 0; slot < window; slot++, lost++) ask_one(&a, slot);
      continue;
    }
    check(reply, size);
    unsigned slot = (unsigned)reply[0] << 8 | reply[1];
    if (slot >= window || !a.sent[slot]) continue;
    note(now() - a.sent[slot]);
    answers++;
    ask_one(&a, slot);
  }
  printf("%.0f %llu %llu\n", (double)answers / ((double)(now() - start) / 1e9),
         (unsigned long long)median(), (unsigned long long)lost);
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 3 && !strcmp(argv[1], "serve")) serve(argv[2]);
  if (argc == 5 && !strcmp(argv[1], "send")) return send_stream(argv + 2), 0;
  if (argc == 5 && !strcmp(argv[1], "call")) return call(argv + 2), 0;
  if (argc == 7 && !strcmp(argv[1], "ask")) return ask(argv + 2), 0;
  fprintf(stderr, "net: see bench/net.c\n");
  return 2;
}
