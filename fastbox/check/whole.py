"""The whole check, in the order in which one part needs another's results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..image.store import ImageStore
from . import blobs, containers, index, layers, places
from .problems import Counted, Look, Problem

if TYPE_CHECKING:
    from ..container.store import ContainerStore
    from ..network.store import NetworkStore
    from ..volume.store import VolumeStore


def check(
    containers_store: ContainerStore,
    volumes: VolumeStore,
    networks: NetworkStore,
    *,
    repair: bool = False,
    counted: Counted | None = None,
) -> list[Problem]:
    """Look at everything below a root; see ``Engine.check``."""

    def in_use() -> set[str]:
        return set(containers.users_of_layers(look))

    images = ImageStore(containers_store.root, layers_in_use=in_use)
    look = Look(images, containers_store, volumes, networks, repair=repair, counted=counted)
    with look.leased():
        found = blobs.Blobs(look)
        found.hash_all()
        index.check(look, found)
        layers.check(look, containers.users_of_layers(look))
        found.report()
        containers.check(look)
        places.check(look)
    return look.problems
