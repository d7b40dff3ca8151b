"""What a container has written: its upper directory and the layers that commits have made of such.

A commit of a stopped container makes a layer of its upper directory and gives it a new one. So its
own changes may lie in several directories (``ContainerRecord.committed``), which are walked here as
the one that they would be without commits.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..volume.tree import OPAQUE, Cursor, Entries

if TYPE_CHECKING:
    from typing_extensions import Self

    from .record import ContainerRecord

_HIDING = (errno.ENOTDIR, errno.ELOOP)


def own_layers(record: ContainerRecord, layers_dir: str) -> list[str]:
    """Names of the layers that were the container's upper directory, top first.

    A commit names its layer in the record before there is one: until then, and should the power
    fail then, all is in the upper directory.
    """
    return [name for name in record.committed if os.path.isdir(f"{layers_dir}/{name}")]


def image_layers(record: ContainerRecord) -> list[str]:
    """Names of its image's layers, top first."""
    return [name for name in record.layers if name not in record.committed]


def writable(directory: str, record: ContainerRecord, layers_dir: str) -> list[str]:
    """The directories with what a container has written, top first.

    Args:
        directory: the container's.
    """
    own = own_layers(record, layers_dir)
    return [f"{directory}/upper", *(f"{layers_dir}/{name}" for name in own)]


def is_opaque(directory: int) -> bool:
    """Whether a directory of an upper one hides what the layers below have under its name."""
    try:
        return os.getxattr(directory, OPAQUE) == b"y"
    except OSError:
        return False


class Stack:
    """Trees that lie one on the other, and what moves through them at once. Close it.

    Args:
        directories: top first.
    """

    def __init__(self, directories: Iterable[str]) -> None:
        self._cursors: list[Cursor] = []
        try:
            for path in directories:
                self._cursors.append(Cursor(path))
        except BaseException:
            self.__exit__()
            raise
        # Which of them have the directory, at each level of the way.
        self._levels = [list(range(len(self._cursors)))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for cursor in self._cursors:
            cursor.__exit__()

    @property
    def fd(self) -> int:
        """The topmost of the directories: owner, mode and times are its."""
        return self._cursors[self._levels[-1][0]].fd

    def up(self) -> None:
        """Back to where ``down`` was called; see ``Cursor.up``."""
        for number in self._levels.pop():
            self._cursors[number].up()


class Layered(Stack):
    """Walks through upper directories of overlays, one on the other, as if they were one. What one
    of them deletes is an entry (a whiteout), as in each of them."""

    def __init__(self, directories: Iterable[str]) -> None:
        super().__init__(directories)
        # Whether one of them hides what is below it: it has deleted the directory, and one above
        # has made it again, which need not be marked as opaque.
        self._hides = [False]

    @property
    def opaque(self) -> bool:
        """Whether they hide what is below all of them."""
        return self._hides[-1] or is_opaque(self._cursors[self._levels[-1][-1]].fd)

    def entries(self) -> Entries:
        """See ``Cursor.entries``; what vanishes meanwhile is left out."""
        found: Entries = {}
        for number in self._levels[-1]:
            fd = self._cursors[number].fd
            for name in os.listdir(fd):
                if name in found:
                    continue
                try:
                    found[name] = (fd, os.stat(name, dir_fd=fd, follow_symlinks=False))
                except FileNotFoundError:
                    continue
        return found

    def down(self, name: str) -> None:
        """Into the subdirectory ``name``.

        Raises:
            OSError: the topmost entry of that name is none.
        """
        entered: list[int] = []
        failure: OSError | None = None
        hides = False
        for number in self._levels[-1]:
            try:
                self._cursors[number].down(name)
            except FileNotFoundError as error:
                failure = failure or error
                continue
            except OSError as error:
                if error.errno not in _HIDING:
                    raise
                failure = failure or error
                hides = True
                break
            entered.append(number)
            if is_opaque(self._cursors[number].fd):
                break
        if not entered:
            assert failure is not None
            raise failure
        self._levels.append(entered)
        self._hides.append(hides)

    def up(self) -> None:
        """Back to where ``down`` was called; see ``Cursor.up``."""
        self._hides.pop()
        super().up()


def size(directories: Sequence[str]) -> int:
    """Bytes of the files in upper directories, one on the other; each inode once."""
    total, seen = 0, set()
    with Layered(directories) as walk:
        levels: list[list[str]] = []
        while True:
            folders = []
            for name, (_, found) in walk.entries().items():
                if stat.S_ISDIR(found.st_mode):
                    folders.append(name)
                elif stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in seen:
                    if found.st_nlink > 1:
                        seen.add((found.st_dev, found.st_ino))
                    total += found.st_size
            levels.append(folders)
            while not levels[-1]:
                levels.pop()
                if not levels:
                    return total
                walk.up()
            walk.down(levels[-1].pop())
