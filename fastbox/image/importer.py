"""``import``: an image of one layer from the tar of a root filesystem."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

from ..errors import ArchiveError
from ..oci import image as oci
from ..oci import platform as platforms
from ..oci import text, times
from . import changes as dockerfile
from . import feed
from .building import add_built
from .layers import storing
from .naming import new_name
from .sources import Read, decompressed, opened
from .unpack import space_for_layer

if TYPE_CHECKING:
    from .._core.tar import Extracted
    from .store import ImageStore
    from .types import Image

_PIECE = 1 << 20
_LAYER_TYPES = {
    "none": oci.OCI_LAYER,
    "gzip": oci.OCI_LAYER_GZIP,
    "zstd": oci.OCI_LAYER_ZSTD,
}


def import_image(
    store: ImageStore,
    source: str | IO[bytes],
    reference: str | None = None,
    *,
    changes: Iterable[str] = (),
    message: str = "",
    platform: str | None = None,
) -> Image:
    """Make an image of one layer.

    Args:
        source: path of a tar, ``"-"`` for standard input, an http(s) URL, or a binary file object;
            plain, gzip, zstd, xz or bzip2.
        reference: name for the image; None leaves it dangling.
        changes: Dockerfile instructions for the config.
        message: comment in the config and its history; Docker's ``Imported from SOURCE`` if empty.
        platform: ``os/arch[/variant]`` to write into the config; None is this machine's.

    Raises:
        InvalidArgument: bad reference, instruction, platform or path.
        ArchiveError: not a tar, or a hostile one. RegistryError: the URL gives no archive.
        StoreError: the disk is full, or the like. In every case nothing is left.
    """
    text.check("the commit message", message)
    name = new_name(reference, "cannot import digest reference")
    config = dockerfile.apply(None, changes)
    target = platforms.parse(platform) if platform else platforms.host()
    from_where = text.replaced(source) if isinstance(source, str) else "-"
    comment = message or f"Imported from {from_where}"
    with opened(source) as read, store.lease():
        blob, size, done = _layer(store, decompressed(read))
        created = times.now()
        document = oci.ImageConfig(
            created=created,
            comment=comment,
            architecture=target.architecture,
            os=target.os,
            variant=target.variant,
            config=config,
            rootfs=oci.RootFS(diff_ids=[done.diff_id]),
            history=[oci.History(created=created, comment=comment)],
        )
        layer = oci.Descriptor(media_type=_LAYER_TYPES[done.compression], digest=blob, size=size)
        image = add_built(store, document, [layer], name)
    store.journal.image("import", image.id, image.id, image.config)
    return image


# ---- the layer -------------------------------------------------------------------------------


class _Unpacking(feed.Unpacking):
    """Unpacking of a file that nobody can send again: any failure is final."""

    @property
    def failed(self) -> bool:
        return self._error is not None


def _layer(store: ImageStore, read: Read) -> tuple[str, int, Extracted]:
    """Store a stream as blob and unpacked layer: (digest, bytes, what the extractor found)."""
    part = store.temporary_path("import")
    staging = ""
    try:
        staging = store.stage_layer()
        with storing("write", part):
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                size, done = _unpack(read, fd, staging, space_for_layer(store))
            finally:
                os.close(fd)
        if size != done.size:
            raise ArchiveError(f"the archive was read in part: {done.size} of {size} bytes")
        store.commit_blob(part, done.digest, verified=True)
        store.commit_layer(
            staging, done.diff_id, done.unpacked_size, done.entries, opaque=done.opaque_root
        )
        staging = ""
        return done.digest, size, done
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)
        if staging:
            store.discard_layer(staging)


def _unpack(read: Read, fd: int, staging: str, limit: int) -> tuple[int, Extracted]:
    """Write a stream to a file and unpack it on the way: (bytes, what the extractor found)."""
    unpacking = _Unpacking(fd, staging, limit, lambda _: None)
    try:
        size = 0
        while not unpacking.failed and (piece := read(_PIECE)):
            view = memoryview(piece)
            while view:
                count = os.write(fd, view)
                view = view[count:]
                size += count
            unpacking.grown(size)
        if size == 0 and not unpacking.failed:
            raise ArchiveError("the archive is empty")
        return size, unpacking.finish()
    finally:
        unpacking.abort()
