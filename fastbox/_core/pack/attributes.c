#include "attributes.h"

#include <errno.h>
#include <sys/xattr.h>

#include "../tar/xattrs.h"
#include "record.h"

#define LIST_ROOM 65536  /* XATTR_LIST_MAX */
#define VALUE_ROOM 65536 /* XATTR_SIZE_MAX */
#define RECORDS_MOST (1024 * 1024 - 16384) /* readers, ours and Go's, take 1 MiB of pax header */
#define COUNT_MOST 1024
#define PREFIX "SCHILY.xattr."

int attributes_init(struct attributes *attributes) {
  *attributes = (struct attributes){0};
  attributes->names = malloc(LIST_ROOM);
  attributes->value = malloc(VALUE_ROOM);
  return attributes->names && attributes->value ? 0 : -1;
}

void attributes_free(struct attributes *attributes) {
  free(attributes->names);
  free(attributes->value);
  buffer_free(&attributes->records);
}

static int refuse(struct attributes *attributes, const char *why) {
  attributes->why = why;
  errno = 0;
  return -1;
}

/* fastbox mounts without `userxattr`: what a container sets as user.overlay.* says nothing. */
#define MARK "trusted.overlay."

static int read_mark(struct attributes *attributes, int fd, const char *name, const char *mark) {
  char value[1];
  if (!strcmp(mark, "opaque"))
    attributes->opaque = fgetxattr(fd, name, value, sizeof(value)) == 1 && value[0] == 'y';
  else if (!strcmp(mark, "redirect"))
    return refuse(attributes, "it was renamed, and its content left in a layer below "
                              "(overlayfs' redirect_dir)");
  else if (!strcmp(mark, "metacopy"))
    return refuse(attributes, "its content is in a layer below (overlayfs' metacopy)");
  return 0;
}

static int keep(struct attributes *attributes, int fd, const char *name) {
  char key[sizeof(PREFIX) + 256];
  ssize_t n = fgetxattr(fd, name, attributes->value, VALUE_ROOM);
  if (n < 0) return errno == ENODATA ? 0 : -1;
  memcpy(key, PREFIX, sizeof(PREFIX) - 1);
  strncpy(key + sizeof(PREFIX) - 1, name, 256);
  key[sizeof(key) - 1] = 0;
  if (record_add(&attributes->records, key, attributes->value, (size_t)n) < 0) {
    errno = ENOMEM;
    return -1;
  }
  if (attributes->records.length > RECORDS_MOST)
    return refuse(attributes, "it has more than 1 MiB of extended attributes");
  return 0;
}

static int compare(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of what is kept, sorted; what is overlayfs' is looked at. The count, or -1. */
static int choose(struct attributes *attributes, int fd, ssize_t length, int is_directory,
                  int overlay, char **chosen) {
  int count = 0;
  for (char *name = attributes->names; name < attributes->names + length;
       name += strlen(name) + 1) {
    const char *mark = strncmp(name, MARK, strlen(MARK)) ? NULL : name + strlen(MARK);
    if (mark && overlay && read_mark(attributes, fd, name, mark) < 0) return -1;
    if (xattr_policy(name, is_directory) != FB_XATTR_SET) continue;
    if (strchr(name, '=')) continue; /* a pax record cannot say it */
    if (count == COUNT_MOST) return refuse(attributes, "it has more than 1024 extended attributes");
    chosen[count++] = name;
  }
  qsort(chosen, (size_t)count, sizeof(*chosen), compare);
  return count;
}

int attributes_read(struct attributes *attributes, int fd, int is_directory, int overlay) {
  char *chosen[COUNT_MOST];
  attributes->records.length = 0;
  attributes->opaque = 0;
  attributes->why = NULL;
  ssize_t length = flistxattr(fd, attributes->names, LIST_ROOM);
  if (length < 0) return errno == EOPNOTSUPP ? 0 : -1;
  if (length == 0) return 0;
  int count = choose(attributes, fd, length, is_directory, overlay, chosen);
  for (int i = 0; i < count; i++)
    if (keep(attributes, fd, chosen[i]) < 0) return -1;
  return count < 0 ? -1 : 0;
}
