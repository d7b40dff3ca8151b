"""``rmi`` and the collection of garbage."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from ..errors import Conflict, ImageError, InvalidArgument, StoreError
from ..oci import digest as digests
from ..oci import image as oci
from ..oci import reference as references
from . import trash
from .layers import layer_name
from .naming import REPO_DIGEST, name_of, repo_digests_of
from .news import tell_removed
from .store import GRACE
from .types import Removed

if TYPE_CHECKING:
    from .store import ImageStore, UsedBy

_MAX_DEPTH = 4


class Reach(msgspec.Struct, kw_only=True):
    """Blobs (digests) and layer directories (names) that entries of the index lead to."""

    blobs: set[str] = set()
    layers: set[str] = set()


def remove(
    store: ImageStore, name_or_id: str, *, force: bool = False, used_by: UsedBy | None = None
) -> list[Removed]:
    """Remove a name or a whole image, with the rules and texts of Docker's ``rmi``.

    - By name, and the image has others: only the name goes.
    - By its last name: the image goes too. While a container uses it that is a conflict; with
      ``force`` only the name goes.
    - By id: all names and the image go. Several names or a stopped container are a conflict unless
      forced; a running container always is.

    Args:
        used_by: (id, name, running) of the containers made of an image id.

    Returns:
        What was done, in order.

    Raises:
        NotFound, Ambiguous, InvalidArgument: as ``resolve``.
        Conflict: see above.
    """
    try:
        return _remove(store, name_or_id, force, used_by)
    finally:
        # Outside of the lock: deleting a large layer takes its time. What cannot be deleted is out
        # of the store already, and tried again by the next command.
        with contextlib.suppress(StoreError):
            trash.empty(store.trash)


def _remove(
    store: ImageStore, name_or_id: str, force: bool, used_by: UsedBy | None
) -> list[Removed]:
    with store.locked():
        entry, reference = store.find(name_or_id)
        image_id = store.image_id(entry)
        entries = store.entries()
        same = [e for e in entries if e is entry or (image_id and store.image_id(e) == image_id)]
        users = used_by(image_id) if used_by is not None and image_id else []
        if reference is None:
            _check_by_id(image_id, same, users, force)
            untagged = _all_references(same)
            gone = same
        else:
            untagged, gone, replacement = _by_name(reference, same)
            if len(gone) == len(same) and users:
                if not force:
                    raise _conflict(
                        reference.familiar,
                        f"container {users[0][0][:12]} is using its referenced image"
                        f" {image_id[7:19]}",
                    )
                # A container uses it: the image stays without a name.
                replacement = [_dangling(gone[0])]
            entries = [e for e in entries if not any(e is g for g in gone)] + replacement
            store.replace_entries(entries)
            if replacement or len(gone) < len(same):
                removed = [Removed(kind="untagged", what=name) for name in untagged]
                tell_removed(store, entry, removed)
                return removed
        if reference is None:
            store.replace_entries([e for e in entries if not any(e is g for g in gone)])
        removed = [Removed(kind="untagged", what=name) for name in untagged]
        removed.append(Removed(kind="deleted", what=image_id or entry.digest))
        tell_removed(store, entry, removed)
        candidates = Reach()
        for e in gone:
            _reach(store, e.digest, e.media_type, candidates, _MAX_DEPTH)
        _sweep(store, candidates)
    return removed


def _check_by_id(
    image_id: str, same: list[oci.Descriptor], users: list[tuple[str, str, bool]], force: bool
) -> None:
    short = image_id[7:19]
    running = [user for user in users if user[2]]
    if running:
        raise _conflict(
            short, f"image is being used by running container {running[0][0][:12]}", hard=True
        )
    if force:
        return
    if len({name for e in same if (name := name_of(e))}) > 1:
        raise _conflict(short, "image is referenced in multiple repositories")
    if users:
        raise _conflict(short, f"image is being used by stopped container {users[0][0][:12]}")


def _conflict(what: str, why: str, *, hard: bool = False) -> Conflict:
    how = "cannot be forced" if hard else "must be forced"
    return Conflict(f"conflict: unable to delete {what} ({how}) - {why}")


def _by_name(
    reference: references.Reference, same: list[oci.Descriptor]
) -> tuple[list[str], list[oci.Descriptor], list[oci.Descriptor]]:
    """What goes with a name: (lines, entries to drop, entries to put in their place)."""
    if reference.digest is not None and reference.tag is None:
        full = f"{reference.repository}@{reference.digest}"
        gone = [e for e in same if full in repo_digests_of(e)]
        named = [e for e in gone if name_of(e)]
        if not gone:  # asked for by the manifest's digest
            gone = [e for e in same if e.digest == reference.digest]
            return [n for e in gone if (n := _familiar(e))], gone, []
        kept = [_annotated(e, REPO_DIGEST, None) for e in named]
        return [reference.familiar], gone, kept
    name = f"{reference.repository}:{reference.tag_or_default}"
    gone = [e for e in same if name_of(e) == name]
    line = references.parse(name).familiar
    if all(name_of(e) in (name, None) for e in same):
        gone = list(same)  # its last tag takes the digests along
    return [line], gone, []


def _annotated(entry: oci.Descriptor, key: str, value: str | None) -> oci.Descriptor:
    annotations = dict(entry.annotations or {})
    annotations.pop(key, None)
    if value is not None:
        annotations[key] = value
    return msgspec.structs.replace(entry, annotations=annotations)


def _dangling(entry: oci.Descriptor) -> oci.Descriptor:
    return _annotated(_annotated(entry, oci.REF_NAME, None), REPO_DIGEST, None)


def _familiar(entry: oci.Descriptor) -> str | None:
    name = name_of(entry)
    return references.parse(name).familiar if name else None


def _all_references(entries: list[oci.Descriptor]) -> list[str]:
    """Every name, as users write it; the digests too when there is no name."""
    names = [name for entry in entries if (name := _familiar(entry))]
    if names:
        return list(dict.fromkeys(names))
    result = []
    for entry in entries:
        for full in repo_digests_of(entry):
            try:
                result.append(references.parse(full).familiar)
            except InvalidArgument:
                continue
    return list(dict.fromkeys(result))


def collect(store: ImageStore) -> int:
    """Delete what nothing has referred to for a day; bytes freed.

    Does nothing while another process pulls, imports or creates.
    """
    with store.locked():
        freed = _sweep(store, Reach())
    with contextlib.suppress(StoreError):
        trash.empty(store.trash)
    return freed


def release(store: ImageStore, layers: Iterable[str]) -> None:
    """Layers of a container that is gone: delete those that nothing else refers to."""
    gone = Reach()
    for name in layers:
        _reach_layer(store, name, gone)
    with store.locked():
        _sweep(store, gone)
    with contextlib.suppress(StoreError):
        trash.empty(store.trash)


def _sweep(store: ImageStore, candidates: Reach) -> int:
    """Under the lock: delete the candidates, and old garbage, unless something refers to it.

    While somebody holds a lease everything is left for a later collection.
    """
    with store.exclusive() as mine:
        if not mine:
            return 0
        alive = Reach()
        for entry in store.entries():
            _reach(store, entry.digest, entry.media_type, alive, _MAX_DEPTH)
        now = time.time()
        freed = 0
        for digest in store.blobs.digests():
            if digest in alive.blobs:
                continue
            if digest in candidates.blobs or store.blobs.age(digest, now) > GRACE:
                freed += store.blobs.remove(digest)
        if store.layers.in_use is not None:
            for name in store.layers.in_use():
                alive.layers.update((name, store.layers.target(name)))
            for name in store.layers.names():
                if name in alive.layers:
                    continue
                if name in candidates.layers or store.layers.age(name, now) > GRACE:
                    freed += store.layers.remove(name)
        return freed


def _reach(store: ImageStore, digest: str, media_type: str, reach: Reach, depth: int) -> None:
    """Add everything below a manifest or index. What is damaged reaches nothing further: it is of
    no use until it is pulled again, and that brings what is missing."""
    if digest in reach.blobs or not digests.is_digest(digest):
        return
    reach.blobs.add(digest)
    if not os.path.exists(store.blobs.path(digest)):
        return
    data = b""
    try:
        data = store.blobs.read(digest, "manifest")
        document = oci.decode(data, media_type)
    except ImageError:
        # No image, but perhaps an attestation that came with one.
        with contextlib.suppress(ImageError):
            reach.blobs.update(blob.digest for blob in oci.blobs_of(data))
        return
    except StoreError:
        if os.path.exists(store.blobs.path(digest)):
            raise  # an I/O error says nothing about what it refers to: collect nothing
        return
    if isinstance(document, oci.Index):
        for entry in document.manifests if depth else ():
            _reach(store, entry.digest, entry.media_type, reach, depth - 1)
        return
    reach.blobs.add(document.config.digest)
    reach.blobs.update(layer.digest for layer in document.layers)
    try:
        config = oci.decode_config(store.blobs.read(document.config.digest, "image config"))
    except (StoreError, ImageError):
        return
    for diff_id in config.rootfs.diff_ids:
        _reach_layer(store, layer_name(diff_id), reach)


def _reach_layer(store: ImageStore, name: str, reach: Reach) -> None:
    """Add a layer, and what it stands for if it is a commit's: its directory, its blob."""
    target = store.layers.target(name)
    reach.layers.update((name, target))
    info = None
    with contextlib.suppress(StoreError):
        info = store.layers.read(target)
    if info is not None and info.sealed is not None:
        reach.blobs.add(info.sealed.digest)
        reach.layers.add(layer_name(info.sealed.diff_id))
