"""``rmi`` and the collection of garbage."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from .. import atomic, locks
from ..errors import (
    Conflict,
    FastboxError,
    ImageError,
    InvalidArgument,
    NotFound,
    StoreError,
    Unsupported,
)
from ..oci import digest as digests
from ..oci import image as oci
from ..oci import platform as platforms
from ..oci import reference as references
from . import trash
from .layers import layer_name
from .naming import PARENT, REPO_DIGEST, name_of, repo_digests_of
from .news import tell_removed
from .store import GRACE, UNSWEPT
from .types import Removed

if TYPE_CHECKING:
    from .store import ImageStore, UsedBy
    from .types import Image

BLOB_GRACE = 600.0  # seconds; see ``garbage``
_MAX_DEPTH = 4
POOLED = "(prepared)"  # in place of a container's name: no name has such characters


class Reach(msgspec.Struct, kw_only=True):
    """Blobs (digests) and layer directories (names) that entries of the index lead to."""

    blobs: set[str] = set()
    layers: set[str] = set()


# Made with the module: two threads must not be the first to use a type at the same time.
_reach_decoder: msgspec.json.Decoder[Reach] = msgspec.json.Decoder(Reach)


def remove(
    store: ImageStore,
    name_or_id: str,
    *,
    force: bool = False,
    prune: bool = True,
    platforms: Sequence[str] = (),
    used_by: UsedBy | None = None,
) -> list[Removed]:
    """Remove a name or a whole image, with the rules and texts of Docker's ``rmi``.

    - By name, and the image has others: only the name goes.
    - By its last name: the image goes too. While a container uses it that is a conflict; with
      ``force`` only the name goes.
    - By id: all names and the image go. Several names or a stopped container are a conflict unless
      forced; a running container always is.

    Args:
        prune: with an image, delete the images without any name that it was made of (``commit``
            to the name of the image before leaves such), unless something else needs them.
        platforms: only if the image is for one of them (``os/arch[/variant]``).
        used_by: (id, name, running) of the containers made of an image id.

    Returns:
        What was done, in order.

    Raises:
        NotFound, Ambiguous, InvalidArgument: as ``resolve``. NotFound: not for this platform.
        Conflict: see above. Unsupported: one platform of several.
    """
    try:
        return _remove(store, name_or_id, force, prune, platforms, used_by)
    finally:
        # Outside of the lock: deleting a large layer takes its time. What cannot be deleted is out
        # of the store already, and tried again by the next command.
        with contextlib.suppress(StoreError):
            trash.empty(store.trash)


def _remove(
    store: ImageStore,
    name_or_id: str,
    force: bool,
    prune: bool,
    wanted: Sequence[str],
    used_by: UsedBy | None,
) -> list[Removed]:
    with store.locked():
        entry, reference = store.find(name_or_id)
        _check_platforms(store, name_or_id, entry, wanted)
        image_id = store.image_id(entry)
        entries = store.entries()
        same = [e for e in entries if e is entry or (image_id and store.image_id(e) == image_id)]
        users = used_by(image_id) if used_by is not None and image_id else []
        replacement: list[oci.Descriptor] = []
        if reference is None:
            _check_by_id(image_id, same, users, force)
            untagged, gone = references_of(same), same
        else:
            untagged, gone, replacement = _by_name(reference, same)
            if len(gone) == len(same) and users:
                if not force:
                    raise _conflict(reference.familiar, _use_of(users[0], image_id))
                # A container uses it: the image stays without a name.
                replacement = [_dangling(gone[0])]
        removed = [Removed(kind="untagged", what=name) for name in untagged]
        is_deleted = not replacement and len(gone) == len(same)
        if is_deleted:
            removed.append(Removed(kind="deleted", what=image_id or entry.digest))
            for parent, its_entries in _parents(store, image_id, used_by) if prune else ():
                removed.append(Removed(kind="deleted", what=parent))
                gone = gone + its_entries
        drop(store, gone, replacement)
        tell_removed(store, entry, removed)
        if is_deleted:
            sweep(store, reached(store, gone))
    return removed


def drop(
    store: ImageStore, gone: Sequence[oci.Descriptor], replacement: Sequence[oci.Descriptor] = ()
) -> None:
    """Take entries out of the index; the caller has the lock."""
    if not gone and not replacement:
        return
    kept = [e for e in store.entries() if not any(e is g for g in gone)]
    store.replace_entries([*kept, *replacement])


def _check_platforms(
    store: ImageStore, name: str, entry: oci.Descriptor, wanted: Sequence[str]
) -> None:
    """Raises NotFound, with Docker's text, if the image is for none of the platforms."""
    if not wanted:
        return
    asked = [platforms.parse(text) for text in wanted]
    document = oci.decode(store.blobs.read(entry.digest, "manifest"), entry.media_type)
    if isinstance(document, oci.Index) and _are_several(store, document):
        raise Unsupported(
            f"removing one platform of {name} is not supported",
            hint="remove the image, and pull the platforms that you want",
        )
    config = store.load(entry).config
    has = platforms.normalise(config.os, config.architecture, config.variant)
    for text, platform in zip(wanted, asked, strict=True):
        if has != platform:
            raise platforms.mismatch(NotFound, name, text, has)


