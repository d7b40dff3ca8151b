"""How much disk a container's writable layer takes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .record import Container


def size_of(container: Container, layers_dir: str) -> int:
    """Bytes of the files that a container has written; 0 if they vanish meanwhile."""
    from . import graph

    return graph.of(container.record).size(container, layers_dir)


def size_of_uppers(container: Container, layers_dir: str) -> int:
    """The same of one whose writable directory is the upper one of an overlay."""
    record = container.record
    if not record.committed:
        return size_of_tree(f"{container.directory}/upper")
    from . import layered

    try:
        return layered.size(layered.writable(container.directory, record, layers_dir))
    except OSError:  # it was removed
        return 0


def size_of_tree(path: str) -> int:
    """Sum of the sizes of the regular files below ``path``, each inode once, in bytes.

    A file that vanishes meanwhile counts nothing; symlinks are not followed.
    """
    total, seen, todo = 0, set(), [path]
    while todo:
        try:
            entries = os.scandir(todo.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        if status.st_nlink > 1:
                            if status.st_ino in seen:
                                continue
                            seen.add(status.st_ino)
                        total += status.st_size
                except OSError:
                    continue
    return total
