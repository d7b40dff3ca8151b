"""The graph driver ``copy``: a container's ``upper`` is a whole root, a copy of its image.

What the container has changed is found by comparing the two. A file's content is only read where
the file was touched since the copy was made, which its change time (ctime) tells: nobody can set
that. ``work``, made after the copy and never used, has the time of the copy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..volume.tree import Copy, Cursor, Entries, same_content
from .changes import undisturbed
from .flatten import Bound, Root
from .graph import INIT_LAYER, Driver, mount_point
from .layered import Stack

if TYPE_CHECKING:
    from .record import Container, ContainerRecord
    from .store import ContainerStore

WHITEOUT = ".wh."  # before the name of what a layer takes away (image-spec, layer.md)
OPAQUE = ".wh..wh..opq"  # in a directory that hides what is below it
_HIDING = (errno.ENOTDIR, errno.ELOOP)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class CopyDriver(Driver):
    """See the module."""

    name = "copy"

    def make(self, store: ContainerStore, record: ContainerRecord, layers_dir: str) -> None:
        mount_point(store, layers_dir)
        directory = store.directory(record.id)
        work = f"{directory}/work"
        with contextlib.ExitStack() as opened:
            walk = opened.enter_context(_image(record, layers_dir))
            fds = []
            for path in (f"{directory}/upper", work):
                fds.append(os.open(path, _DIRECTORY))
                opened.callback(os.close, fds[-1])
            Copy(walk, fds[0], fds[1]).run()
        # Only names of hard-linked files were in there; now it is new.
        for name in os.listdir(work):
            os.unlink(f"{work}/{name}")
        os.chmod(work, 0o700)

    def root(
        self, store: ContainerStore, record: ContainerRecord, layers_dir: str, *, lasting: bool
    ) -> Root:
        return Bound(f"{store.directory(record.id)}/upper", mount_point(store, layers_dir))

    def image_root(self, store: ContainerStore, record: ContainerRecord, layers_dir: str) -> int:
        # Whoever asks is making the container: nothing has changed in it yet.
        return os.open(f"{store.directory(record.id)}/upper", _DIRECTORY)

    def changes(
        self, store: ContainerStore, record: ContainerRecord, layers_dir: str
    ) -> dict[str, str]:
        return _compared(store.directory(record.id), record, layers_dir).found

    def size(self, container: Container, layers_dir: str) -> int:
        try:
            files = _compared(container.directory, container.record, layers_dir).files
        except OSError:  # it was removed
            return 0
        return sum({(found.st_dev, found.st_ino): found.st_size for found in files}.values())

    def copy_layer(
        self,
        store: ContainerStore,
        record: ContainerRecord,
        layers_dir: str,
        target: str,
        links: str,
    ) -> None:
        found = self.changes(store, record, layers_dir)
        with contextlib.ExitStack() as opened:
            fds = []
            for path in (target, links):
                fds.append(os.open(path, _DIRECTORY))
                opened.callback(os.close, fds[-1])
            root = opened.enter_context(Cursor(f"{store.directory(record.id)}/upper"))
            Copy(_Changed(root, found), fds[0], fds[1]).run()
            _put_whiteouts(fds[0], (path for path, kind in found.items() if kind == "D"))


COPY = CopyDriver()


def _compared(directory: str, record: ContainerRecord, layers_dir: str) -> _Comparison:
    """What a container, which may be at work, has changed."""
    since = os.stat(f"{directory}/work").st_ctime_ns

    def walk() -> _Comparison:
        with _image(record, layers_dir) as image, Cursor(f"{directory}/upper") as root:
            comparison = _Comparison(image, root, since)
            comparison.run()
            return comparison

    return undisturbed(walk)


def _image(record: ContainerRecord, layers_dir: str) -> Merged:
    names = [INIT_LAYER, *record.layers]
    return Merged([f"{layers_dir}/{name}" for name in names])


class Merged(Stack):
    """Walks through the layers of an image as through the one tree that they make; deletions are
    what the names say.

    Args:
        directories: top first.
    """

    opaque = False

    def __init__(self, directories: Iterable[str]) -> None:
        super().__init__(_visible(directories))

    def entries(self) -> Entries:
        """See ``Cursor.entries``."""
        found: Entries = {}
        hidden: set[str] = set()
        for number in self._levels[-1]:
            fd = self._cursors[number].fd
            names = os.listdir(fd)
            for name in names:
                if not (name in found or name in hidden or name.startswith(WHITEOUT)):
                    found[name] = (fd, os.stat(name, dir_fd=fd, follow_symlinks=False))
            hidden.update(n.removeprefix(WHITEOUT) for n in names if n.startswith(WHITEOUT))
        return found

    def down(self, name: str) -> None:
        """Into the subdirectory ``name``."""
        entered: list[int] = []
        for number in self._levels[-1]:
            last = self._has(number, WHITEOUT + name)
            try:
                self._cursors[number].down(name)
                entered.append(number)
                last = last or self._has(number, OPAQUE)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno not in _HIDING:
                    raise
                last = True
            if last:
                break
        if not entered:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        self._levels.append(entered)

    def _has(self, number: int, name: str) -> bool:
        return _stat(self._cursors[number].fd, name) is not None


def _visible(directories: Iterable[str]) -> Iterator[str]:
    """The layers down to the one that hides all below it."""
    for path in directories:
        yield os.path.realpath(path)
        if os.path.lexists(f"{path}/{OPAQUE}"):
            return


# ---- what has changed --------------------------------------------------------------------------


class _Comparison:
    """A container's root beside its image.

    Attributes:
        found: see ``Driver.changes``.
        files: status of the regular files among that.
    """

    def __init__(self, image: Merged, root: Cursor, since: int) -> None:
        self._image = image
        self._root = root
        self._since = since
        self.found: dict[str, str] = {}
        self.files: list[os.stat_result] = []
        # Of files with several names: those that count as changed, and the others.
        self._linked: set[int] = set()
        self._unchanged: dict[str, os.stat_result] = {}

    def run(self) -> None:
        """Compare. A file of the image that got another name has changed with it, so that it stays
        one file."""
        self._walk()
        for path, found in self._unchanged.items():
            if found.st_ino in self._linked:
                self.found[path] = "C"

    def _walk(self) -> None:
        path = [""]
        below = [True]  # whether the image has the directory too
        levels = [self._directory("", True)]
        while True:
            while not levels[-1]:
                levels.pop()
                path.pop()
                if below.pop() and levels:
                    self._image.up()
                if not levels:
                    return
                self._root.up()
            name, both = levels[-1].pop()
            try:
                self._root.down(name)
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise
            if both:
                self._image.down(name)
            path.append(name)
            below.append(both)
            levels.append(self._directory("/".join(path), both))

    def _directory(self, path: str, both: bool) -> list[tuple[str, bool]]:
        """Note the changes in one directory; gives (name, is in the image) of those in it."""
        folders = []
        theirs = self._image.entries() if both else {}
        names = set(os.listdir(self._root.fd))
        for name in names:
            ours = _stat(self._root.fd, name)
            if ours is None:
                continue
            where, their = theirs.get(name, (-1, None))
            here = f"{path}/{name}"
            if stat.S_ISDIR(ours.st_mode):
                folders.append((name, their is not None and stat.S_ISDIR(their.st_mode)))
            if their is None or self._has_changed(name, ours, where, their):
                self._note(here, "A" if their is None else "C", ours)
            elif ours.st_nlink > 1 and not stat.S_ISDIR(ours.st_mode):
                self._unchanged[here] = ours
        for name in theirs.keys() - names:
            self.found[f"{path}/{name}"] = "D"
        return folders

    def _note(self, path: str, kind: str, ours: os.stat_result) -> None:
        self.found[path] = kind
        if stat.S_ISREG(ours.st_mode):
            self.files.append(ours)
        if ours.st_nlink > 1 and not stat.S_ISDIR(ours.st_mode):
            self._linked.add(ours.st_ino)

    def _has_changed(
        self, name: str, ours: os.stat_result, where: int, theirs: os.stat_result
    ) -> bool:
        try:
            return self._differs(name, ours, where, theirs)
        except OSError as error:
            if error.errno in _GONE:
                return True  # it was exchanged for something else this moment
            raise

    def _differs(self, name: str, ours: os.stat_result, where: int, theirs: os.stat_result) -> bool:
        if _signature(ours) != _signature(theirs):
            return True
        if ours.st_ctime_ns < self._since:
            return False
        # Touched, perhaps only by a hard link, or by who restored the whole store.
        mine = f"/proc/self/fd/{self._root.fd}/{name}"
        image = f"/proc/self/fd/{where}/{name}"
        if _xattrs(mine) != _xattrs(image):
            return True
        if stat.S_ISLNK(ours.st_mode):
            return os.readlink(mine) != os.readlink(image)
        return stat.S_ISREG(ours.st_mode) and not same_content(name, self._root.fd, where)


def _signature(of: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(of.st_mode) else of.st_size
    return of.st_mode, of.st_uid, of.st_gid, of.st_rdev, of.st_mtime_ns, size


def _xattrs(path: str) -> dict[str, bytes]:
    """But for what a copy leaves out: the labels of the host's security modules."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in names
        if name == "security.capability" or not name.startswith("security.")
    }


