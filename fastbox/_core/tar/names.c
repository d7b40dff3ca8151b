#include "names.h"

#include <string.h>

static void set_base(struct name *name) {
  const char *slash = memrchr(name->path, '/', name->length);
  name->base = slash ? (size_t)(slash - name->path) + 1 : 0;
}

static void drop_last(struct name *name) {
  set_base(name);
  name->length = name_parent_length(name);
}

/* A whiteout may hide a name that is as long as a name can be. */
static size_t longest(const char *component) {
  static const char prefix[] = ".wh.";
  const size_t length = sizeof(prefix) - 1;
  return strncmp(component, prefix, length) ? NAME_MAX : NAME_MAX + length;
}

const char *name_clean(struct name *name, const char *raw, size_t length) {
  name->length = 0;
  if (memchr(raw, 0, length)) return "its name contains a NUL byte";
  const char *at = raw, *end = raw + length;
  while (at < end) {
    const char *slash = memchr(at, '/', (size_t)(end - at));
    const char *next = slash ? slash : end;
    size_t n = (size_t)(next - at);
    if (n == 2 && at[0] == '.' && at[1] == '.') {
      if (name->length == 0) return "its name leads out of the root with '..'";
      drop_last(name);
    } else if (n && !(n == 1 && at[0] == '.')) {
      if (n > longest(at)) return "a part of its name is longer than 255 bytes";
      if (name->length + 1 + n >= sizeof(name->path)) return "its name is longer than 4095 bytes";
      if (name->length) name->path[name->length++] = '/';
      memcpy(name->path + name->length, at, n);
      name->length += n;
    }
    at = slash ? slash + 1 : end;
  }
  name->path[name->length] = 0;
  set_base(name);
  return NULL;
}
