"""The small files that a container's state is in: read whole, and of which version they are."""

from __future__ import annotations

import os

import msgspec

from ..errors import StoreError

MAX_SIZE = 16 << 20  # bytes; of a container.json: the kernel takes 6 MiB of arguments at most


class _Versioned(msgspec.Struct):
    version: int = 1


def version_of(data: bytes) -> int:
    """Of a file that cannot be read otherwise."""
    try:
        return msgspec.json.decode(data, type=_Versioned).version
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


def read_file(path: str, limit: int = MAX_SIZE) -> bytes | None:
    """A file's content; None if there is no such file.

    Raises:
        OSError: it could not be read, or is a link.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # (it may be a pipe)
    try:
        fd = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
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
