"""Where the time of a start goes: spans, written in the Chrome trace event format, which Perfetto
(ui.perfetto.dev) and chrome://tracing show. See docs/tracing.md.

One trace is written at a time in a process. Without one, a span costs some 0.2 microseconds.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import get_native_id

from .errors import Conflict, Detached, FastboxError, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, TypeVar

    Traced = TypeVar("Traced", bound=Callable[..., Any])

active: Trace | None = None  # looked at where a span is more than its name


class Trace:
    """A trace that is being written, from entering it to leaving it. What is done meanwhile by any
    thread of this process is in it, and what starts make in their children.

    Args:
        path: the file, opened at once, written at the end, also when that is an exception.
        began: ``time.monotonic_ns()`` of when what is traced began, if that was before.

    Raises:
        FastboxError: the file cannot be opened. Conflict: a trace is being written already.
    """

    def __init__(self, path: str | os.PathLike[str], *, began: int | None = None) -> None:
        self.path = os.fspath(path)
        self.pid = os.getpid()
        self.events: list[dict[str, Any]] = []
        self._began = began
        self._fd = -1
        self._rows: set[tuple[int, int]] = set()

    def __enter__(self) -> Trace:
        global active
        if active is not None:
            raise Conflict(f"tracing to {self.path}: a trace is being written already")
        if not self.path:
            raise InvalidArgument("the trace needs a file's name")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY
            self._fd = os.open(self.path, flags, 0o666)
        except (OSError, ValueError) as error:
            why = (getattr(error, "strerror", None) or str(error)).lower()
            raise FastboxError(f"opening the trace file {self.path} failed: {why}") from error
        if self._began is not None:
            self.add("parse", self._began, time.monotonic_ns())
        active = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        global active
        active = None
        if error is not None:
            self.add(f"failed: {_text(error)}", time.monotonic_ns())
        try:
            self._write()
        except OSError as failure:
            problem = FastboxError(
                f"writing the trace file {self.path} failed: {(failure.strerror or '').lower()}"
            )
            if error is None:
                raise problem from failure
        finally:
            os.close(self._fd)

    def add(
        self,
        name: str,
        begin: int,
        end: int | None = None,
        *,
        pid: int = 0,
        category: str = "engine",
        **arguments: object,
    ) -> None:
        """Note a span, or with no ``end`` an instant (both CLOCK_MONOTONIC in nanoseconds).

        Args:
            pid: whose; 0: this thread's.
            arguments: what is shown of it besides; error: what went wrong in it.
        """
        tid = pid or get_native_id()
        event: dict[str, Any] = {
            "name": name,
            "cat": category,
            "ph": "i" if end is None else "X",
            "ts": begin / 1000,
            "pid": pid or self.pid,
            "tid": tid,
        }
        if end is None:
            event["s"] = "p"
        else:
            event["dur"] = (end - begin) / 1000
        if arguments:
            event["args"] = arguments
        if "error" in arguments:
            event["cname"] = "terrible"
        self.events.append(event)
        if not pid and (self.pid, tid) not in self._rows:
            self.row(self.pid, tid, "fastbox", "engine" if tid == self.pid else "engine, a thread")

    def row(self, pid: int, tid: int, process: str, thread: str) -> None:
        """Name a row of the picture; rows stand in the order in which they got their names."""
        self._rows.add((pid, tid))
        order = len(self._rows)
        for name, values in (
            ("process_name", {"name": process}),
            ("process_sort_index", {"sort_index": order}),
            ("thread_name", {"name": thread}),
        ):
            self.events.append({"name": name, "ph": "M", "pid": pid, "tid": tid, "args": values})

    def _write(self) -> None:
        import orjson

        from . import __version__

        kernel = os.uname()
        document = {
            "traceEvents": self.events,
            "displayTimeUnit": "ns",
            "otherData": {
                "version": f"fastbox {__version__}",
                "kernel": f"{kernel.sysname} {kernel.release} {kernel.machine}",
            },
        }
        data = memoryview(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
        while data:
            data = data[os.write(self._fd, data) :]


class _Span:
    """Of a trace, from entering to leaving."""

    __slots__ = ("_begin", "_name", "_trace")

    def __init__(self, trace: Trace, name: str) -> None:
        self._trace, self._name = trace, name

    def __enter__(self) -> None:
        self._begin = time.monotonic_ns()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        failed: dict[str, Any] = {}
        if error is not None and not isinstance(error, Detached):
            failed["error"] = _text(error)
        self._trace.add(self._name, self._begin, time.monotonic_ns(), **failed)


class _NoSpan:
    """The one that is handed out while nothing is traced."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        pass


_NO_SPAN = _NoSpan()


def span(name: str) -> _Span | _NoSpan:
    """``with span("network"):`` notes how long something takes, and whether it fails."""
    return _NO_SPAN if active is None else _Span(active, name)


def traced(name: str) -> Callable[[Traced], Traced]:
    """The same of each call of a function, as its decorator."""

    def decorate(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if active is None:
                return function(*args, **options)
            with _Span(active, name):
                return function(*args, **options)

        call.__name__, call.__doc__ = function.__name__, function.__doc__
        call.__wrapped__ = function  # type: ignore[attr-defined]
        return call

    return decorate


def _text(error: BaseException) -> str:
    """An error in one line that JSON can hold."""
    text = str(getattr(error, "message", None) or error) or type(error).__name__
    return text.encode(sys.getdefaultencoding(), "replace").decode()
