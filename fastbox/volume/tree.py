"""Walking and copying directory trees that a container may have filled.

Everything is done through directory descriptors, one name at a time and never through a symlink,
so that no tree leads out of itself (CVE-2022-23648, CVE-2023-0778). However deep a tree is, two
descriptors are open: the way up is "..", checked to be where we came from.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Protocol, TypeAlias

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPAQUE = "trusted.overlay.opaque"  # of a directory that hides what is below it
_MAX_LINKS = 40  # the kernel's own limit
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 30
_COMPARED = 1 << 18  # bytes that are compared at once
# Labels of the host's security modules belong to the place, not to the content.
_SKIPPED_XATTRS = frozenset(("security.selinux", "security.SMACK64", "security.ima"))


Entries: TypeAlias = "dict[str, tuple[int, os.stat_result]]"


class Walker(Protocol):
    """What moves through a tree, or several that are seen as one; a ``Cursor`` is one."""

    @property
    def fd(self) -> int: ...
    @property
    def opaque(self) -> bool: ...
    def entries(self) -> Entries: ...
    def down(self, name: str) -> None: ...
    def up(self) -> None: ...


class Cursor:
    """A descriptor that moves through a tree. Close it.

    Attributes:
        opaque: what the xattrs of the directory do not tell of it; see ``layered``.
    """

    opaque = False

    def __init__(self, directory: int | str) -> None:
        if isinstance(directory, str):
            self.fd = os.open(directory, _DIRECTORY)
        else:
            self.fd = os.open(".", _DIRECTORY, dir_fd=directory)
        self._trail: list[tuple[int, int]] = []

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)

    def down(self, name: str) -> None:
        """Into the subdirectory ``name``."""
        here = os.fstat(self.fd)
        self._move(os.open(name, _DIRECTORY, dir_fd=self.fd))
        self._trail.append((here.st_dev, here.st_ino))

    def entries(self) -> Entries:
        """What is in the directory: name -> (descriptor of the directory, status)."""
        return {
            name: (self.fd, os.stat(name, dir_fd=self.fd, follow_symlinks=False))
            for name in os.listdir(self.fd)
        }

    def up(self) -> None:
        """Back to where ``down`` was called.

        Raises:
            OSError: (ESTALE) somebody moved the directory meanwhile.
        """
        above = os.open("..", _DIRECTORY, dir_fd=self.fd)
        found = os.fstat(above)
        if (found.st_dev, found.st_ino) != self._trail.pop():
            os.close(above)
            raise OSError(errno.ESTALE, "a directory was moved while walking through it")
        self._move(above)

    def _move(self, fd: int) -> None:
        os.close(self.fd)
        self.fd = fd


def open_directory(root: int, path: str) -> int | None:
    """Descriptor of the directory ``path`` as a process with the root directory ``root`` sees it.

    Symlinks and ".." are resolved inside of ``root``; the caller closes the descriptor.

    Returns:
        None when there is no such directory.

    Raises:
        OSError: ELOOP for too many symlinks, or reading failed.
    """
    fds = [os.open(".", _DIRECTORY, dir_fd=root)]
    todo = path.split("/")[::-1]
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(fds) > 1:
                    os.close(fds.pop())
                continue
            try:
                fds.append(os.open(name, _DIRECTORY, dir_fd=fds[-1]))
                continue
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
            try:
                target = os.readlink(name, dir_fd=fds[-1])
            except OSError:
                return None  # a file
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                while len(fds) > 1:
                    os.close(fds.pop())
            todo.extend(target.split("/")[::-1])
        return fds.pop()
    finally:
        for fd in fds:
            os.close(fd)


def size(directory: str) -> int:
    """Bytes of the files in a tree, those with several names once."""
    return measure(directory)[0]


def measure(directory: str) -> tuple[int, int]:
    """(``size``, number of entries) of a tree."""
    seen: set[tuple[int, int]] = set()
    total = count = 0
    for found in _walk(directory):
        count += 1
        if stat.S_ISDIR(found.st_mode):
            continue
        if found.st_nlink > 1:
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
        total += found.st_size
    return total, count


def _walk(directory: str) -> Iterator[os.stat_result]:
    """Status of everything below ``directory``."""
    with Cursor(directory) as cursor:
        levels: list[list[str]] = []
        while True:
            folders = []
            for name in os.listdir(cursor.fd):
                try:
                    found = os.stat(name, dir_fd=cursor.fd, follow_symlinks=False)
                except FileNotFoundError:  # removed meanwhile: a container may be at work
                    continue
                yield found
                if stat.S_ISDIR(found.st_mode):
                    folders.append(name)
            levels.append(folders)
            while not _down(cursor, levels[-1]):
                levels.pop()
                if not levels:
                    return
                cursor.up()


def _down(cursor: Cursor, folders: list[str]) -> bool:
    """Into the last of the directories that is still there; False if there is none."""
    while folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            cursor.down(folders.pop())
            return True
    return False


def same_content(name: str, *directories: int) -> bool:
    """Whether the files of that name in two directories have the same content.

    Raises:
        OSError
    """
    with contextlib.ExitStack() as opened:
        fds = []
        for directory in directories:
            fds.append(os.open(name, _READ, dir_fd=directory))
            opened.callback(os.close, fds[-1])
        while True:
            first, second = (os.read(fd, _COMPARED) for fd in fds)
            if first != second:
                return False
            if not first:
                return True


class Copy:
    """Copies the content of one directory into another, with everything a tree can have: owners,
    modes, times, extended attributes, hard links, holes, symlinks, devices, fifos and sockets.

    Args:
        source: a directory's descriptor, or what walks through it.
        target: a directory's descriptor. Nobody else writes into it meanwhile.
        links: an empty directory on target's file system, for the names of hard-linked files.
        overlay: copy the marks of overlayfs too: the source is the upper directory of one.
    """

    def __init__(
        self, source: int | Walker, target: int, links: int, *, overlay: bool = False
    ) -> None:
        self._source = source
        self._target = target
        self._links = links
        self._overlay = overlay
        self._linked: set[tuple[int, int]] = set()

    def run(self) -> None:
        """Copy.

        Raises:
            OSError: the target is incomplete.
        """
        if not isinstance(self._source, int):
            self._run(self._source)
            return
        with Cursor(self._source) as source:
            self._run(source)

    def _run(self, source: Walker) -> None:
        levels: list[list[str]] = []
        with Cursor(self._target) as target:
            while True:
                levels.append(self._entries(source, target.fd))
                while not levels[-1]:
                    # After the content, which would have changed the times.
                    copy_metadata(source.fd, target.fd, overlay=self._overlay)
                    if self._overlay and source.opaque:
                        os.setxattr(target.fd, OPAQUE, b"y")
                    levels.pop()
                    if not levels:
                        return
                    source.up()
                    target.up()
                name = levels[-1].pop()
                source.down(name)
                target.down(name)

    def _entries(self, source: Walker, target: int) -> list[str]:
        """Copy all entries of a directory; subdirectories are made and returned."""
        folders = []
        for name, (directory, found) in source.entries().items():
            if stat.S_ISDIR(found.st_mode):
                os.mkdir(name, 0o700, dir_fd=target)
                folders.append(name)
            elif found.st_nlink > 1:
                self._linked_entry(name, found, directory, target)
            else:
                self._entry(name, found, directory, target)
        return folders

    def _linked_entry(self, name: str, found: os.stat_result, source: int, target: int) -> None:
        identity = (found.st_dev, found.st_ino)
        kept = f"{found.st_dev:x}-{found.st_ino:x}"
        if identity in self._linked:
            try:
                os.link(
                    kept, name, src_dir_fd=self._links, dst_dir_fd=target, follow_symlinks=False
                )
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
                # The source has no name in ``links``, so it may have one more (65000 on ext4).
                os.rename(kept, name, src_dir_fd=self._links, dst_dir_fd=target)
                self._linked.discard(identity)
            return
        self._entry(name, found, source, target)
        os.link(name, kept, src_dir_fd=target, dst_dir_fd=self._links, follow_symlinks=False)
        self._linked.add(identity)

    def _entry(self, name: str, found: os.stat_result, source: int, target: int) -> None:
        """Copy anything but a directory."""
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFREG:
            self._file(name, source, target)
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, kind | 0o600, found.st_rdev, dir_fd=target)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        # Such a thing cannot be opened without effects. The directory is ours, the name no symlink
        # that is followed.
        places = f"/proc/self/fd/{source}/{name}", f"/proc/self/fd/{target}/{name}"
        _xattrs(*places, overlay=self._overlay)
        if kind != stat.S_IFLNK:
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
        times = (found.st_atime_ns, found.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)

    def _file(self, name: str, source: int, target: int) -> None:
        # Not blocking, should it have become a fifo since.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        reader = os.open(name, flags, dir_fd=source)
        try:
            found = os.fstat(reader)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.ESTALE, "a file was replaced while it was copied", name)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            writer = os.open(name, flags, 0o600, dir_fd=target)
            try:
                _data(reader, writer, found.st_size)
                copy_metadata(reader, writer, overlay=self._overlay)
            finally:
                os.close(writer)
        finally:
            os.close(reader)


def copy_metadata(source: int, target: int, *, overlay: bool = False) -> None:
    """Owner, extended attributes, mode and times; in this order, as a change of owner removes
    set-id bits and file capabilities."""
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    _xattrs(source, target, overlay=overlay)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _xattrs(source: int | str, target: int | str, *, overlay: bool) -> None:
    follow = isinstance(source, int)
    try:
        names = os.listxattr(source, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return
        raise
    for name in names:
        if name in _SKIPPED_XATTRS or (name.startswith("trusted.overlay.") and not overlay):
            continue
        value = os.getxattr(source, name, follow_symlinks=follow)
        os.setxattr(target, name, value, follow_symlinks=follow)


def _data(source: int, target: int, length: int) -> None:
    """The content, holes as holes, without a byte going through this process."""
    position = 0
    while position < length:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # only a hole is left
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        _range(source, target, start, min(end, length))
        position = end
    os.ftruncate(target, length)


def _range(source: int, target: int, start: int, end: int) -> None:
    position = start
    os.lseek(source, position, os.SEEK_SET)
    os.lseek(target, position, os.SEEK_SET)
    while position < end:
        wanted = min(end - position, _CHUNK)
        try:
            count = os.copy_file_range(source, target, wanted)
        except OSError as error:
            # Between file systems before Linux 5.19, and where one of them cannot.
            known = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
            if error.errno not in known:
                raise
            count = os.sendfile(target, source, None, wanted)
        if count == 0:
            raise OSError(errno.ESTALE, "a file became shorter while it was copied")
        position += count
