/* The clients of a container's streams: whoever started it attached, and who attached later. */
#ifndef FASTBOX_CLIENTS_H
#define FASTBOX_CLIENTS_H

#include <poll.h>
#include <stddef.h>

/* Each client has a SOCK_SEQPACKET socket; a packet is one letter and what belongs to it.
 *
 * To the monitor:                            From the monitor:
 *   A version flags   attach; descriptors:     H version flags  welcome: 1 terminal, 2 has input
 *                     stdout (flag 2),         N                no: there are too many
 *                     stderr (flag 4)          O data           a terminal's output
 *   I data            input, up to 32 KiB      K                the input was taken: send more
 *   E                 end of input             L                you lag too far behind, good-bye
 *   W rows columns    window size, two u16     X json           the exit record, the last packet
 *
 * Without a terminal, output goes straight to the client's descriptors. A client sends no second I
 * before its K. Who closes the socket leaves; the container goes on. */
#define CLIENTS 32
#define CLIENT_VERSION 1
#define CLIENT_OUTPUT 2
#define CLIENT_ERRORS 4
#define WELCOME_TTY 1
#define WELCOME_INPUT 2
#define CLIENT_POLLS (2 + CLIENTS * 3)

struct input {
  int fd;   /* the container's stdin: a pipe, or the terminal's master; -1: none, or closed */
  int tty;  /* the master, to be resized; -1: no terminal */
  int once; /* closed when the first client that has input is done */
};

/* `socket`, `out`, `err`: of the client that started the container, -1 each: none. */
void clients_start(struct input *input, int socket, int out, int err);
/* Begin to listen for others. */
void clients_listen(void);
/* What to wait for; returns how many entries of `polls` were filled. */
int clients_prepare(struct pollfd *polls);
/* After poll. */
void clients_serve(const struct pollfd *polls, int count);
/* Hand output of stream 0 or 1 to all. */
void clients_write(int stream, const char *data, size_t length);
/* Whether the starter's reader of a stream has gone and nobody else is there: a broken pipe. */
int clients_broken(int stream);
/* Whether the starter's reader of this stream is so far behind that the container has to wait. */
int clients_full(int stream);
/* The container has ended: everybody gets the last packet, once they have read all that waits for
 * them. The starter may take as long as it likes (the log has everything and the exit record
 * stands), others that take nothing for a while are left. Returns whether the starter was told.
 * record: writes the exit record into a buffer, returns its length. */
typedef size_t (*clients_record)(void *data, char *buffer, size_t size);
int clients_end(clients_record record, void *data);
/* errno of the first write to the starter's streams that failed for good, 0: none */
int clients_error(void);

#endif
