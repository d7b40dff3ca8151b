"""What a start's trace shows of the children that share the engine's memory: each operation of the
plan, what confines the command, and who waits for whom (``_core/launch/plan.h``, enum fb_time)."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import tracing
from .._core import launch as core
from .plan import OP_SIZE

if TYPE_CHECKING:
    from .flatten import Plan

# (from, to, name): the engine's row, the monitor's, and what follows the operations in init's.
_ENGINE = (
    (core.T_CALL, core.T_INIT, "clone"),
    (core.T_INIT, core.T_EXEC, "wait for exec"),
    (core.T_EXEC, core.T_RETURN, "monitor ready"),
)
_MONITOR = (
    (core.T_MONITOR, core.T_INIT, "clone init: namespaces, cgroup"),
    (core.T_INIT, core.T_HELPER, "suspended until init execs"),
    (core.T_HELPER, core.T_SPAWNED, "give the monitor its descriptors"),
    (core.T_SPAWNED, core.T_EXEC, "wait for the command's exec"),
)
_CONFINE = (
    (core.T_OPS, core.T_USER, "look up user and groups"),
    (core.T_USER, core.T_STDIO, "streams, keyring, descriptors"),
    (core.T_STDIO, core.T_CWD, "working directory, signals"),
    (core.T_CWD, core.T_CONFINED, "capabilities, user, seccomp"),
)
_EXEC = (
    (core.T_CONFINED, core.T_HELPER, "exec of the helper"),
    (core.T_HELPER, core.T_EXEC, "exec of the command"),
)


def starter(plan: Plan, names: dict[int, str]) -> Callable[..., tuple[int, int]]:
    """``core.start``, which tells the trace what it did.

    Args:
        names: what each kind of operation does, in words.
    """

    def start(data: bytes, **options: Any) -> tuple[int, int]:
        times: list[int] = []
        error = None
        try:
            return core.start(data, times=times, **options)
        except core.StepError as failure:
            error = failure
            raise
        finally:
            if tracing.active is not None and times:
                _Picture(tracing.active, times, error).draw(plan, names)

    return start


class _Picture:
    """The rows of one start.

    Args:
        times: as ``core.start`` gives them. error: what failed.
    """

    def __init__(
        self, trace: tracing.Trace, times: list[int], error: core.StepError | None
    ) -> None:
        self._trace = trace
        *self._times, self._init, self._monitor = times
        self._error = error

    def draw(self, plan: Plan, names: dict[int, str]) -> None:
        self._several(_ENGINE, 0, "engine", core.T_RETURN)
        if self._monitor > 0:
            self._trace.row(self._monitor, self._monitor, "fastbox-monitor", "monitor")
            self._several(_MONITOR, self._monitor, "monitor", None)
        if self._init > 0:
            self._trace.row(self._init, self._init, "the container's init", "init")
            self._draw_init(plan, names)

    def _draw_init(self, plan: Plan, names: dict[int, str]) -> None:
        times = self._times
        operations = times[core.T_END :]
        end = times[core.T_OPS] or max(operations, default=0)
        self._span("operations", times[core.T_INIT], end)
        before = times[core.T_INIT]
        for i, after in enumerate(operations):
            about = plan.about(i)
            name = f"{names.get(_kind(plan, i), 'operation')} {about}".rstrip()
            failed = self._error if self._error and self._error.index == i else None
            self._span(name, before, after, failed)
            before = after or before
        for title, parts in (("confine", _CONFINE), ("exec", _EXEC)):
            end = times[parts[-1][1]] or times[core.T_HELPER]
            self._span(title, times[parts[0][0]], end)
            self._several(parts, self._init, "init", core.T_HELPER)

    def _several(
        self, parts: tuple[tuple[int, int, str], ...], pid: int, category: str, until: int | None
    ) -> None:
        """Spans one after the other, up to one that failed.

        Args:
            until: the instant when that was noticed; None: it is not shown in this row.
        """
        for first, last, name in parts:
            begin, end, error = self._times[first], self._times[last], None
            finished = end != 0
            if not begin or (not end and until is None):
                return
            end = end or self._times[until or 0]
            if self._error is not None and self._error.index < 0:
                in_helper = parts is _EXEC and last == core.T_EXEC
                if not finished or (in_helper and self._error.step == core.STEP_EXEC):
                    error = self._error
            self._note(name, begin, end, pid, category, error)
            if not finished or error is not None:
                return

    def _span(self, name: str, begin: int, end: int, error: core.StepError | None = None) -> None:
        if begin and end:
            self._note(name, begin, end, self._init, "init", error)

    def _note(
        self,
        name: str,
        begin: int,
        end: int,
        pid: int,
        category: str,
        error: core.StepError | None,
    ) -> None:
        failed = {} if error is None else {"error": os.strerror(error.errno)}
        self._trace.add(name, begin, end, pid=pid, category=category, **failed)


def _kind(plan: Plan, index: int) -> int:
    """Of an operation, as the plan has it."""
    (operations,) = struct.unpack_from("=I", plan.data, 12)
    (kind,) = struct.unpack_from("=H", plan.data, operations + index * OP_SIZE)
    return int(kind)


def await_removal(monitor: int) -> None:
    """The end of what the monitor does after it has told the exit status: it removes the container.
    Somebody who looks at the trace wants to see that; nobody else waits for it."""
    import select

    with tracing.span("removal"):
        try:
            pidfd = os.pidfd_open(monitor)
        except OSError:
            return  # it has ended already
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.poll(10_000)
        finally:
            os.close(pidfd)
