"""Waiting for changes of the files in a directory: inotify, or a pause where there is none left."""

from __future__ import annotations

import os

# Without inotify (a user may have 128 instances) one looks this often (seconds).
POLL = 0.05

_MODIFY, _MOVED_TO, _CREATE, _DELETE_SELF = 0x2, 0x80, 0x100, 0x400
_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000
_BUFFER = 64 * 1024
_LONGEST = 86400.0  # seconds; poll(2) takes 24 days


class Watch:
    """Changes of a directory's files since the last ``drain``. Made before one looks at the files,
    and drained before each further look, so that no change goes unseen.

    Args:
        directory: a missing one is as good as no inotify.

    Attributes:
        fd: readable when something has changed; -1 where one has to look every ``POLL`` seconds.
    """

    def __init__(self, directory: str) -> None:
        self.fd = self._start(directory)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back; may be called again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _start(self, directory: str) -> int:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        fd: int = libc.inotify_init1(_CLOEXEC | _NONBLOCK)
        if fd < 0:
            return -1
        mask = _MODIFY | _MOVED_TO | _CREATE | _DELETE_SELF
        if libc.inotify_add_watch(fd, os.fsencode(directory), mask) < 0:
            os.close(fd)
            return -1
        return fd

    def wait(self, timeout: float | None, wake: int = -1) -> None:
        """Until something changes, or may have changed.

        Args:
            timeout: seconds after which to return at the latest; None is never.
            wake: a further descriptor; returns when it is readable, too.
        """
        import select

        if self.fd < 0:
            timeout = POLL if timeout is None else min(timeout, POLL)
        timeout = None if timeout is None else min(timeout, _LONGEST)
        wanted = select.poll()  # select would refuse a descriptor above 1023
        for fd in (self.fd, wake):
            if fd >= 0:
                wanted.register(fd, select.POLLIN)
        # Rounded up: rounded down it would return before the time and be called again at once.
        wanted.poll(None if timeout is None else int(max(timeout, 0) * 1000) + 1)
        self.drain()

    def drain(self) -> None:
        """Forget the changes up to now."""
        if self.fd >= 0:
            try:
                os.read(self.fd, _BUFFER)
            except BlockingIOError:
                pass
