"""What a commit puts off: the archive, digests and blob of a layer that is only a directory yet.

Sealing gives an image true diff-ids, and so another config and manifest; its id on this machine
stays what it was (an annotation of the index). What is done is done once, whoever does it: for each
layer under the lock of its directory, noted in its metadata; for the image by one replacement of
the index. A process that is killed has done some of the layers.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Literal

import msgspec

from ..errors import FastboxError, NotFound, StoreError
from ..locks import lock
from ..oci import image as oci
from . import building, pending
from .layers import Sealed, layer_name, storing
from .naming import CONFIG, IMAGE_ID, PENDING, is_pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from .store import ImageStore

_MEDIA_TYPES = {"none": oci.OCI_LAYER, "gzip": oci.OCI_LAYER_GZIP, "zstd": oci.OCI_LAYER_ZSTD}


def sealed(store: ImageStore, name_or_id: str) -> oci.Descriptor:
    """The entry of an image, after every layer of it has a blob and its true diff-id.

    Raises:
        NotFound, Ambiguous, InvalidArgument: as ``ImageStore.resolve``.
        StoreError: a layer cannot be packed.
    """
    entry, _ = store.find(name_or_id)
    while is_pending(entry):
        with contextlib.suppress(NotFound):  # said of what the name means now, if it means anything
            _seal(store, entry)
        entry, _ = store.find(name_or_id)  # perhaps another one by now
    return entry


def seal_all(store: ImageStore, failed: Callable[[FastboxError], object] | None = None) -> int:
    """Seal each image that has to be; how many were.

    Args:
        failed: told what could not be done; the others are sealed nevertheless.
    """
    count = 0
    for entry in unsealed(store):
        try:
            _seal(store, entry)
            count += 1
        except NotFound:  # removed meanwhile
            continue
        except FastboxError as error:
            if failed is None:
                raise
            failed(error)
    return count


def unsealed(store: ImageStore) -> list[oci.Descriptor]:
    """The entries of images that are not sealed."""
    return [entry for entry in store.entries() if is_pending(entry)]


def compression() -> Literal["none", "gzip", "zstd"]:
    """How the blobs of new layers are compressed.

    Raises:
        InvalidArgument: the configuration is bad.
    """
    from ..configuration import load

    return "zstd" if load().layer_compression == "zstd" else "gzip"


def _seal(store: ImageStore, entry: oci.Descriptor) -> None:
    with store.lease():
        if all(other.digest != entry.digest for other in store.entries()):
            raise NotFound(f"No such image: {entry.digest}")  # removed before there was a lease
        loaded = store.load(entry)
        diff_ids = list(loaded.config.rootfs.diff_ids)
        layers = list(loaded.manifest.layers)
        for position, layer in enumerate(layers):
            if is_pending(layer):
                found = seal_layer(store, layer_name(diff_ids[position]))
                diff_ids[position] = found.diff_id
                layers[position] = oci.Descriptor(
                    media_type=found.media_type, digest=found.digest, size=found.size
                )
        rootfs = msgspec.structs.replace(loaded.config.rootfs, diff_ids=diff_ids)
        config = msgspec.structs.replace(loaded.config, rootfs=rootfs)
        _replace(store, entry, building.put_documents(store, config, layers))


def _replace(store: ImageStore, old: oci.Descriptor, new: oci.Descriptor) -> None:
    """Let all entries of a manifest, under whatever names, have another one in its place. If there
    are none, somebody else was quicker, or removed the image."""
    config = store.load(new).manifest.config.digest
    with store.locked():
        entries = list(store.entries())
        for position, entry in enumerate(entries):
            if entry.digest != old.digest:
                continue
            annotations = dict(entry.annotations or {})
            annotations.pop(PENDING, None)
            annotations.update({IMAGE_ID: store.image_id(entry), CONFIG: config})
            entries[position] = msgspec.structs.replace(
                entry,
                media_type=new.media_type,
                digest=new.digest,
                size=new.size,
                annotations=annotations,
            )
        store.replace_entries(entries)


def seal_layer(store: ImageStore, name: str) -> Sealed:
    """Make the archive of a commit's layer, unless it is there; the caller has a lease.

    Raises:
        StoreError: it is not there or cannot be packed.
    """
    path = os.path.join(store.layers.directory, name)
    with storing("seal the layer", path), lock(path):
        pending.settle(store.layers, [name], locked=True)
        info = store.layers.read(name)
        if info is None:
            raise StoreError(f"the metadata of layer {path} are missing")
        if store.layers.info(info.diff_id) is None:
            raise StoreError(f"layer is missing in the store: {path}")
        found = info.sealed
        if found is None or not store.blobs.has(found.digest, found.size):
            found = _pack(store, path)
            store.layers.write(name, msgspec.structs.replace(info, sealed=found), sync=True)
        store.layers.link(found.diff_id, name)
        return found


def _pack(store: ImageStore, path: str) -> Sealed:
    """Store the blob of a layer's directory."""
    from .._core.pack import pack

    chosen = compression()
    # Else deletions are in the names already.
    form: Literal["overlay", "none"] = "overlay" if store.driver == "overlay" else "none"
    part = store.temporary_path("seal")
    try:
        with storing("write", part):
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                packed = pack(path, fd, whiteouts=form, compression=chosen)
            finally:
                os.close(fd)
        store.commit_blob(part, packed.digest, verified=True)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)
    return Sealed(
        diff_id=packed.diff_id,
        digest=packed.digest,
        size=packed.size,
        media_type=_MEDIA_TYPES[chosen],
    )
