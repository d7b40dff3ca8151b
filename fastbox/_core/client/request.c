/* Handing a command line over. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "client.h"

/* The kernel lays a process's words out one behind the other (create_elf_tables): how many bytes
 * they have, -1 if somebody has moved them. */
static ssize_t size_of(char **words, uint32_t *count) {
  *count = 0;
  if (!words[0]) return 0;
  char *end = words[0];
  for (; *words; words++, ++*count) {
    if (*words != end) return -1;
    end += strlen(*words) + 1;
  }
  return end - words[-(ssize_t)*count];
}

static int describe(struct fb_request *request, uint64_t ignored, unsigned closed) {
  request->magic = FB_MAGIC;
  if (likeness_of_self(&request->likeness) < 0) return -1;
  request->ignored = ignored;
  for (int number = 0; number < FB_LIMITS; number++) {
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    getrlimit(number, &limit);
    request->limits[number][0] = limit.rlim_cur;
    request->limits[number][1] = limit.rlim_max;
  }
  request->umask = umask(0);
  umask(request->umask);
  request->open = ~closed & 7;
  return 0;
}

static int into_memfd(struct iovec *parts) {
  int file = memfd_create("fastbox-request", MFD_CLOEXEC);
  if (file < 0) return -1;
  for (int i = 0; i < 2; i++) {
    size_t done = 0;
    while (done < parts[i].iov_len) {
      ssize_t wrote = write(file, (char *)parts[i].iov_base + done, parts[i].iov_len - done);
      if (wrote <= 0) return -1;
      done += wrote;
    }
  }
  return file;
}

static int send_with(int connection, struct iovec *parts, int count, const int *fds, int number) {
  union {
    char bytes[CMSG_SPACE(5 * sizeof(int))];
    struct cmsghdr align;
  } control = {{0}};
  struct msghdr message = {
      .msg_iov = parts,
      .msg_iovlen = count,
      .msg_control = control.bytes,
      .msg_controllen = CMSG_SPACE(number * sizeof(int)),
  };
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(number * sizeof(int));
  memcpy(CMSG_DATA(rights), fds, number * sizeof(int));
  return sendmsg(connection, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

int send_request(int connection, char **argv, char **envp, uint64_t ignored,
                 unsigned closed) {
  static struct fb_request request;
  int fds[5], number = 0;
  ssize_t arguments = size_of(argv + 1, &request.arguments);
  ssize_t variables = size_of(envp, &request.variables);
  if (arguments < 0 || variables < 0 || arguments + variables > FB_MOST) return -1;
  if (describe(&request, ignored, closed) < 0) return -1;
  request.arguments_size = arguments;
  request.variables_size = variables;
  struct iovec parts[3] = {
      {&request, sizeof request}, {argv[1], arguments}, {envp[0], variables}};
  fds[number] = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fds[number++] < 0) return -1;
  for (int fd = 0; fd < 3; fd++)
    if (request.open >> fd & 1) fds[number++] = fd;
  request.in_memfd = arguments + variables > FB_PACKET;
  if (request.in_memfd) {
    fds[number] = into_memfd(parts + 1);
    if (fds[number++] < 0) return -1;
  }
  return send_with(connection, parts, request.in_memfd ? 1 : 3, fds, number);
}
