"""What killed processes left in the image store: staged layers, partial downloads, temporary files,
trash."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import StoreError
from . import trash
from .removal import sweep_noted
from .store import GRACE

if TYPE_CHECKING:
    from .store import ImageStore


def clean(store: ImageStore) -> None:
    """Remove what killed processes left, and what a removal had to leave for later.

    What a live process works on is left alone. Errors are not worth failing a command for: the next
    one tries again.
    """
    now = time.time()
    with contextlib.suppress(OSError, StoreError), store.locked(), store.exclusive() as mine:
        if mine:
            for path in list(_leftovers(store, now)):
                trash.move(path, store.trash)
    with contextlib.suppress(OSError, StoreError):
        trash.empty(store.trash)
    sweep_noted(store)


def _leftovers(store: ImageStore, now: float) -> Iterator[str]:
    for name in os.listdir(store.layers.staging):
        yield os.path.join(store.layers.staging, name)
    for directory in (store.directory, store.blobs.directory, store.layers.meta):
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            # Temporary files of atomic.write, and of skopeo, which holds no lock.
            if name.startswith(".") or (name.startswith("oci-put-blob") and _old(path, now)):
                yield path
    layers = set(os.listdir(store.layers.directory))
    for name in os.listdir(store.layers.meta):
        # Announced by a commit that was killed before it made the layer.
        path = os.path.join(store.layers.meta, name)
        if name.removesuffix(".json") not in layers and _old(path, now):
            yield path
    for name in os.listdir(store.blobs.ingest):
        path = os.path.join(store.blobs.ingest, name)
        if not name.startswith("sha256-") or _old(path, now):
            yield path


def _old(path: str, now: float) -> bool:
    try:
        return now - os.stat(path, follow_symlinks=False).st_mtime > GRACE
    except OSError:
        return False
