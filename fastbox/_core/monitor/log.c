#include "log.h"

#include <string.h>

static enum { NONE, CRI, DAEMON } kind;
static uint64_t dropped;

void log_open(const struct log_options *options) {
  if (strcmp(options->driver, "cri") == 0) {
    kind = CRI;
    cri_open(options);
  } else if (strcmp(options->driver, "journald") == 0 || strcmp(options->driver, "syslog") == 0) {
    kind = DAEMON;
    daemon_open(options);
  }
}

void log_write(int stream, const char *data, size_t length) {
  if (kind == CRI) dropped += cri_write(stream, data, length);
  if (kind == DAEMON) dropped += daemon_write(stream, data, length);
}

void log_close(void) {
  if (kind == DAEMON) dropped += daemon_close();
}

uint64_t log_dropped(void) { return dropped; }
