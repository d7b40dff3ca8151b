"""Platforms (``os/architecture[/variant]``) and the choice of one manifest out of an index.

Names are Go's (GOOS, GOARCH), as in OCI image-spec image-index.md; the aliases and the fallbacks
(an arm/v7 machine runs arm/v6) are containerd's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ..errors import FastboxError, ImageError, InvalidArgument
from .text import printable

if TYPE_CHECKING:
    from .image import Descriptor

_E = TypeVar("_E", bound=FastboxError)

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "armv8l": "arm",
    "armv7l": "arm",
    "armv6l": "arm",
    "loongarch64": "loong64",
    "mips64el": "mips64le",
}
_MAX_WORD = 50  # characters; nobody's is as long
_OS_NAMES = frozenset(("linux", "windows", "darwin", "freebsd"))


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """One platform, normalised (arm64/v8 and amd64/v1 have an empty variant)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        text = f"{self.os}/{self.architecture}"
        return f"{text}/{self.variant}" if self.variant else text


def normalise(system: str, architecture: str, variant: str = "") -> Platform:
    """The one spelling of a platform among its aliases, fit to print wherever it came from."""
    system, architecture, variant = map(_plain, (system, architecture, variant))
    if architecture == "armhf":
        architecture, variant = "arm", variant or "v7"
    elif architecture == "armel":
        architecture, variant = "arm", "v6"
    elif architecture.startswith("armv") and architecture in _ARCHITECTURES:
        variant = variant or architecture[3:5]
    architecture = _ARCHITECTURES.get(architecture, architecture)
    if variant and variant[0].isdigit():
        variant = "v" + variant
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    if architecture == "arm" and not variant:
        variant = "v7"
    return Platform(system, architecture, variant)


def mismatch(kind: type[_E], name: str, wanted: object, has: object) -> _E:
    """The error of a kind, in Docker's words, for an image that is not for the platform asked
    for."""
    return kind(
        f"image with reference {name} was found but does not provide the specified platform"
        f" ({wanted})",
        hint=f"it is for {has}",
    )


def _plain(word: str) -> str:
    return printable(word[:_MAX_WORD].lower())


def parse(text: str) -> Platform:
    """Parse ``--platform``: ``linux/arm64``, ``linux/arm/v7``, ``arm64`` or ``linux``.

    Raises:
        InvalidArgument: it is no such thing.
    """
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(_is_word(part) for part in parts):
        raise InvalidArgument(
            f"{text!r}: unknown operating system or architecture: invalid argument",
            hint="a platform is OS/ARCHITECTURE[/VARIANT], for example linux/arm64",
        )
    if len(parts) > 1:
        return normalise(*parts)
    if parts[0].lower() in _OS_NAMES:
        mine = host()
        return Platform(parts[0].lower(), mine.architecture, mine.variant)
    architecture = normalise("linux", parts[0])
    known = set(_ARCHITECTURES.values()) | {
        "arm", "mips", "mips64", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x",
    }  # fmt: skip
    if architecture.architecture not in known:
        raise InvalidArgument(f"{text!r}: unknown operating system or architecture")
    return architecture


def _is_word(text: str) -> bool:
    return text.isascii() and text.replace("_", "").replace("-", "").replace(".", "").isalnum()


def host() -> Platform:
    """The platform that this machine runs."""
    return normalise("linux", os.uname().machine)


def runs(wanted: Platform) -> list[Platform]:
    """What a machine of platform ``wanted`` can run, best first."""
    system, architecture, variant = wanted.os, wanted.architecture, wanted.variant
    result = [wanted]
    if architecture == "arm":
        version = int(variant[1:]) if variant[1:].isdigit() else 0
        result += [Platform(system, "arm", f"v{n}") for n in range(version - 1, 4, -1)]
    elif architecture == "arm64":
        if variant:
            result.append(Platform(system, "arm64"))
        result += [Platform(system, "arm", f"v{n}") for n in (8, 7, 6, 5)]
    elif architecture == "amd64":
        version = int(variant[1:]) if variant[1:].isdigit() else 1
        result += [Platform(system, "amd64", f"v{n}") for n in range(version - 1, 1, -1)]
        if variant:
            result.append(Platform(system, "amd64"))
        result.append(Platform(system, "386"))
    return result


def select(
    manifests: Iterable[Descriptor], wanted: Platform, *, strict: bool = False
) -> Descriptor:
    """The manifest of an index that fits ``wanted`` best.

    Entries without a platform fit when nothing else does and they are alone; attestations
    (``unknown/unknown``) never do.

    Args:
        strict: accept only the very platform (a ``--platform`` flag), not its fallbacks.

    Raises:
        ImageError: nothing fits (Docker's text).
    """
    entries = list(manifests)
    by_platform: dict[Platform, Descriptor] = {}
    for entry in entries:
        if entry.platform is not None:
            by_platform.setdefault(entry.platform.normalised(), entry)
    for candidate in [wanted] if strict else runs(wanted):
        if candidate in by_platform:
            return by_platform[candidate]
    if len(entries) == 1 and entries[0].platform is None:
        return entries[0]
    offered = ", ".join(sorted(str(p) for p in by_platform if p.os != "unknown")[:20])
    raise ImageError(
        f"no matching manifest for {wanted} in the manifest list entries",
        hint=f"the image exists for: {offered}" if offered else None,
    )
