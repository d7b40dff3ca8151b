/* The third thread: takes the archive apart, entry by entry, and has each one made. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "confine.h"
#include "header.h"
#include "pax.h"
#include "write.h"
#include "xattrs.h"

#define ID_MAX INT64_C(0xfffffffe) /* (uid_t)-1 means "leave it" to chown */

/* What precedes an entry and belongs to it. */
struct archive {
  struct stream stream;
  struct writer writer;
  struct header header;
  struct entry entry;
  struct pax pax;
  struct sparse sparse;
  char *gnu_name, *gnu_link; /* FB_PAX_SIZE at most; NULL: not given */
  size_t gnu_name_length, gnu_link_length;
  int64_t headers;
  int pending; /* something was said about an entry that has to follow */
  uint8_t raw[FB_BLOCK];
  char shown[257 + 1]; /* the header's own name, for errors */
};

static int malformed(struct archive *a, const char *why) {
  return job_fail(a->stream.job, FB_STEP_MALFORMED, 0, why, a->stream.entry);
}

static void forget_meta(struct archive *a) {
  free(a->gnu_name);
  free(a->gnu_link);
  a->gnu_name = a->gnu_link = NULL;
  pax_reset(&a->pax);
  sparse_reset(&a->sparse);
  a->pending = 0;
}

/* ---- headers about headers ------------------------------------------------------------------- */

static int check_meta_size(struct archive *a) {
  if (a->header.size < 0 || a->header.size > FB_PAX_SIZE)
    return malformed(a, "its extended header is larger than 1 MiB");
  return 0;
}

static int read_pax(struct archive *a, int apply) {
  if (check_meta_size(a) < 0) return -1;
  size_t length = (size_t)a->header.size;
  pax_reset(&a->pax);
  sparse_reset(&a->sparse);
  char *body = pax_room(&a->pax, length + 1);
  if (!body) return job_fail(a->stream.job, FB_STEP_START, ENOMEM, NULL, a->stream.entry);
  if (stream_read(&a->stream, body, length) < 0 || stream_pad(&a->stream, a->header.size) < 0)
    return -1;
  body[length] = 0;
  const char *why = pax_parse(&a->pax, length, &a->sparse);
  if (why) return malformed(a, why);
  /* Global records are read for their form only: Docker's reader, which images are made for,
   * applies none either. */
  if (!apply) {
    pax_reset(&a->pax);
    sparse_reset(&a->sparse);
  }
  a->pending |= apply;
  return 0;
}

static int read_gnu_text(struct archive *a, char **text, size_t *length) {
  if (check_meta_size(a) < 0) return -1;
  free(*text);
  *text = malloc((size_t)a->header.size + 1);
  if (!*text) return job_fail(a->stream.job, FB_STEP_START, ENOMEM, NULL, a->stream.entry);
  if (stream_read(&a->stream, *text, (size_t)a->header.size) < 0 ||
      stream_pad(&a->stream, a->header.size) < 0)
    return -1;
  (*text)[a->header.size] = 0;
  *length = strlen(*text); /* it ends with a NUL of its own */
  a->pending = 1;
  return 0;
}

/* ---- the entry as all its headers have it ---------------------------------------------------- */

static const char *set_names(struct archive *a, enum fb_pax_sparse form) {
  struct entry *e = &a->entry;
  struct text name = {a->header.name, strlen(a->header.name)};
  struct text link = {a->header.link, strlen(a->header.link)};
  if (a->pax.path.at) name = a->pax.path;
  if (form != FB_SPARSE_NONE && a->pax.sparse_name.at) name = a->pax.sparse_name;
  if (a->gnu_name) name = (struct text){a->gnu_name, a->gnu_name_length};
  if (a->pax.link.at) link = a->pax.link;
  if (a->gnu_link) link = (struct text){a->gnu_link, a->gnu_link_length};

  if (e->type == FB_TYPE_V7)
    e->type = name.length && name.at[name.length - 1] == '/' ? FB_TYPE_DIR : FB_TYPE_FILE;
  if (name.length == 0) return "it has an entry without a name";
  const char *why = name_clean(&e->name, name.at, name.length);
  if (why) return why;
  a->stream.entry = e->name.length ? e->name.path : "/";
  if (e->type == FB_TYPE_LINK) {
    why = name_clean(&e->link, link.at, link.length);
    if (why) return "it is a hard link to a name that is refused";
    if (e->link.length == 0) return "it is a hard link to the root";
  } else if (e->type == FB_TYPE_SYMLINK) {
    if (link.length == 0) return "it is a symbolic link to nothing";
    if (link.length >= sizeof(e->target)) return "it is a link to more than 4095 bytes";
    if (memchr(link.at, 0, link.length)) return "it is a link to a name with a NUL byte";
    memcpy(e->target, link.at, link.length);
    e->target[link.length] = 0;
  }
  return NULL;
}

