"""``history``: how an image came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..oci import reference as references

if TYPE_CHECKING:
    from ..oci import image as oci
    from .store import ImageStore

MISSING = "<missing>"


class HistoryEntry(msgspec.Struct, kw_only=True):
    """One step.

    Attributes:
        id: the image's for the last step, ``<missing>`` for others.
        created: RFC 3339 or ``""``.
        created_by: the command of it.
        size: bytes that its layer has unpacked, 0 without a layer.
        tags: names of the image, of the last step.
    """

    id: str
    created: str
    created_by: str
    size: int
    comment: str
    tags: list[str] = []


def history(store: ImageStore, name_or_id: str) -> list[HistoryEntry]:
    """The steps, last one first. Layers that the image's config does not tell of are at the top.

    Raises:
        NotFound, Ambiguous, InvalidArgument, StoreError: as ``ImageStore.resolve``.
    """
    image = store.resolve(name_or_id)
    entry, _ = store.find(image.id)
    loaded = store.load(entry)
    sizes = store.layer_sizes(loaded)
    steps: list[HistoryEntry] = []
    for told in loaded.config.history or []:
        if told.empty_layer:
            steps.append(_step(told, 0))
        elif sizes:
            steps.append(_step(told, sizes.pop(0)))
    for size in sizes:
        steps.append(HistoryEntry(id=MISSING, created="", created_by="", size=size, comment=""))
    steps.reverse()
    if steps:
        steps[0].id = image.id
        steps[0].tags = [references.parse(name).familiar for name in image.names]
    return steps


def _step(told: oci.History, size: int) -> HistoryEntry:
    return HistoryEntry(
        id=MISSING,
        created=told.created or "",
        created_by=told.created_by,
        size=size,
        comment=told.comment,
    )
