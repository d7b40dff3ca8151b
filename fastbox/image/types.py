"""What the image verbs return."""

from __future__ import annotations

import msgspec

from ..volume.types import Volume

__all__ = [
    "Image",
    "ImageUsage",
    "LoadResult",
    "PullResult",
    "PushResult",
    "Removed",
    "StoreUsage",
    "Volume",
]


class Image(msgspec.Struct, kw_only=True):
    """One image of the store.

    Attributes:
        id: ``sha256:…`` of the config (what Docker calls the image id); of an image that was
            committed here, of the config that it had then (see docs/images.md).
        names: canonical tagged names (``docker.io/library/redis:latest``), may be empty (dangling).
        repo_digests: ``docker.io/library/redis@sha256:…`` of manifest or index as pulled.
        manifest_digest: digest of the platform's manifest in the store.
        created: RFC 3339 or ``""``.
        size: bytes of all layers unpacked.
        layers: diff ids, bottom first.
        layer_blobs: digests of the blobs, bottom first.
        config: the OCI image config as parsed JSON (checked for types).
        parent: id of the image that it was committed on here, or ``""``.
        tagged: when it last got a name here, RFC 3339 or ``""``.
    """

    id: str
    names: list[str]
    repo_digests: list[str]
    manifest_digest: str
    created: str
    size: int
    layers: list[str]
    layer_blobs: list[str]
    architecture: str
    os: str
    variant: str = ""
    config: dict[str, object] = {}
    parent: str = ""
    tagged: str = ""

    @property
    def short_id(self) -> str:
        """12 hex digits."""
        return self.id[7:19]


class PullResult(msgspec.Struct, kw_only=True):
    """``status`` is ``"downloaded"`` or ``"up-to-date"``; digest as the registry names it."""

    image: Image
    name: str
    digest: str
    status: str


class PushResult(msgspec.Struct, kw_only=True):
    """One tag that a registry has now: its canonical name, digest and size in bytes of the manifest
    or index."""

    name: str
    digest: str
    size: int


class LoadResult(msgspec.Struct, kw_only=True):
    """One name that ``load`` gave, or an image without one.

    Attributes:
        name: canonical, ``""`` for an image without a name.
        replaced: id of the image that had the name before, ``""`` if none had.
    """

    image: Image
    name: str = ""
    replaced: str = ""


class Removed(msgspec.Struct, kw_only=True):
    """One line of ``rmi``: kind ``"untagged"`` or ``"deleted"``, and what."""

    kind: str
    what: str


class ImageUsage(msgspec.Struct, kw_only=True):
    """How much disk an image takes.

    Attributes:
        size: bytes of its unpacked layers and of its blobs. shared: those that other images have
            too.
        containers: how many are made of it.
    """

    image: Image
    size: int
    shared: int
    containers: int

    @property
    def unique(self) -> int:
        """Bytes that go with it."""
        return self.size - self.shared


class StoreUsage(msgspec.Struct, kw_only=True):
    """How much disk all images take.

    Attributes:
        size: bytes, what several images share once, with what interrupted pulls left.
        reclaimable: bytes that ``image prune -a`` would free.
    """

    size: int
    reclaimable: int
    images: list[ImageUsage] = []
