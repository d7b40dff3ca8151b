#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "whiteout.h"

#define DIRECTORY (O_PATH | O_DIRECTORY | O_CLOEXEC)

static int open_in_root(int root, const char *path) {
  struct open_how how = {.flags = DIRECTORY,
                         .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

void paths_init(struct paths *paths, struct fb_job *job, int root, int walk) {
  paths->job = job;
  paths->root = root;
  paths->walk = walk;
  paths->clock = 0;
  paths->count = paths->last = 0;
  if (walk) return;
  int fd = open_in_root(root, ".");
  /* ENOSYS: Linux before 5.6; EPERM: a seccomp filter that does not know the call. */
  if (fd < 0)
    paths->walk = 1;
  else
    close(fd);
}

void paths_forget(struct paths *paths) {
  for (int i = 0; i < paths->count; i++) close(paths->cache[i].fd);
  paths->count = paths->last = 0;
}

void paths_free(struct paths *paths) {
  paths_forget(paths);
}

/* ---- component by component ------------------------------------------------------------------ */

struct walk {
  struct paths *paths;
  int at; /* where it has come to */
  int links, create;
  size_t next; /* in paths->way */
};

static void step_to(struct walk *walk, int fd) {
  if (walk->at != walk->paths->root) close(walk->at);
  walk->at = fd;
}

static int step_up(struct walk *walk) {
  struct stat here, root;
  if (fstat(walk->at, &here) < 0 || fstat(walk->paths->root, &root) < 0) return -1;
  if (here.st_dev == root.st_dev && here.st_ino == root.st_ino) return 0;
  int fd = openat(walk->at, "..", DIRECTORY | O_NOFOLLOW);
  if (fd < 0) return -1;
  step_to(walk, fd);
  return 0;
}

/* Put the link's target before the rest of the way. */
static int step_link(struct walk *walk, const char *component) {
  char target[PATH_MAX];
  ssize_t n = readlinkat(walk->at, component, target, sizeof(target) - 1);
  if (n < 0) {
    if (errno == EINVAL) errno = ENOTDIR; /* not a link either */
    return -1;
  }
  if (++walk->links > FB_PATHS_LINKS) {
    errno = ELOOP;
    return -1;
  }
  char *way = walk->paths->way;
  size_t rest = strlen(way + walk->next);
  if ((size_t)n + 1 + rest + 1 > FB_PATHS_WAY) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memmove(way + n + 1, way + walk->next, rest + 1);
  memcpy(way, target, (size_t)n);
  way[n] = '/';
  walk->next = 0;
  if (n && target[0] == '/') step_to(walk, walk->paths->root);
  return 0;
}

static int make_directory(struct walk *walk, const char *component) {
  return mkdirat(walk->at, component, 0755) == 0 || errno == EEXIST ? 0 : -1;
}

/* A directory takes the place of this layer's own whiteout: what that hid stays hidden. */
static int replace_whiteout(struct walk *walk, const char *component) {
  if (unlinkat(walk->at, component, 0) < 0 || make_directory(walk, component) < 0) return -1;
  return whiteout_make_opaque(walk->paths->job, walk->at, component);
}

static int step_into(struct walk *walk, const char *component) {
  for (;;) {
    int fd = openat(walk->at, component, DIRECTORY | O_NOFOLLOW);
    if (fd >= 0) {
      step_to(walk, fd);
      return 0;
    }
    if (errno == ENOENT && walk->create) {
      if (make_directory(walk, component) < 0) return -1;
    } else if (errno == ENOTDIR || errno == ELOOP) {
      if (!walk->create || !whiteout_is(walk->at, component)) return step_link(walk, component);
      if (replace_whiteout(walk, component) < 0) return -1;
    } else {
      return -1;
    }
  }
}

static int take_component(struct walk *walk, char component[NAME_MAX + 1]) {
  const char *way = walk->paths->way;
  while (way[walk->next] == '/') walk->next++;
  const char *from = way + walk->next;
  size_t n = strcspn(from, "/");
  if (n > NAME_MAX) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(component, from, n);
  component[n] = 0;
  walk->next += n;
  return (int)n;
}

static int walk_to(struct paths *paths, const char *path, int create) {
  struct walk walk = {.paths = paths, .at = paths->root, .create = create};
  char component[NAME_MAX + 1];
  strcpy(paths->way, path); /* shorter than PATH_MAX: see paths_open */
  int n;
  while ((n = take_component(&walk, component)) > 0) {
    int status = 0;
    if (!strcmp(component, ".."))
      status = step_up(&walk);
    else if (strcmp(component, "."))
      status = step_into(&walk, component);
    if (status < 0) n = -1;
    if (n < 0) break;
  }
  if (n < 0) {
    int err = errno;
    step_to(&walk, paths->root);
    errno = err;
    return -1;
  }
  return walk.at == paths->root ? fcntl(paths->root, F_DUPFD_CLOEXEC, 0) : walk.at;
}

/* ---- with a cache ---------------------------------------------------------------------------- */

static int resolve(struct paths *paths, const char *path, int create) {
  if (paths->walk) return walk_to(paths, path, create);
  int fd = open_in_root(paths->root, path);
  /* EAGAIN: something was renamed elsewhere while ".." was resolved.
   * ENOTDIR: perhaps a whiteout where a directory is to be. */
  if (fd < 0 && (errno == EAGAIN || (create && (errno == ENOENT || errno == ENOTDIR))))
    return walk_to(paths, path, create);
  return fd;
}

static struct cached *find(struct paths *paths, const char *path, size_t length) {
  for (int n = 0; n < paths->count; n++) {
    int i = (paths->last + n) % paths->count;
    struct cached *c = &paths->cache[i];
    if (c->length == length && !memcmp(c->path, path, length)) {
      paths->last = i;
      return c;
    }
  }
  return NULL;
}

static struct cached *oldest(struct paths *paths) {
  int best = 0;
  if (paths->count < FB_PATHS_CACHED) {
    best = paths->count++;
  } else {
    for (int i = 1; i < FB_PATHS_CACHED; i++)
      if (paths->cache[i].used < paths->cache[best].used) best = i;
    close(paths->cache[best].fd);
  }
  paths->last = best;
  return &paths->cache[best];
}

int paths_open(struct paths *paths, const char *path, size_t length, int create) {
  if (length == 0) return paths->root;
  if (length >= PATH_MAX) {
    errno = ENAMETOOLONG;
    return -1;
  }
  struct cached *c = find(paths, path, length);
  if (!c) {
    char text[PATH_MAX];
    memcpy(text, path, length);
    text[length] = 0;
    int fd = resolve(paths, text, create);
    if (fd < 0) return -1;
    c = oldest(paths);
    c->fd = fd;
    c->length = length;
    memcpy(c->path, text, length + 1);
  }
  c->used = ++paths->clock;
  return c->fd;
}
