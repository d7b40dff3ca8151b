#include "clients.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../launch/start.h"
#include "outlet.h"

#define INPUT_SIZE 32768
#define DRAIN_SECONDS 10 /* how long attached clients may take nothing after the end */

struct client {
  int socket; /* -1: a free place */
  struct outlet out[2];
  char ready;   /* has said hello */
  char input;   /* its end closes an input that is open once */
  char ended;   /* it will send no more input */
  unsigned acks; /* owed */
  size_t at, pending; /* of its input that the container has not taken */
};

static struct client clients[CLIENTS]; /* the first one is the starter */
static char inputs[CLIENTS][INPUT_SIZE + 1]; /* untouched pages cost nothing */
static struct input *container;
static int listener = -1;
static int starter_error;
static int broken[2]; /* streams whose only reader has gone */

static int is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

static int is_starter(const struct client *client) { return client == clients; }

static int only_ready(const struct client *other) {
  for (int i = 0; i < CLIENTS; i++)
    if (&clients[i] != other && clients[i].socket >= 0 && clients[i].ready) return 0;
  return 1;
}

void clients_start(struct input *input, int socket, int out, int err) {
  container = input;
  for (int i = 0; i < CLIENTS; i++) {
    clients[i].socket = -1;
    outlet_none(&clients[i].out[0]);
    outlet_none(&clients[i].out[1]);
  }
  if (socket < 0 || !is_open(socket)) return;
  clients[0].socket = socket;
  clients[0].ready = 1;
  if (input->tty >= 0) {
    outlet_open(&clients[0].out[0], socket, 1, OUTLET_LIMIT);
    return;
  }
  outlet_open(&clients[0].out[0], is_open(out) ? out : -1, 0, 0);
  outlet_open(&clients[0].out[1], is_open(err) ? err : -1, 0, 0);
}

/* Below the runtime directory, which only its owner may enter; never an abstract name, which a
 * container with the host's network could reach (CVE-2020-15257). */
void clients_listen(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/.attach", FB_FD_RUN_DIR);
  unlinkat(FB_FD_RUN_DIR, ".attach", 0);
  listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) return;
  if (bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
      fchmodat(FB_FD_RUN_DIR, ".attach", 0600, 0) == 0 && listen(listener, 16) == 0 &&
      renameat(FB_FD_RUN_DIR, ".attach", FB_FD_RUN_DIR, "attach") == 0)
    return; /* whoever sees the name can connect */
  close(listener);
  listener = -1;
}

static void close_input(void) {
  if (container->fd >= 0 && container->tty < 0) close(container->fd);
  container->fd = -1;
}

static void end_input(struct client *client) {
  client->ended = 1;
  if (client->input && container->once && container->tty < 0 && !client->pending) close_input();
}

static void leave(struct client *client) {
  if (client->socket < 0) return;
  client->pending = 0;
  end_input(client);
  outlet_close(&client->out[0]);
  outlet_close(&client->out[1]);
  close(client->socket);
  memset(client, 0, sizeof *client);
  client->socket = -1;
  outlet_none(&client->out[0]);
  outlet_none(&client->out[1]);
}

static int say(const struct client *client, const char *text, size_t length) {
  ssize_t n;
  do n = send(client->socket, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n == (ssize_t)length ? 0 : -1;
}

static void acknowledge(struct client *client) {
  while (client->acks > 0 && say(client, "K", 1) == 0) client->acks--;
}

/* An outlet failed. The starter's is part of a shell's pipeline: the container's writer is told. */
static void lost(struct client *client, int stream) {
  int error = errno;
  if (is_starter(client) && container->tty < 0) {
    if (error != EPIPE && !starter_error) starter_error = error;
    outlet_close(&client->out[stream]);
    broken[stream] = only_ready(client);
    return;
  }
  if (error == ENOBUFS) say(client, "L", 1);
  leave(client);
}

void clients_write(int stream, const char *data, size_t length) {
  for (int i = 0; i < CLIENTS; i++) {
    struct client *client = &clients[i];
    if (client->socket >= 0 && client->out[stream].fd >= 0 &&
        outlet_write(&client->out[stream], data, length) < 0)
      lost(client, stream);
  }
}

int clients_broken(int stream) { return broken[stream]; }

int clients_full(int stream) {
  return clients[0].socket >= 0 && container->tty < 0 &&
         outlet_waiting(&clients[0].out[stream]) >= OUTLET_LIMIT;
}

/* ---- input ------------------------------------------------------------------------------------ */

static void give_input(struct client *client) {
  char *buffer = inputs[client - clients];
  while (client->pending > 0 && container->fd >= 0) {
    ssize_t n = write(container->fd, buffer + client->at, client->pending);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
      close_input(); /* nobody reads it any more */
      break;
    }
    client->at += (size_t)n;
    client->pending -= (size_t)n;
  }
  client->pending = 0;
  client->acks++;
  acknowledge(client);
  if (client->ended) end_input(client);
}

