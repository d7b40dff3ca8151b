"""Being like the client while its command runs, and like nobody afterwards: standard streams,
working directory, environment, umask, limits, signals."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys
import time
from typing import IO, Any

from .protocol import LIMITS, Request

# As the client relays them (_core/client/relay.c); the first handler of each is the interpreter's.
RELAYED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGCONT, signal.SIGWINCH, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip
UMASK = 0o022
_INFINITE = 2**64 - 1
# Those that count what a worker has used before.
_RTTIME = 15
_NOT_TAKEN_ON = {
    resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_RSS, _RTTIME,
}  # fmt: skip


class Disguise:
    """One worker's.

    Args:
        null: a descriptor of /dev/null.
    """

    def __init__(self, null: int) -> None:
        self._null = null
        self._own = self._limits = _own_limits()
        self._block = LIMITS.pack(*(value for pair in self._own for value in pair))
        self._variables: bytes | None = None
        self._environment: dict[bytes, bytes] = {}
        self._errors: str | None = "strict"
        self._ignored: list[int] = []
        for number in range(3):
            os.dup2(null, number)
        sys.stdin = sys.stdout = sys.stderr = None

    def can(self, request: Request) -> bool:
        """Whether it can be like this client. Takes on its limits, if so."""
        if request.variables != self._variables:
            self._environment = request.environment()
            self._errors = _stream_errors(self._environment)
            self._variables = request.variables
        return self._errors is not None and self._take_limits(request.limits)

    def put_on(self, request: Request) -> None:
        """Be like the client. Its signals come once ``RELAYED`` are not blocked any more."""
        for number, fd in enumerate(request.streams):
            os.dup2(self._null if fd is None else fd, number)
        os.fchdir(request.directory)
        os.umask(request.umask)
        there = [fd is not None for fd in request.streams]
        request.close()
        self._take_environment()
        errors = self._errors or "strict"
        sys.stdin = _stream(0, errors) if there[0] else None
        sys.stdout = _stream(1, errors) if there[1] else None
        sys.stderr = _stream(2, "backslashreplace") if there[2] else None
        self._ignored = [n for n in RELAYED if request.ignored >> (n - 1) & 1]
        for number in self._ignored:
            signal.signal(number, signal.SIG_IGN)

    def take_off(self) -> None:
        """Let go of all that is the client's. ``RELAYED`` are to be blocked."""
        for stream in (sys.stdout, sys.stderr):
            _let_go(stream)
        sys.stdin = sys.stdout = sys.stderr = None
        for number in range(3):
            os.dup2(self._null, number)
        os.chdir("/")

    def forget(self) -> None:
        """What nobody waits for: undo the rest, drop signals that came too late."""
        os.umask(UMASK)
        if self._limits is not self._own:
            _set_limits(self._own)
            self._limits = self._own
        while signal.sigtimedwait(RELAYED, 0) is not None:
            pass
        for number in RELAYED:
            normal = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            if signal.getsignal(number) is not normal:
                signal.signal(number, normal)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _take_environment(self) -> None:
        if getattr(os.environb, "_data", None) != self._environment:
            wanted = self._environment
            for name in [name for name in os.environb if name not in wanted]:
                del os.environb[name]
            for name, value in wanted.items():
                if os.environb.get(name) != value:
                    os.environb[name] = value
        time.tzset()

    def _take_limits(self, block: bytes) -> bool:
        if block == self._block:
            return True
        values = LIMITS.unpack(block)
        wanted = [*zip(values[::2], values[1::2], strict=True)]
        different = {n for n, pair in enumerate(wanted) if pair != self._own[n]}
        if different & _NOT_TAKEN_ON or os.geteuid() != 0:
            return False
        try:
            self._limits = wanted
            _set_limits(wanted)
        except (OSError, ValueError):
            _set_limits(self._own)
            return False
        return True


def _own_limits() -> list[tuple[int, int]]:
    return [
        (soft & _INFINITE, hard & _INFINITE)
        for soft, hard in map(resource.getrlimit, range(LIMITS.size // 16))
    ]


def _set_limits(limits: list[tuple[int, int]]) -> None:
    for number, pair in enumerate(limits):
        wanted = tuple(-1 if value == _INFINITE else value for value in pair)
        if resource.getrlimit(number) != wanted:
            resource.setrlimit(number, wanted)  # type: ignore[arg-type]


def _stream(fd: int, errors: str) -> IO[Any] | None:
    """As the interpreter makes them at its start."""
    try:
        raw = io.FileIO(fd, "r" if fd == 0 else "w", closefd=False)
        if fd == 0:
            return io.TextIOWrapper(io.BufferedReader(raw), "utf-8", errors)
        lines = fd == 2 or raw.isatty()
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors, line_buffering=lines)
    except OSError:  # a directory
        return None


def _stream_errors(environment: dict[bytes, bytes]) -> str | None:
    """How the interpreter would treat bytes that are no text; None: it would use another encoding
    than UTF-8."""
    names = (environment.get(name) for name in (b"LC_ALL", b"LC_CTYPE", b"LANG"))
    locale = next(filter(None, names), b"C")
    language, dot, encoding = locale.partition(b"@")[0].partition(b".")
    if not dot:
        return "surrogateescape" if language in (b"C", b"POSIX") else None
    if encoding.lower().replace(b"-", b"") != b"utf8":
        return None
    return "surrogateescape" if language == b"C" else "strict"


def _let_go(stream: IO[str] | None) -> None:
    """What is left in a stream goes where it can; the descriptor is not the stream's."""
    if stream is not None:
        try:
            stream.close()
        except (OSError, ValueError):
            pass
