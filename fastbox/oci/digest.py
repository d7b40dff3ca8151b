"""Content digests (OCI image-spec, descriptor.md "Digests").

A digest names a file below ``blobs/`` and a part of a registry URL, so nothing gets that far
without passing ``validate`` (CVE-2024-3727). Only sha256 is spoken.
"""

from __future__ import annotations

import hashlib

from ..errors import ImageError

_HEX = "0123456789abcdef"


def is_digest(text: object) -> bool:
    """Whether ``text`` is ``sha256:`` and 64 lower case hex digits, and nothing else."""
    return (
        isinstance(text, str)
        and len(text) == 71
        and text.startswith("sha256:")
        and not text[7:].strip(_HEX)
    )


def is_hex(text: str) -> bool:
    """Whether ``text`` is one or more lower case hex digits (an id or the start of one)."""
    return bool(text) and not text.strip(_HEX)


def validate(text: object, what: str = "digest") -> str:
    """``text`` if it is a digest.

    Args:
        what: how the error calls it, for example ``"layer digest"``.

    Raises:
        ImageError: it is malformed, or of another algorithm than sha256.
    """
    if is_digest(text):
        assert isinstance(text, str)
        return text
    if not isinstance(text, str):
        raise ImageError(f"invalid {what}: {type(text).__name__} instead of a string")
    algorithm, _, encoded = text.partition(":")
    if algorithm != "sha256" and encoded and algorithm.isascii() and algorithm.isalnum():
        raise ImageError(f"invalid {what} {text[:100]!r}: unsupported digest algorithm")
    raise ImageError(f"invalid {what} {text[:100]!r}: expected sha256: and 64 hex digits")


def encoded(digest: str) -> str:
    """The 64 hex digits of a digest.

    Raises:
        ImageError: it is not a valid digest.
    """
    return validate(digest)[7:]


def of(data: bytes) -> str:
    """The digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()
