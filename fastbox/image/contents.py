"""What an archive says that it holds: ``index.json`` of an OCI layout, ``manifest.json`` of a
docker-archive. Of an archive that is both, the index counts, as it does for Docker.

Nothing here touches a file: documents are taken by their names in the archive, links are followed
within it, and what they say is believed only where digests confirm it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

import msgspec

from ..errors import (
    ArchiveError,
    DigestMismatch,
    FastboxError,
    ImageError,
    InvalidArgument,
)
from ..oci import digest as digests
from ..oci import image as oci
from ..oci import platform as platforms
from ..oci import reference as references
from .naming import try_parse
from .tarball import malformed, normalised, shown

IMAGE_NAME = "io.containerd.image.name"
MAX_IMAGES = 1000
MAX_NAMES = 1000  # of all of them: each is a write of the store's index
MAX_DOCUMENTS = 10_000
MAX_DOCUMENT_BYTES = 64 << 20  # of all of them
_MAX_DEPTH = 4
_MAX_LINKS = 8


class Missing(ArchiveError):
    """Something that a document names is not in the archive, or not yet."""


class Layer(msgspec.Struct, frozen=True):
    """A layer of an image.

    Attributes:
        path: in the archive, links resolved.
        blob: what the manifest says of it; None where there is none (docker-archive).
    """

    path: str
    diff_id: str
    blob: oci.Descriptor | None = None


class Other(msgspec.Struct, frozen=True):
    """An image for another platform: its documents and blobs."""

    manifest: bytes
    config: bytes
    layers: list[oci.Descriptor]


class Found(msgspec.Struct, kw_only=True):
    """An image of the archive.

    Attributes:
        names: canonical; none for an image without a tag.
        config, config_data: parsed, and the bytes whose digest is the image's id.
        manifest: descriptor and bytes; None for a docker-archive.
        index: the documents above the manifest, outermost first.
        others: manifest, config and layers of each further platform of the index whose documents
            are there.
    """

    names: list[str]
    config: oci.ImageConfig
    config_data: bytes
    layers: list[Layer]
    manifest: tuple[oci.Descriptor, bytes] | None = None
    index: list[tuple[oci.Descriptor, bytes]] = []
    others: list[Other] = []

    @property
    def id(self) -> str:
        """The image's id."""
        return digests.of(self.config_data)


class _Element(msgspec.Struct, rename="pascal"):
    """One of ``manifest.json``."""

    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


def blob_path(digest: str) -> str:
    """Where an OCI layout has a blob."""
    return f"blobs/sha256/{digests.encoded(digest)}"