static const char *set_numbers(struct archive *a) {
  const struct header *h = &a->header;
  const struct pax *pax = &a->pax;
  struct entry *e = &a->entry;
  int64_t uid = pax->has_uid ? pax->uid : h->uid, gid = pax->has_gid ? pax->gid : h->gid;
  if (uid < 0 || uid > ID_MAX) return "its owner is out of range";
  if (gid < 0 || gid > ID_MAX) return "its group is out of range";
  const struct fb_tar_options *options = &a->stream.job->options;
  e->uid = options->owned ? options->uid : (uid_t)uid;
  e->gid = options->owned ? options->gid : (gid_t)gid;
  e->mode = h->mode;
  /* A set-id bit is a right of the owner that the archive gives, of nobody else. */
  if (options->harmless || uid != (int64_t)e->uid || gid != (int64_t)e->gid) e->mode &= 01777;
  e->mtime.tv_sec = pax->has_mtime ? pax->mtime : h->mtime;
  e->mtime.tv_nsec = pax->has_mtime ? pax->mtime_ns : 0;
  e->size = pax->has_size ? pax->size : h->size;
  if (e->size < 0) return "its size is negative";
  if (e->size > INT64_MAX - FB_BLOCK) return "its size is out of range";
  /* Only files have data; some writers give links the size of their target. */
  if (e->type != FB_TYPE_FILE) e->size = 0;
  return NULL;
}

static const char *set_device(struct archive *a) {
  const struct header *h = &a->header;
  if (a->entry.type != FB_TYPE_CHAR && a->entry.type != FB_TYPE_BLOCK) return NULL;
  if (h->major < 0 || h->major > 0xfff || h->minor < 0 || h->minor > 0xfffff)
    return "its device number is out of range";
  if (a->entry.type == FB_TYPE_CHAR && h->major == 0 && h->minor == 0)
    return "it is the device 0:0, which would hide files of other layers";
  if (a->stream.job->options.harmless) return "it is a device";
  a->entry.device = makedev((unsigned)h->major, (unsigned)h->minor);
  return NULL;
}

static const char *set_xattrs(struct archive *a) {
  struct entry *e = &a->entry;
  e->xattrs = a->pax.xattrs;
  e->xattr_count = a->stream.job->options.harmless ? 0 : a->pax.xattr_count;
  for (size_t i = 0; i < e->xattr_count; i++)
    if (xattr_policy(e->xattrs[i].name, e->type == FB_TYPE_DIR) == FB_XATTR_REFUSE)
      return "it has an xattr of overlayfs or another trusted one";
  return NULL;
}

static const char *set_type(struct archive *a) {
  static const char known[] = "0123456";
  struct entry *e = &a->entry;
  e->type = a->header.type;
  if (e->type == FB_TYPE_CONTIGUOUS || e->type == FB_TYPE_GNU_SPARSE) e->type = FB_TYPE_FILE;
  if (e->type != FB_TYPE_V7 && !strchr(known, e->type)) return "its type is not known";
  return NULL;
}

/* The map of a sparse file, wherever it stands. Shortens entry.size to the data behind it. */
static int read_sparse(struct archive *a, enum fb_pax_sparse form) {
  struct entry *e = &a->entry;
  const char *why = NULL;
  int more = 0;
  e->sparse = NULL;
  if (e->type != FB_TYPE_FILE) return 0;
  if (a->header.type == FB_TYPE_GNU_SPARSE) {
    sparse_reset(&a->sparse);
    why = sparse_parse_header(&a->sparse, a->raw, &more);
    if (!why && more && sparse_read_extensions(&a->sparse, &a->stream) < 0) return -1;
  } else if (form == FB_SPARSE_NONE) {
    return 0;
  } else {
    a->sparse.size = a->pax.sparse_size;
    if (form == FB_SPARSE_MAP_IN_DATA) {
      int64_t used;
      a->sparse.count = 0;
      if (sparse_read_map(&a->sparse, &a->stream, e->size, &used) < 0) return -1;
      e->size -= used;
    }
  }
  if (!why) why = sparse_check(&a->sparse, e->size);
  if (why) return malformed(a, why);
  e->sparse = &a->sparse;
  return 0;
}

