"""``image prune``, and how much disk images take (``system df``)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from ..errors import InvalidArgument, StoreError
from ..oci import filters as oci_filters
from ..oci import times
from . import removal, trash
from .listing import labels_of, select
from .news import tell_removed
from .removal import Reach
from .types import ImageUsage, Removed, StoreUsage

if TYPE_CHECKING:
    from ..oci import image as oci
    from .store import ImageStore
    from .types import Image

PATIENCE = 2.0  # seconds for which a prune waits for a pull, an import or a create to end
_STEP = 0.02  # seconds
_KEYS = frozenset(("dangling", "label", "label!", "until"))


class Pruned(msgspec.Struct, kw_only=True):
    """What a prune did.

    Attributes:
        freed: bytes. left: bytes that are freed when those who hold a lease have ended.
    """

    removed: list[Removed] = []
    freed: int = 0
    left: int = 0


def prune(
    store: ImageStore,
    *,
    all: bool = False,
    filters: oci_filters.Filters | None = None,
    used: Callable[[], Collection[str]],
) -> Pruned:
    """Remove the images without a tag that no container uses, with ``all`` the tagged ones too;
    and what nothing refers to: with ``all`` also what pulls that were interrupted today left.

    Args:
        filters: ``dangling``, ``label``, ``label!``, ``until``.
        used: ids of the images that containers are made of.

    Raises:
        InvalidArgument: a bad filter.
    """
    wanted = dict(filters or {})
    every = _takes_tagged(all, wanted)
    fits = _test(wanted)
    result = Pruned()
    with store.locked():
        taken = _candidates(store, every, used(), fits)
        gone = [entry for _, entries in taken for entry in entries]
        for image, entries in taken:
            lines = [Removed(kind="untagged", what=name) for name in removal.references_of(entries)]
            lines.append(Removed(kind="deleted", what=image.id))
            tell_removed(store, entries[0], lines)
            result.removed += lines
        candidates = removal.with_noted(store, removal.reached(store, gone))
        removal.drop(store, gone)
        kept = removal.alive(store, store.entries())
        doomed = removal.garbage(store, candidates, kept, everything=every)
        sizes = dict(_sizes(store, doomed, removal.partial(store) if every else ()))
        is_swept = removal.sweep(store, doomed, everything=every) is not None
    deadline = time.monotonic() + PATIENCE
    while not is_swept and time.monotonic() < deadline:
        time.sleep(_STEP)
        with store.locked():
            is_swept = removal.sweep(store, doomed, everything=every) is not None
    with contextlib.suppress(StoreError):
        trash.empty(store.trash)
    for path, size in sizes.items():
        if not os.path.lexists(path):  # also by somebody whose lease ended meanwhile
            result.freed += size
        elif not is_swept:
            result.left += size
    return result


def _sizes(store: ImageStore, reach: Reach, paths: Iterable[str]) -> Iterator[tuple[str, int]]:
    """(path, bytes) of what is on the disk."""
    for digest in reach.blobs:
        yield store.blobs.path(digest), store.blobs.size(digest)
    for name in reach.layers:
        yield os.path.join(store.layers.directory, name), store.layers.size(name)
    for path in paths:
        with contextlib.suppress(OSError):
            yield path, os.stat(path, follow_symlinks=False).st_size


def _takes_tagged(all: bool, filters: oci_filters.Filters) -> bool:
    oci_filters.check_keys(filters, _KEYS)
    dangling = oci_filters.boolean(filters, "dangling")
    if all and dangling is True:
        raise InvalidArgument(
            "invalid filter 'dangling=[true]': it contradicts --all",
            hint="leave one of them away",
        )
    return all or dangling is False


def _test(filters: oci_filters.Filters) -> Callable[[Image], bool]:
    until = filters.get("until", ())
    if len(until) > 1:
        raise InvalidArgument("more than one until filter specified")
    limit = times.moment(until[0]) if until else None

    def fits(image: Image) -> bool:
        created = times.rfc3339(image.created)
        if limit is not None and (created is None or created > limit):
            return False
        return oci_filters.labels_match(labels_of(image), filters)

    return fits


def _candidates(
    store: ImageStore, every: bool, used: Collection[str], fits: Callable[[Image], bool]
) -> list[tuple[Image, list[oci.Descriptor]]]:
    """The images to remove, with their entries of the index."""
    groups = _groups(store)
    return [
        (image, groups[image.id])
        for image in select(store)
        if (every or not image.names)
        and image.id not in used
        and fits(image)
        and image.id in groups
    ]


def _groups(store: ImageStore) -> dict[str, list[oci.Descriptor]]:
    groups: dict[str, list[oci.Descriptor]] = {}
    for entry in store.entries():
        groups.setdefault(store.image_id(entry), []).append(entry)
    return groups


# ---- system df -----------------------------------------------------------------------------------


def usage(store: ImageStore, containers: Mapping[str, int]) -> StoreUsage:
    """How much disk the images take: unpacked layers, and the blobs that they were unpacked from.

    Args:
        containers: image id -> how many containers are made of it.
    """
    groups = _groups(store)
    images = [image for image in select(store) if image.id in groups]
    sizes: dict[str, int] = {}
    parts: dict[str, set[str]] = {}
    owners: dict[str, int] = {}
    for image in images:
        reach = removal.reached(store, groups[image.id])
        found = dict(_sizes(store, reach, ()))
        sizes |= found
        parts[image.id] = set(found)
        for path in found:
            owners[path] = owners.get(path, 0) + 1
    total, reclaimable = _totals(store, groups, images, containers)
    result = StoreUsage(size=total, reclaimable=reclaimable)
    for image in images:
        mine = parts[image.id]
        shared = sum(sizes[path] for path in mine if owners[path] > 1)
        result.images.append(
            ImageUsage(
                image=image,
                size=sum(sizes[path] for path in mine),
                shared=shared,
                containers=containers.get(image.id, 0),
            )
        )
    return result


def _totals(
    store: ImageStore,
    groups: Mapping[str, list[oci.Descriptor]],
    images: Iterable[Image],
    containers: Mapping[str, int],
) -> tuple[int, int]:
    """(bytes of all that is there, bytes that ``image prune -a`` would free now)."""
    unused = {image.id for image in images if not containers.get(image.id)}
    kept = [entry for id, entries in groups.items() if id not in unused for entry in entries]
    gone = removal.reached(store, [entry for id in unused for entry in groups[id]])
    alive = removal.alive(store, kept)
    doomed = removal.garbage(store, gone, alive, everything=True)
    there = Reach(blobs=set(store.blobs.digests()), layers=set(store.layers.names()))
    partial = removal.partial(store)
    return (
        sum(size for _, size in _sizes(store, there, partial)),
        sum(size for _, size in _sizes(store, doomed, partial)),
    )
