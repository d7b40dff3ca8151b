"""One probe of a health check: a command in the container that the event loop waits for, without a
thread, for at most so long, and with at most so much output kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

import msgspec

from .._core import launch as core
from ..container import exec as execs
from ..container import process
from ..container.health import MAX_OUTPUT
from ..container.lifecycle import Lifecycle
from ..container.record import Container
from ..errors import FastboxError

DRAIN = 1 << 20  # bytes thrown away at once, after MAX_OUTPUT …
DRAIN_PAUSE = 0.002  # … and the seconds until the next: a probe that floods us costs little
DYING = 2.0  # seconds that a killed probe has
_NONBLOCK = 2  # SPLICE_F_NONBLOCK


class Spawned(msgspec.Struct):
    """A probe under way: the helper that waits for the command, and descriptors to read from."""

    pid: int
    pidfd: int
    output: int
    errors: int


def spawn(lifecycle: Lifecycle, box: Container, argv: list[str]) -> Spawned:
    """Start a probe; as ``container.exec.run`` does, but who waits for it is the event loop.

    Raises:
        FastboxError, OSError
    """
    plan, cgroup = lifecycle.exec_parts(box, execs.ExecRequest(args=argv))
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as kept:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        ours.callback(os.close, null)
        output, output_write = os.pipe2(os.O_CLOEXEC)
        kept.callback(os.close, output)
        ours.callback(os.close, output_write)
        errors, errors_write = os.pipe2(os.O_CLOEXEC)
        kept.callback(os.close, errors)
        ours.callback(os.close, errors_write)
        for fd in (output, errors):
            os.set_blocking(fd, False)
        stdio = [null, output_write, output_write]
        pid = execs.spawn(box, cgroup, plan, stdio, errors_write, -1)
        try:
            pidfd = os.pidfd_open(pid)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            core.wait_helper(pid)
            raise
        kept.pop_all()
        return Spawned(pid, pidfd, output, errors)


class Probing:
    """Waits for a spawned probe; owns its descriptors."""

    def __init__(self, lifecycle: Lifecycle, box: Container, spawned: Spawned) -> None:
        self.lifecycle, self.box, self.spawned = lifecycle, box, spawned
        self.loop = asyncio.get_running_loop()
        self.text = bytearray()
        self.cut = False
        self.ended = asyncio.Event()
        self.null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self.drainer: asyncio.TimerHandle | None = None
        self.loop.add_reader(spawned.pidfd, self.ended.set)
        self.loop.add_reader(spawned.output, self._read)

    async def wait(self, timeout: float) -> int | None:
        """Its exit status; None when the time was over, and it was killed.

        Raises:
            FastboxError: it could not be started.
        """
        try:
            try:
                await asyncio.wait_for(self.ended.wait(), timeout)
            except asyncio.TimeoutError:
                await self._kill()
                return None
            status = core.wait_helper(self.spawned.pid)
            self.spawned.pid = 0
            while self._read():  # what is in the pipe; who still holds it open is not waited for
                pass
            self._check_errors()
            return status
        finally:
            self.close()

    @property
    def output(self) -> str:
        """What it wrote, at most MAX_OUTPUT bytes, with ``...`` where something is missing."""
        return self.text.decode(errors="replace") + ("..." if self.cut else "")

    def _read(self) -> bool:
        """Whether there may be more to keep."""
        if self.cut:
            return False
        try:
            data = os.read(self.spawned.output, MAX_OUTPUT + 1)
        except BlockingIOError:
            return False
        room = MAX_OUTPUT - len(self.text)
        self.text += data[:room]
        self.cut = len(data) > room
        if not data or self.cut:
            self.loop.remove_reader(self.spawned.output)
        if self.cut:
            self._drain()
        return bool(data) and not self.cut

    def _drain(self) -> None:
        try:
            if os.splice(self.spawned.output, self.null, DRAIN, flags=_NONBLOCK) == 0:
                return
        except BlockingIOError:
            pass
        self.drainer = self.loop.call_later(DRAIN_PAUSE, self._drain)

    def _check_errors(self) -> None:
        with contextlib.suppress(BlockingIOError):
            step = execs.decode_error(os.read(self.spawned.errors, execs.ERROR_SIZE))
            if step is not None:
                raise FastboxError(f"OCI runtime exec failed: {os.strerror(step.errno).lower()}")

    async def _kill(self) -> None:
        """Kill the command, and what it started unless that has left its session."""
        await self.loop.run_in_executor(None, self._kill_session)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.ended.wait(), DYING)

    def _kill_session(self) -> None:
        with contextlib.suppress(OSError, FastboxError):
            path = f"/proc/{self.spawned.pid}/task/{self.spawned.pid}/children"
            with open(path, encoding="ascii") as file:
                leaders = {int(word) for word in file.read().split()}
            for pid in self.lifecycle.pids(self.box.record):
                session, started = _session_of(pid)
                if session in leaders:
                    process.send(pid, started, signal.SIGKILL)

    def close(self) -> None:
        """Give everything back; a probe that still runs is killed."""
        if self.drainer is not None:
            self.drainer.cancel()
        if self.spawned.pid:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.spawned.pidfd, signal.SIGKILL)
                core.wait_helper(self.spawned.pid)  # it only waits itself, so it ends at once
            self.spawned.pid = 0
        for fd in (self.spawned.pidfd, self.spawned.output):
            self.loop.remove_reader(fd)
        for fd in (self.spawned.pidfd, self.spawned.output, self.spawned.errors, self.null):
            os.close(fd)


def _session_of(pid: int) -> tuple[int, int]:
    """(session, start time) of a process; zeros if it is gone."""
    fields = process.stat_fields(pid)
    return (int(fields[3]), int(fields[19])) if fields else (0, 0)