static int read_entry(struct archive *a) {
  enum fb_pax_sparse form;
  const char *why = set_type(a);
  if (!why) why = pax_sparse_form(&a->pax, &form);
  if (!why) why = set_names(a, form);
  if (!why) why = set_numbers(a);
  if (!why) why = set_device(a);
  if (!why) why = set_xattrs(a);
  if (why) return malformed(a, why);
  if (a->entry.size > a->stream.job->options.max_bytes - a->stream.consumed)
    return job_fail(a->stream.job, FB_STEP_LIMIT, 0, "it unpacks to more than is allowed",
                    a->stream.entry);
  if (read_sparse(a, form) < 0 || write_entry(&a->writer, &a->entry) < 0) return -1;
  a->stream.job->result.entries++;
  forget_meta(a);
  return 0;
}

/* ---- the archive ----------------------------------------------------------------------------- */

static int handle_header(struct archive *a) {
  switch (a->header.type) {
    case FB_TYPE_PAX:
    case FB_TYPE_PAX_SOLARIS:
      return read_pax(a, 1);
    case FB_TYPE_PAX_GLOBAL:
      return read_pax(a, 0);
    case FB_TYPE_GNU_NAME:
      return read_gnu_text(a, &a->gnu_name, &a->gnu_name_length);
    case FB_TYPE_GNU_LINK:
      return read_gnu_text(a, &a->gnu_link, &a->gnu_link_length);
    case FB_TYPE_GNU_VOLUME:
      return 0; /* the archive's label */
    default:
      return read_entry(a);
  }
}

/* The archive ends with two blocks of zeros, or where the stream does. 1: at its end; 0; -1. */
static int at_end(struct archive *a, const uint8_t *block) {
  int failed;
  if (block && !header_is_zero(block)) return 0;
  if (block) block = stream_block(&a->stream, &failed);
  if (block && !header_is_zero(block)) return malformed(a, "one lonely block of zeros");
  if (a->pending) return malformed(a, "it ends after an extended header");
  return job_stopped(a->stream.job) ? -1 : 1;
}

static int next_entry(struct archive *a) {
  struct fb_job *job = a->stream.job;
  int failed;
  a->stream.entry = a->pending ? a->shown : NULL;
  const uint8_t *block = stream_block(&a->stream, &failed);
  if (failed) return -1;
  int ended = at_end(a, block);
  if (ended) return ended;
  if (++a->headers > job->options.max_entries)
    return job_fail(job, FB_STEP_LIMIT, 0, "it has more entries than are allowed", NULL);
  memcpy(a->raw, block, FB_BLOCK); /* reading on may give its chunk back */
  const char *why = header_parse(&a->header, a->raw);
  if (why) return malformed(a, why);
  memcpy(a->shown, a->header.name, strlen(a->header.name) + 1);
  a->stream.entry = a->shown;
  return handle_header(a);
}

static int run(struct archive *a) {
  struct fb_job *job = a->stream.job;
  int status = job->options.merge ? 0 : write_root(&a->writer);
  while (status == 0) status = next_entry(a);
  a->stream.entry = NULL;
  if (status < 0 || stream_drain(&a->stream) < 0) return -1;
  return dirs_apply(&a->writer.dirs, job, &a->writer.paths);
}

void writer_run(struct fb_job *job) {
  const char *step = confine_thread(job->options.dest);
  if (step) {
    job_fail(job, FB_STEP_CONFINE, errno, step, NULL);
    return;
  }
  struct archive *a = calloc(1, sizeof(*a));
  if (!a || dirs_init(&a->writer.dirs) < 0) {
    job_fail(job, FB_STEP_START, ENOMEM, NULL, NULL);
    free(a);
    return;
  }
  a->stream.job = a->writer.job = job;
  a->writer.stream = &a->stream;
  a->writer.uid = geteuid();
  a->writer.gid = getegid();
  paths_init(&a->writer.paths, job, job->options.dest, job->options.walk);
  run(a);
  paths_free(&a->writer.paths);
  dirs_free(&a->writer.dirs);
  forget_meta(a);
  pax_free(&a->pax);
  sparse_free(&a->sparse);
  free(a);
}
