#include "xattrs.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

static int starts(const char *name, const char *prefix) {
  return !strncmp(name, prefix, strlen(prefix));
}

enum xattr_policy xattr_policy(const char *name, int is_directory) {
  /* What overlayfs believes about its layers is fastbox's to say: a redirect or an opaque mark out
   * of an archive would show or hide files of other layers. */
  if (starts(name, "user.overlay.") || starts(name, "trusted.")) return FB_XATTR_REFUSE;
  if (starts(name, "user.")) return FB_XATTR_SET;
  if (!strcmp(name, "security.capability")) return is_directory ? FB_XATTR_DROP : FB_XATTR_SET;
  if (!strcmp(name, "system.posix_acl_access")) return FB_XATTR_SET;
  if (!strcmp(name, "system.posix_acl_default"))
    return is_directory ? FB_XATTR_SET : FB_XATTR_DROP;
  /* Labels of the packer's host (SELinux, IMA), and other systems' attributes. */
  return FB_XATTR_DROP;
}

int xattr_set(int fd, const char *name, const void *value, size_t length) {
  if (fsetxattr(fd, name, value, length, 0) == 0) return 0;
  return errno == EOPNOTSUPP && !starts(name, "security.") ? 0 : -1;
}
