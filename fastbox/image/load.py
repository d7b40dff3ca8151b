"""``load``: the images of an archive become images of the store.

Everything is read, unpacked and verified before the first image appears; then one sync, and an
entry of the index for each name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from ..errors import (
    DigestMismatch,
    FastboxError,
    ImageError,
    NotFound,
    StoreError,
    Unsupported,
)
from ..oci import image as oci
from ..oci import platform as platforms
from . import archive as archives
from . import writeback
from .contents import Contents, Found, Layer, blob_path
from .intake import Intake, Part
from .layers import storing, sync_filesystem
from .progress import ProgressEvent
from .tarball import malformed, shown
from .types import LoadResult

if TYPE_CHECKING:
    from .store import ImageStore

_LAYER_TYPES = {
    "none": oci.OCI_LAYER,
    "gzip": oci.OCI_LAYER_GZIP,
    "zstd": oci.OCI_LAYER_ZSTD,
}
_MAX_PLANS = 16  # how often the documents of a stream are looked at anew


def load(
    store: ImageStore,
    source: str | IO[bytes],
    *,
    platform: str | None = None,
    progress: Callable[[ProgressEvent], None] | None = None,
) -> list[LoadResult]:
    """Read an archive that ``save`` wrote (fastbox's, Docker's, podman's, skopeo's), or an OCI
    layout.

    Args:
        source: path of an archive or of a layout's directory, ``"-"`` for standard input, or a
            binary file object; archives may be compressed with gzip, zstd, xz or bzip2.
        platform: ``os/arch[/variant]``: which image of an index to load.
        progress: told the bytes of each layer, in this thread.

    Returns:
        One result per name, in the archive's order; one for an image without a name.

    Raises:
        InvalidArgument: no such file, bad platform, a bad name in the archive.
        ArchiveError, ImageError, DigestMismatch: it is no archive of images, or a false one.
        Unsupported: an image of another operating system.
        StoreError: the disk is full, or the like. In every case no image was added.
    """
    chosen = platforms.parse(platform) if platform else None
    job = _Load(store, chosen)
    with (
        archives.opened(source) as archive,
        store.lease(),
        Intake(store, job.contents, job.role, progress or (lambda _: None)) as intake,
    ):
        job.ordered = not isinstance(archive, archives.Stream)
        with writeback.early(store.layers.directory):
            intake.run(archive)
        results = job.commit(intake.parts)
    for image in {result.image.id: result.image for result in results}.values():
        store.journal.image("load", image.id, image.id, image.config)
    return results


class _Load:
    """One run.

    Attributes:
        ordered: documents and links come before layers.
    """

    def __init__(self, store: ImageStore, platform: platforms.Platform | None) -> None:
        self._store = store
        self._platform = platform
        self.contents = Contents(platform)
        self.ordered = False
        self._known: dict[str, oci.Descriptor] | None = None
        self._plan: dict[str, str] | None = None
        self._plans = 0
        self._seen = -1

    # ---- while reading -----------------------------------------------------------------------

    def role(self, path: str) -> str:
        """See ``Intake``."""
        plan = self._current()
        if plan is None:
            return "unknown"
        if self.ordered:
            return plan.get(path, "")
        if self.contents.partial:  # the layer of another image, or nothing, may become ours
            return "layer" if plan.get(path) == "layer" else "unknown"
        if path.startswith("blobs/sha256/") and self.contents.has_index:
            return plan.get(path, "")
        return plan.get(path) or "unknown"  # a link to it may follow, or an index

    def _current(self) -> dict[str, str] | None:
        """The role of each path that is needed, None while that is not known."""
        if self._seen != len(self.contents.documents) and self._plans < _MAX_PLANS:
            self._seen = len(self.contents.documents)
            self._plans += 1
            try:
                self._plan = self._roles(self.contents.images())
            except FastboxError:
                if self.ordered:
                    raise
                self._plan = None  # incomplete by now, or malformed: that is told in the end
        return self._plan

    def _roles(self, images: list[Found]) -> dict[str, str]:
        roles: dict[str, str] = {}
        for image in images:
            for other in image.others:
                for blob in other.layers:
                    have = self._store.has_blob(blob.digest, blob.size)
                    roles.setdefault(blob_path(blob.digest), "" if have else "blob")
        for image in images:
            for layer in image.layers:
                roles[layer.path] = "" if self._stored(layer) is not None else "layer"
        return roles

    def _stored(self, layer: Layer) -> oci.Descriptor | None:
        """The blob of a layer that is in the store, unpacked too."""
        try:
            if self._store.layer_dir(layer.diff_id) is None:
                return None
        except StoreError:
            return None  # damaged: unpacked again
        blob = layer.blob
        if blob is None:
            blob = self._blobs().get(layer.diff_id)
        if blob is None:
            return None
        return blob if self._store.has_blob(blob.digest, blob.size) else None

    def _blobs(self) -> dict[str, oci.Descriptor]:
        """The store's blobs by what is in them: a docker-archive does not know how a registry had
        compressed its layers."""
        if self._known is None:
            self._known = {}
            for entry in self._store.entries():
                try:
                    loaded = self._store.load(entry)
                except (StoreError, ImageError):
                    continue
                diff_ids = loaded.config.rootfs.diff_ids
                for blob, diff_id in zip(loaded.manifest.layers, diff_ids, strict=True):
                    self._known.setdefault(diff_id, blob)
        return self._known

    # ---- afterwards --------------------------------------------------------------------------

    def commit(self, parts: dict[str, Part]) -> list[LoadResult]:
        """Check everything, then make the images exist."""
        images = self.contents.images()
        for image in images:
            self._check_platform(image)
        needed: dict[str, Part] = {}
        layers = [[self._layer(layer, parts, needed) for layer in i.layers] for i in images]
        others = [self._others(image, parts, needed) for image in images]
        self._keep(images, needed)
        results: list[LoadResult] = []
        for image, blobs, further in zip(images, layers, others, strict=True):
            descriptor = self._manifest(image, blobs, further)
            results += self._name(image, descriptor)
        return results

    def _check_platform(self, image: Found) -> None:
        config = image.config
        mine = platforms.normalise(config.os, config.architecture, config.variant)
        name = image.names[0] if image.names else image.id
        if config.os and mine.os != "linux":
            raise Unsupported(
                f'image operating system "{shown(mine.os)}" cannot be used on this platform:'
                " operating system is not supported"
            )
        if self._platform is not None and mine != self._platform:
            raise platforms.mismatch(ImageError, name, self._platform, shown(str(mine)))

    def _layer(
        self, layer: Layer, parts: dict[str, Part], needed: dict[str, Part]
    ) -> oci.Descriptor:
        """The blob of a layer, verified; its part is noted as needed unless the store has it."""
        stored = self._stored(layer)
        if stored is not None:
            return stored
        part = parts.get(layer.path)
        if part is None:
            raise malformed(f"layer {shown(layer.path)} is not in it, or is no layer")
        if part.error is not None:
            raise part.error
        blob = layer.blob
        if blob is not None and (part.digest, part.size) != (blob.digest, blob.size):
            raise DigestMismatch(
                f"invalid archive: layer {blob.digest} ({blob.size} bytes) has digest"
                f" {part.digest} ({part.size} bytes)"
            )
        done = part.done
        if done is None:
            raise malformed(f"layer {shown(layer.path)} is something else elsewhere")
        if done.diff_id != layer.diff_id:
            raise DigestMismatch(
                f"invalid archive: layer {shown(layer.path)} unpacks to {done.diff_id}, but the"
                f" image config says {layer.diff_id}: filesystem layer verification failed"
            )
        needed[layer.path] = part
        if blob is not None:
            return blob
        media_type = _LAYER_TYPES[done.compression]
        return oci.Descriptor(media_type=media_type, digest=part.digest, size=part.size)

    def _others(self, image: Found, parts: dict[str, Part], needed: dict[str, Part]) -> list[bytes]:
        """The documents of those other platforms whose blobs are all there, and right."""
        documents = []
        for other in image.others:
            found: dict[str, Part] = {}
            for blob in other.layers:
                part = parts.get(self.contents.resolved(blob_path(blob.digest)))
                if self._store.has_blob(blob.digest, blob.size):
                    continue
                if part is None or (part.digest, part.size) != (blob.digest, blob.size):
                    break
                found[blob_path(blob.digest)] = part
            else:
                needed.update(found)
                documents += [other.config, other.manifest]
        return documents

    def _keep(self, images: list[Found], needed: dict[str, Part]) -> None:
        """Take layers and blobs over into the store, and have them on disk."""
        for part in needed.values():
            done = part.done
            if part.staging and done is not None:
                self._store.commit_layer(
                    part.staging,
                    done.diff_id,
                    done.unpacked_size,
                    done.entries,
                    opaque=done.opaque_root,
                )
                part.staging = ""
        if needed:
            # One sync for all of them, trees and blobs: they are on one file system.
            with storing("sync", self._store.blobs.directory):
                sync_filesystem(self._store.blobs.directory)
        for part in needed.values():
            if os.path.exists(part.path):  # one path may be the layer of several images
                self._store.blobs.commit(part.path, part.digest, verified=True, synced=True)
        self._store.layers.settle(d for image in images for d in image.config.rootfs.diff_ids)

    def _manifest(
        self, image: Found, blobs: list[oci.Descriptor], further: list[bytes]
    ) -> oci.Descriptor:
        """Store the documents of an image; the descriptor for the index."""
        store = self._store
        for data in [image.config_data, *further]:
            store.put_blob(data)
        if image.manifest is None:
            return self._present(image) or self._made(image, blobs)
        descriptor, data = image.manifest
        store.put_blob(data)
        for _, document in image.index:
            store.put_blob(document)
        return self._index(image) or descriptor

    def _index(self, image: Found) -> oci.Descriptor | None:
        """The outermost index, if it leads to this very image also when it is asked again."""
        if not image.index or self._platform is not None:
            return None
        entry, data = image.index[0]
        media_type = entry.media_type if entry.media_type in oci.INDEX_TYPES else oci.OCI_INDEX
        plain = oci.Descriptor(media_type=media_type, digest=entry.digest, size=len(data))
        try:
            same = self._store.load(plain).manifest.config.digest == image.id
        except (StoreError, ImageError):
            return None
        return plain if same else None

    def _present(self, image: Found) -> oci.Descriptor | None:
        """The manifest with which the image is in the store already, whole."""
        for entry in self._store.entries():
            try:
                loaded = self._store.load(entry)
            except (StoreError, ImageError):
                continue
            if loaded.manifest.config.digest == image.id and all(
                self._store.has_blob(blob.digest, blob.size) for blob in loaded.manifest.layers
            ):
                return oci.Descriptor(
                    media_type=entry.media_type, digest=entry.digest, size=entry.size
                )
        return None

    def _made(self, image: Found, blobs: list[oci.Descriptor]) -> oci.Descriptor:
        """The manifest that a docker-archive does not have."""
        config = oci.Descriptor(
            media_type=oci.OCI_CONFIG, digest=image.id, size=len(image.config_data)
        )
        plain = [
            oci.Descriptor(media_type=b.media_type, digest=b.digest, size=b.size) for b in blobs
        ]
        data = oci.encode(
            oci.Manifest(schema_version=2, media_type=oci.OCI_MANIFEST, config=config, layers=plain)
        )
        return oci.Descriptor(
            media_type=oci.OCI_MANIFEST, digest=self._store.put_blob(data), size=len(data)
        )

    def _name(self, image: Found, descriptor: oci.Descriptor) -> list[LoadResult]:
        if not image.names:
            return [LoadResult(image=self._store.add_image(None, descriptor))]
        results = []
        for name in image.names:
            old = self._owner(name)
            added = self._store.add_image(name, descriptor)
            replaced = old if old != added.id else ""
            results.append(LoadResult(image=added, name=name, replaced=replaced))
        return results

    def _owner(self, name: str) -> str:
        """Id of the image that has a name now, ``""`` if there is none."""
        try:
            entry, _ = self._store.find(name)
        except NotFound:
            return ""
        return self._store.image_id(entry)
