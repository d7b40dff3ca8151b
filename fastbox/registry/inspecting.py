"""``manifest inspect``: what a registry has under a name, without pulling it."""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import ImageError, NotFound
from ..oci import image as oci
from ..oci import reference as references
from .client import Client, Document
from .guard import Guard
from .retry import Policy


class Part(msgspec.Struct):
    """A manifest: the reference that leads to it, its descriptor as JSON, and its text."""

    reference: str
    descriptor: dict[str, Any]
    data: bytes


class Inspected(msgspec.Struct):
    """A manifest or index as the registry serves it.

    Attributes:
        parts: the manifests of an index, or the one itself; only if they were asked for.
        several: it is an index.
    """

    data: bytes
    media_type: str
    digest: str
    parts: list[Part] = []
    several: bool = False


def inspect(
    reference: str,
    *,
    verbose: bool = False,
    insecure: bool = False,
    policy: Policy | None = None,
) -> Inspected:
    """Fetch a manifest or index.

    Args:
        verbose: fetch the manifests of an index as well, and the platform of one that stands alone.
        insecure: also from a registry without TLS, or whose certificate cannot be verified.

    Raises:
        InvalidArgument: no reference. NotFound: the registry has nothing of that name.
        AuthError, RegistryError, DigestMismatch, ImageError: as for pulls.
    """
    where = references.parse(reference).tagged()
    guard = Guard()
    client = Client(where, guard, policy or Policy(), connections=1, insecure=insecure)
    try:
        try:
            document = client.manifest(where.digest or where.tag_or_default)
        except NotFound as error:
            raise NotFound(f"no such manifest: {where.canonical}", hint=str(error)) from error
        found = Inspected(document.data, document.media_type, document.digest)
        if verbose:
            _look_closer(client, where, document, found)
        return found
    finally:
        client.close()
        guard.close()


def _look_closer(
    client: Client, where: references.Reference, document: Document, found: Inspected
) -> None:
    decoded = oci.decode(document.data, document.media_type)
    if isinstance(decoded, oci.Manifest):
        config = oci.decode_config(client.small_blob(decoded.config, "image config"))
        descriptor = {
            "mediaType": decoded.media_type or document.media_type,
            "digest": document.digest,
            "size": len(document.data),
            "platform": _platform(config.architecture, config.os, config.variant),
        }
        found.parts.append(Part(where.canonical, descriptor, document.data))
        return
    found.several = True
    size = 0
    for child in decoded.manifests:
        if child.size > oci.MAX_DOCUMENT:
            raise ImageError(f"manifest {child.digest} is too large: {child.size} bytes")
        size += child.size
        if size > oci.MAX_DOCUMENTS:
            raise ImageError(f"the manifests of {where.familiar} are too large")
        data = child.embedded() or client.manifest(child.digest, size=child.size).data
        descriptor = msgspec.to_builtins(msgspec.structs.replace(child, data=None))
        found.parts.append(Part(f"{where.canonical}@{child.digest}", descriptor, data))


def _platform(architecture: str, system: str, variant: str) -> dict[str, str]:
    return {
        "architecture": architecture,
        "os": system,
        **({"variant": variant} if variant else {}),
    }
