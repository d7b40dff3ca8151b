#include "listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "buffer.h"

struct dirent_raw { /* struct linux_dirent64 */
  uint64_t ino;
  int64_t next;
  unsigned short length;
  unsigned char type;
  char name[];
};

static int is_whiteout(int fd, const char *name, unsigned char type) {
  struct stat st;
  if (type != DT_CHR && type != DT_UNKNOWN) return 0;
  return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
         st.st_rdev == 0;
}

static int add(struct buffer *text, int fd, const struct dirent_raw *entry, int overlay) {
  char first = overlay && is_whiteout(fd, entry->name, entry->type) ? '0' : '1';
  return buffer_add(text, &first, 1) || buffer_add(text, entry->name, strlen(entry->name) + 1);
}

static int read_all(struct buffer *text, int fd, int overlay, size_t *count) {
  _Alignas(8) char raw[16384];
  for (;;) {
    long n = syscall(SYS_getdents64, fd, raw, sizeof(raw));
    if (n < 0 && errno == ENOENT) return 0; /* it has been removed: it is empty */
    if (n <= 0) return (int)n;
    for (char *at = raw; at < raw + n;) {
      const struct dirent_raw *entry = (const struct dirent_raw *)at;
      at += entry->length;
      if (!strcmp(entry->name, ".") || !strcmp(entry->name, "..")) continue;
      if (add(text, fd, entry, overlay)) {
        errno = ENOMEM;
        return -1;
      }
      ++*count;
    }
  }
}

static int compare(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

int listing_read(struct listing *listing, int fd, int overlay) {
  struct buffer text = {0};
  size_t count = 0;
  *listing = (struct listing){0};
  if (read_all(&text, fd, overlay, &count) < 0) {
    int err = errno;
    buffer_free(&text);
    errno = err;
    return -1;
  }
  listing->text = text.at;
  if (count == 0) return 0;
  listing->names = malloc(count * sizeof(*listing->names));
  if (!listing->names) {
    listing_free(listing);
    errno = ENOMEM;
    return -1;
  }
  for (char *at = text.at; listing->count < count; at += strlen(at) + 1)
    listing->names[listing->count++] = at;
  qsort(listing->names, count, sizeof(*listing->names), compare);
  return 0;
}

void listing_free(struct listing *listing) {
  free(listing->text);
  free(listing->names);
  *listing = (struct listing){0};
}
