"""What ``system df`` and ``system prune`` tell."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from .container.record import Container
from .image.types import Removed, StoreUsage
from .volume.types import Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .image.store import ImageStore

_ATTEMPTS = 3


class VolumeUsage(msgspec.Struct, kw_only=True):
    """How much disk a volume takes.

    Attributes:
        links: how many containers have it.
        size: bytes; None: it could not be read, or was changed while it was.
    """

    volume: Volume
    links: int
    size: int | None


class DiskUsage(msgspec.Struct, kw_only=True):
    """How much disk a store takes, in bytes.

    Attributes:
        containers: all of them, newest first; ``size_rw`` is their writable layers' (without the
            layers that ``commit`` took of them, which are counted as an image's).
    """

    images: StoreUsage
    containers: list[Container]
    volumes: list[VolumeUsage]


class PrunedSystem(msgspec.Struct, kw_only=True):
    """What ``system prune`` removed: ids of containers, names of networks and volumes, and what
    was done to images. ``freed`` is in bytes."""

    containers: list[str] = []
    networks: list[str] = []
    volumes: list[str] = []
    images: list[Removed] = []
    freed: int = 0


def disk_usage(
    images: ImageStore,
    containers: list[Container],
    volumes: Iterable[Volume],
    links: Mapping[str, list[str]],
) -> DiskUsage:
    """Measure: of layers by what is noted of them, of containers and volumes by walking them."""
    from .container.sizes import size_of_tree
    from .image import prune

    made: dict[str, int] = {}
    for box in containers:
        made[box.record.image_id] = made.get(box.record.image_id, 0) + 1
        box.size_rw = size_of_tree(f"{box.directory}/upper")
    return DiskUsage(
        images=prune.usage(images, made),
        containers=containers,
        volumes=[
            VolumeUsage(
                volume=volume,
                links=len(set(links.get(volume.name, ()))),
                size=_size(volume.mountpoint),
            )
            for volume in volumes
        ],
    )


def _size(path: str) -> int | None:
    from .volume import tree

    for _ in range(_ATTEMPTS):  # a container may move what is being walked through
        with contextlib.suppress(OSError):
            return tree.size(path)
    return None
