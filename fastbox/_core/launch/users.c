/* The files are the image's: regular files only, never a FIFO or a device that blocks or never
 * ends, at most 10 MiB, each line bounded (CVE-2026-47262, CVE-2024-9676). A number is never a name
 * (CVE-2024-40635); the primary group is always among the supplementary ones (CVE-2022-36109). */
#include "users.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "sys.h"

#define FILE_LIMIT (10 * 1024 * 1024)
#define LINE_LIMIT 8192

struct lines {
  int fd;
  size_t begin, end, total;
  char buffer[LINE_LIMIT * 2];
};

static int lines_open(struct lines *lines, const char *path) {
  lines->begin = lines->end = lines->total = 0;
  lines->fd = fb_openat2(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
                         FB_RESOLVE_NO_MAGICLINKS);
  if (lines->fd < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
  struct stat status;
  struct statfs fs;
  if (fstat(lines->fd, &status) < 0 || fstatfs(lines->fd, &fs) < 0)
    ;
  else if (!S_ISREG(status.st_mode) || fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC)
    errno = EINVAL; /* what /proc calls a regular file may tell of the engine, or never end */
  else if (status.st_size > FILE_LIMIT)
    errno = EFBIG;
  else
    return 0;
  fb_close(lines->fd);
  lines->fd = -1;
  return -1;
}

static void lines_close(struct lines *lines) {
  if (lines->fd >= 0) fb_close(lines->fd);
  lines->fd = -1;
}

/* The next line, ended by NUL, or NULL at the end. Lines over the limit are passed over. */
static char *lines_next(struct lines *lines) {
  int skipping = 0;
  while (lines->fd >= 0) {
    char *start = lines->buffer + lines->begin;
    char *newline = memchr(start, '\n', lines->end - lines->begin);
    if (newline) {
      *newline = 0;
      lines->begin = (size_t)(newline - lines->buffer) + 1;
      if (skipping) {
        skipping = 0;
        continue;
      }
      return start;
    }
    if (lines->end - lines->begin >= LINE_LIMIT) {
      skipping = 1;
      lines->begin = lines->end;
    }
    memmove(lines->buffer, lines->buffer + lines->begin, lines->end - lines->begin);
    lines->end -= lines->begin;
    lines->begin = 0;
    ssize_t n = lines->total >= FILE_LIMIT
                    ? 0
                    : read(lines->fd, lines->buffer + lines->end,
                           sizeof lines->buffer - 1 - lines->end);
    if (n <= 0) { /* a last line without newline */
      lines_close(lines);
      if (skipping || lines->begin == lines->end) return NULL;
      lines->buffer[lines->end] = 0;
      lines->begin = lines->end;
      return lines->buffer;
    }
    lines->end += (size_t)n;
    lines->total += (size_t)n;
  }
  return NULL;
}

/* Split at ':' in place; returns how many fields there are (at most `max`). */
static int split(char *line, char **fields, int max) {
  int n = 0;
  while (n < max) {
    fields[n++] = line;
    line = strchr(line, ':');
    if (!line) break;
    *line++ = 0;
  }
  return n;
}

static int parse_id(const char *text, uint32_t *id) {
  uint64_t value = 0;
  if (!*text) return -1;
  for (; *text; text++) {
    if (*text < '0' || *text > '9') return -1;
    value = value * 10 + (uint64_t)(*text - '0');
    if (value > 0x7fffffff) return -1;
  }
  *id = (uint32_t)value;
  return 0;
}

static void set_home(struct fb_user *user, const char *home) {
  size_t length = strlen(home);
  memcpy(user->home, "HOME=", 5);
  if (length == 0 || length + 6 > sizeof user->home) {
    home = "/";
    length = 1;
  }
  memcpy(user->home + 5, home, length + 1);
}

static int find_passwd(const struct fb_plan *plan, struct fb_user *user, struct lines *lines,
                       const char **name, char *name_buffer, size_t name_size) {
  int by_name = (plan->flags & FB_P_USER_NAME) != 0;
  const char *wanted = fb_string(plan, plan->user_name);
  if (lines_open(lines, "/etc/passwd") < 0) return -1;
  for (char *line; (line = lines_next(lines));) {
    char *fields[7];
    uint32_t uid, gid;
    if (split(line, fields, 7) < 6) continue;
    if (parse_id(fields[2], &uid) < 0 || parse_id(fields[3], &gid) < 0) continue;
    if (by_name ? strcmp(fields[0], wanted) != 0 : uid != plan->uid) continue;
    user->uid = uid;
    user->gid = gid;
    set_home(user, fields[5]);
    size_t length = strlen(fields[0]);
    if (length < name_size) {
      memcpy(name_buffer, fields[0], length + 1);
      *name = name_buffer;
    }
    lines_close(lines);
    return 1;
  }
  lines_close(lines);
  return 0;
}

static void add_group(struct fb_user *user, uint32_t gid) {
  for (int i = 0; i < user->ngroups; i++)
    if (user->groups[i] == gid) return;
  if (user->ngroups < FB_MAX_GROUPS) user->groups[user->ngroups++] = gid;
}

static int is_member(char *members, const char *name) {
  while (members && *members) {
    char *comma = strchr(members, ',');
    if (comma) *comma = 0;
    if (strcmp(members, name) == 0) return 1;
    members = comma ? comma + 1 : NULL;
  }
  return 0;
}

struct group_search {
  const struct fb_plan *plan;
  const char *user_name;   /* membership of this user, or NULL */
  const char *group_name;  /* the primary group by name, or NULL */
  int found_group;
  uint64_t found_extra[FB_MAX_GROUPS / 64];
};

static void one_group(struct group_search *search, struct fb_user *user, char *line) {
  const struct fb_plan *plan = search->plan;
  const struct fb_group *extra = (const struct fb_group *)((const char *)plan + plan->groups);
  char *fields[4];
  uint32_t gid;
  int n = split(line, fields, 4);
  if (n < 3 || parse_id(fields[2], &gid) < 0) return;
  if (search->group_name && strcmp(fields[0], search->group_name) == 0 && !search->found_group) {
    user->gid = gid;
    search->found_group = 1;
  }
  for (uint32_t i = 0; i < plan->ngroups; i++) {
    const char *name = fb_string(plan, extra[i].name);
    if (name && strcmp(fields[0], name) == 0) {
      add_group(user, gid);
      search->found_extra[i / 64] |= 1ull << (i % 64);
    }
  }
  if (n == 4 && search->user_name && is_member(fields[3], search->user_name)) add_group(user, gid);
}

static int resolve_groups(const struct fb_plan *plan, struct fb_user *user, struct lines *lines,
                          const char *user_name, struct fb_error *error) {
  struct group_search search = {.plan = plan};
  /* As in Docker: an explicit group replaces the memberships of the user's own entry. */
  search.user_name = (plan->flags & FB_P_GROUP) ? NULL : user_name;
  search.group_name = (plan->flags & FB_P_GROUP) ? fb_string(plan, plan->group_name) : NULL;
  const struct fb_group *extra = (const struct fb_group *)((const char *)plan + plan->groups);
  error->step = FB_STEP_GROUP;
  if (lines_open(lines, "/etc/group") < 0) return -1;
  for (char *line; (line = lines_next(lines));) one_group(&search, user, line);
  lines_close(lines);
  errno = ENOENT;
  if (search.group_name && !search.found_group) return -1;
  for (uint32_t i = 0; i < plan->ngroups; i++) {
    if (!extra[i].name) {
      add_group(user, extra[i].gid);
    } else if (!(search.found_extra[i / 64] >> (i % 64) & 1)) {
      error->index = (int32_t)i;
      return -1;
    }
  }
  add_group(user, user->gid);
  error->step = FB_STEP_NONE;
  return 0;
}

int fb_resolve_user(const struct fb_context *context, struct fb_user *user,
                    struct fb_error *error) {
  const struct fb_plan *plan = context->plan;
  struct lines lines;
  char name_buffer[256];
  const char *name = NULL;
  user->uid = plan->uid;
  user->gid = 0;
  user->ngroups = 0;
  set_home(user, "/");
  error->step = FB_STEP_USER;
  error->index = -1;
  int found = find_passwd(plan, user, &lines, &name, name_buffer, sizeof name_buffer);
  if (found < 0) return -1;
  if (!found && (plan->flags & FB_P_USER_NAME)) {
    errno = ENOENT;
    return -1;
  }
  if (plan->flags & FB_P_GROUP) user->gid = plan->gid;
  return resolve_groups(plan, user, &lines, name, error);
}
