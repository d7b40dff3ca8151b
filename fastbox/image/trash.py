"""Deleting by way of a trash directory: one rename, after which the thing is gone, and then the
deletion, which may be killed at any time and is finished by whoever empties the trash next."""

from __future__ import annotations

import contextlib
import os

from ..errors import StoreError


def move(path: str, trash: str) -> str | None:
    """Rename ``path`` into the directory ``trash``, which is on the same file system.

    Returns:
        The new path, None if there was nothing.

    Raises:
        StoreError: it could not be moved.
    """
    target = os.path.join(trash, os.urandom(12).hex())
    try:
        try:
            os.rename(path, target)
        except FileNotFoundError:
            if not os.path.lexists(path):
                return None
            os.makedirs(trash, 0o700, exist_ok=True)
            os.rename(path, target)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {(error.strerror or '').lower()}") from error
    return target


def discard(path: str, trash: str) -> bool:
    """Delete the file or tree at ``path``; whether there was anything.

    Raises:
        StoreError: it could not be moved, or (gone from its place) not be deleted completely.
    """
    moved = move(path, trash)
    if moved is None:
        return False
    delete(moved)
    return True


def empty(trash: str) -> None:
    """Delete everything in ``trash``; several processes may do so at once.

    Raises:
        StoreError: something could not be deleted; the rest is gone.
    """
    failure: StoreError | None = None
    try:
        names = os.listdir(trash)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot read {trash}: {(error.strerror or '').lower()}") from error
    for name in names:
        try:
            delete(os.path.join(trash, name))
        except StoreError as error:
            failure = error
    if failure is not None:
        raise failure


def delete(path: str) -> None:
    """Delete a file or tree that is in the trash already."""
    from .._core.tree import remove_tree

    try:
        with contextlib.suppress(FileNotFoundError):
            remove_tree(path)
    except OSError as error:
        raise StoreError(f"cannot delete {path}: {(error.strerror or '').lower()}") from error
