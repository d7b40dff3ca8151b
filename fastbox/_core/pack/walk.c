#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "../launch/sys.h"

#define OPEN_LEVELS 64 /* directories that are open at once */
#define TRIES 16       /* for an entry that changes whenever it is looked at */

#define MOUNT_ATTR_GUARD 0x1f     /* rdonly, nosuid, nodev, noexec, noatime */
#define MOUNT_ATTR_ATIME_MASK 0x70

int walk_name(struct walk *walk, size_t length, const char *name) {
  walk->path.length = length;
  if (buffer_add(&walk->path, name, strlen(name) + 1) < 0)
    return walk_fail(walk, FB_PACK_START, ENOMEM, NULL);
  walk->path.length--;
  return 0;
}

static struct level *new_level(struct walk *walk) {
  if (walk->depth == walk->room) {
    size_t room = walk->room ? walk->room * 2 : 32;
    struct level *grown = realloc(walk->levels, room * sizeof(*grown));
    if (!grown) return NULL;
    walk->levels = grown;
    walk->room = room;
  }
  return &walk->levels[walk->depth];
}

/* Descriptors far up are closed: going back opens them again. */
static void close_far(struct walk *walk) {
  if (walk->depth <= OPEN_LEVELS) return;
  struct level *far = &walk->levels[walk->depth - OPEN_LEVELS - 1];
  if (far->fd >= 0) close(far->fd);
  far->fd = -1;
}

static int go_down(struct walk *walk, int fd, const struct stat *st, int inside) {
  struct level *level = new_level(walk);
  if (!level) return walk_fail(walk, FB_PACK_START, ENOMEM, NULL);
  if (!inside)
    level->listing = (struct listing){0};
  else if (listing_read(&level->listing, fd, walk->overlay) < 0)
    return walk_fail(walk, FB_PACK_LIST, errno, NULL);
  level->path_length = walk->path.length;
  level->dev = st->st_dev;
  level->ino = st->st_ino;
  level->fd = fd;
  walk->depth++;
  close_far(walk);
  return 0;
}