def _are_several(store: ImageStore, index: oci.Index) -> bool:
    return sum(os.path.exists(store.blobs.path(one.digest)) for one in index.manifests) > 1


def _parents(
    store: ImageStore, image_id: str, used_by: UsedBy | None
) -> Iterator[tuple[str, list[oci.Descriptor]]]:
    """(id, entries) of the nameless images that an image was made of, the nearest first, as far as
    nothing else needs them: no container, and no other image that was made of them."""
    images = {image.id: image for image in store.images()}
    child = images.pop(image_id, None)
    if child is None:
        return
    noted = {store.image_id(e): (e.annotations or {}).get(PARENT) for e in store.entries()}

    def is_made_of(child: Image, parent: Image) -> bool:
        count = len(parent.layers)
        begins = 0 < count < len(child.layers) and child.layers[:count] == parent.layers
        return begins or noted.get(child.id) == parent.id

    chain = [image for image in images.values() if is_made_of(child, image)]
    for parent in sorted(chain, key=lambda image: len(image.layers), reverse=True):
        if parent.names or parent.repo_digests or (used_by is not None and used_by(parent.id)):
            return
        if any(is_made_of(other, parent) for other in images.values()):
            return
        images.pop(parent.id)
        yield parent.id, [e for e in store.entries() if store.image_id(e) == parent.id]


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
    if users and users[0][1] == POOLED:
        raise _conflict(short, _use_of(users[0], image_id))
    if users:
        raise _conflict(short, f"image is being used by stopped container {users[0][0][:12]}")


def _use_of(user: tuple[str, str, bool], image_id: str) -> str:
    if user[1] == POOLED:
        return f"a pool keeps containers of it prepared (process {user[0]})"
    return f"container {user[0][:12]} is using its referenced image {image_id[7:19]}"


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


def references_of(entries: list[oci.Descriptor]) -> list[str]:
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
        freed = sweep(store, Reach())
    with contextlib.suppress(StoreError):
        trash.empty(store.trash)
    return freed or 0


def release(store: ImageStore, layers: Iterable[str]) -> int:
    """Layers of a container that is gone: delete those that nothing else refers to; bytes freed."""
    gone = Reach()
    for name in layers:
        _reach_layer(store, name, gone)
    with store.locked():
        freed = sweep(store, gone)
    with contextlib.suppress(StoreError):
        trash.empty(store.trash)
    return freed or 0


