/* Which extended attributes of an archive are set. */
#ifndef FASTBOX_TAR_XATTRS_H
#define FASTBOX_TAR_XATTRS_H

#include <stddef.h>

enum xattr_policy { FB_XATTR_SET, FB_XATTR_DROP, FB_XATTR_REFUSE };

/* For a directory or a regular file; other things have none that an archive may set. */
enum xattr_policy xattr_policy(const char *name, int is_directory);

/* Set it on the open file. Where the file system has none of that kind, only a file capability is
 * an error: without it, a program does not work. 0 or -1. */
int xattr_set(int fd, const char *name, const void *value, size_t length);

#endif