static void resize(const char *packet, ssize_t length) {
  unsigned short size[2];
  if (container->tty < 0 || length != 1 + (ssize_t)sizeof size) return;
  memcpy(size, packet + 1, sizeof size);
  struct winsize window = {size[0], size[1], 0, 0};
  ioctl(container->tty, TIOCSWINSZ, &window);
}

static void welcome(struct client *client, const char *packet, ssize_t length, int *fds) {
  if (length != 3 || packet[1] != CLIENT_VERSION) {
    leave(client);
    return;
  }
  int flags = packet[2];
  client->input = flags & 1;
  if (container->tty >= 0) {
    if (flags & CLIENT_OUTPUT) outlet_open(&client->out[0], client->socket, 1, OUTLET_LIMIT);
  } else {
    int next = 0;
    for (int i = 0; i < 2; i++) {
      if (!(flags & (i ? CLIENT_ERRORS : CLIENT_OUTPUT)) || fds[next] < 0) continue;
      outlet_open(&client->out[i], fds[next], 0, OUTLET_LIMIT);
      fds[next++] = -1;
    }
  }
  char reply[3] = {'H', CLIENT_VERSION,
                   (char)((container->tty >= 0 ? WELCOME_TTY : 0) |
                          (container->fd >= 0 ? WELCOME_INPUT : 0))};
  client->ready = 1;
  if (say(client, reply, sizeof reply) < 0) leave(client);
}

static void handle(struct client *client, const char *packet, ssize_t length, int *fds) {
  if (!client->ready) {
    if (packet[0] == 'A')
      welcome(client, packet, length, fds);
    else
      leave(client);
    return;
  }
  switch (packet[0]) {
    case 'I':
      if (client->pending) {
        leave(client); /* against the rules: it has not been answered */
        return;
      }
      client->at = 1;
      client->pending = (size_t)length - 1;
      give_input(client);
      return;
    case 'E': end_input(client); return;
    case 'W': resize(packet, length); return;
  }
}

/* One packet, into the client's input buffer, unless input waits there. */
static void receive(struct client *client) {
  char small[64];
  char *buffer = client->pending ? small : inputs[client - clients];
  struct iovec part = {buffer, client->pending ? sizeof small : INPUT_SIZE + 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(2 * sizeof(int))];
  } control;
  struct msghdr message = {0};
  int fds[3] = {-1, -1, -1};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.space;
  message.msg_controllen = sizeof control.space;
  ssize_t n = recvmsg(client->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
  if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(header), (count < 2 ? count : 2) * sizeof(int));
  }
  if (n <= 0 || (message.msg_flags & MSG_TRUNC))
    leave(client);
  else
    handle(client, buffer, n, fds);
  for (int i = 0; i < 2; i++)
    if (fds[i] >= 0) close(fds[i]);
}

static void admit(void) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 ||
      (peer.uid != 0 && peer.uid != geteuid())) {
    close(fd);
    return;
  }
  for (int i = 1; i < CLIENTS; i++) {
    if (clients[i].socket >= 0) continue;
    memset(&clients[i], 0, sizeof clients[i]);
    outlet_none(&clients[i].out[0]);
    outlet_none(&clients[i].out[1]);
    clients[i].socket = fd;
    return;
  }
  send(fd, "N", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  close(fd);
}

/* ---- waiting ---------------------------------------------------------------------------------- */

/* Which client, and what of it, the entries that clients_prepare filled are about. */
static struct {
  short client, what; /* what: 0, 1 an outlet; 2 the socket; 3 the listener; 4 the input */
} owners[CLIENT_POLLS];