class Contents:
    """The documents and links of an archive, as they are found.

    Args:
        platform: what to take of an index; None is what this machine runs, if it is there.

    Attributes:
        partial: when ``images`` was asked last, an index named images whose documents were not
            there. With them the choice may be another.
    """

    def __init__(self, platform: platforms.Platform | None = None) -> None:
        self.partial = False
        self.documents: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._platform = platform
        self._bytes = 0
        # What was made of documents, each once, however many images name it.
        self._parsed: dict[tuple[bytes, str], oci.Manifest | oci.Index] = {}
        self._configs: dict[bytes, oci.ImageConfig] = {}
        self._digests: dict[bytes, str] = {}
        self._further: set[str] = set()

    @property
    def has_index(self) -> bool:
        """Whether it is known to be an OCI layout."""
        return "index.json" in self.documents

    def add_document(self, name: str, data: bytes) -> None:
        """Raises ArchiveError: there are too many."""
        self._count(len(data))
        self.documents[name] = data

    def _count(self, size: int) -> None:
        self._bytes += size
        if len(self.documents) >= MAX_DOCUMENTS or self._bytes > MAX_DOCUMENT_BYTES:
            raise malformed("it has too many documents")

    def forget(self, name: str) -> None:
        """Another entry has the name now."""
        self.documents.pop(name, None)
        self._links.pop(name, None)

    def add_link(self, name: str, target: str, *, hard: bool) -> None:
        """A link; of a hard one the target is a name, of a symbolic one a path.

        Raises:
            ArchiveError: there are too many.
        """
        self._count(len(name) + len(target))
        base = "" if hard else posixpath.dirname(name)
        self._links[name] = normalised(posixpath.join(base, target))

    def resolved(self, name: str) -> str:
        """Where the content of a name is, all within the archive."""
        name = normalised(name)
        for _ in range(_MAX_LINKS):
            target = self._links.get(name)
            if target is None:
                return name
            name = target
        raise malformed(f"{shown(name)} is a link to a link, again and again")

    def images(self) -> list[Found]:
        """All images.

        Raises:
            Missing: a document is not there.
            ArchiveError, ImageError, DigestMismatch, InvalidArgument: it makes no sense.
        """
        self._further.clear()
        self.partial = False
        if self.has_index:
            found = self._oci()
        elif "manifest.json" in self.documents:
            found = [self._docker(element) for element in self._elements()]
        else:
            raise Missing(
                "invalid archive: it has neither manifest.json nor index.json",
                hint="`fastbox import` reads a root filesystem's tar",
            )
        if not found:
            raise malformed("there is no image in it")
        count = sum(len(image.names) for image in found)
        if count > MAX_NAMES:
            raise malformed(f"its images have {count} names, the limit is {MAX_NAMES}")
        return found

    # ---- docker-archive ----------------------------------------------------------------------

    def _elements(self) -> list[_Element]:
        data = self.documents["manifest.json"]
        elements = oci.decode_json(data, list[_Element], "manifest.json")
        if len(elements) > MAX_IMAGES:
            raise malformed(f"it has {len(elements)} images")
        return elements

    def _docker(self, element: _Element) -> Found:
        path = self.resolved(element.config)
        data = self.documents.get(path)
        if data is None:
            raise _missing("image config", element.config)
        config = self._config(data)
        paths = element.layers or []
        if len(paths) != len(config.rootfs.diff_ids):
            raise malformed(
                f"it has {len(paths)} layers of an image whose config names"
                f" {len(config.rootfs.diff_ids)}"
            )
        if len(paths) > oci.MAX_LAYERS:
            raise ImageError(f"max depth exceeded: the image has {len(paths)} layers")
        pairs = zip(paths, config.rootfs.diff_ids, strict=True)
        return Found(
            names=_tags(element),
            config=config,
            config_data=data,
            layers=[Layer(self.resolved(name), diff_id) for name, diff_id in pairs],
        )

    # ---- OCI layout --------------------------------------------------------------------------

    def _oci(self) -> list[Found]:
        index = oci.decode_index(self.documents["index.json"])
        names: dict[str, list[str]] = {}
        entries: dict[str, oci.Descriptor] = {}
        for entry in self._chosen(index.manifests):
            entries.setdefault(entry.digest, entry)
            name = _name(entry)
            own = names.setdefault(entry.digest, [])
            if name is not None and name not in own:
                own.append(name)
        if len(entries) > MAX_IMAGES:
            raise malformed(f"it has {len(entries)} images")
        found = [self._image(entry, names[digest]) for digest, entry in entries.items()]
        self._name_by_manifest_json(found)
        return found

    def _chosen(self, entries: list[oci.Descriptor]) -> list[oci.Descriptor]:
        """Without attestations; of what has one name and differs in its platform, ours."""
        groups: dict[str | None, list[oci.Descriptor]] = {}
        for entry in entries:
            if not _is_attestation(entry):
                groups.setdefault(_name(entry), []).append(entry)
        result = []
        for group in groups.values():
            known = {entry.platform.normalised() for entry in group if entry.platform}
            several = len(group) > 1 and len(known) == len(group)
            result += [self._select(group)] if several else group
        return result

    def _select(self, entries: list[oci.Descriptor]) -> oci.Descriptor:
        """The one to load: as asked for, else ours, else the first that is there."""
        if self._platform is not None:
            return platforms.select(entries, self._platform, strict=True)
        there = [e for e in entries if not _is_attestation(e) and self._is_here(e)]
        try:
            return platforms.select(there, platforms.host())
        except ImageError:
            if there:
                return there[0]
        if not entries:
            raise malformed("there is no image in it")
        raise _missing("manifest", entries[0].digest)

    def _is_here(self, entry: oci.Descriptor) -> bool:
        """Whether the documents of an image are there, which is noted."""
        here = self._has_documents(entry)
        self.partial |= not here and not _is_attestation(entry)
        return here

    def _has_documents(self, entry: oci.Descriptor) -> bool:
        """What is malformed is told elsewhere."""
        if not self._has(entry):
            return False
        try:
            document = self._decoded(self._document(entry, "manifest"), entry)
        except FastboxError:
            return True
        return isinstance(document, oci.Index) or self._has(document.config)

    def _has(self, entry: oci.Descriptor) -> bool:
        path = self.resolved(blob_path(entry.digest))
        return entry.data is not None or path in self.documents

    def _image(self, entry: oci.Descriptor, names: list[str]) -> Found:
        above: list[tuple[oci.Descriptor, bytes]] = []
        others: list[Other] = []
        for _ in range(_MAX_DEPTH):
            data = self._document(entry, "manifest")
            document = self._decoded(data, entry)
            if isinstance(document, oci.Manifest):
                break
            above.append((entry, data))
            chosen = self._select(document.manifests)
            others += self._others(document.manifests, chosen)
            entry = chosen
        else:
            raise malformed(f"indexes are nested too deep in {entry.digest}")
        config_data = self._document(document.config, "image config")
        config = self._config(config_data)
        oci.check_layers(config, document)
        pairs = zip(document.layers, config.rootfs.diff_ids, strict=True)
        layers = [
            Layer(self.resolved(blob_path(blob.digest)), diff_id, blob) for blob, diff_id in pairs
        ]
        media_type = document.media_type or entry.media_type
        if media_type not in oci.MANIFEST_TYPES:
            media_type = oci.OCI_MANIFEST
        plain = oci.Descriptor(media_type=media_type, digest=entry.digest, size=len(data))
        return Found(
            names=names, config=config, config_data=config_data, layers=layers,
            manifest=(plain, data), index=above, others=others,
        )  # fmt: skip

    def _others(self, entries: Iterable[oci.Descriptor], chosen: oci.Descriptor) -> Iterable[Other]:
        """The further platforms whose documents are there, and that no other index has told of."""
        for entry in entries:
            if entry.digest == chosen.digest or entry.digest in self._further:
                continue
            if not self._is_here(entry):
                continue
            try:
                data = self._document(entry, "manifest")
                document = self._decoded(data, entry)
                if isinstance(document, oci.Index):
                    continue
                config = self._document(document.config, "image config")
            except FastboxError:
                continue  # an attestation, of no use without its registry; or a false one
            self._further.add(entry.digest)
            yield Other(data, config, document.layers)

    def _document(self, entry: oci.Descriptor, what: str) -> bytes:
        data = entry.embedded()
        if data is None:
            data = self.documents.get(self.resolved(blob_path(entry.digest)))
        if data is None:
            raise _missing(what, entry.digest)
        found = self._digest(data)
        if (found, len(data)) != (entry.digest, entry.size):
            raise DigestMismatch(
                f"invalid archive: {what} {entry.digest} ({entry.size} bytes) has digest {found}"
                f" ({len(data)} bytes)"
            )
        return data

    def _decoded(self, data: bytes, entry: oci.Descriptor) -> oci.Manifest | oci.Index:
        said = entry.media_type
        if said not in oci.MANIFEST_TYPES | oci.INDEX_TYPES:  # of those there may be any number
            return oci.decode(data, said)
        found = self._parsed.get((data, said))
        if found is None:
            found = self._parsed[data, said] = oci.decode(data, said)
        return found

    def _config(self, data: bytes) -> oci.ImageConfig:
        found = self._configs.get(data)
        if found is None:
            found = self._configs[data] = oci.decode_config(data)
        return found

    def _digest(self, data: bytes) -> str:
        found = self._digests.get(data)
        if found is None:
            found = self._digests[data] = digests.of(data)
        return found

    def _name_by_manifest_json(self, found: list[Found]) -> None:
        """Some tools write the tag alone into the index, the whole name only there."""
        if "manifest.json" not in self.documents or all(image.names for image in found):
            return
        tags: dict[str, list[str]] = {}
        for element in self._elements():
            tags.setdefault(self.resolved(element.config), []).extend(_tags(element))
        for image in found:
            image.names = image.names or list(dict.fromkeys(tags.get(blob_path(image.id), ())))


