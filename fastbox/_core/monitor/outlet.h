/* Where a container's output goes beside the log: a descriptor that never makes us wait. */
#ifndef FASTBOX_OUTLET_H
#define FASTBOX_OUTLET_H

#include <stddef.h>
#include <sys/types.h>

/* A stopped or slow reader must not hold up the container, the log or other readers, and a reader
 * that only takes a break must not lose a byte: what does not fit into the kernel's buffer waits in
 * an unlinked file of the container's directory. */
struct outlet {
  int fd;           /* -1: closed */
  int kind;         /* how to write to it without waiting */
  int spill;        /* the file, -1: none yet */
  off_t start, end; /* what waits in it */
  off_t limit;      /* how much may wait there, 0: any amount */
};

#define OUTLET_LIMIT (64 << 20)
#define OUTLET_PACKET 'O' /* what a terminal's output begins with on a packet socket */
#define OUTLET_PIECE 32768

void outlet_none(struct outlet *outlet);
/* Takes over `fd`. packets: a SOCK_SEQPACKET socket, which stays the caller's. */
void outlet_open(struct outlet *outlet, int fd, int packets, off_t limit);
void outlet_close(struct outlet *outlet);
/* 0, or -1: it cannot be written to any more (errno), or the reader lags too far behind (ENOBUFS). */
int outlet_write(struct outlet *outlet, const char *data, size_t length);
/* Write as much of what waits as goes without waiting. 0, or -1 as above. */
int outlet_flush(struct outlet *outlet);
static inline off_t outlet_waiting(const struct outlet *outlet) {
  return outlet->end - outlet->start;
}

#endif
