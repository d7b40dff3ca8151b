"""Unix sockets at paths of any length."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_LONGEST = 107  # bytes of a path that the kernel takes (unix(7))


@contextlib.contextmanager
def short_path(path: str) -> Iterator[str]:
    """The path of a socket in as many bytes as the kernel takes."""
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(path)}"
    finally:
        os.close(fd)


def bound(path: str, kind: int) -> socket.socket:
    """A Unix socket, not listening yet, at a path that nobody else may connect to, in the place of
    what a killed process has left there.

    Raises:
        OSError
    """
    import socket

    new = f"{path}.new"
    made = socket.socket(socket.AF_UNIX, kind)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        with short_path(new) as short:
            made.bind(short)
        os.chmod(new, 0o600)  # a umask would be that of all threads
        os.rename(new, path)
    except BaseException:
        made.close()
        raise
    return made


def end_listening(listener: socket.socket) -> None:
    """Close a listening socket for every process that has it: who waits in accept(2) gets an error,
    and who has connected in vain is let go, with the descriptors that came along."""
    with contextlib.suppress(OSError):
        listener.shutdown(2)
        while True:  # what is in the queue is still given out, then there is an error
            connection, _ = listener.accept()
            connection.close()
    listener.close()


def is_neighbour(pid: int) -> bool:
    """Whether a process sees the files that we see, and is no container's whom somebody has given
    the socket's directory."""
    try:
        found, own = os.stat(f"/proc/{pid}/ns/mnt"), os.stat("/proc/self/ns/mnt")
    except OSError:
        return False
    return pid > 0 and (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)
