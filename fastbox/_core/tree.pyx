# cython: language_level=3
"""Work on directory trees that may be hostile."""

import os

from libc.errno cimport errno


cdef extern from "tree/remove.h" nogil:
    int fb_remove_tree(int parent, const char *name)


def remove_tree(path):
    """Delete ``path`` and all below it, never following a symlink, however deep it is.

    A missing path is fine.

    Raises:
        OSError: something could not be deleted.
    """
    cdef bytes name = os.fsencode(path)
    cdef const char *text = name
    cdef int result
    with nogil:
        result = fb_remove_tree(-100, text)  # AT_FDCWD
    if result < 0:
        raise OSError(errno, os.strerror(errno), os.fsdecode(name))