def sweep(store: ImageStore, candidates: Reach, *, everything: bool = False) -> int | None:
    """Under the lock: delete the candidates, and old garbage, unless something refers to it.

    While somebody holds a lease everything is left, and a note of the candidates: whoever gives
    the last lease back (or, should it be killed, the next command) deletes them.

    Args:
        everything: see ``garbage``.

    Returns:
        Bytes freed; None: left for later.
    """
    with store.exclusive() as mine:
        if not mine:
            _note(store, candidates)
            return None
        kept = alive(store, store.entries())
        found = garbage(store, with_noted(store, candidates), kept, everything=everything)
        freed = sum(store.blobs.remove(digest) for digest in found.blobs)
        for path in partial(store) if everything else ():
            trash.move(path, store.trash)
        if store.layers.in_use is not None:
            # Names first: one that leads nowhere would look like damage.
            names = sorted(found.layers, key=store.layers.is_name_of_another, reverse=True)
            freed += sum(store.layers.remove(name) for name in names)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_note_path(store))
        return freed


def alive(store: ImageStore, entries: Iterable[oci.Descriptor]) -> Reach:
    """What these entries and the containers need."""
    found = reached(store, entries)
    if store.layers.in_use is not None:
        for name in store.layers.in_use():
            found.layers.update((name, store.layers.target(name)))
    return found


def reached(store: ImageStore, entries: Iterable[oci.Descriptor]) -> Reach:
    """All that entries lead to."""
    found = Reach()
    for entry in entries:
        _reach(store, entry.digest, entry.media_type, found, _MAX_DEPTH)
    return found


def garbage(store: ImageStore, candidates: Reach, kept: Reach, *, everything: bool) -> Reach:
    """What of the store is neither kept nor too young to be garbage.

    Args:
        everything: what interrupted pulls left too, however young. Only blobs have a few minutes:
            programs that hold no lease (skopeo) write them before the index.
    """
    now = time.time()
    limit = BLOB_GRACE if everything else GRACE
    # They may have been noted before they were sealed.
    candidates = Reach(blobs=set(candidates.blobs), layers=set(candidates.layers))
    for name in list(candidates.layers):
        _reach_layer(store, name, candidates)
    found = Reach()
    for digest in store.blobs.digests():
        if digest not in kept.blobs and (
            digest in candidates.blobs or store.blobs.age(digest, now) > limit
        ):
            found.blobs.add(digest)
    for name in store.layers.names() if store.layers.in_use is not None else ():
        if name not in kept.layers and (
            everything or name in candidates.layers or store.layers.age(name, now) > GRACE
        ):
            found.layers.add(name)
    return found


def partial(store: ImageStore) -> list[str]:
    """Partial downloads."""
    with contextlib.suppress(OSError):
        names = os.listdir(store.blobs.ingest)
        return [os.path.join(store.blobs.ingest, name) for name in names]
    return []


# ---- what could not be deleted because of a lease ------------------------------------------------


def sweep_noted(store: ImageStore) -> None:
    """Delete what was left because somebody held a lease, if nobody does now. Without waiting for
    the lock: who has it may be this thread."""
    if not os.path.exists(_note_path(store)):
        return
    with contextlib.suppress(OSError, FastboxError):
        with locks.lock(os.path.join(store.directory, "lock"), blocking=False):
            sweep(store, Reach())
        trash.empty(store.trash)


def _note_path(store: ImageStore) -> str:
    return os.path.join(store.directory, UNSWEPT)


def _noted(store: ImageStore) -> Reach:
    """The candidates that were left; none where the note is damaged (they are garbage in a day)."""
    try:
        with open(_note_path(store), "rb") as file:
            return _reach_decoder.decode(file.read())
    except (OSError, msgspec.MsgspecError, ValueError):
        return Reach()


def with_noted(store: ImageStore, candidates: Reach) -> Reach:
    """Candidates for deletion, and those that were left before."""
    noted = _noted(store)
    return Reach(blobs=noted.blobs | candidates.blobs, layers=noted.layers | candidates.layers)


def _note(store: ImageStore, candidates: Reach) -> None:
    noted = with_noted(store, candidates)
    if noted == _noted(store):
        return
    with contextlib.suppress(OSError):  # a full disk: they are garbage in a day
        atomic.write(_note_path(store), msgspec.json.encode(noted), sync=False)


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
        # Of layers with the same content, that name is one's only.
        link = layer_name(info.sealed.diff_id)
        reach.layers.update((link, store.layers.target(link)))
