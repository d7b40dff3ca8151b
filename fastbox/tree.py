"""Deleting a tree that may be hostile: very deep, very wide, full of symlinks."""

from __future__ import annotations

import os
import stat


def remove_tree(path: str) -> None:
    """Delete ``path`` and all below it, never following a symlink, without recursion.

    Directories are emptied through descriptors relative to their parent. A missing path is fine.

    Raises:
        OSError: something could not be deleted.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(path, flags)
    try:
        _empty(top, flags)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(top: int, flags: int) -> None:
    """Descend by descriptor, but climb by ".." (checked), so that depth costs no descriptors."""
    fd = os.dup(top)
    trail: list[tuple[str, int, int]] = []  # name, and identity of the directory it is in
    try:
        while True:
            child = _unlink_files(fd)
            if child is not None:
                status = os.fstat(fd)
                trail.append((child, status.st_dev, status.st_ino))
                below = os.open(child, flags, dir_fd=fd)
                os.close(fd)
                fd = below
                continue
            if not trail:
                return
            name, device, inode = trail.pop()
            above = os.open("..", flags, dir_fd=fd)
            os.close(fd)
            fd = above
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != (device, inode):
                raise OSError(116, "moved while being deleted", name)
            os.rmdir(name, dir_fd=fd)
    finally:
        os.close(fd)


def _unlink_files(fd: int) -> str | None:
    """Delete all that is no directory; the name of one that is not empty, or None."""
    full: str | None = None
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                try:
                    os.rmdir(entry.name, dir_fd=fd)
                except OSError:
                    full = entry.name
            else:
                os.unlink(entry.name, dir_fd=fd)
    return full
