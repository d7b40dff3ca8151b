"""Whole-file writes: a reader sees the old content or the new, also after kill -9 or power loss."""

from __future__ import annotations

import contextlib
import os


def write(path: str, data: bytes, *, mode: int = 0o600, sync: bool = True) -> None:
    """Write ``data`` to ``path`` by temporary file, fsync and rename.

    Args:
        mode: of the file; another than 0600 whatever the umask is.
        sync: fsync file and directory; False where the content need not survive a power loss.

    Raises:
        OSError: nothing was changed, the temporary file is gone.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory or ".", f".{name}.{os.getpid()}-{os.urandom(4).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            _fill(fd, data, mode)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if sync:
        sync_directory(directory or ".")


def write_new(path: str, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that nobody looks for yet; it is not synced.

    Raises:
        OSError: also when there is one.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        _fill(fd, data, mode)
    finally:
        os.close(fd)


def _fill(fd: int, data: bytes, mode: int) -> None:
    if mode != 0o600:
        os.fchmod(fd, mode)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def touch(path: str) -> None:
    """Make an empty file, unless there is one: a mark that says something by being there."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def no_wait(path: str, flags: int) -> int:
    """An opener for ``open``: a pipe in a file's place is empty, nobody waits for its writer."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def sync_directory(path: str) -> None:
    """fsync a directory, so that renames in it survive a power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
