# cython: language_level=3
"""Packing trees: a thin wrapper of pack/*.c. See pack.pyi for the contracts."""

import errno as _errno
import os

from libc.errno cimport errno
from libc.stdint cimport int64_t

from fastbox._core.crew cimport PyErr_CheckSignals, fb_error

cdef extern from "pack/pack.h" nogil:
    enum: FB_PACK_OVERLAY, FB_PACK_PLAIN

    enum: FB_PACK_NONE, FB_PACK_GZIP, FB_PACK_ZSTD

    enum:
        FB_PACK_CANCELLED, FB_PACK_START, FB_PACK_OPEN, FB_PACK_LIST, FB_PACK_STAT
        FB_PACK_READ, FB_PACK_XATTR, FB_PACK_WRITE, FB_PACK_CHANGED, FB_PACK_REFUSED

    struct fb_pack_options:
        int source
        int out
        int whiteouts
        int compression
        int level
        int digests
        int careful

    struct fb_result "fb_pack_result":
        char diff_id[65]
        char digest[65]
        int64_t size
        int64_t tar_size
        int64_t unpacked_size
        int64_t entries

    struct fb_job "fb_pack_job":
        pass

    fb_job *fb_pack_start(const fb_pack_options *options)
    int fb_wait "fb_pack_wait"(fb_job *job, int milliseconds)
    int64_t fb_progress "fb_pack_progress"(const fb_job *job)
    void fb_cancel "fb_pack_cancel"(fb_job *job)
    int fb_finish "fb_pack_finish"(fb_job *job, fb_result *result, fb_error *error)

include "crew/job.pxi"

# name -> number, lowest, highest and usual level
cdef dict COMPRESSIONS = {
    "none": (FB_PACK_NONE, 0, 0, 0),
    "gzip": (FB_PACK_GZIP, 0, 3, 1),
    "zstd": (FB_PACK_ZSTD, 1, 19, 3),
}

# What was being done, for the message: step -> text before the entry's name.
cdef dict DOING = {
    FB_PACK_OPEN: "cannot open",
    FB_PACK_LIST: "cannot list",
    FB_PACK_STAT: "cannot examine",
    FB_PACK_READ: "cannot read",
    FB_PACK_XATTR: "cannot read the extended attributes of",
}

cdef dict STEPS = {
    FB_PACK_START: "start", FB_PACK_OPEN: "open", FB_PACK_LIST: "list", FB_PACK_STAT: "stat",
    FB_PACK_READ: "read", FB_PACK_XATTR: "xattr", FB_PACK_WRITE: "write",
    FB_PACK_CHANGED: "changed", FB_PACK_REFUSED: "refused",
}


cdef class Packed:
    cdef readonly str diff_id, digest
    cdef readonly int64_t size, tar_size, unpacked_size, entries

    def __repr__(self):
        return (
            f"Packed(digest={self.digest!r}, size={self.size}, diff_id={self.diff_id!r}, "
            f"tar_size={self.tar_size}, unpacked_size={self.unpacked_size}, "
            f"entries={self.entries})"
        )


def pack(
    source, int out, *, whiteouts="overlay", compression="none", level=None, digests=True,
    on_progress=None, cancel=None, clone=True,
):
    cdef fb_pack_options options
    cdef _Job job = _Job()
    cdef Cancel handle = cancel
    if whiteouts not in ("overlay", "none"):
        raise ValueError(f"whiteouts is 'overlay' or 'none', not {whiteouts!r}")
    options.out = out
    options.whiteouts = FB_PACK_OVERLAY if whiteouts == "overlay" else FB_PACK_PLAIN
    options.compression, options.level = _compression(compression, level)
    options.digests = digests
    options.careful = not clone
    options.source = _open_directory(source)
    try:
        job.job = fb_pack_start(&options)
        if job.job == NULL:
            _raise_start(errno)
        _run(job, handle, on_progress)
    finally:
        os.close(options.source)
    if on_progress is not None:
        on_progress(job.result.tar_size)
    return _packed(job, digests)


cdef _compression(name, level):
    """(number, level) of a compression."""
    if name not in COMPRESSIONS:
        raise ValueError(f"compression is 'none', 'gzip' or 'zstd', not {name!r}")
    number, lowest, highest, usual = COMPRESSIONS[name]
    if level is None:
        return number, usual
    if not lowest <= level <= highest:
        raise ValueError(f"the level of {name} is {lowest} to {highest}, not {level!r}")
    return number, level


cdef _open_directory(source):
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if isinstance(source, int):
            return os.open(".", flags, dir_fd=source)
        return os.open(source, flags)
    except OSError as e:
        from fastbox.errors import StoreError
        name = "a directory" if isinstance(source, int) else os.fsdecode(source)
        raise StoreError(f"cannot pack {name}: {e.strerror}") from e


cdef _raise_start(int err):
    from fastbox.errors import StoreError
    cause = OSError(err, os.strerror(err))
    raise StoreError(f"cannot start packing: {cause.strerror}") from cause


cdef Packed _packed(_Job job, bint digests):
    cdef Packed p = Packed.__new__(Packed)
    p.diff_id = "sha256:" + job.result.diff_id.decode() if digests else ""
    p.digest = "sha256:" + job.result.digest.decode() if digests else ""
    p.size = job.result.size
    p.tar_size = job.result.tar_size
    p.unpacked_size = job.result.unpacked_size
    p.entries = job.result.entries
    return p


# ---- errors ------------------------------------------------------------------------------------

cdef _raise(fb_error *error):
    from fastbox import errors

    if error.step == FB_PACK_CANCELLED:
        raise errors.FastboxError("packing was cancelled")
    if error.step == FB_PACK_WRITE and error.err == _errno.EPIPE:
        raise BrokenPipeError(error.err, os.strerror(error.err))
    entry = _printable(error.entry)
    why = error.why.decode() if error.why != NULL else ""
    cause = OSError(error.err, os.strerror(error.err), entry or None) if error.err else None
    made = _error(errors, error.step, error.err, why, entry)
    made.entry = entry
    made.step = STEPS[error.step]
    made.errno = error.err
    raise made from cause


cdef _error(errors, int step, int err, str why, str entry):
    reason = os.strerror(err) if err else why
    where = entry or "/"
    if step == FB_PACK_START:
        return errors.StoreError(f"cannot pack the files: {why or reason}")
    if step == FB_PACK_WRITE:
        hint = None
        if err in (_errno.ENOSPC, _errno.EDQUOT):
            hint = "free some space on that file system"
        return errors.StoreError(f"cannot pack the files: writing the archive failed: {reason}",
                                 hint=hint)
    if step == FB_PACK_CHANGED:
        return errors.StoreError(
            f"cannot pack the files: {where} {why} while it was packed",
            hint="pause or stop the container meanwhile",
        )
    if step == FB_PACK_REFUSED:
        return errors.StoreError(f"cannot pack {where}: {why}")
    text = f"cannot pack the files: {DOING[step]} {where}: {reason}"
    if err in (_errno.EPERM, _errno.EACCES):
        return errors.PermissionDenied(text, hint="run fastbox as root")
    return errors.StoreError(text)
