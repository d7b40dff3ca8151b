#include "whiteout.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PREFIX_LENGTH (sizeof(FB_WHITEOUT_PREFIX) - 1)

static int has_prefix(const char *text) {
  return !strncmp(text, FB_WHITEOUT_PREFIX, PREFIX_LENGTH);
}

static int is_of_aufs(const char *path) {
  static const char *const names[] = {".wh..wh.aufs", ".wh..wh.orph", ".wh..wh.plnk"};
  for (int i = 0; i < 3; i++) {
    size_t n = strlen(names[i]);
    if (!strncmp(path, names[i], n) && (path[n] == 0 || path[n] == '/')) return 1;
  }
  return 0;
}

enum whiteout whiteout_kind(const struct name *name) {
  const char *base = name_base(name);
  if (is_of_aufs(name->path)) return FB_WHITEOUT_IGNORE;
  /* A directory of that name could not be packed again. */
  for (const char *at = name->path; at < base; at = strchr(at, '/') + 1)
    if (has_prefix(at)) return FB_WHITEOUT_REFUSED;
  if (!has_prefix(base)) return FB_NO_WHITEOUT;
  if (!strcmp(base, ".wh..wh..opq")) return FB_WHITEOUT_OPAQUE;
  const char *hidden = base + PREFIX_LENGTH;
  if (!*hidden || !strcmp(hidden, ".") || !strcmp(hidden, "..") || has_prefix(hidden))
    return FB_WHITEOUT_REFUSED;
  return FB_WHITEOUT_HIDE;
}

int whiteout_is(int dir, const char *name) {
  struct stat st;
  return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
         st.st_rdev == makedev(0, 0);
}

int whiteout_make_opaque(struct fb_job *job, int dir, const char *name) {
  int fd = openat(dir, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -1;
  int err = job_make_opaque(job, fd);
  close(fd);
  errno = err;
  return err ? -1 : 0;
}

int whiteout_hide(struct fb_job *job, int dir, const char *name) {
  if (mknodat(dir, name, S_IFCHR, makedev(0, 0)) == 0) return 0;
  if (errno != EEXIST) return -1;
  struct stat st;
  if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return -1;
  return S_ISDIR(st.st_mode) ? whiteout_make_opaque(job, dir, name) : 0;
}
