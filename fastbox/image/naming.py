"""Names in ``index.json``: an entry is a descriptor whose annotations say what it is called.

``org.opencontainers.image.ref.name`` holds the tagged name, as for any OCI image layout; other
programs write short names there, so names are completed when they are read. Our own annotations
keep where the image came from and its id.
"""

from __future__ import annotations

import msgspec

from ..errors import InvalidArgument
from ..oci import digest as digests
from ..oci import image as oci
from ..oci import reference as references

REPO_DIGEST = "dev.fastbox.repo-digest"
IMAGE_ID = "dev.fastbox.image-id"
CONFIG = "dev.fastbox.config"  # digest of a sealed image's config, which is not its id
PENDING = "dev.fastbox.pending"  # of an entry, or of a layer in a manifest: has no blob yet
PARENT = "dev.fastbox.parent"  # id of the image that a commit began with
TAGGED = "dev.fastbox.tagged"  # when it was given its name on this machine, RFC 3339


def is_pending(descriptor: oci.Descriptor) -> bool:
    """Whether a layer, or some layer of an entry, is only a directory yet."""
    return (descriptor.annotations or {}).get(PENDING) == "1"


def name_of(entry: oci.Descriptor) -> str | None:
    """The canonical tagged name of an entry, None if it has none (or an impossible one)."""
    text = (entry.annotations or {}).get(oci.REF_NAME)
    reference, _ = try_parse(text) if text else (None, None)
    if reference is None or (reference.digest and not reference.tag):
        return None
    return f"{reference.repository}:{reference.tag_or_default}"


def repo_digests_of(entry: oci.Descriptor) -> list[str]:
    """``docker.io/library/redis@sha256:…`` of an entry, if it came from a registry."""
    served = (entry.annotations or {}).get(REPO_DIGEST)
    if not served:
        return []
    name = name_of(entry)
    full = full_repo_digest(references.parse(name) if name else None, served)
    return [full] if full else []


def platform_of(manifest: oci.Descriptor, config: oci.ImageConfig) -> oci.PlatformSpec | None:
    """What an entry says about its platform: an index is for several."""
    if manifest.media_type in oci.INDEX_TYPES:
        return None
    return oci.PlatformSpec(config.architecture, config.os, config.variant or None)


def full_repo_digest(reference: references.Reference | None, served: str | None) -> str | None:
    """``repository@digest`` of a bare digest and its reference, or of itself."""
    if not served:
        return None
    _repository, at, digest = served.rpartition("@")
    if not digests.is_digest(digest):
        return None
    if at:
        return served
    return f"{reference.repository}@{digest}" if reference is not None else None


def try_parse(text: str) -> tuple[references.Reference | None, InvalidArgument | None]:
    """A reference, or why it is none."""
    try:
        return references.parse(text), None
    except InvalidArgument as error:
        return None, error


def new_name(reference: str | None, refusal: str) -> str | None:
    """The canonical name for an image that is to be made; None without a reference.

    Args:
        refusal: what to say of a reference with a digest, which nobody knows yet.

    Raises:
        InvalidArgument
    """
    if not reference:
        return None
    parsed = references.parse(reference)
    if parsed.digest:
        raise InvalidArgument(refusal)
    return parsed.canonical


def answers_to(entry: oci.Descriptor, reference: references.Reference) -> bool:
    """Whether a reference means this entry."""
    if reference.digest is None:
        return name_of(entry) == f"{reference.repository}:{reference.tag_or_default}"
    if f"{reference.repository}@{reference.digest}" in repo_digests_of(entry):
        return True
    name = name_of(entry) or ""
    return entry.digest == reference.digest and name.startswith(reference.repository + ":")


def without_name(entry: oci.Descriptor, name: str | None, digest: str) -> oci.Descriptor | None:
    """An entry of the index after ``name`` went to the manifest ``digest``; None if it is gone."""
    if name is None or name_of(entry) != name:
        return entry
    annotations = {k: v for k, v in (entry.annotations or {}).items() if k != oci.REF_NAME}
    served = repo_digests_of(entry)
    if entry.digest == digest and not served:
        return None
    if served:
        annotations[REPO_DIGEST] = served[0]
    return msgspec.structs.replace(entry, annotations=annotations)


def without_redundant(entries: list[oci.Descriptor]) -> list[oci.Descriptor]:
    """Drop nameless entries that say nothing which another entry of the manifest doesn't, or an
    entry of the index out of which the manifest came."""
    result: list[oci.Descriptor] = []
    for position, entry in enumerate(entries):
        served = repo_digests_of(entry)
        others = result + entries[position + 1 :]
        origins = {entry.digest, *(full.rpartition("@")[2] for full in served)}
        redundant = name_of(entry) is None and any(
            other.digest in origins and set(served) <= set(repo_digests_of(other))
            for other in others
        )
        if not redundant:
            result.append(entry)
    return result
