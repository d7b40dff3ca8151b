/* Where a container's output is kept: a CRI file, or lines sent to a daemon of the host's. */
#ifndef FASTBOX_LOG_H
#define FASTBOX_LOG_H

#include <stddef.h>
#include <stdint.h>

struct log_options {
  const char *driver; /* "cri", "journald", "syslog"; anything else keeps nothing */
  int directory;      /* cri: where container.log lives */
  int64_t max_size;   /* cri: bytes; <= 0: no rotation */
  int max_files;
  const char *socket; /* of the daemon */
  const char *header; /* journald: fields, a line each; syslog: facility * 8, a space, the tag */
};

void log_open(const struct log_options *options);
/* stream: 0 stdout, 1 stderr */
void log_write(int stream, const char *data, size_t length);
/* A line that did not end is kept too. */
void log_close(void);
/* Bytes that could not be kept. */
uint64_t log_dropped(void);

/* cri.c */
void cri_open(const struct log_options *options);
uint64_t cri_write(int stream, const char *data, size_t length); /* bytes dropped */
/* daemon.c */
void daemon_open(const struct log_options *options);
uint64_t daemon_write(int stream, const char *data, size_t length);
uint64_t daemon_close(void);

#endif
