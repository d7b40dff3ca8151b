"""Advisory locks between fastbox processes: flock on a file or directory, freed by the kernel
when the holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def lock(
    path: str, *, shared: bool = False, blocking: bool = True, create: bool = False
) -> Iterator[int]:
    """Hold a lock on ``path``: a directory or a file.

    Args:
        create: make the file when it is missing.

    Yields:
        The locked descriptor.

    Raises:
        BlockingIOError: not blocking, and somebody else holds it.
        FileNotFoundError: the object was removed while we waited for it.
    """
    flags = (os.O_RDWR | os.O_CREAT) if create else os.O_RDONLY
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(fd, how if blocking else how | fcntl.LOCK_NB)
        # The path may have been removed or replaced between open and lock.
        mine, there = os.fstat(fd), os.stat(path)
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            raise FileNotFoundError(2, "removed while waiting for its lock", path)
        yield fd
    except Exception:
        release(fd)
        raise
    except BaseException:  # of a start that is interrupted the monitor has the lock too
        os.close(fd)
        raise
    release(fd)


def release(fd: int) -> None:
    """Unlock and close. Closing alone would leave it locked as long as a process lives that was
    forked meanwhile (by another thread: ``multiprocessing``), because that has the lock too."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)
