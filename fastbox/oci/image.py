"""OCI image-spec documents (and their Docker schema 2 twins) as typed data.

What comes from a registry or a shared directory is hostile: documents are limited in size, decoded
into typed structs (a string where a list belongs is an error, not a surprise later), and checked
for being two things at once (CVE-2021-41190). Unknown fields are dropped.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, TypeVar

import msgspec

from ..errors import ImageError
from . import digest as digests
from . import platform as platforms
from .healthcheck import Healthcheck

MAX_DOCUMENT = 4 * 1024 * 1024  # bytes of a manifest, index or config (CVE-2023-25153)
MAX_LAYERS = 127  # Docker's limit, and about what overlayfs mounts
MAX_MANIFESTS = 1000
_MAX_WORD = 100  # characters of a word of a platform: the store's index has it for each image
MAX_DOCUMENTS = 64 * 1024 * 1024  # bytes of all documents to which one index leads

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"

MANIFEST_TYPES = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
INDEX_TYPES = frozenset((OCI_INDEX, DOCKER_INDEX))
CONFIG_TYPES = frozenset((OCI_CONFIG, DOCKER_CONFIG))
_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
LAYER_TYPES = frozenset(
    [OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP]
    + [DOCKER_LAYER + ".zstd", _FOREIGN, _FOREIGN + ".gzip"]
    + [_NONDISTRIBUTABLE + suffix for suffix in ("", "+gzip", "+zstd")]
)

REF_NAME = "org.opencontainers.image.ref.name"

_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_T = TypeVar("_T")


class PlatformSpec(msgspec.Struct, omit_defaults=True):
    """``platform`` of a descriptor, as written there."""

    architecture: str = ""
    os: str = ""
    variant: str | None = None

    def normalised(self) -> platforms.Platform:
        """The platform under the name that ``oci.platform`` compares."""
        return platforms.normalise(self.os, self.architecture, self.variant or "")


class Descriptor(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A typed, sized pointer to content (image-spec descriptor.md).

    Attributes:
        size: bytes.
        data: the content itself in base64, or None; read it with ``embedded``.
    """

    media_type: str = ""
    digest: str
    size: _Size
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    data: str | None = None
    platform: PlatformSpec | None = None
    artifact_type: str | None = None

    @property
    def short_id(self) -> str:
        """12 hex digits, as progress lines show."""
        return self.digest[7:19]

    def check(self, what: str) -> None:
        """Raises ImageError if the digest is not one that fastbox speaks."""
        digests.validate(self.digest, f"{what} digest")

    def embedded(self) -> bytes | None:
        """The embedded content, verified against size and digest; None if there is none.

        Raises:
            ImageError: it is not what the descriptor says.
        """
        if self.data is None:
            return None
        if len(self.data) > MAX_DOCUMENT * 4 // 3 + 4:
            raise ImageError(f"embedded data of {self.digest} is too large")
        try:
            content = base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"embedded data of {self.digest} is not base64") from error
        if len(content) != self.size or digests.of(content) != self.digest:
            raise ImageError(f"embedded data of {self.digest} does not match its digest and size")
        return content


class Manifest(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One image for one platform (image-spec manifest.md); layers are bottom first."""

    schema_version: int = msgspec.field(name="schemaVersion")
    media_type: str = ""
    config: Descriptor
    layers: list[Descriptor]
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None


class Index(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A list of manifests (image-spec image-index.md)."""

    schema_version: int = msgspec.field(name="schemaVersion")
    media_type: str = ""
    manifests: list[Descriptor]
    annotations: dict[str, str] | None = None
    artifact_type: str | None = None


class Defaults(msgspec.Struct, rename="pascal", omit_defaults=True, kw_only=True):
    """``config`` of an image config: how to run a container of it (image-spec config.md)."""

    user: str = ""
    exposed_ports: dict[str, dict[str, object]] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, dict[str, object]] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    on_build: list[str] | None = None
    shell: list[str] | None = None
    args_escaped: bool = False


class RootFS(msgspec.Struct, omit_defaults=False, kw_only=True):
    """The layers of an image by the digests of their uncompressed tars, bottom first."""

    type: str = "layers"
    diff_ids: list[str] = []


class History(msgspec.Struct, omit_defaults=True, kw_only=True):
    """How one layer, or a change without a layer, came about."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An image config (image-spec config.md); its digest is the image id.

    Attributes:
        created: RFC 3339 or None.
    """

    created: str | None = None
    author: str = ""
    comment: str = ""
    architecture: str = ""
    os: str = ""
    os_version: str = msgspec.field(name="os.version", default="")
    variant: str = ""
    config: Defaults | None = None
    rootfs: RootFS
    history: list[History] | None = None


class _Shape(msgspec.Struct, rename="camel"):
    """Which members a document has, to tell what it is whatever it calls itself."""

    media_type: str | None = None
    config: msgspec.Raw = msgspec.Raw()
    layers: msgspec.Raw = msgspec.Raw()
    manifests: msgspec.Raw = msgspec.Raw()
    fs_layers: msgspec.Raw = msgspec.Raw()

    def has(self, *members: str) -> bool:
        """Whether one of these is there and not null."""
        return any(bytes(getattr(self, name)) not in (b"", b"null") for name in members)


