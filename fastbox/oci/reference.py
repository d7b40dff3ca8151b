"""Image references: ``[registry[:port]/][namespace/]name[:tag][@digest]``.

The grammar, the way short names are completed and the error texts are those of Docker
(github.com/distribution/reference). A reference is data: nothing is looked up.
"""

from __future__ import annotations

import functools
import re

import msgspec

from ..errors import InvalidArgument
from . import digest as digests

DEFAULT_DOMAIN = "docker.io"
LEGACY_DOMAIN = "index.docker.io"
OFFICIAL = "library/"
DEFAULT_TAG = "latest"
MAX_NAME = 255

_DOMAIN = (
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*"
    r"|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
)
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"


class Reference(msgspec.Struct, frozen=True):
    """A parsed reference; short names are completed, a missing tag stays missing.

    Attributes:
        domain: registry host with optional port (``"docker.io"``, ``"localhost:5000"``).
        path: repository in the registry (``"library/redis"``).
        tag: or None when none was given.
        digest: ``sha256:…`` or None.
    """

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def repository(self) -> str:
        """``docker.io/library/redis``: the full name without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        """``docker.io/library/redis:latest``; the default tag is added where nothing was given."""
        return self.repository + self._suffix()

    @property
    def familiar_repository(self) -> str:
        """``redis``: the repository as users write it."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        if self.path.startswith(OFFICIAL) and "/" not in self.path[len(OFFICIAL) :]:
            return self.path[len(OFFICIAL) :]
        return self.path

    @property
    def familiar(self) -> str:
        """``redis:latest``: the reference as users write it."""
        return self.familiar_repository + self._suffix()

    @property
    def tag_or_default(self) -> str:
        """The tag, ``"latest"`` if none was given."""
        return self.tag or DEFAULT_TAG

    def tagged(self) -> Reference:
        """The same with ``latest`` where neither tag nor digest was given."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, DEFAULT_TAG, None)

    def _suffix(self) -> str:
        if self.digest:
            return (f":{self.tag}" if self.tag else "") + f"@{self.digest}"
        return f":{self.tag_or_default}"


def parse(text: str) -> Reference:
    """Parse what a user typed, or what a file or registry said.

    Raises:
        InvalidArgument: with Docker's text (``invalid reference format``, …).
    """
    if len(text) == 64 and digests.is_hex(text):
        raise InvalidArgument(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise InvalidArgument(
            f"invalid reference format: repository name ({remote}) must be lowercase"
        )
    match = _reference().fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidArgument("invalid reference format", hint=_why_invalid(text))
    domain, path, tag, digest = match.groups()
    # Docker counts the path only.
    if len(path) > MAX_NAME:
        raise InvalidArgument(f"repository name must not be more than {MAX_NAME} characters")
    if digest is not None and not digests.is_digest(digest):
        raise InvalidArgument(f"invalid reference format: {_bad_digest(digest)}")
    return Reference(domain, path, tag, digest)


def is_tag(text: str) -> bool:
    """Whether a tag can have this name."""
    return re.fullmatch(_TAG, text, re.ASCII) is not None


def _split_domain(text: str) -> tuple[str, str]:
    """The registry part and the rest, completed as Docker does (``splitDockerDomain``)."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, OFFICIAL + text
    if first == LEGACY_DOMAIN:
        first = DEFAULT_DOMAIN
    elif first != "localhost" and "." not in first and ":" not in first and first.lower() == first:
        return DEFAULT_DOMAIN, text
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = OFFICIAL + rest
    return first, rest


@functools.cache
def _reference() -> re.Pattern[str]:
    return re.compile(
        rf"({_DOMAIN})/({_COMPONENT}(?:/{_COMPONENT})*)(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII
    )


def _bad_digest(digest: str) -> str:
    algorithm, _, encoded = digest.partition(":")
    if algorithm != "sha256":
        return "unsupported digest algorithm"
    if len(encoded) != 64:
        return "invalid checksum digest length"
    return "invalid checksum digest format"


def _why_invalid(text: str) -> str | None:
    if not text:
        return "the reference is empty"
    if not text.isascii():
        return "names are made of ASCII letters, digits and . _ - / : only"
    if text.strip() != text or " " in text:
        return "names have no spaces"
    return None