class _Changed:
    """Of a container's root, what has changed, and the directories on the way to it."""

    opaque = False

    def __init__(self, root: Cursor, changes: Iterable[str]) -> None:
        self._root = root
        self._path: list[str] = []
        self._wanted = set(changes)
        for path in list(self._wanted):
            parent = path.rpartition("/")[0]
            while parent and parent not in self._wanted:
                self._wanted.add(parent)
                parent = parent.rpartition("/")[0]

    @property
    def fd(self) -> int:
        return self._root.fd

    def entries(self) -> Entries:
        here = "".join(f"/{name}" for name in self._path)
        found = {}
        for name, entry in self._root.entries().items():
            if f"{here}/{name}" not in self._wanted:
                continue
            if name.startswith(WHITEOUT):
                raise StoreError(
                    f"cannot make a layer of {here}/{name}: its name would delete another file",
                    hint="remove or rename it",
                )
            found[name] = entry
        return found

    def down(self, name: str) -> None:
        self._root.down(name)
        self._path.append(name)

    def up(self) -> None:
        self._root.up()
        self._path.pop()


def _put_whiteouts(target: int, paths: Iterable[str]) -> None:
    """Note in a layer what is deleted; the directories it was in are there."""
    for path in sorted(paths):
        parts = path[1:].split("/")
        with Cursor(target) as cursor:
            for part in parts[:-1]:
                cursor.down(part)
            before = os.fstat(cursor.fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(WHITEOUT + parts[-1], flags, 0o600, dir_fd=cursor.fd))
            os.utime(cursor.fd, ns=(before.st_atime_ns, before.st_mtime_ns))


def _stat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