def decode_json(data: bytes, kind: type[_T], what: str, limit: int = MAX_DOCUMENT) -> _T:
    """Decode untrusted JSON into a typed struct.

    Raises:
        ImageError: too large, not JSON, or not of that type; the message starts with ``what``.
    """
    if len(data) > limit:
        raise ImageError(f"{what} is too large: {len(data)} bytes, the limit is {limit}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ImageError(f"{what} is malformed: {error}") from error


def decode(data: bytes, media_type: str = "") -> Manifest | Index:
    """Decode a manifest or an index, whichever it is.

    Args:
        media_type: what the server or the descriptor called it; ``""`` or a type that says
            nothing (``application/json``) when unknown.

    Raises:
        ImageError: malformed, of an old or unknown kind, or ambiguous (CVE-2021-41190).
    """
    shape = decode_json(data, _Shape, "manifest")
    inner = shape.media_type or ""
    known = MANIFEST_TYPES | INDEX_TYPES
    outer = media_type.partition(";")[0].strip().lower()
    if ("manifest.v1+" in outer and "docker" in outer) or shape.has("fs_layers"):
        raise ImageError(
            "manifest has the outdated schema version 1, which is not supported",
            hint="push the image again with a current tool",
        )
    if inner and inner not in known:
        raise ImageError(f"manifest has the unknown media type {inner[:100]!r}")
    if inner and outer in known and inner != outer:
        raise ImageError(f"manifest says it is {inner!r} but was announced as {outer!r}")
    is_index = shape.has("manifests")
    is_manifest = shape.has("config", "layers")
    if is_index and is_manifest:
        raise ImageError("manifest is ambiguous: it has both manifests and layers or config")
    if not is_index and not is_manifest:
        raise ImageError("manifest is neither an image manifest nor an index")
    said = inner or (outer if outer in known else "")
    if said and (said in INDEX_TYPES) != is_index:
        raise ImageError(f"manifest is announced as {said!r} but has the content of the other kind")
    return _index(data) if is_index else _manifest(data)


def decode_manifest(data: bytes, media_type: str = "") -> Manifest:
    """Like ``decode``, for a place where only an image manifest will do."""
    document = decode(data, media_type)
    if not isinstance(document, Manifest):
        raise ImageError("expected an image manifest, got an index")
    return document


def decode_index(data: bytes, media_type: str = "") -> Index:
    """Like ``decode``, for a place where only an index will do."""
    document = decode(data, media_type)
    if not isinstance(document, Index):
        raise ImageError("expected an image index, got a manifest")
    return document


def _manifest(data: bytes) -> Manifest:
    document = decode_json(data, Manifest, "manifest")
    if document.schema_version != 2:
        raise ImageError(f"manifest has unsupported schema version {document.schema_version}")
    document.config.check("config")
    if document.config.media_type not in CONFIG_TYPES:
        raise ImageError(
            f"not a container image: its config is of type {document.config.media_type[:100]!r}"
        )
    if document.config.size > MAX_DOCUMENT:
        raise ImageError(f"config is too large: {document.config.size} bytes")
    if len(document.layers) > MAX_LAYERS:
        raise ImageError(f"max depth exceeded: the image has {len(document.layers)} layers")
    for layer in document.layers:
        layer.check("layer")
        if layer.media_type not in LAYER_TYPES:
            raise ImageError(
                f"layer {layer.short_id} is of unknown type {layer.media_type[:100]!r}"
            )
    return document


def _index(data: bytes) -> Index:
    document = decode_json(data, Index, "index")
    if document.schema_version != 2:
        raise ImageError(f"index has unsupported schema version {document.schema_version}")
    if len(document.manifests) > MAX_MANIFESTS:
        raise ImageError(f"index has too many manifests: {len(document.manifests)}")
    for entry in document.manifests:
        entry.check("manifest")
    return document


def decode_config(data: bytes, manifest: Manifest | None = None) -> ImageConfig:
    """Decode an image config.

    Args:
        manifest: if given, the number of layers must agree.

    Raises:
        ImageError: malformed, or not fitting the manifest.
    """
    config = decode_json(data, ImageConfig, "image config")
    if config.rootfs.type != "layers":
        raise ImageError(f"image config has the unknown rootfs type {config.rootfs.type[:100]!r}")
    if max(map(len, (config.os, config.architecture, config.variant))) > _MAX_WORD:
        raise ImageError("image config has an overlong operating system, architecture or variant")
    for diff_id in config.rootfs.diff_ids:
        digests.validate(diff_id, "diff id")
    if manifest is not None:
        check_layers(config, manifest)
    return config


def check_layers(config: ImageConfig, manifest: Manifest) -> None:
    """Raises ImageError: they do not have the same number of layers."""
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise ImageError(
            f"image config names {len(config.rootfs.diff_ids)} layers,"
            f" the manifest {len(manifest.layers)}"
        )


class _Pointers(msgspec.Struct):
    config: Descriptor | None = None
    layers: list[Descriptor] = []
    blobs: list[Descriptor] = []


def blobs_of(data: bytes) -> list[Descriptor]:
    """The blobs that a manifest names, whatever it is one of: an index may list attestations and
    other artifacts beside images.

    Raises:
        ImageError: malformed.
    """
    found = decode_json(data, _Pointers, "manifest")
    result = [*([found.config] if found.config else []), *found.layers, *found.blobs]
    for blob in result:
        blob.check("blob")
    return result


def encode(document: Manifest | Index | ImageConfig) -> bytes:
    """The JSON of a document, the same bytes for the same content."""
    return msgspec.json.encode(document)


# msgspec analyses a type when it is first used, which two threads must not do at the same time.
msgspec.json.Decoder(Manifest)
msgspec.json.Decoder(Index)
msgspec.json.Decoder(ImageConfig)
