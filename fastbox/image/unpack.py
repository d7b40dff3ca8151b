"""Unpacking of layers that are in the store only as blobs (put there by another program)."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from ..errors import ArchiveError, FastboxError, StoreError
from .layers import layer_name, store_error

if TYPE_CHECKING:
    from .store import ImageStore
    from .types import Image

PARALLEL = 3
MAX_LAYER_BYTES = 256 << 30  # of an uncompressed layer, if the disk has as much
_RESERVE = 64 << 20  # bytes of the disk that a layer leaves to everybody else


def ensure_layers(store: ImageStore, image: Image) -> list[str]:
    """See ``ImageStore.ensure_layers``."""
    # overlayfs refuses the same directory twice; all but the top one change nothing anyway.
    wanted = dict(zip(reversed(image.layers), reversed(image.layer_blobs), strict=True))
    found = {diff_id: store.layers.info(diff_id) for diff_id in wanted}
    missing = [(diff_id, wanted[diff_id]) for diff_id, info in found.items() if info is None]
    if missing:
        with store.lease():
            _unpack_all(store, missing)
            store.layers.settle(diff_id for diff_id, _ in missing)
        found.update((diff_id, store.layers.info(diff_id)) for diff_id, _ in missing)
    names = []
    for diff_id, info in found.items():
        names.append(store.layers.target(layer_name(diff_id)))
        if info is not None and info.opaque:
            break  # overlayfs ignores the mark on a layer's root: leave out what it hides
    return names


def _unpack_all(store: ImageStore, missing: list[tuple[str, str]]) -> None:
    """Unpack several layers, at most ``PARALLEL`` at once; the first error is raised."""
    queue = list(reversed(missing))
    errors: list[BaseException] = []
    guard = threading.Lock()

    def work() -> None:
        while True:
            with guard:
                if errors or not queue:
                    return
                diff_id, blob = queue.pop()
            try:
                unpack(store, diff_id, blob)
            except BaseException as error:
                with guard:
                    errors.append(error)

    threads = [
        threading.Thread(target=work, name=f"unpack-{n}")
        for n in range(min(PARALLEL, len(missing)) - 1)
    ]
    for thread in threads:
        thread.start()
    try:
        work()
    finally:
        with guard:
            queue.clear()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def unpack(store: ImageStore, diff_id: str, blob: str) -> None:
    """Unpack one layer from its blob, verifying blob and diff-id.

    Raises:
        StoreError: the blob is missing or damaged, or the disk is full.
        ArchiveError: the archive is malformed, or not the one that the image config means.
    """
    from .. import graphdriver
    from .._core import tar

    path = store.blob_path(blob)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise StoreError(
            f"layer is missing in the store: {path}", hint="pull the image again"
        ) from error
    except OSError as error:
        raise store_error("read the layer", path, error) from error
    staging = ""
    try:
        staging = store.stage_layer()
        done = tar.extract(
            fd,
            staging,
            whiteouts=graphdriver.whiteouts(store.driver),
            max_bytes=space_for_layer(store),
        )
        if done.digest != blob:
            raise store.blobs.damaged(blob, "layer")
        if done.diff_id != diff_id:
            raise ArchiveError(f"layer {blob} unpacks to {done.diff_id}, the image says {diff_id}")
        store.commit_layer(
            staging, diff_id, done.unpacked_size, done.entries, opaque=done.opaque_root
        )
        staging = ""
    except FastboxError as error:
        # Damage usually shows as a malformed archive first.
        if isinstance(error, ArchiveError):
            store.blobs.verify(blob, "layer")
        raise
    except OSError as error:
        raise store_error("unpack the layer", path, error) from error
    finally:
        os.close(fd)
        if staging:
            store.discard_layer(staging)


def space_for_layer(store: ImageStore) -> int:
    """Bytes that a layer may unpack to: a bomb shall not fill the disk.

    Raises:
        StoreError: the file system cannot be asked.
    """
    try:
        found = os.statvfs(store.root)
    except OSError as error:
        raise store_error("examine", store.root, error) from error
    free = found.f_bavail * found.f_frsize
    return max(0, min(MAX_LAYER_BYTES, free - min(_RESERVE, free // 10)))
