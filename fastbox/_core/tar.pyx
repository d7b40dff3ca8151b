# cython: language_level=3
"""Unpacking layers: a thin wrapper of tar/*.c. See tar.pyi for the contracts."""

import errno as _errno
import os

from libc.errno cimport errno
from libc.stdint cimport INT64_MAX, int64_t, uint32_t
from libc.string cimport memset

from fastbox._core.crew cimport PyErr_CheckSignals, fb_error

cdef extern from "tar/tar.h" nogil:
    enum: FB_WHITEOUTS_OVERLAY, FB_WHITEOUTS_KEEP

    enum:
        FB_STEP_MALFORMED, FB_STEP_LIMIT, FB_STEP_CANCELLED, FB_STEP_START, FB_STEP_READ
        FB_STEP_CONFINE, FB_STEP_PARENT, FB_STEP_CREATE, FB_STEP_WRITE, FB_STEP_LINK
        FB_STEP_REMOVE, FB_STEP_OWNER, FB_STEP_MODE, FB_STEP_TIME, FB_STEP_XATTR

    struct fb_tar_options:
        int fd
        int dest
        int out
        int whiteouts
        int walk
        int64_t max_bytes
        int64_t max_entries
        int merge
        int harmless
        int digests
        int owned
        uint32_t uid
        uint32_t gid

    struct fb_result "fb_tar_result":
        char digest[65]
        char diff_id[65]
        int compression
        int opaque_root
        int64_t size
        int64_t tar_size
        int64_t unpacked_size
        int64_t entries

    struct fb_job:
        pass

    fb_job *fb_tar_start(const fb_tar_options *options)
    int fb_wait "fb_tar_wait"(fb_job *job, int milliseconds)
    int64_t fb_progress "fb_tar_progress"(const fb_job *job)
    void fb_cancel "fb_tar_cancel"(fb_job *job)
    int fb_finish "fb_tar_finish"(fb_job *job, fb_result *result, fb_error *error)

include "crew/job.pxi"

MAX_BYTES = 64 << 30
MAX_ENTRIES = 1 << 22

cdef tuple COMPRESSIONS = ("none", "gzip", "zstd")

# What was being done, for the message: step -> text before the entry's name.
cdef dict DOING = {
    FB_STEP_PARENT: "cannot make the directory of",
    FB_STEP_CREATE: "cannot create",
    FB_STEP_WRITE: "cannot write",
    FB_STEP_LINK: "cannot link",
    FB_STEP_REMOVE: "cannot replace",
    FB_STEP_OWNER: "cannot set the owner of",
    FB_STEP_MODE: "cannot set the mode of",
    FB_STEP_TIME: "cannot set the time of",
    FB_STEP_XATTR: "cannot set the extended attributes of",
}

cdef dict STEPS = {
    FB_STEP_MALFORMED: "parse", FB_STEP_LIMIT: "limit", FB_STEP_START: "start",
    FB_STEP_READ: "read", FB_STEP_CONFINE: "confine", FB_STEP_PARENT: "parent",
    FB_STEP_CREATE: "create", FB_STEP_WRITE: "write", FB_STEP_LINK: "link",
    FB_STEP_REMOVE: "remove", FB_STEP_OWNER: "owner", FB_STEP_MODE: "mode",
    FB_STEP_TIME: "time", FB_STEP_XATTR: "xattr",
}

# The archive asked for what the file system does not have: everything else is the host's trouble.
cdef frozenset ARCHIVE_ERRNOS = frozenset((
    _errno.EEXIST, _errno.EFBIG, _errno.EINVAL, _errno.EISDIR, _errno.ELOOP, _errno.EMLINK,
    _errno.ENAMETOOLONG, _errno.ENOENT, _errno.ENOTDIR, _errno.ENOTEMPTY, _errno.ERANGE,
    _errno.EOVERFLOW, _errno.E2BIG, _errno.EXDEV,
))


cdef class Extracted:
    cdef readonly str digest, diff_id, compression
    cdef readonly int64_t size, tar_size, unpacked_size, entries
    cdef readonly bint opaque_root

    def __repr__(self):
        return (
            f"Extracted(digest={self.digest!r}, size={self.size}, diff_id={self.diff_id!r}, "
            f"tar_size={self.tar_size}, unpacked_size={self.unpacked_size}, "
            f"entries={self.entries}, compression={self.compression!r}, "
            f"opaque_root={self.opaque_root})"
        )