def _tags(element: _Element) -> list[str]:
    """The names of an image in ``manifest.json``.

    Raises:
        InvalidArgument: one is none (Docker's text).
    """
    names = []
    for text in element.repo_tags or ():
        reference, problem = try_parse(text)
        if reference is None or reference.tag is None or reference.digest is not None:
            raise InvalidArgument(
                f'invalid tag "{shown(text)}"', hint=problem.message if problem else None
            )
        names.append(reference.canonical)
    return list(dict.fromkeys(names))


def _name(entry: oci.Descriptor) -> str | None:
    """The name of an entry of ``index.json``. A bare tag (``latest``) is none."""
    annotations = entry.annotations or {}
    text = annotations.get(IMAGE_NAME)
    if text is None:
        text = annotations.get(oci.REF_NAME) or ""
        if ":" not in text and "/" not in text:
            return None
    reference, _ = try_parse(text)
    if reference is None or reference.digest is not None:
        return None
    return f"{reference.repository}:{reference.tag or references.DEFAULT_TAG}"


def _is_attestation(entry: oci.Descriptor) -> bool:
    return entry.platform is not None and entry.platform.os == "unknown"


def _missing(what: str, name: str) -> Missing:
    return Missing(
        f"invalid archive: {what} {shown(name)} is not in it",
        hint="the archive is incomplete, or not what `save` writes",
    )
