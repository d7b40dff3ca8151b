"""Whether two directories hold the same: names, types, content, owners, modes, times, hard links,
devices and extended attributes."""

from __future__ import annotations

import os
import stat

from ..volume.tree import Cursor, same_content
from .problems import shown

# What an extraction sets; the rest is the host's (labels) or overlayfs's own bookkeeping.
_XATTRS = ("user.", "system.posix_acl_", "security.capability", "trusted.overlay.opaque")


def difference(expected: str, found: str, since: int) -> str:
    """The first difference between two directories, ``""`` if there is none.

    Args:
        since: nanoseconds since the epoch. Times of ``expected`` that are not before it were set
            by nobody (a directory that the archive has no entry for), and say nothing.

    Raises:
        OSError: something cannot be read.
    """
    return _Comparison(expected, found, since).run()


class _Comparison:
    def __init__(self, expected: str, found: str, since: int) -> None:
        self._expected = expected
        self._found = found
        self._since = since
        self._there: dict[int, int] = {}  # inodes of files with several names
        self._back: dict[int, int] = {}

    def run(self) -> str:
        with Cursor(self._expected) as expected, Cursor(self._found) as found:
            wrong = self._same(os.fstat(expected.fd), os.fstat(found.fd))
            wrong = wrong or _xattrs_differ(expected.fd, found.fd)
            if wrong:
                return f"the layer's root {wrong}"
            path: list[str] = []
            levels: list[list[str]] = []
            while True:
                folders: list[str] = []
                wrong = self._directory(expected.fd, found.fd, "/".join(path), folders)
                if wrong:
                    return wrong
                levels.append(folders)
                while not levels[-1]:
                    levels.pop()
                    if not levels:
                        return ""
                    expected.up()
                    found.up()
                    path.pop()
                name = levels[-1].pop()
                expected.down(name)
                found.down(name)
                path.append(name)

    def _directory(self, expected: int, found: int, path: str, folders: list[str]) -> str:
        """Compare what is in one directory; its subdirectories are added to ``folders``."""
        here = f"{path}/" if path else ""
        names, others = set(os.listdir(expected)), set(os.listdir(found))
        for name in sorted(others - names):
            # (No archive holds a socket, so the one of a committed layer has none.)
            if not stat.S_ISSOCK(os.lstat(f"/proc/self/fd/{found}/{name}").st_mode):
                return f"{shown(here + name)} does not belong there"
        for name in sorted(names):
            if name not in others:
                return f"{shown(here + name)} is missing"
            wrong = self._entry(name, expected, found, folders)
            if wrong:
                return f"{shown(here + name)} {wrong}"
        return ""

    def _entry(self, name: str, expected: int, found: int, folders: list[str]) -> str:
        wanted = os.stat(name, dir_fd=expected, follow_symlinks=False)
        here = os.stat(name, dir_fd=found, follow_symlinks=False)
        wrong = self._same(wanted, here)
        if wrong:
            return wrong
        kind = stat.S_IFMT(wanted.st_mode)
        if kind == stat.S_IFDIR:
            folders.append(name)
        elif kind == stat.S_IFLNK:
            if os.readlink(name, dir_fd=expected) != os.readlink(name, dir_fd=found):
                return "leads elsewhere"
        elif kind == stat.S_IFREG:
            # Once for each inode.
            new = wanted.st_nlink == 1 or wanted.st_ino not in self._there
            if not self._linked_alike(wanted, here):
                return "has other hard links"
            if new and not same_content(name, expected, found):
                return "has other content"
        names = (f"/proc/self/fd/{directory}/{name}" for directory in (expected, found))
        return _xattrs_differ(*names)

    def _same(self, wanted: os.stat_result, here: os.stat_result) -> str:
        """What of two files' status differs."""
        if stat.S_IFMT(wanted.st_mode) != stat.S_IFMT(here.st_mode):
            return "is of another type"
        if wanted.st_mode != here.st_mode:
            return f"has mode {here.st_mode & 0o7777:o} instead of {wanted.st_mode & 0o7777:o}"
        if (wanted.st_uid, wanted.st_gid) != (here.st_uid, here.st_gid):
            return (
                f"belongs to {here.st_uid}:{here.st_gid} instead of {wanted.st_uid}:{wanted.st_gid}"
            )
        if stat.S_ISREG(wanted.st_mode) and wanted.st_size != here.st_size:
            return f"has {here.st_size} bytes instead of {wanted.st_size}"
        if wanted.st_rdev != here.st_rdev:
            return "is another device"
        if wanted.st_mtime_ns != here.st_mtime_ns and wanted.st_mtime_ns < self._since:
            return "has another time"
        return ""

    def _linked_alike(self, wanted: os.stat_result, here: os.stat_result) -> bool:
        """Whether names of one file are names of one file in both trees (the whole store may have
        been copied by hard links, so the number of links says nothing)."""
        if wanted.st_nlink == here.st_nlink == 1:
            return True
        return (
            self._there.setdefault(wanted.st_ino, here.st_ino) == here.st_ino
            and self._back.setdefault(here.st_ino, wanted.st_ino) == wanted.st_ino
        )


def _xattrs_differ(expected: int | str, found: int | str) -> str:
    if _xattrs(expected) != _xattrs(found):
        return "has other extended attributes"
    return ""


def _xattrs(of: int | str) -> dict[str, bytes]:
    follow = isinstance(of, int)
    names = [n for n in os.listxattr(of, follow_symlinks=follow) if n.startswith(_XATTRS)]
    return {name: os.getxattr(of, name, follow_symlinks=follow) for name in names}
