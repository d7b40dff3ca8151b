# Waiting for a job of a crew, and ending it from another thread: included by the wrappers. Under
# these names they declare, before it, what is their own: fb_job, fb_result, fb_wait, fb_progress,
# fb_cancel, fb_finish; and after it _raise.

# Milliseconds between two looks at signals and two calls of on_progress.
cdef int TICK = 50


cdef class Cancel:
    """Ends jobs from another thread."""

    cdef readonly bint cancelled
    cdef list jobs

    def __cinit__(self):
        self.cancelled = False
        self.jobs = []

    def cancel(self):
        self.cancelled = True
        cdef _Job job
        for job in self.jobs:
            if job.job != NULL:
                fb_cancel(job.job)


cdef class _Job:
    """Owns the C job. Its pointer is only touched with the GIL held, or by its own thread."""

    cdef fb_job *job
    cdef fb_result result
    cdef fb_error error

    cdef int finish(self) noexcept:
        cdef fb_job *job = self.job
        cdef int status
        self.job = NULL  # before the GIL goes: nobody cancels it any more
        with nogil:
            status = fb_finish(job, &self.result, &self.error)
        return status


cdef _run(_Job job, Cancel handle, on_progress):
    """Wait for the job and finish it, whatever a signal handler or the callback raises."""
    cdef int ended = 0
    cdef int status = 0
    cdef fb_job *running = job.job
    if handle is not None:
        handle.jobs.append(job)
        if handle.cancelled:
            fb_cancel(running)
    try:
        while True:
            with nogil:
                ended = fb_wait(running, TICK)
            if ended:
                break
            PyErr_CheckSignals()
            if on_progress is not None:
                on_progress(fb_progress(running))
    except BaseException:
        fb_cancel(running)
        raise
    finally:
        status = job.finish()
        if handle is not None:
            handle.jobs.remove(job)
    if status < 0:
        _raise(&job.error)


cdef str _printable(const char *entry):
    """The entry's name on one line, and not too long for one."""
    text = (<bytes>entry).decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= 256 else text[:120] + "..." + text[-120:]
