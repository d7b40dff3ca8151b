"""Platforms: aliases, fallbacks, and the choice out of an index."""

from __future__ import annotations

import pytest

from fastbox.errors import ImageError, InvalidArgument
from fastbox.oci import platform as platforms
from fastbox.oci.image import Descriptor, PlatformSpec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("LINUX/AMD64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("arm64", "linux/arm64"),
        ("riscv64", "linux/riscv64"),
        ("linux/mips64le", "linux/mips64le"),
    ],
)
def test_parse(text: str, expected: str) -> None:
    assert str(platforms.parse(text)) == expected


def test_an_os_alone_takes_this_machines_architecture() -> None:
    assert platforms.parse("windows").architecture == platforms.host().architecture


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/am d64", "nope", "linux/\n"])
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"unknown operating system or architecture"):
        platforms.parse(text)


def test_what_an_image_says_is_fit_to_print() -> None:
    found = platforms.normalise("Linux\x1b[2J", "arm64\n\u202e", "v8" * 1000)
    assert str(found).startswith("linux?[2j/arm64??/v8v8")
    assert len(str(found)) < 100


def entry(digit: str, spec: str | None) -> Descriptor:
    platform = None
    if spec is not None:
        system, architecture, *variant = spec.split("/")
        platform = PlatformSpec(architecture, system, variant[0] if variant else None)
    return Descriptor(digest="sha256:" + digit * 64, size=1, platform=platform)


@pytest.mark.parametrize(
    ("offered", "wanted", "strict", "chosen"),
    [
        (["linux/arm64", "linux/amd64"], "linux/amd64", False, 1),
        (["linux/arm64/v8", "linux/amd64"], "linux/arm64", True, 0),
        (["linux/386"], "linux/amd64", False, 0),
        (["linux/386"], "linux/amd64", True, None),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", False, 1),
        (["linux/arm/v7"], "linux/arm64", False, 0),
        (["linux/amd64", "linux/amd64/v3"], "linux/amd64/v4", False, 1),
        (["unknown/unknown", "linux/amd64"], "linux/amd64", False, 1),
        (["unknown/unknown"], "linux/amd64", False, None),
        ([None], "linux/amd64", False, 0),
        ([None, None], "linux/amd64", False, None),
        ([], "linux/amd64", False, None),
        (["linux/amd64", "linux/amd64"], "linux/amd64", False, 0),
    ],
)
def test_select(offered: list[str | None], wanted: str, strict: bool, chosen: int | None) -> None:
    entries = [entry(str(n), spec) for n, spec in enumerate(offered)]
    platform = platforms.parse(wanted)
    if chosen is None:
        text = f"no matching manifest for {platform} in the manifest list entries"
        with pytest.raises(ImageError, match=f"^{text}$"):
            platforms.select(entries, platform, strict=strict)
    else:
        assert platforms.select(entries, platform, strict=strict) is entries[chosen]
