"""Pipes between a container and the caller's files and terminals.

Whoever holds a descriptor can open what is behind it once more, through /proc/self/fd: with more
rights than it was given, or as a terminal to be controlled. Pipes and sockets tell nothing else;
for anything else, a thread copies to or from a pipe, and the container gets that.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading

PIECE = 64 * 1024


def is_harmless(fd: int) -> bool:
    """Whether a descriptor can be handed to a container: a pipe, a socket, or /dev/null (which is
    replaced by the container's own, see ``_core/launch/finish.c``)."""
    status = os.fstat(fd)
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == os.makedev(1, 3)
    return stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)


class Pumps:
    """The pipes and threads of one call; leaving it ends them."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._ends: list[int] = []

    def __enter__(self) -> Pumps:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def input(self, fd: int) -> int:
        """What a container may read from instead of ``fd``."""
        if is_harmless(fd):
            return fd
        reader, writer = os.pipe2(os.O_CLOEXEC)
        stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._own(reader)
        thread = threading.Thread(target=_feed, args=(fd, writer, stop), daemon=True)
        self._stack.callback(_finish, thread, stop)
        thread.start()
        return reader

    def output(self, fd: int) -> int:
        """What a container may write to instead of ``fd``."""
        if is_harmless(fd):
            return fd
        reader, writer = os.pipe2(os.O_CLOEXEC)
        stop = os.eventfd(0, os.EFD_CLOEXEC)
        thread = threading.Thread(target=_drain, args=(reader, fd, stop), daemon=True)
        self._stack.callback(_finish, thread, stop)
        self._own(writer)
        thread.start()
        return writer

    def handed_over(self) -> None:
        """The container has its ends by now: with ours closed, theirs tell the end."""
        for fd in self._ends:
            os.close(fd)
        self._ends.clear()

    def _own(self, fd: int) -> None:
        self._ends.append(fd)
        self._stack.callback(self.handed_over)


def _finish(thread: threading.Thread, stop: int) -> None:
    os.eventfd_write(stop, 1)
    thread.join()
    os.close(stop)


def _feed(source: int, writer: int, stop: int) -> None:
    """Until the end of either, or of the call."""
    poller = select.poll()
    poller.register(source, select.POLLIN)
    poller.register(stop, select.POLLIN)
    poller.register(writer, 0)  # POLLERR: nobody reads it any more
    try:
        while True:
            ready = dict(poller.poll())
            if stop in ready or writer in ready:
                return
            data = memoryview(os.read(source, PIECE))
            if not data:
                return
            while data:
                # Writable, or the reader gone, or the call over.
                if not _may_write(writer, stop):
                    return
                data = data[os.write(writer, data[: select.PIPE_BUF]) :]
    except OSError:
        return  # a terminal that was hung up, a pipe without a reader
    finally:
        os.close(writer)


def _may_write(writer: int, stop: int) -> bool:
    poller = select.poll()
    poller.register(writer, select.POLLOUT)
    poller.register(stop, select.POLLIN)
    ready = dict(poller.poll())
    return stop not in ready and not ready.get(writer, 0) & select.POLLERR


def _drain(reader: int, target: int, stop: int) -> None:
    """Until the end of the stream; once the call is over, what is there."""
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    poller.register(stop, select.POLLIN)
    try:
        while True:
            ready = dict(poller.poll())
            if reader not in ready:
                return
            data = memoryview(os.read(reader, PIECE))
            if not data:
                return
            while data:
                data = data[os.write(target, data) :]
    except OSError:
        return
    finally:
        os.close(reader)
