"""Commands as contestants: how long a whole process takes, and what it said when it failed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

TIMEOUT = 120.0  # seconds of any command, unless told otherwise


class CommandFailed(Exception):
    """A command ended with a failure, or not in time: one line that says which and why."""


def seconds(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
    pass_fds: Sequence[int] = (),
) -> float:
    """Run a command with nothing on its standard input; seconds until the process has ended.

    Raises:
        CommandFailed: its status was not 0, or it took longer than ``timeout`` seconds; it and what
            it started are killed then.
    """
    # Errors go to a file: reading a pipe would wait for whatever inherited it (conmon, for one).
    with open(os.memfd_create("stderr"), "w+b") as errors:
        start = time.perf_counter()
        process = begin(argv, subprocess.DEVNULL, errors, env=env, pass_fds=pass_fds)
        # Popen.wait(timeout) polls, which would be measured.
        with killed_if_interrupted(process), limit(timeout, " ".join(argv[:3])):
            process.wait()
        taken = time.perf_counter() - start
        if process.returncode:
            errors.seek(0)
            raise CommandFailed(failure(argv, process.returncode, errors.read()))
    return taken


def output(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = TIMEOUT
) -> str:
    """What a command wrote to its standard output, without the last newline.

    Raises:
        CommandFailed: as with ``seconds``.
    """
    with begin(argv, subprocess.PIPE, subprocess.PIPE, env=env) as process:
        with killed_if_interrupted(process):
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                raise CommandFailed(late(" ".join(argv[:3]), timeout)) from None
    if process.returncode:
        raise CommandFailed(failure(argv, process.returncode, err))
    return out.decode(errors="replace").removesuffix("\n")


def begin(
    argv: Sequence[str],
    stdout: int,
    stderr: IO[bytes] | int,
    *,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, with nothing on its standard input."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=env,
        pass_fds=pass_fds,
        start_new_session=True,
    )


@contextlib.contextmanager
def killed_if_interrupted(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the process and its session's first group when the block is left by an exception."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


@contextlib.contextmanager
def limit(seconds: float, what: str) -> Iterator[None]:
    """Raise CommandFailed in this (the main) thread when the block takes longer. An alarm that is
    set already and is due earlier stays the one that rings."""
    remaining, started = signal.getitimer(signal.ITIMER_REAL)[0], time.monotonic()
    if 0 < remaining <= seconds:
        yield
        return

    def ring(*_: object) -> None:
        raise CommandFailed(late(what, seconds))

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if remaining:
            used = time.monotonic() - started
            signal.setitimer(signal.ITIMER_REAL, max(remaining - used, 0.001))


def late(what: str, timeout: float) -> str:
    return f"{what}: not done within {timeout:g} seconds"


def failure(argv: Sequence[str], status: int, errors: bytes) -> str:
    """``crun run: exit status 1: …``, with the last line of what it said."""
    words = " ".join([os.path.basename(argv[0]), *_verb(argv[1:])])
    ending = f"exit status {status}" if status > 0 else f"signal {-status}"
    said = last_words(errors)
    return f"{words}: {ending}" + (f": {said}" if said else "")


def last_words(errors: bytes) -> str:
    """The last line that a command said; "" if it said nothing."""
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _verb(words: Sequence[str]) -> list[str]:
    """What a command is told to do, if that can be seen: ``run``."""
    found = next((word for word in words if not word.startswith("-") and "/" not in word), "")
    return [found] if re.fullmatch(r"[a-z][a-z-]*", found) else []


def last_line(error: BaseException) -> str:
    """The last line of an error, for a table: of a command's own words, where it has some."""
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr or b""
        data = said.encode() if isinstance(said, str) else said
        return failure(error.cmd, error.returncode, data)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
