"""``index.json``: its form, what its entries lead to, and making it anew from the blobs."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from .. import atomic
from ..errors import FastboxError, ImageError, InvalidArgument, StoreError
from ..image.layers import layer_name
from ..image.naming import CONFIG, IMAGE_ID, PENDING, is_pending, name_of, repo_digests_of
from ..oci import image as oci
from ..oci import platform as platforms
from ..oci import reference as references
from .blobs import again
from .problems import Known

if TYPE_CHECKING:
    from .blobs import Blobs
    from .problems import Look

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MAX_DEPTH = 4
_MAX_MANIFEST = oci.MAX_DOCUMENT


def check(look: Look, blobs: Blobs) -> None:
    """Look at the index, and at all that its entries lead to."""
    entries = _entries(look, blobs)
    _layout(look)
    walk = _Walk(look, blobs)
    for entry in entries:
        walk.entry(entry)
    look.counted("image", len({look.images.image_id(entry) or entry.digest for entry in entries}))


def _entries(look: Look, blobs: Blobs) -> list[oci.Descriptor]:
    path = os.path.join(look.images.directory, "index.json")
    if os.path.islink(path):
        problem = look.found("index", path, "it is a symbolic link")
    else:
        try:
            return look.images.entries()
        except StoreError as error:
            problem = look.found("index", path, error.message.removeprefix("the image store is "))
    problem.hint = "`fastbox system check --repair` makes it anew from what is among the blobs"
    look.mend(problem, lambda: _rebuild(look, blobs, path))
    return look.images.entries() if problem.repaired else []


def _layout(look: Look) -> None:
    path = os.path.join(look.images.directory, "oci-layout")
    try:
        if not os.path.islink(path):
            with open(path, "rb", opener=atomic.no_wait) as file:
                if b'"imageLayoutVersion"' in file.read(4096):
                    return
        text = "it is not what the OCI image layout wants"
    except OSError as error:
        text = f"it cannot be read: {(error.strerror or '').lower()}"

    def write() -> None:
        atomic.write(path, _LAYOUT)

    look.mend(look.found("index", path, text), write)


# ---- what entries lead to --------------------------------------------------------------------


class _Walk:
    def __init__(self, look: Look, blobs: Blobs) -> None:
        self._look = look
        self._blobs = blobs

    def entry(self, entry: oci.Descriptor) -> None:
        """One entry of the index."""
        self._document(entry, label(entry), _MAX_DEPTH)

    def _document(self, entry: oci.Descriptor, image: str, depth: int) -> None:
        self._blobs.need(entry.digest, image)
        if not self._there(entry, image, "manifest"):
            return
        try:
            data = self._look.images.blobs.read(entry.digest, "manifest")
            document = oci.decode(data, entry.media_type)
            if isinstance(document, oci.Index):
                self._index(document, image, depth)
            else:
                self._manifest(document, image)
        except (ImageError, StoreError) as error:
            self._found(image, error.message)

    def _index(self, document: oci.Index, image: str, depth: int) -> None:
        """An index of several platforms is whole with this machine's manifest alone."""
        if depth == 0:
            raise ImageError("indexes are nested too deep")
        here = [e for e in document.manifests if self._look.images.has_blob(e.digest)]
        if not here:
            here = [platforms.select(document.manifests, platforms.host())]
        for entry in here:
            self._document(entry, image, depth - 1)

    def _manifest(self, document: oci.Manifest, image: str) -> None:
        self._blobs.need(document.config.digest, image)
        if not self._there(document.config, image, "config"):
            return
        data = self._look.images.blobs.read(document.config.digest, "image config")
        config = oci.decode_config(data, document)
        for layer, diff_id in zip(document.layers, config.rootfs.diff_ids, strict=True):
            self._layer(layer, diff_id, image)

    def _layer(self, layer: oci.Descriptor, diff_id: str, image: str) -> None:
        known = self._look.layers.setdefault(layer_name(diff_id), Known(diff_id=diff_id))
        if known.diff_id != diff_id:
            self._found(image, f"its layer {diff_id} has the name of {known.diff_id}")
            return
        if image not in known.images:
            known.images.append(image)
        if is_pending(layer):
            known.pending = True
            return
        self._blobs.need(layer.digest, image)
        if self._there(layer, image, "layer") and layer.digest not in known.blobs:
            known.blobs.append(layer.digest)

    def _there(self, blob: oci.Descriptor, image: str, what: str) -> bool:
        """Whether a blob is here and whole; a damaged one is reported once, as a blob."""
        size = self._blobs.size(blob.digest)
        if size is None and blob.digest not in self._blobs.wrong:
            self._found(image, f"its {what} {blob.digest} is missing")
        elif size is not None and size != blob.size:
            self._found(image, f"its {what} {blob.digest} has {size} bytes instead of {blob.size}")
        return size is not None

    def _found(self, image: str, text: str) -> None:
        look = self._look
        if any(p.what == image and p.text == text for p in look.problems):
            return
        problem = look.found("image", image, text, again([image]))
        if image.startswith("sha256:"):  # nobody can ask for it, and nobody misses it
            look.mend(problem, lambda: _drop(look, image))


