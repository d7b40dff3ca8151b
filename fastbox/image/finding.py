"""Reading the image store: which images there are, what a name or an id means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..errors import Ambiguous, FastboxError, ImageError, NotFound, StoreError
from ..oci import digest as digests
from ..oci import image as oci
from ..oci import platform as platforms
from ..oci import reference as references
from .layers import layer_name
from .naming import (
    CONFIG,
    IMAGE_ID,
    PARENT,
    TAGGED,
    answers_to,
    name_of,
    repo_digests_of,
    try_parse,
)
from .types import Image

if TYPE_CHECKING:
    from .content import BlobStore
    from .layers import LayerStore

_MAX_DEPTH = 4
_MOST_KNOWN = 64


class Loaded(msgspec.Struct, kw_only=True):
    """What one entry of the index stands for on this machine."""

    digest: str
    manifest: oci.Manifest
    config: oci.ImageConfig


class Broken(msgspec.Struct, kw_only=True):
    """An entry of the index that cannot be used, and why; ``name`` is its name or digest."""

    name: str
    error: FastboxError


class Finding:
    """A part of ``ImageStore``."""

    if TYPE_CHECKING:
        blobs: BlobStore
        layers: LayerStore
        _loaded: dict[str, Loaded]
        _resolved: dict[str, tuple[list[oci.Descriptor], Image, str]]

        def entries(self) -> list[oci.Descriptor]: ...

    def load(self, entry: oci.Descriptor) -> Loaded:
        """Manifest and config of an entry; an index leads to this machine's manifest.

        Raises:
            StoreError: a blob is missing or damaged (names the file).
            ImageError: it is no image.
        """
        found = self._loaded.get(entry.digest)
        if found is not None:
            return found
        digest, document = self._manifest(entry, _MAX_DEPTH)
        config = oci.decode_config(
            self.blobs.read(document.config.digest, "image config"), document
        )
        found = Loaded(digest=digest, manifest=document, config=config)
        self._loaded[entry.digest] = found
        return found

    def _manifest(self, entry: oci.Descriptor, depth: int) -> tuple[str, oci.Manifest]:
        document = oci.decode(self.blobs.read(entry.digest, "manifest"), entry.media_type)
        if isinstance(document, oci.Manifest):
            return entry.digest, document
        if depth == 0:
            raise ImageError(f"indexes are nested too deep in {entry.digest}")
        chosen = platforms.select(document.manifests, platforms.host())
        return self._manifest(chosen, depth - 1)

    def image_id(self, entry: oci.Descriptor) -> str:
        """The image id of an entry, ``""`` if it cannot be loaded. It is the digest of the config
        that the image was made with here; sealing gives it another config, but no other id."""
        noted = (entry.annotations or {}).get(IMAGE_ID)
        if digests.is_digest(noted):
            return str(noted)
        try:
            return self.load(entry).manifest.config.digest
        except (StoreError, ImageError):
            return ""

    def images(self, broken: list[Broken] | None = None) -> list[Image]:
        """All images, in no particular order.

        Args:
            broken: gets what is in the index but cannot be used.
        """
        groups: dict[str, list[oci.Descriptor]] = {}
        for entry in self.entries():
            try:
                self.load(entry)
                groups.setdefault(self.image_id(entry), []).append(entry)
            except (StoreError, ImageError) as error:
                if broken is not None:
                    name = name_of(entry) or entry.digest
                    broken.append(Broken(name=name, error=error))
        owners = self._owners()
        return [self._build(group, owners) for group in groups.values()]

    def resolve(self, name_or_id: str) -> Image:
        """The image of a name, a name with a digest, an id or the start of one.

        Raises:
            NotFound: `No such image: X:tag`.
            Ambiguous: the id prefix fits several.
            InvalidArgument: neither a reference nor an id.
            StoreError: it exists, but is damaged.
        """
        entry, _ = self.find(name_or_id)
        self.load(entry)
        return self._image(self.image_id(entry))

    def known(self, name_or_id: str) -> tuple[Image, str] | None:
        """What ``keep_known`` was told, as long as the index is the same; sizes are those of that
        time."""
        found = self._resolved.get(name_or_id)
        return found[1:] if found is not None and found[0] is self.entries() else None

    def keep_known(self, name_or_id: str, image: Image, name: str) -> None:
        """Remember what ``resolve`` said, and under which of its names it was asked for."""
        while len(self._resolved) >= _MOST_KNOWN:
            self._resolved.pop(next(iter(self._resolved)), None)
        self._resolved[name_or_id] = self.entries(), image, name

    def find(self, text: str) -> tuple[oci.Descriptor, references.Reference | None]:
        """The entry that ``text`` means, and the reference if it was by name, not by id.

        Raises: as ``resolve``, but a damaged image is found.
        """
        entries = self.entries()
        plain = text.removeprefix("sha256:")
        if len(plain) == 64 and digests.is_hex(plain):
            digest = f"sha256:{plain}"
            for entry in entries:
                if digest in (self.image_id(entry), entry.digest):
                    return entry, None
            for entry in entries:
                if _config(entry) == digest:
                    return entry, None
            raise NotFound(f"No such image: {text}")
        reference, invalid = try_parse(text)
        if reference is not None:
            # The last one wins, as a name moves to the newest entry.
            for entry in reversed(entries):
                if answers_to(entry, reference):
                    return entry, reference
        if digests.is_hex(plain):
            for id_of in (self.image_id, _config):
                found = {i: e for e in entries if (i := id_of(e))[7:].startswith(plain) and i}
                if len(found) > 1:
                    raise Ambiguous(
                        f"ambiguous reference: {text}", hint=f"it fits {len(found)} image ids"
                    )
                if found:
                    return next(iter(found.values())), None
        if reference is None:
            assert invalid is not None
            raise invalid
        raise NotFound(f"No such image: {reference.familiar}")

    def _image(self, image_id: str, *, measure: bool = True) -> Image:
        group = [entry for entry in self.entries() if self.image_id(entry) == image_id]
        if not group:
            raise NotFound(f"No such image: {image_id}")
        return self._build(group, self._owners(), measure=measure)

    def _owners(self) -> dict[str, oci.Descriptor]:
        """Which entry has a name, should a foreign tool have given it to several."""
        return {name: entry for entry in self.entries() if (name := name_of(entry))}

    def _build(
        self,
        group: list[oci.Descriptor],
        owners: dict[str, oci.Descriptor],
        *,
        measure: bool = True,
    ) -> Image:
        loaded = self.load(group[0])
        config = loaded.config
        names = [n for entry in group if (n := name_of(entry)) and owners.get(n) is entry]
        return Image(
            id=self.image_id(group[0]),
            names=names,
            repo_digests=list(dict.fromkeys(d for entry in group for d in repo_digests_of(entry))),
            manifest_digest=loaded.digest,
            created=config.created or "",
            size=self._size(loaded) if measure else self._size_so_far(loaded),
            layers=list(config.rootfs.diff_ids),
            layer_blobs=[layer.digest for layer in loaded.manifest.layers],
            architecture=config.architecture,
            os=config.os,
            variant=config.variant,
            config=msgspec.to_builtins(config),
            parent=_noted(group, PARENT),
            tagged=_noted(group, TAGGED),
        )

    def _size(self, loaded: Loaded) -> int:
        """Bytes unpacked; a layer that never was unpacked counts as its blob."""
        return sum(self.layer_sizes(loaded))

    def layer_sizes(self, loaded: Loaded) -> list[int]:
        """Bytes of each layer, bottom first; see ``_size``."""
        sizes = []
        for layer, diff_id in zip(
            loaded.manifest.layers, loaded.config.rootfs.diff_ids, strict=True
        ):
            try:
                info = self.layers.info(diff_id)
            except StoreError:
                info = None
            sizes.append(info.size if info is not None else layer.size)
        return sizes

    def _size_so_far(self, loaded: Loaded) -> int:
        """``_size`` without reading any directory."""
        total = 0
        for layer, diff_id in zip(
            loaded.manifest.layers, loaded.config.rootfs.diff_ids, strict=True
        ):
            info = self.layers.read(layer_name(diff_id))
            total += layer.size if info is None else max(info.size, 0)
        return total


def _config(entry: oci.Descriptor) -> str:
    """The id by which other machines know a committed image, ``""`` for any other."""
    return (entry.annotations or {}).get(CONFIG, "")


def _noted(group: list[oci.Descriptor], key: str) -> str:
    """The latest value of an annotation in several entries, ``""`` if none has it."""
    return max((entry.annotations or {}).get(key, "") for entry in group)
