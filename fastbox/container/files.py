"""The small files that a container's state is in: read whole, and of which version they are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from ..errors import StoreError

Made = TypeVar("Made")

SETTLED = 100_000_000  # nanoseconds; a tick is 10 ms at most
MAX_SIZE = 16 << 20  # bytes; of a container.json: the kernel takes 6 MiB of arguments at most


class _Versioned(msgspec.Struct):
    version: int = 1


# Made with the module: two threads must not be the first to use a type at the same time.
_version_decoder: msgspec.json.Decoder[_Versioned] = msgspec.json.Decoder(_Versioned)


def version_of(data: bytes) -> int:
    """Of a file that cannot be read otherwise."""
    try:
        return _version_decoder.decode(data).version
    except msgspec.DecodeError:
        return 0


def check_version(found: int, known: int, path: str) -> None:
    """Older state is read (what it lacks has defaults), newer state is left to newer versions.

    Raises:
        StoreError
    """
    if found > known:
        raise StoreError(
            f"reading {path} failed: it is of version {found}, and this fastbox knows versions up "
            f"to {known}",
            hint="a newer fastbox wrote it; use that one",
        )


def read_file(
    path: str,
    limit: int = MAX_SIZE,
    *,
    opened: Callable[[os.stat_result], object] | None = None,
) -> bytes | None:
    """A file's content; None if there is no such file.

    Args:
        opened: told what is about to be read.

    Raises:
        OSError: it could not be read, or is a link.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # (it may be a pipe)
    try:
        fd = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if opened is not None:
            opened(os.fstat(fd))
        data = os.read(fd, 65536)
        if len(data) == 65536:
            parts = [data]
            while len(data) and sum(map(len, parts)) < limit:
                data = os.read(fd, 1 << 20)
                parts.append(data)
            data = b"".join(parts)
        return data
    finally:
        os.close(fd)


class Remembered(Generic[Made]):
    """What was made of files that are read again and again: one that is still the same costs a
    stat instead of open, read and parsing.

    A file is the same while device, inode, size and both times are. Two contents within one tick of
    the file system's clock could have all of that in common, so nothing is remembered of a file
    that changed less than ``SETTLED`` ago.

    Args:
        make: the value, of content and path; what it raises is passed on, and not remembered.
    """

    MOST = 4096  # files; beyond that all are forgotten

    def __init__(self, make: Callable[[bytes, str], Made]) -> None:
        self._make = make
        self._known: dict[str, tuple[tuple[int, ...], Made]] = {}

    def get(self, path: str) -> Made | None:
        """The value; None if there is no such file. It is shared: nobody changes it.

        Raises:
            OSError: it could not be read, or is a link.
        """
        known = self._known.get(path)
        if known is not None:
            try:
                found = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            if known[0] == stamp(found):
                return known[1]
        opened: list[os.stat_result] = []
        data = read_file(path, opened=opened.append)
        if data is None:
            return None
        made = self._make(data, path)
        # By its stamp before it was read: what is written meanwhile makes it another one.
        if is_settled(opened[0]):
            if len(self._known) >= self.MOST:
                self._known = {}
            self._known[path] = stamp(opened[0]), made
        return made


def is_settled(found: os.stat_result) -> bool:
    """Whether what is done to a file, or in a directory, from now on changes its ``stamp``."""
    return 0 <= found.st_ctime_ns < time.time_ns() - SETTLED


def stamp(found: os.stat_result) -> tuple[int, ...]:
    """What tells a file, or a directory's names, from what they were before."""
    return found.st_ino, found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_dev
