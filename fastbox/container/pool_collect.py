"""A command in a taken container whose output is collected: the client's side of ``Pool.run``."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING

import msgspec

from ..errors import FastboxError
from . import pool_take, session

if TYPE_CHECKING:
    from .lifecycle import Lifecycle
    from .pool_prepare import Prepared

_PIECE = 65536


class Collected(msgspec.Struct):
    """What came of a command that was waited for."""

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False


class Collector:
    """The client's side of a container whose output is collected: one thread, no other's help.

    Args:
        data: what it reads from its standard input; None: nothing.
    """

    def __init__(self, data: bytes | None) -> None:
        self._open: list[int] = []
        self._readers = {}
        out, self.out = self._pipe()
        err, self.err = self._pipe()
        self._parts: dict[int, list[bytes]] = {out: [], err: []}
        self._readers = {out: "out", err: "err"}
        self._order = (out, err)
        self.stdin: int | None = None
        self._writer = -1
        self._data = memoryview(data or b"")
        if data is not None:
            self.stdin, self._writer = self._pipe()
            os.set_blocking(self._writer, False)

    def _pipe(self) -> tuple[int, int]:
        pair = os.pipe2(os.O_CLOEXEC)
        self._open += pair
        return pair

    def _close(self, fd: int) -> None:
        self._open.remove(fd)
        os.close(fd)

    def close(self) -> None:
        """Close all that is open."""
        while self._open:
            os.close(self._open.pop())

    def handed_over(self) -> None:
        """The container has its ends."""
        for fd in (self.out, self.err, self.stdin):
            if fd is not None:
                self._close(fd)

    def collect(
        self,
        lifecycle: Lifecycle,
        prepared: Prepared,
        timeout: float | None,
        running: Running,
        cancel: int | None = None,
    ) -> Collected:
        """Until the container has ended.

        Args:
            timeout: seconds, after which it is killed.
            running: told when the command runs.
            cancel: a descriptor that becomes readable when it shall be killed.

        Raises:
            LaunchError: it does not run. FastboxError: its exit status is lost.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        status, timed_out = None, False
        poller = self._poller(prepared)
        if cancel is not None:
            poller.register(cancel, select.POLLIN)
        while status is None or self._readers:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = poller.poll(None if left is None else left * 1000)
            if not ready and deadline is not None:
                pool_take.kill(lifecycle, prepared)
                deadline, timed_out = None, True
            for fd, _ in ready:
                if fd in self._readers:
                    self._read(fd, poller)
                elif fd == self._writer:
                    self._write(poller)
                elif fd == cancel:
                    poller.unregister(fd)
                    pool_take.kill(lifecycle, prepared)
                elif (found := self._hear(lifecycle, prepared, running)) is not None:
                    status = found
                    poller.unregister(fd)
        out, err = (b"".join(self._parts[fd]) for fd in self._order)
        return Collected(status, out, err, timed_out)

    def _poller(self, prepared: Prepared) -> select.poll:
        poller = select.poll()
        poller.register(prepared.owner, select.POLLIN)
        for fd in self._readers:
            poller.register(fd, select.POLLIN)
        if self._writer >= 0:
            poller.register(self._writer, select.POLLOUT)
        return poller

    def _read(self, fd: int, poller: select.poll) -> None:
        data = os.read(fd, _PIECE)
        if data:
            self._parts[fd].append(data)
            return
        poller.unregister(fd)
        del self._readers[fd]
        self._close(fd)

    def _write(self, poller: select.poll) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                self._data = self._data[os.write(self._writer, self._data[:_PIECE]) :]
            except BrokenPipeError:  # the command does not read all
                self._data = self._data[:0]
        if not self._data:
            poller.unregister(self._writer)
            self._close(self._writer)
            self._writer = -1

    def _hear(self, lifecycle: Lifecycle, prepared: Prepared, running: Running) -> int | None:
        try:
            packet = prepared.owner.recv(pool_take.PACKET)
        except ConnectionResetError:
            packet = b""
        kind = packet[:1]
        if kind == b"S":
            prepared.order.close()
            running()
            return None
        if kind == b"X":
            return session.exit_status(packet[1:])
        if kind == b"F" or not running.is_so:
            raise pool_take.failure(lifecycle, prepared, packet)
        raise FastboxError(
            "the container's exit status is lost: its monitor was killed",
            hint="`fastbox ps -a` shows what is left of it",
        )


class Running:
    """Called once, when the command runs."""

    def __init__(self) -> None:
        self.is_so = False

    def __call__(self) -> None:
        self.is_so = True