def extract(
    int fd, dest, *, whiteouts="overlay", max_bytes=MAX_BYTES, max_entries=MAX_ENTRIES,
    on_progress=None, cancel=None, openat2=True, merge=False, harmless=False, digests=True,
    owner=None,
):
    cdef fb_tar_options options
    cdef _Job job = _Job()
    cdef Cancel handle = cancel
    if whiteouts not in ("overlay", "keep"):
        raise ValueError(f"whiteouts is 'overlay' or 'keep', not {whiteouts!r}")
    options.fd = fd
    options.out = -1
    options.whiteouts = FB_WHITEOUTS_OVERLAY if whiteouts == "overlay" else FB_WHITEOUTS_KEEP
    options.walk = not openat2
    options.max_bytes = max_bytes
    options.max_entries = max_entries
    options.merge = merge
    options.harmless = harmless
    options.digests = digests
    options.owned = owner is not None
    options.uid, options.gid = owner or (0, 0)
    options.dest = _open_directory(dest)
    try:
        job.job = fb_tar_start(&options)
        if job.job == NULL:
            _raise_start(errno, dest)
        _run(job, handle, on_progress)
    finally:
        os.close(options.dest)
    if on_progress is not None:
        on_progress(job.result.size)
    return _extracted(job, digests)


def decompress(int fd, int out, *, cancel=None):
    cdef fb_tar_options options
    cdef _Job job = _Job()
    memset(&options, 0, sizeof(options))
    options.fd = fd
    options.dest = -1
    options.out = out
    options.max_bytes = INT64_MAX
    job.job = fb_tar_start(&options)
    if job.job == NULL:
        _raise_start(errno, "a pipe")
    _run(job, cancel, None)


cdef _open_directory(dest):
    try:
        if isinstance(dest, int):
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dest)
        return os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as e:
        from fastbox.errors import StoreError
        raise StoreError(f"cannot unpack a layer to {_name(dest)}: {e.strerror}") from e


cdef str _name(dest):
    return "a directory" if isinstance(dest, int) else os.fsdecode(dest)


cdef _raise_start(int err, dest):
    from fastbox.errors import StoreError
    cause = OSError(err, os.strerror(err))
    raise StoreError(
        f"cannot start unpacking a layer to {_name(dest)}: {cause.strerror}"
    ) from cause


cdef Extracted _extracted(_Job job, bint digests):
    cdef Extracted e = Extracted.__new__(Extracted)
    e.digest = "sha256:" + job.result.digest.decode() if digests else ""
    e.diff_id = "sha256:" + job.result.diff_id.decode() if digests else ""
    e.compression = COMPRESSIONS[job.result.compression]
    e.size = job.result.size
    e.tar_size = job.result.tar_size
    e.unpacked_size = job.result.unpacked_size
    e.entries = job.result.entries
    e.opaque_root = job.result.opaque_root
    return e


# ---- errors ------------------------------------------------------------------------------------

cdef _raise(fb_error *error):
    from fastbox import errors

    if error.step == FB_STEP_CANCELLED:
        raise errors.FastboxError("unpacking the layer was cancelled")
    entry = _printable(error.entry)
    why = error.why.decode() if error.why != NULL else ""
    step = STEPS[error.step]
    cause = OSError(error.err, os.strerror(error.err), entry or None) if error.err else None
    made = _error(errors, error.step, error.err, why, entry)
    made.entry = entry
    made.step = step
    made.errno = error.err
    raise made from cause


cdef _error(errors, int step, int err, str why, str entry):
    reason = os.strerror(err) if err else why
    of_entry = f" at entry {entry}" if entry else ""
    if step == FB_STEP_MALFORMED:
        return errors.ArchiveError(
            f"cannot unpack the layer: {why}{of_entry}",
            hint="the archive is damaged or was made to do harm",
        )
    if step == FB_STEP_LIMIT:
        return errors.ArchiveError(
            f"cannot unpack the layer: {why}{of_entry}",
            hint="as much has to be free on the disk; if the image is trusted, free some space",
        )
    if step == FB_STEP_START:
        return errors.StoreError(f"cannot unpack the layer: {why or reason}{of_entry}")
    if step == FB_STEP_READ:
        return errors.StoreError(f"cannot unpack the layer: reading the archive failed: {reason}")
    if step == FB_STEP_CONFINE:
        return errors.PermissionDenied(
            f"cannot unpack the layer: {why}: {reason}",
            hint="run fastbox as root",
        )
    text = f"cannot unpack the layer: {DOING[step]} {entry or '/'}: {reason}"
    if err in (_errno.EPERM, _errno.EACCES):
        return errors.PermissionDenied(text, hint="run fastbox as root")
    if step == FB_STEP_OWNER and err == _errno.EINVAL:
        return errors.PermissionDenied(
            text, hint="the owner is not mapped in this user namespace (see subuid(5))"
        )
    if err in ARCHIVE_ERRNOS:
        return errors.ArchiveError(text)
    hint = "free some space on that file system" if err in (_errno.ENOSPC, _errno.EDQUOT) else None
    return errors.StoreError(text, hint=hint)