def label(entry: oci.Descriptor) -> str:
    """How messages call an entry: its name, else where it came from, else its digest."""
    name = name_of(entry)
    for text in [name] if name else repo_digests_of(entry):
        with contextlib.suppress(InvalidArgument):
            return references.parse(text).familiar
    return entry.digest


def _drop(look: Look, digest: str) -> str | None:
    """Remove an entry without a name that cannot be used."""
    with look.images.locked():
        entries = look.images.entries()
        gone = [entry for entry in entries if label(entry) == digest]
        if any(_is_usable(look, entry) for entry in gone):
            return "containers can still be made of it; `fastbox rmi` removes it"
        ids = {look.images.image_id(entry) for entry in gone}
        for container_id in look.containers.ids():
            with contextlib.suppress(FastboxError):
                record = look.containers.load_record(container_id)
                if record.image_id in ids or record.manifest_digest == digest:
                    return f"it is the image of container {record.name}"
        look.images.replace_entries([entry for entry in entries if label(entry) != digest])
    return None


def _is_usable(look: Look, entry: oci.Descriptor) -> bool:
    """Whether an image still has all of its unpacked layers."""
    try:
        layers = look.images.load(entry).config.rootfs.diff_ids
        return all(look.images.layer_dir(diff_id) is not None for diff_id in layers)
    except FastboxError:
        return False


# ---- making it anew --------------------------------------------------------------------------


def _rebuild(look: Look, blobs: Blobs, path: str) -> str | None:
    """An index of every image among the blobs. Names were nowhere else but in the old one and in
    the records of containers."""
    named = _names_by_manifest(look)
    entries = []
    for digest in look.images.blobs.digests():
        entry = _as_image(look, blobs, digest)
        if entry is None:
            continue
        annotations = entry.annotations or {}
        name, image_id = named.get(digest, ("", ""))
        if name:
            annotations[oci.REF_NAME] = name
        if image_id and image_id != annotations[IMAGE_ID]:
            annotations |= {IMAGE_ID: image_id, CONFIG: annotations[IMAGE_ID]}
        entry.annotations = annotations
        entries.append(entry)
    with look.images.locked():
        if os.path.lexists(path):
            os.replace(path, f"{path}.damaged")
        data = oci.Index(schema_version=2, media_type=oci.OCI_INDEX, manifests=entries)
        atomic.write(path, oci.encode(data))
    return None


def _names_by_manifest(look: Look) -> dict[str, tuple[str, str]]:
    """Digest of a manifest -> (name, image id), as the records of containers have it."""
    found = {}
    for container_id in look.containers.ids():
        with contextlib.suppress(FastboxError, OSError):
            record = look.containers.load_record(container_id)
            found[record.manifest_digest] = record.image_name, record.image_id
    return found


def _as_image(look: Look, blobs: Blobs, digest: str) -> oci.Descriptor | None:
    """The entry for a blob, if it is the manifest of an image that is here."""
    size = blobs.size(digest)
    if size is None or size > _MAX_MANIFEST:
        return None
    store = look.images.blobs
    try:
        document = oci.decode_manifest(store.read(digest, "manifest"))
        config = oci.decode_config(store.read(document.config.digest, "config"), document)
    except (ImageError, StoreError):
        return None
    annotations = {IMAGE_ID: document.config.digest}
    if any(map(is_pending, document.layers)):
        annotations[PENDING] = "1"
    return oci.Descriptor(
        media_type=document.media_type or oci.OCI_MANIFEST,
        digest=digest,
        size=size,
        annotations=annotations,
        platform=oci.PlatformSpec(config.architecture, config.os, config.variant or None),
    )
