"""Reading and writing the files of a cgroup, and what their errors mean."""

from __future__ import annotations

import errno
import os

from ...errors import FastboxError, PermissionDenied, Unsupported

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


def read(directory: str, name: str) -> str:
    """Content of a cgroup file without the final newline.

    Raises:
        OSError: as the kernel gave it; FileNotFoundError also when the cgroup is gone (ENODEV).
    """
    fd = os.open(f"{directory}/{name}", _READ)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError as e:
        if e.errno == errno.ENODEV:
            raise FileNotFoundError(errno.ENOENT, "cgroup is gone", directory) from e
        raise
    finally:
        os.close(fd)
    return b"".join(parts).decode("ascii", "replace").rstrip("\n")


def write_raw(directory: str, name: str, value: str) -> None:
    """One write(2) to a cgroup file: the kernel takes each write as one command.

    Raises:
        OSError: as the kernel gave it; FileNotFoundError also when the cgroup is gone (ENODEV).
    """
    fd = os.open(f"{directory}/{name}", _WRITE)
    try:
        os.write(fd, value.encode("ascii"))
    except OSError as e:
        if e.errno == errno.ENODEV:
            raise FileNotFoundError(errno.ENOENT, "cgroup is gone", directory) from e
        raise
    finally:
        os.close(fd)


def write(directory: str, name: str, value: str) -> None:
    """``write_raw`` for what must work.

    Raises:
        PermissionDenied: the engine may not; Unsupported: the kernel or the parent group cannot.
    """
    try:
        write_raw(directory, name, value)
    except OSError as e:
        raise failure(f"setting {name} of cgroup {directory} to {value!r}", e) from e


def failure(doing: str, e: OSError) -> FastboxError:
    """The error to raise for a failed system call on a cgroup."""
    text = f"{doing} failed: {e.strerror or e}"
    if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(
            text, hint="the cgroup hierarchy must be writable: run as root, or delegate a cgroup"
        )
    hint = None
    if e.errno == errno.ENOENT:
        hint = "the kernel or the parent cgroup does not offer this controller"
    return Unsupported(text, hint=hint)
