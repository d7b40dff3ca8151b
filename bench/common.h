/* What the measures of the kernel's own price (floor.c, enter.c) have in common: Docker's default
 * confinement, a clock, and failures. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

#define CHECK(call) \
  do {              \
    if ((call) < 0) die(#call); \
  } while (0)

static struct sock_fprog filter; /* empty: none */

static void die(const char *what) {
  fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
  _exit(125);
}

/* Nanoseconds. */
static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* From a file of struct sock_filter. */
static void read_filter(const char *path) {
  struct stat st;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) < 0) die(path);
  filter.filter = malloc((size_t)st.st_size);
  if (!filter.filter || read(fd, filter.filter, (size_t)st.st_size) != st.st_size) die(path);
  filter.len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
  close(fd);
}

static void drop_capabilities(void) {
  const uint64_t keep = 0xa80425fb; /* Docker's fourteen */
  for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
    if (!(keep >> cap & 1)) CHECK(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{(uint32_t)keep, (uint32_t)keep, 0}, {0, 0, 0}};
  CHECK(syscall(SYS_capset, &header, data));
}

#endif
