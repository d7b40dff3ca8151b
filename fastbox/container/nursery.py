"""Where the directories of containers are made, before they are renamed to where they belong:
whole, and locked from the first moment at which anybody else looks at them.

On ext4 there are many such places, in different block groups. A new inode is searched for in the
group of its directory, and those that were deleted within the last five seconds are passed over,
one after the other (ext4's ``recently_deleted``): where containers come and go all the time, that
costs more than the rest of their making. A rename leaves them in the group in which they were made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator

from .. import locks

PLACES = 64  # where the file system has groups
_RACES = 50

# ioctl_iflags(2): ext4 spreads the directories made in one with this flag over the groups.
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS of 64 bits
_TOPDIR = 0x20000


class Nursery:
    """The nursery of one store.

    Args:
        root: the store's.
    """

    def __init__(self, root: str) -> None:
        self.path = f"{root}/nursery"
        self._places: list[str] = []

    @contextlib.contextmanager
    def made(self, container_id: str, directory: str) -> Iterator[None]:
        """A new ``directory`` with ``upper`` and ``work``, locked while the block runs.

        Raises:
            OSError: nothing was made.
        """
        with contextlib.ExitStack() as held:
            for attempt in range(_RACES):
                try:
                    young = f"{self._place(container_id)}/{container_id}"
                    os.mkdir(young, 0o700)
                    held.enter_context(locks.lock(young))
                    break
                except FileNotFoundError:
                    # A sweep came between the two, or the store was removed meanwhile.
                    if attempt + 1 == _RACES:
                        raise
                    self._places = []
            try:
                os.mkdir(f"{young}/upper", 0o755)
                os.mkdir(f"{young}/work", 0o700)
                os.rename(young, directory)
            except BaseException:
                _remove(young)
                raise
            yield

    def _place(self, container_id: str) -> str:
        places = self._places  # another thread may forget them meanwhile
        if not places:
            places = self._places = self._found() or self._prepared()
        return places[int(container_id[:4], 16) % len(places)]

    def _found(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [f"{self.path}/{name}" for name in sorted(os.listdir(self.path))]
        return []

    def _prepared(self) -> list[str]:
        """Make it; several processes may do so at once."""
        os.makedirs(self.path, 0o700, exist_ok=True)
        places = [f"{self.path}/{number}" for number in range(PLACES if spread(self.path) else 1)]
        for place in places:
            with contextlib.suppress(FileExistsError):
                os.mkdir(place, 0o700)
        return places

    def sweep(self) -> None:
        """Remove what killed processes have left in it."""
        for place in self._found():
            with contextlib.suppress(OSError):
                if os.stat(place).st_nlink == 2:
                    continue  # where directories are counted, there is none in it
                for name in os.listdir(place):
                    with contextlib.suppress(BlockingIOError, FileNotFoundError):
                        with locks.lock(f"{place}/{name}", blocking=False):
                            _remove(f"{place}/{name}")


def spread(path: str) -> bool:
    """Let ext4 put each directory that is made in ``path`` into a block group of its own; whether
    it does."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = struct.unpack("=i", fcntl.ioctl(fd, _GETFLAGS, b"\0" * 8)[:4])
        fcntl.ioctl(fd, _SETFLAGS, struct.pack("=q", flags | _TOPDIR))
    except OSError:
        return False  # it knows no such thing
    finally:
        os.close(fd)
    return True


def _remove(path: str) -> None:
    for name in ("upper", "work"):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(f"{path}/{name}")
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)
