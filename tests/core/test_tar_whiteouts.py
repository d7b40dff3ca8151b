"""Whiteouts, seen through the kernel's own overlayfs (D5)."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator

import pytest

from fastbox._core import tar
from fastbox.errors import ArchiveError
from tests.core.tar_archives import Tar, Unpack, extract, tree


def is_whiteout(path: str) -> bool:
    st = os.lstat(path)
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque") == b"y"
    except OSError:
        return False


def base_layer() -> Tar:
    archive = (
        Tar().dir("etc").file("etc/a", b"1").file("etc/b", b"1").dir("etc/d").file("etc/d/x", b"1")
    )
    return archive.dir("real").file("real/keep", b"1").symlink("link", "real").file("top", b"1")


@pytest.fixture
def merged(base: str, dest: str) -> Iterator[Callable[[Tar], str]]:
    """merged(upper archive): mount point of that layer over base_layer()."""
    points: list[str] = []

    def make(upper: Tar) -> str:
        lower = os.path.join(base, "lower")
        os.mkdir(lower)
        extract(base_layer(), lower)
        before = tree(lower)
        extract(upper, dest)
        point = os.path.join(base, "merged")
        os.mkdir(point)
        options = f"lowerdir={dest}:{lower}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "x", point], check=True)
        points.append(point)
        assert tree(lower) == before
        return point

    yield make
    for point in points:
        subprocess.run(["umount", point], check=True)


def names(path: str) -> list[str]:
    return sorted(name[2:] for name in tree(path) if name != ".")


def test_one_name(merged: Callable[[Tar], str]) -> None:
    view = merged(Tar().dir("etc").file("etc/.wh.a").file(".wh.top"))
    assert names(view) == ["etc", "etc/b", "etc/d", "etc/d/x", "link", "real", "real/keep"]


def test_a_directory(merged: Callable[[Tar], str]) -> None:
    view = merged(Tar().file(".wh.etc").file(".wh.real"))
    assert names(view) == ["link", "top"]


@pytest.mark.parametrize("at", ["first", "middle", "last"])
def test_opaque(merged: Callable[[Tar], str], at: str) -> None:
    """It hides what lies below, never what its own layer has, wherever it stands."""
    archive = Tar().dir("etc", mode=0o711)
    for place in ("first", "middle", "last"):
        if place == at:
            archive.file("etc/.wh..wh..opq")
        archive.file(f"etc/new-{place}", b"2")
    view = merged(archive)
    assert sorted(os.listdir(f"{view}/etc")) == ["new-first", "new-last", "new-middle"]
    assert stat.S_IMODE(os.stat(f"{view}/etc").st_mode) == 0o711


@pytest.mark.parametrize("order", ["whiteout first", "whiteout last"])
def test_directory_and_whiteout_of_one_name(merged: Callable[[Tar], str], order: str) -> None:
    """What the layer itself has stays; what lies below it does not shine through."""
    archive = Tar()
    if order == "whiteout first":
        archive.file(".wh.etc").dir("etc").file("etc/new")
    else:
        archive.dir("etc").file("etc/new").file(".wh.etc")
    assert os.listdir(merged(archive) + "/etc") == ["new"]


def test_whiteout_then_a_file_whose_directory_is_not_named(merged: Callable[[Tar], str]) -> None:
    assert os.listdir(merged(Tar().file(".wh.etc").file("etc/new")) + "/etc") == ["new"]


def test_file_and_whiteout_of_one_name(merged: Callable[[Tar], str]) -> None:
    view = merged(Tar().file("top", b"2").file(".wh.top").file(".wh.real").file("real", b"2"))
    for name in ("top", "real"):
        with open(f"{view}/{name}") as file:
            assert file.read() == "2"


def test_whiteout_of_a_link_hides_the_link_only(merged: Callable[[Tar], str]) -> None:
    view = merged(Tar().file(".wh.link"))
    assert "link" not in names(view) and "real/keep" in names(view)


def test_whiteout_through_a_link_of_the_same_layer(merged: Callable[[Tar], str]) -> None:
    archive = Tar().dir("real").symlink("alias", "/real").file("alias/.wh.keep")
    assert os.listdir(merged(archive) + "/real") == []


def test_whiteouts_are_devices_and_attributes(unpack: Unpack, dest: str) -> None:
    got = unpack(Tar().file("d/.wh.x", b"data").file("e/.wh..wh..opq").file("after"))
    assert is_whiteout(f"{dest}/d/x") and is_opaque(f"{dest}/e")
    assert os.listdir(f"{dest}/d") == ["x"] and os.listdir(f"{dest}/e") == []
    assert not got.opaque_root and got.unpacked_size == 0


def test_opaque_root(unpack: Unpack, dest: str) -> None:
    assert unpack(Tar().file("a").file(".wh..wh..opq")).opaque_root
    assert is_opaque(dest) and os.listdir(dest) == ["a"]


@pytest.mark.parametrize(
    "name",
    [
        ".wh.",
        ".wh..",
        ".wh...",
        "d/.wh.",
        ".wh..wh.",
        ".wh..wh..",
        ".wh..wh..opq2",
        ".wh..wh.x",
        ".wh..wh..wh.x",
        ".wh.d/x",
        "a/.wh.b/c",
        ".wh.a/.wh.b",
    ],
)
@pytest.mark.parametrize("kind", ["file", "dir", "hardlink"])
def test_odd_whiteouts(unpack: Unpack, dest: str, name: str, kind: str) -> None:
    archive = Tar().file("own")
    if kind == "hardlink":
        archive.hardlink(name, "own")
    else:
        archive.entry(name, "0" if kind == "file" else "5")
    with pytest.raises(ArchiveError, match="not a valid whiteout"):
        unpack(archive)
    assert os.listdir(dest) == ["own"]


@pytest.mark.parametrize("name", [".wh....", ".wh. ", ".whx", "x.wh.a", ".wh"])
def test_names_that_only_look_odd(unpack: Unpack, dest: str, name: str) -> None:
    unpack(Tar().file(name))
    hidden = name[4:] if name.startswith(".wh.") else None
    assert os.listdir(dest) == [hidden or name]
    assert is_whiteout(os.path.join(dest, hidden)) if hidden else True


def test_bookkeeping_of_aufs_is_left_out(unpack: Unpack, dest: str) -> None:
    archive = Tar().dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", b"x").dir(".wh..wh.orph")
    unpack(archive.file(".wh..wh.aufs", b"xy").file("a", b"z"))
    assert os.listdir(dest) == ["a"]


def test_whiteouts_are_not_linked_to_other_names(unpack: Unpack) -> None:
    with pytest.raises(ArchiveError, match="whited out"):
        unpack(Tar().file(".wh.a").hardlink("etc", "a"))


def test_many_opaque_directories(unpack: Unpack, dest: str) -> None:
    archive = Tar()
    for i in range(300):
        archive.dir(f"d{i}").file(f"d{i}/.wh..wh..opq")
    unpack(archive)
    assert all(is_opaque(f"{dest}/d{i}") for i in range(300))


def test_keep(unpack: Unpack, dest: str) -> None:
    archive = Tar().file(".wh.a", b"x").file("d/.wh..wh..opq").file(".wh.").file(".wh.b/c")
    got: tar.Extracted = unpack(archive, whiteouts="keep")
    assert sorted(os.listdir(dest)) == [".wh.", ".wh.a", ".wh.b", "d"]
    assert os.listdir(f"{dest}/d") == [".wh..wh..opq"] and not is_opaque(f"{dest}/d")
    assert not got.opaque_root


def test_unknown_mode(unpack: Unpack) -> None:
    with pytest.raises(ValueError, match="whiteouts is"):
        unpack(Tar(), whiteouts="aufs")
