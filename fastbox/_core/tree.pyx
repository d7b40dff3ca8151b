# cython: language_level=3
"""Work on directory trees that may be hostile."""

import os

from libc.errno cimport errno


cdef extern from "tree/remove.h" nogil:
    int fb_remove_tree(int dir, const char *name)

cdef extern from "tree/exchange.h" nogil:
    int fb_exchange(const char *one, const char *other)


def remove_tree(path, *, dir_fd=None):
    cdef bytes directory, name
    cdef int parent, status, err
    cdef const char *c_name
    directory, name = os.path.split(os.fsencode(path).rstrip(b"/"))
    if name in (b"", b".", b".."):
        raise ValueError(f"not the name of a tree: {path!r}")
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        parent = os.open(directory or b".", flags, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    c_name = name
    try:
        with nogil:
            status = fb_remove_tree(parent, c_name)
            err = errno
    finally:
        os.close(parent)
    if status < 0:
        raise OSError(err, os.strerror(err), os.fsdecode(path))


def exchange(one, other):
    cdef bytes first = os.fsencode(one), second = os.fsencode(other)
    if fb_exchange(first, second) < 0:
        raise OSError(errno, os.strerror(errno), os.fsdecode(first), None, os.fsdecode(second))
