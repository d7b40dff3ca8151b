"""Writing: whole texts as bytes, so that names that are not UTF-8 come out as they came in."""

from __future__ import annotations

import os
import sys
from typing import IO

from ..errors import FastboxError


def write(text: str | bytes) -> None:
    """To standard output."""
    _write(sys.stdout, text)


def line(text: str) -> None:
    """A line to standard output, at once: who waits for it (``run -d`` in a script) gets it."""
    _write(sys.stdout, text + "\n")


def error(text: str) -> None:
    """A line to standard error."""
    _write(sys.stderr, text + "\n")


def write_error(text: str | bytes) -> None:
    """To standard error."""
    _write(sys.stderr, text)


def _write(stream: IO[str] | None, text: str | bytes) -> None:
    if stream is None:  # the descriptor was closed when the interpreter started
        return
    try:
        stream.flush()
        copy(stream.buffer, text if isinstance(text, bytes) else encode(text))  # type: ignore[attr-defined]
    except OSError as error:
        raise failed(stream, error) from error


def failed(stream: IO[str], error: OSError) -> Exception:
    """What to raise when a write failed: a full disk is told of, a reader that has gone is not."""
    if isinstance(error, BrokenPipeError):
        return error
    name = "stderr" if stream is sys.stderr else "stdout"
    return FastboxError(f"write /dev/{name}: {(error.strerror or str(error)).lower()}")


def copy(stream: IO[bytes], data: bytes) -> None:
    """Write all of it now. With PYTHONUNBUFFERED the stream is the bare file, which may take less
    than it is given."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]
    stream.flush()


def encode(text: str) -> bytes:
    """UTF-8; bytes of argv that are no UTF-8 come out as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate, for example out of a JSON label
        return text.encode("utf-8", "replace")


def width(fd: int = 0) -> int:
    """Columns of the terminal at ``fd``, 80 where there is none (what Docker wraps help to)."""
    try:
        return os.get_terminal_size(fd).columns or 80
    except OSError:
        return 80


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether a person watches this stream."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