/* Something else is mounted there: what is below is not of this tree. */
static int is_mount(int fd) {
  struct statx found;
  if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, 0, &found) < 0) return 0;
  return (found.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

static int put_opaque(struct walk *walk) {
  static const char mark[] = ".wh..wh..opq";
  size_t length = walk->path.length;
  if (walk_name(walk, length, mark) < 0) return -1;
  struct record record = {
      .type = '0', .name = walk->path.at, .name_length = walk->path.length, .mode = 0600};
  if (record_put(&walk->tape, &record, &walk->body) < 0) return -1;
  walk->job->result.entries++;
  return walk_name(walk, length, "");
}

static int put_directory(struct walk *walk, int fd, const struct stat *st) {
  if (attributes_read(&walk->attributes, fd, 1, walk->overlay) < 0)
    return errno ? walk_fail(walk, FB_PACK_XATTR, errno, NULL)
                 : walk_fail(walk, FB_PACK_REFUSED, 0, walk->attributes.why);
  if (walk->path.length && walk_name(walk, walk->path.length, "/") < 0) return -1;
  const char *name = walk->path.length ? walk->path.at : "./";
  struct record record = {
      .type = '5',
      .name = name,
      .name_length = strlen(name),
      .mode = st->st_mode & 07777,
      .uid = st->st_uid,
      .gid = st->st_gid,
      .mtime = st->st_mtim.tv_sec,
      .mtime_ns = st->st_mtim.tv_nsec,
      .xattrs = &walk->attributes.records,
  };
  if (record_put(&walk->tape, &record, &walk->body) < 0) return -1;
  walk->job->result.entries++;
  return walk->overlay && walk->attributes.opaque ? put_opaque(walk) : 0;
}

enum outcome directory_add(struct walk *walk, int fd) {
  struct stat st;
  int status = fstat(fd, &st) < 0 ? walk_fail(walk, FB_PACK_STAT, errno, NULL) : 0;
  int inside = walk->depth == 0 || !is_mount(fd);
  if (status == 0) status = put_directory(walk, fd, &st);
  if (status == 0) status = go_down(walk, fd, &st, inside);
  if (status == 0) return FB_DONE;
  close(fd);
  return FB_FAILED;
}

/* ---- the walk -------------------------------------------------------------------------------- */

/* Leave the deepest directory. The one above may have been closed: it is what ".." leads to, unless
 * somebody has moved ours meanwhile. */
static int go_up(struct walk *walk) {
  struct level *level = &walk->levels[walk->depth - 1], *above = level - 1;
  if (walk->depth > 1 && above->fd < 0) {
    struct stat st;
    above->fd = openat(level->fd, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (above->fd < 0 && errno == ENOENT) /* out of the mount */
      return walk_fail(walk, FB_PACK_CHANGED, 0, "was moved");
    if (above->fd < 0) return walk_fail(walk, FB_PACK_OPEN, errno, NULL);
    if (fstat(above->fd, &st) < 0 || st.st_dev != above->dev || st.st_ino != above->ino)
      return walk_fail(walk, FB_PACK_CHANGED, 0, "was moved");
  }
  listing_free(&level->listing);
  close(level->fd);
  walk->depth--;
  return 0;
}

static int add_one(struct walk *walk, const char *name) {
  struct level *level = &walk->levels[walk->depth - 1];
  for (int i = 0; i < TRIES; i++) {
    if (walk_name(walk, level->path_length, name) < 0) return -1;
    enum outcome outcome = entry_add(walk, name);
    if (outcome != FB_AGAIN) return outcome == FB_FAILED ? -1 : 0;
  }
  return walk_fail(walk, FB_PACK_CHANGED, 0, "changes all the time");
}

static int go_through(struct walk *walk) {
  while (walk->depth) {
    if (pack_stopped(walk->job)) return -1;
    struct level *level = &walk->levels[walk->depth - 1];
    const char *name = listing_next(&level->listing);
    if (walk_name(walk, level->path_length, "") < 0) return -1;
    if ((name ? add_one(walk, name) : go_up(walk)) < 0) return -1;
  }
  return tape_end(&walk->tape);
}

/* A mount of our own of the source, through which no device can be opened, whatever a name is
 * swapped for, and no time of access is set. Its descriptor; -1 where that is not possible: then
 * files are opened in two steps. */
static int guard(int source) {
  int tree = fb_open_tree(source, "", FB_OPEN_TREE_CLONE | AT_EMPTY_PATH);
  if (tree < 0) return -1;
  struct fb_mount_attr attr = {.attr_set = MOUNT_ATTR_GUARD, .attr_clr = MOUNT_ATTR_ATIME_MASK};
  if (fb_mount_setattr(tree, 0, &attr) == 0) return tree;
  close(tree);
  return -1;
}

static int is_guarded(int source) {
  struct statvfs found;
  return fstatvfs(source, &found) == 0 && (found.f_flag & ST_NODEV) != 0;
}

static int run(struct walk *walk) {
  struct fb_pack_job *job = walk->job;
  if (attributes_init(&walk->attributes) < 0 || walk_name(walk, 0, "") < 0)
    return pack_fail(job, FB_PACK_START, ENOMEM, NULL, NULL);
  int source = job->options.source;
  int mounted = job->options.careful ? -1 : guard(source);
  walk->guarded = mounted >= 0 || (!job->options.careful && is_guarded(source));
  int root = openat(mounted >= 0 ? mounted : source, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int status = root < 0 ? walk_fail(walk, FB_PACK_OPEN, errno, NULL) : 0;
  if (status == 0) status = directory_add(walk, root) == FB_DONE ? 0 : -1;
  if (status == 0) status = go_through(walk);
  if (mounted >= 0) close(mounted);
  return status;
}

void walker_run(struct fb_pack_job *job) {
  struct walk walk = {.job = job, .tape = {.job = job}};
  walk.overlay = job->options.whiteouts == FB_PACK_OVERLAY;
  run(&walk);
  while (walk.depth) {
    struct level *level = &walk.levels[--walk.depth];
    listing_free(&level->listing);
    if (level->fd >= 0) close(level->fd);
  }
  free(walk.levels);
  buffer_free(&walk.path);
  buffer_free(&walk.body);
  buffer_free(&walk.target);
  attributes_free(&walk.attributes);
  links_free(&walk.links);
}
