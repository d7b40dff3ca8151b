# What the wrappers of crews' jobs (crew/) share; see crew/job.pxi.

cdef extern from "crew/error.h" nogil:
    enum: PATH_MAX

    struct fb_error:
        int step
        int err
        const char *why
        char entry[PATH_MAX]

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1
