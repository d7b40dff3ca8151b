# cython: language_level=3, cdivision=True
# cython: linetrace=False, profile=False, binding=False
"""Seeing a container's files from the host: a thin wrapper of view/*.c. See view.pyi."""

from libc.errno cimport errno
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

import os


cdef extern from "view/view.h" nogil:
    struct fb_error:
        uint32_t step
        int32_t index
        int32_t error
        uint32_t where
    struct fb_context:
        pass
    size_t fb_context_size(const void *buffer, size_t length)
    int fb_context_init(fb_context *context, const void *buffer, size_t length, void *memory)
    int fb_view(fb_context *context, int read_only, fb_error *error)
    int fb_root_of(int namespace)
    int fb_open_in_root(int root, const char *path, uint64_t flags)

cdef extern from "sys/vfs.h" nogil:
    struct statfs_t "statfs":
        long f_type
    int fstatfs(int fd, statfs_t *buffer)


def mount_view(plan, *, read_only):
    from fastbox._core.launch import StepError

    cdef bytes data = bytes(plan)
    cdef size_t length = len(data)
    cdef void *buffer = malloc(length + 1)
    cdef void *memory = NULL
    cdef fb_context context
    cdef fb_error error
    cdef int fd, ro = read_only
    try:
        if buffer == NULL:
            raise MemoryError
        memcpy(buffer, <const char *>data, length)
        memory = malloc(fb_context_size(buffer, length) + 1)
        if memory == NULL:
            raise MemoryError
        if fb_context_init(&context, buffer, length, memory) < 0:
            raise ValueError("not a well-formed launch plan")
        memset(&error, 0, sizeof(error))
        with nogil:
            fd = fb_view(&context, ro, &error)
        if fd < 0:
            raise StepError(error.step, error.index, error.error, error.where)
        return fd
    finally:
        free(buffer)
        free(memory)


def root_of(int namespace):
    cdef int fd, err
    with nogil:
        fd = fb_root_of(namespace)
        err = errno
    if fd < 0:
        raise OSError(err, os.strerror(err))
    return fd


def open_in_root(int root, path, uint64_t flags):
    cdef bytes raw = os.fsencode(path)
    cdef const char *c_path = raw
    cdef int fd, err
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    with nogil:
        fd = fb_open_in_root(root, c_path, flags)
        err = errno
    if fd < 0:
        raise OSError(err, os.strerror(err), os.fsdecode(raw))
    return fd


def file_system(int fd):
    cdef statfs_t found
    cdef int status, err
    with nogil:
        status = fstatfs(fd, &found)
        err = errno
    if status < 0:
        raise OSError(err, os.strerror(err))
    return found.f_type
