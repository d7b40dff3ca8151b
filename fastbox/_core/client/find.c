/* Whether there is a server for this command line, and where. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"

static const char DEFAULT_RUNTIME[] = "/run/fastbox";
static const char SOCKET[] = "command.sock";

static const char *variable(char **envp, const char *name) {
  size_t length = strlen(name);
  for (; *envp; envp++)
    if (!strncmp(*envp, name, length) && (*envp)[length] == '=') return *envp + length + 1;
  return NULL;
}

/* The value of a global option, if this word is it: "--root X" and "--root=X". */
static const char *value_of(const char *option, char **words, int *taken) {
  size_t length = strlen(option);
  if (strncmp(words[0], option, length)) return NULL;
  if (words[0][length] == '=') return words[0] + length + 1;
  if (words[0][length] || !words[1]) return NULL;
  *taken = 2;
  return words[1];
}

/* The global options before the command's name, as far as they say which store is meant. */
static void read_options(char **words, const char **root, const char **runtime, char **verb) {
  *verb = NULL;
  while (*words && **words == '-') {
    int taken = 1;
    const char *value = value_of("--root", words, &taken);
    if (value) *root = value;
    else if ((value = value_of("--runtime-dir", words, &taken))) *runtime = value;
    words += taken;
  }
  *verb = *words;
}

/* Descriptors beyond 0-2 do not go with the command: <(process substitution) is one. */
static int names_own_files(char **words) {
  for (; *words; words++)
    if (strstr(*words, "dev/fd/") || strstr(*words, "proc/self") || strstr(*words, "proc/thread-self"))
      return 1;
  return 0;
}

/* In the background of its terminal a process must not read from it; the kernel sees to that, but
 * not for a worker, whose terminal it is not. */
static int is_in_background(void) {
  pid_t group;
  return ioctl(0, TIOCGPGRP, &group) == 0 && group != getpgrp();
}

static int connect_below(const char *directory) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int holder = -1;
  int size = snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", directory, SOCKET);
  if (size >= (int)sizeof address.sun_path) {
    holder = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (holder < 0) return -1;
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", holder, SOCKET);
  }
  /* Where the queue is full, a blocking connect would wait. */
  int made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (made >= 0 && connect(made, (struct sockaddr *)&address, sizeof address) < 0) {
    close(made);
    made = -1;
  }
  if (holder >= 0) close(holder);
  return made;
}

static int is_same_file(const char *one, const char *other) {
  struct stat first, second;
  return stat(one, &first) == 0 && stat(other, &second) == 0 && first.st_ino == second.st_ino &&
         first.st_dev == second.st_dev;
}

/* Whoever listens gets our environment, terminal and working directory: nobody but ourselves, and no
 * root of a container that has the directory mounted. */
static int is_ours(int connection) {
  struct ucred peer;
  char space[48];
  socklen_t size = sizeof peer;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return 0;
  snprintf(space, sizeof space, "/proc/%d/ns/mnt", peer.pid);
  return peer.uid == geteuid() && getuid() == geteuid() && is_same_file(space, "/proc/self/ns/mnt");
}

int find_server(int argc, char **argv, char **envp) {
  const char *direct = variable(envp, "FASTBOX_DIRECT");
  if (argc < 1 || (direct && *direct && strcmp(direct, "0"))) return -1;
  const char *root = variable(envp, "FASTBOX_ROOT");
  const char *runtime = variable(envp, "FASTBOX_RUNTIME_DIR");
  char *verb, below[4096];
  read_options(argv + 1, &root, &runtime, &verb);
  if (verb && !strcmp(verb, "supervisor")) return -1; /* it starts and ends what would serve it */
  if (!runtime || !*runtime) {
    runtime = DEFAULT_RUNTIME;
    if (root && *root) {
      if (snprintf(below, sizeof below, "%s/run", root) >= (int)sizeof below) return -1;
      runtime = below;
    }
  }
  int connection = connect_below(runtime);
  if (connection < 0) return -1;
  if (is_ours(connection) && !names_own_files(argv + 1) && !names_own_files(envp) &&
      !is_in_background())
    return connection;
  close(connection);
  return -1;
}
