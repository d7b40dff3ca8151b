"""``diff``: what a container's writable layer adds to its image, changes in it and takes away."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ..volume.tree import Cursor
from . import graph
from .layered import Layered

if TYPE_CHECKING:
    from .record import ContainerRecord
    from .store import ContainerStore

_T = TypeVar("_T")
_ATTEMPTS = 20
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Change(msgspec.Struct, frozen=True):
    """A path of which the container has its own version.

    Attributes:
        kind: "A" added, "C" changed, "D" deleted.
        path: absolute, in the container.
    """

    kind: str
    path: str


def changes(store: ContainerStore, record: ContainerRecord, layers_dir: str) -> list[Change]:
    """All changes, by path. A directory in which something changed counts as changed.

    Raises:
        OSError
    """
    found = graph.of(record).changes(store, record, layers_dir)
    for path in list(found):
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found[parent] = "C"
            parent = parent.rpartition("/")[0]
    return [Change(found[path], path) for path in sorted(found)]


def found_in_uppers(own: list[str], image: int) -> dict[str, str]:
    """Absolute path -> kind, by the upper directories of an overlay (top first) and the root that
    the image alone has."""

    def walk() -> dict[str, str]:
        found: dict[str, str] = {}
        _Walk(own, image, found).run()
        return found

    return undisturbed(walk)


def undisturbed(walk: Callable[[], _T]) -> _T:
    """What ``walk`` gives, in a tree in which a container may be at work.

    Raises:
        OSError
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return walk()
        except OSError as error:  # the container moved a directory that we were in
            if error.errno != errno.ESTALE:
                raise
    return walk()


class _Walk:
    """What a container has written beside the image below it.

    Both are walked by descriptor, never through a link: the container may be at work in the one.
    """

    def __init__(self, own: list[str], image: int, found: dict[str, str]) -> None:
        self._own = own
        self._image = image
        self._found = found

    def run(self) -> None:
        with Layered(self._own) as own, Cursor(self._image) as image:
            path = [""]
            levels = [self._directory(own, image.fd, "")]
            below = [True]  # whether the image has the directory too
            while True:
                while not levels[-1]:
                    levels.pop()
                    path.pop()
                    if below.pop() and levels:
                        image.up()
                    if not levels:
                        return
                    own.up()
                name, in_image = levels[-1].pop()
                try:
                    own.down(name)
                except OSError as error:
                    if error.errno in _GONE:
                        continue
                    raise
                if in_image:
                    image.down(name)
                path.append(name)
                below.append(in_image)
                levels.append(self._directory(own, image.fd if in_image else None, "/".join(path)))

    def _directory(self, own: Layered, image: int | None, path: str) -> list[tuple[str, bool]]:
        """Note the changes in one directory; gives (name, is in the image) of those in it."""
        folders = []
        entries = own.entries()
        for name, (_, ours) in entries.items():
            theirs = None if image is None else _stat(image, name)
            here = f"{path}/{name}"
            if stat.S_ISCHR(ours.st_mode) and ours.st_rdev == 0:
                if theirs is not None:
                    self._found[here] = "D"
                continue
            both = theirs is not None and stat.S_ISDIR(theirs.st_mode)
            if stat.S_ISDIR(ours.st_mode):
                folders.append((name, both))
                if both and _same(ours, theirs):
                    continue
            self._found[here] = "A" if theirs is None else "C"
        if image is not None and own.opaque:
            for name in set(os.listdir(image)) - entries.keys():
                self._found[f"{path}/{name}"] = "D"
        return folders


def _stat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _same(ours: os.stat_result, theirs: os.stat_result | None) -> bool:
    """Whether a directory is only there for what is below it."""
    return theirs is not None and (
        (ours.st_mode, ours.st_uid, ours.st_gid, ours.st_mtime_ns)
        == (theirs.st_mode, theirs.st_uid, theirs.st_gid, theirs.st_mtime_ns)
    )