int clients_prepare(struct pollfd *polls) {
  int count = 0, waiting = 0;
  for (int i = 0; i < CLIENTS; i++) {
    struct client *client = &clients[i];
    if (client->socket < 0) continue;
    int packets = container->tty >= 0 && outlet_waiting(&client->out[0]) > 0;
    int events = POLLIN | (packets || client->acks ? POLLOUT : 0);
    owners[count].client = (short)i;
    owners[count].what = 2;
    polls[count++] = (struct pollfd){client->socket, (short)events, 0};
    for (int stream = 0; stream < 2 && container->tty < 0; stream++) {
      if (outlet_waiting(&client->out[stream]) == 0) continue;
      owners[count].client = (short)i;
      owners[count].what = (short)stream;
      polls[count++] = (struct pollfd){client->out[stream].fd, POLLOUT, 0};
    }
    waiting |= client->pending > 0;
  }
  if (listener >= 0) {
    owners[count].what = 3;
    polls[count++] = (struct pollfd){listener, POLLIN, 0};
  }
  if (waiting && container->fd >= 0) {
    owners[count].what = 4;
    polls[count++] = (struct pollfd){container->fd, POLLOUT, 0};
  }
  return count;
}

static void flush(struct client *client, int stream) {
  if (client->out[stream].fd >= 0 && outlet_flush(&client->out[stream]) < 0) lost(client, stream);
}

void clients_serve(const struct pollfd *polls, int count) {
  for (int i = 0; i < count; i++) {
    if (!polls[i].revents) continue;
    struct client *client = &clients[owners[i].client];
    switch (owners[i].what) {
      case 3: admit(); break;
      case 4:
        for (int j = 0; j < CLIENTS; j++)
          if (clients[j].socket >= 0 && clients[j].pending) give_input(&clients[j]);
        break;
      case 2:
        if (client->socket != polls[i].fd) break; /* gone since */
        if (polls[i].revents & POLLOUT) {
          acknowledge(client);
          flush(client, 0);
        }
        if (client->socket >= 0 && (polls[i].revents & (POLLIN | POLLHUP | POLLERR)))
          receive(client);
        break;
      default:
        if (client->out[owners[i].what].fd == polls[i].fd) flush(client, owners[i].what);
    }
  }
}

/* ---- the end ---------------------------------------------------------------------------------- */

static off_t behind(const struct client *client) {
  return outlet_waiting(&client->out[0]) + outlet_waiting(&client->out[1]);
}

static void stop_listening(void) {
  if (listener >= 0) close(listener);
  listener = -1;
  unlinkat(FB_FD_RUN_DIR, "attach", 0);
  close_input();
  for (int i = 1; i < CLIENTS; i++)
    if (clients[i].socket >= 0 && !clients[i].ready) leave(&clients[i]);
}

/* The last packet to whoever has read everything. Returns how many others there are. */
static int part(clients_record record, void *data, int *told) {
  char packet[1024] = "X";
  int left = 0;
  for (int i = 0; i < CLIENTS; i++) {
    struct client *client = &clients[i];
    if (client->socket < 0) continue;
    if (behind(client) > 0) {
      left++;
      continue;
    }
    size_t length = 1 + record(data, packet + 1, sizeof packet - 1);
    for (int stream = 0; stream < 2; stream++) outlet_close(&client->out[stream]);
    struct pollfd room = {client->socket, POLLOUT, 0};
    poll(&room, 1, 1000);
    if (say(client, packet, length) == 0 && is_starter(client)) *told = 1;
    leave(client);
  }
  return left;
}

int clients_end(clients_record record, void *data) {
  struct pollfd polls[CLIENT_POLLS];
  int told = 0, left;
  stop_listening();
  while ((left = part(record, data, &told)) > 0) {
    int only_starter = left == 1 && clients[0].socket >= 0 && behind(&clients[0]) > 0;
    int count = clients_prepare(polls);
    int ready = poll(polls, (nfds_t)count, only_starter ? -1 : DRAIN_SECONDS * 1000);
    if (ready > 0) clients_serve(polls, count);
    for (int i = 1; i < CLIENTS && ready == 0; i++) leave(&clients[i]);
  }
  return told;
}

int clients_error(void) { return starter_error; }
