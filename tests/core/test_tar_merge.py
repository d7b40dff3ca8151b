"""Merging into a directory that holds things already: what ``cp`` needs of the extractor."""

from __future__ import annotations

import errno
import os
import stat
import subprocess

import pytest

from fastbox.errors import ArchiveError, FastboxError
from tests.core.tar_archives import Tar, Unpack, capability, extract


def write(path: str, text: str = "old") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def test_the_destination_stays_as_it_is(dest: str, unpack: Unpack) -> None:
    write(f"{dest}/kept")
    os.chmod(dest, 0o1731)
    os.chown(dest, 5, 6)
    os.utime(dest, (1, 1))
    unpack(Tar().dir("./", mode=0o777, uid=7).dir(".", mode=0o777).file("new", b"1"), merge=True)
    found = os.stat(dest)
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o1731, 5, 6)
    assert read(f"{dest}/kept") == "old"
    assert read(f"{dest}/new") == "1"


def test_files_are_replaced(dest: str, unpack: Unpack) -> None:
    """By new ones: what else has the old one keeps it."""
    write(f"{dest}/f")
    os.link(f"{dest}/f", f"{dest}/other")
    os.symlink("other", f"{dest}/link")
    os.mkfifo(f"{dest}/fifo")
    archive = Tar().file("f", b"new").file("link", b"new").file("fifo", b"new")
    unpack(archive, merge=True)
    assert [read(f"{dest}/{name}") for name in ("f", "other", "link", "fifo")] == [
        "new", "old", "new", "new",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "symlink", "hardlink", "fifo"])
def test_a_directory_gives_way_to_nothing(dest: str, unpack: Unpack, kind: str) -> None:
    write(f"{dest}/d/x")
    os.mkdir(f"{dest}/empty")
    for name in ("d", "empty"):
        archive = Tar().file("a", b"1")
        if kind == "file":
            archive.file(name, b"1")
        elif kind == "symlink":
            archive.symlink(name, "/etc")
        elif kind == "hardlink":
            archive.hardlink(name, "a")
        else:
            archive.entry(name, "6")
        with pytest.raises(FastboxError) as caught:
            unpack(archive, merge=True)
        assert (caught.value.step, caught.value.errno) == ("remove", errno.EISDIR)  # type: ignore[attr-defined]
        assert caught.value.entry == name  # type: ignore[attr-defined]
    assert read(f"{dest}/d/x") == "old"
    assert os.listdir(f"{dest}/empty") == []


def test_nothing_gives_way_to_a_directory(dest: str, unpack: Unpack) -> None:
    write(f"{dest}/f")
    os.symlink("/etc", f"{dest}/link")
    for name in ("f", "link"):
        with pytest.raises(FastboxError) as caught:
            unpack(Tar().dir(name), merge=True)
        assert (caught.value.step, caught.value.errno) == ("remove", errno.ENOTDIR)  # type: ignore[attr-defined]
    assert read(f"{dest}/f") == "old"


def test_directories_are_merged(dest: str, unpack: Unpack) -> None:
    write(f"{dest}/d/kept")
    os.chown(f"{dest}/d", 5, 6)
    unpack(Tar().dir("d", mode=0o750, uid=7, gid=8).file("d/new", b"1", uid=7), merge=True)
    found = os.stat(f"{dest}/d")
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o750, 7, 8)
    assert sorted(os.listdir(f"{dest}/d")) == ["kept", "new"]
    unpack(Tar().dir("d", uid=9).dir("e", uid=9), merge=True, owner=(1, 2))
    assert (os.stat(f"{dest}/d").st_uid, os.stat(f"{dest}/e").st_uid) == (7, 1)


def test_owner(dest: str, unpack: Unpack) -> None:
    """Set-id bits are the owner's that the archive names, and go with it."""
    archive = Tar().file("own", b"1", uid=3, gid=4, mode=0o6755)
    archive.file("foreign", b"1", uid=5, gid=6, mode=0o6755).symlink("link", "own", uid=9)
    unpack(archive, merge=True, owner=(3, 4))
    found = {name: os.lstat(f"{dest}/{name}") for name in os.listdir(dest)}
    assert {(status.st_uid, status.st_gid) for status in found.values()} == {(3, 4)}
    assert stat.S_IMODE(found["own"].st_mode) == 0o6755
    assert stat.S_IMODE(found["foreign"].st_mode) == 0o755


def test_harmless(dest: str, unpack: Unpack) -> None:
    records = {"SCHILY.xattr.security.capability": capability(1), "SCHILY.xattr.user.x": b"1"}
    archive = Tar().pax(records).file("f", b"1", mode=0o7755).dir("d", mode=0o7777)
    unpack(archive, merge=True, harmless=True)
    assert stat.S_IMODE(os.stat(f"{dest}/f").st_mode) == 0o1755
    assert stat.S_IMODE(os.stat(f"{dest}/d").st_mode) == 0o1777
    assert os.listxattr(f"{dest}/f") == []
    for kind in ("3", "4"):
        with pytest.raises(ArchiveError, match="it is a device at entry x"):
            unpack(Tar().entry("x", kind, device=(1, 3)), merge=True, harmless=True)
    assert not os.path.exists(f"{dest}/x")


def test_without_digests(dest: str, unpack: Unpack) -> None:
    done = unpack(Tar().file("f", b"1"), digests=False)
    assert (done.digest, done.diff_id, done.entries) == ("", "", 1)


def test_into_a_descriptor(dest: str, base: str, unpack: Unpack) -> None:
    """Of a directory that was moved since, and never used by its name."""
    fd = os.open(dest, os.O_PATH)
    os.rename(dest, f"{base}/moved")
    os.mkdir(dest)
    extract(Tar().file("f", b"1"), fd, merge=True)
    os.close(fd)
    assert os.listdir(f"{base}/moved") == ["f"]
    assert os.listdir(dest) == []


def test_a_name_that_is_mounted_on_stays(dest: str, base: str, unpack: Unpack) -> None:
    write(f"{dest}/f")
    write(f"{base}/over", "mounted")
    subprocess.run(["mount", "--bind", f"{base}/over", f"{dest}/f"], check=True)
    try:
        with pytest.raises(FastboxError) as caught:
            unpack(Tar().file("f", b"new"), merge=True)
        assert read(f"{dest}/f") == "mounted"
    finally:
        subprocess.run(["umount", f"{dest}/f"], check=True)
    assert (caught.value.step, caught.value.errno) == ("remove", errno.EBUSY)  # type: ignore[attr-defined]
    assert read(f"{dest}/f") == "old"
