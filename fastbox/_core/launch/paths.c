/* Inside the root, everything is hostile: an image or an earlier run may have put symlinks anywhere.
 * After pivot_root they can only lead inside; magic links (/proc/PID/root, fd) could still lead out,
 * so they are never followed (CVE-2021-30465, CVE-2024-45310, CVE-2026-41579 and their family). */
#include "paths.h"

#include <limits.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "sys.h"

#define PROC_SUPER_MAGIC 0x9fa0
#define IN_ROOT (FB_RESOLVE_IN_ROOT | FB_RESOLVE_NO_MAGICLINKS)

static int open_root(void) { return open("/", O_PATH | O_DIRECTORY | O_CLOEXEC); }

/* Make the missing component of the prefix `path[0..end)`; its parent exists. */
static int make_component(int root, const char *path, size_t end, unsigned flags, int last) {
  char prefix[PATH_MAX], name[NAME_MAX + 1];
  size_t start = end;
  while (start > 0 && path[start - 1] != '/') start--;
  size_t length = end - start;
  if (length > NAME_MAX || start >= sizeof prefix) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(name, path + start, length);
  name[length] = 0;
  memcpy(prefix, path, start);
  prefix[start] = 0;
  int parent = fb_openat2(root, start ? prefix : "/", O_PATH | O_DIRECTORY, 0, IN_ROOT);
  if (parent < 0) return -1;
  int result;
  if (last && (flags & FB_F_FILE)) {
    result = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
    if (result >= 0) {
      fb_close(result);
      result = 0;
    }
  } else {
    result = mkdirat(parent, name, 0755);
  }
  fb_close(parent);
  return result < 0 && errno != EEXIST ? -1 : 0;
}

static int make_path(int root, const char *path, unsigned flags) {
  size_t length = strlen(path);
  if (length >= PATH_MAX) {
    errno = ENAMETOOLONG;
    return -1;
  }
  char prefix[PATH_MAX];
  for (size_t end = 1; end <= length; end++) {
    if (path[end] != '/' && path[end] != 0) continue;
    if (path[end - 1] == '/') continue;
    memcpy(prefix, path, end);
    prefix[end] = 0;
    int fd = fb_openat2(root, prefix, O_PATH, 0, IN_ROOT);
    if (fd >= 0) {
      fb_close(fd);
      continue;
    }
    if (errno != ENOENT) return -1;
    size_t rest = end;
    while (path[rest] == '/') rest++;
    if (make_component(root, path, end, flags, path[rest] == 0) < 0) return -1;
  }
  return 0;
}

int fb_target(const char *path, unsigned flags) {
  int root = open_root();
  if (root < 0) return -1;
  uint64_t open_flags = O_PATH | ((flags & FB_F_NOFOLLOW) ? O_NOFOLLOW : 0);
  uint64_t resolve = IN_ROOT | ((flags & FB_F_NOFOLLOW) ? FB_RESOLVE_NO_SYMLINKS : 0);
  if (flags & FB_F_DIR) open_flags |= O_DIRECTORY;
  int fd = fb_openat2(root, path, open_flags, 0, resolve);
  if (fd < 0 && errno == ENOENT && (flags & (FB_F_DIR | FB_F_FILE)) &&
      make_path(root, path, flags) == 0)
    fd = fb_openat2(root, path, open_flags, 0, resolve);
  fb_close(root);
  if (fd >= 0 && (flags & FB_F_FILE)) {
    struct stat status;
    if (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
      fb_close(fd);
      errno = EISDIR;
      return -1;
    }
  }
  return fd;
}

int fb_is_guarded(int fd, const char *path) {
  static const char *const allowed[] = {"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo",
                                        "/proc/stat",    "/proc/swaps",     "/proc/uptime",
                                        "/proc/loadavg", "/proc/slabinfo"};
  struct statfs fs;
  if (fstatfs(fd, &fs) < 0) return 1;
  if (fs.f_type != PROC_SUPER_MAGIC) return 0;
  for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
    if (strcmp(path, allowed[i]) == 0) return 0;
  return 1;
}
