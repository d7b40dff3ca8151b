"""Archives made to do harm: refused or contained, and nothing outside the destination changes.

The numbers D1 … D14 are those of the threat table that these cases come from: names, links, the
root, hard links, whiteouts, devices, xattrs, sizes, bombs, counts, owners. Whiteouts have a file of
their own, streams (bombs, truncation) another.
"""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator

import pytest

from fastbox._core import tar
from fastbox._core.tree import remove_tree
from fastbox.errors import ArchiveError
from tests.core.tar_archives import (
    Tar,
    Unpack,
    base256,
    header,
    padded,
    pax_record,
    read,
    tree,
)


@pytest.fixture(autouse=True)
def canary(base: str, dest: str) -> Iterator[str]:
    """A directory of the host beside the destination. Every test ends with a look at it."""
    path = os.path.join(base, "canary")
    os.makedirs(os.path.join(path, "sub"))
    for name, mode in (("secret", 0o600), ("sub/tool", 0o755)):
        with open(os.path.join(path, name), "w") as file:
            file.write(name)
        os.chmod(os.path.join(path, name), mode)
    os.symlink("secret", os.path.join(path, "link"))
    before, beside = tree(path), sorted(os.listdir(base))
    host = [os.stat(p) for p in ("/", "/etc", "/etc/passwd", "/tmp")]
    yield path
    assert tree(path) == before
    assert sorted(os.listdir(base)) == beside
    for old, p in zip(host[:3], ("/", "/etc", "/etc/passwd"), strict=False):
        now = os.stat(p)
        assert (now.st_mode, now.st_uid, now.st_nlink if p != "/" else 0, now.st_ino) == (
            old.st_mode,
            old.st_uid,
            old.st_nlink if p != "/" else 0,
            old.st_ino,
        )
    assert not os.path.lexists("/fastbox-escaped") and not os.path.lexists("/tmp/fastbox-escaped")


def inside(dest: str) -> list[str]:
    """Names of everything below the destination."""
    return sorted(name for name in tree(dest) if name != ".")


# ---- D1: names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "./../x",
        "..",
        "../",
        "/..",
        "/../x",
        "a/b/../../../x",
        "./a/../..",
        "//../x",
    ],
)
@pytest.mark.parametrize("kind", ["file", "dir", "symlink", "hardlink", "fifo"])
def test_names_that_climb_out(unpack: Unpack, dest: str, name: str, kind: str) -> None:
    archive = Tar().file("target")
    make: dict[str, Callable[[], Tar]] = {
        "file": lambda: archive.file(name, b"x"),
        "dir": lambda: archive.dir(name),
        "symlink": lambda: archive.symlink(name, "target"),
        "hardlink": lambda: archive.hardlink(name, "target"),
        "fifo": lambda: archive.entry(name, "6"),
    }
    with pytest.raises(ArchiveError, match=r"leads out of the root"):
        unpack(make[kind]())
    assert inside(dest) == ["./target"]


@pytest.mark.parametrize("form", ["pax", "gnu", "sparse", "prefix"])
def test_long_forms_of_names_that_climb_out(unpack: Unpack, form: str) -> None:
    name = "a/../../" + "x" * 50
    archive = {
        "pax": lambda: Tar().pax({"path": name}).file("y"),
        "gnu": lambda: Tar().gnu_name(name).file("y"),
        "sparse": lambda: (
            Tar()
            .pax({"GNU.sparse.map": "0,0", "GNU.sparse.size": "0", "GNU.sparse.name": name})
            .file("y")
        ),
        "prefix": lambda: Tar().file("../../x", prefix=b"a"),
    }[form]()
    with pytest.raises(ArchiveError, match="leads out of the root"):
        unpack(archive)


@pytest.mark.parametrize("name", ["/etc/passwd", "//etc//passwd", "/tmp/fastbox-escaped"])
def test_absolute_names_are_below_the_root(unpack: Unpack, dest: str, name: str) -> None:
    unpack(Tar().file(name, b"evil"))
    assert read(dest + name) == b"evil"


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (Tar().file(""), "without a name"),
        (Tar().pax({"path": "a\0b"}).file("x"), "NUL"),
        (Tar().pax({"path": "a" * 5000}).file("x"), "longer than 255"),
        (Tar().pax({"path": "a/" * 2500 + "b"}).file("x"), "longer than 4095"),
        (Tar().pax({"path": "/".join(["a" * 255] * 17)}).file("x"), "longer than 4095"),
        (Tar().gnu_name("a" * 256).file("x"), "longer than 255"),
        (Tar().gnu_name("").file("x"), "without a name"),
        (Tar().symlink("l", ""), "link to nothing"),
        (Tar().pax({"linkpath": "t" * 4096}).symlink("l", "x"), "more than 4095"),
        (Tar().pax({"linkpath": "a\0b"}).symlink("l", "x"), "NUL"),
        (Tar().hardlink("l", ""), "link to the root"),
        (Tar().hardlink("l", "/"), "link to the root"),
        (Tar().pax({"linkpath": "a\0b"}).hardlink("l", "x"), "refused"),
        (Tar().file("a").entry("d", "D"), "type is not known"),
        (Tar().entry("d", b"\xff"), "type is not known"),
        (Tar().entry("d", b"M"), "type is not known"),
    ],
)
def test_refused_names_and_types(unpack: Unpack, archive: Tar, why: str) -> None:
    with pytest.raises(ArchiveError, match=why):
        unpack(archive)


def test_messages_are_one_line(unpack: Unpack) -> None:
    with pytest.raises(ArchiveError) as caught:
        unpack(Tar().file("ok").file("evil\n\x1b[2Jname\udcff").file("evil\n\x1b[2Jname\udcff/x"))
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert r"evil\n\x1b[2Jname\xff" in str(caught.value)


# ---- D2: through links -----------------------------------------------------------------------


def links_out(canary: str) -> dict[str, Tar]:
    up = "../" * 40
    return {
        "absolute": Tar().symlink("l", canary),
        "relative": Tar().symlink("l", up + canary),
        "chain": Tar().symlink("l", "m").symlink("m", "n/").symlink("n", canary),
        "nested": Tar().symlink("a", canary).symlink("l", "a/sub/.."),
        "dotdot after link": Tar().dir("d").symlink("d/up", "..").symlink("l", "d/up/.." + canary),
        "self": Tar().symlink("l", "/proc/self/root" + canary),
        "hard link to a link": Tar().symlink("m", canary).hardlink("l", "m"),
    }


LINKS = list(links_out("/x"))


@pytest.mark.parametrize("what", ["file", "dir", "link", "special", "whiteout", "opaque", "over"])
@pytest.mark.parametrize("how", LINKS)
def test_links_out_lead_nowhere(
    unpack: Unpack, dest: str, canary: str, how: str, what: str
) -> None:
    archive = links_out(canary)[how].file("own", b"own")
    {
        "file": lambda: archive.file("l/secret", b"evil", mode=0o4777),
        "dir": lambda: archive.dir("l/sub", mode=0o777, uid=1000),
        "link": lambda: archive.hardlink("l/sub/tool", "own"),
        "special": lambda: archive.entry("l/secret", "3", device=(1, 3)),
        "whiteout": lambda: archive.file("l/.wh.secret"),
        "opaque": lambda: archive.file("l/.wh..wh..opq"),
        "over": lambda: archive.file("l", b"evil").dir("l"),
    }[what]()
    unpack(archive)  # contained: all of it lands inside
    assert inside(dest)


@pytest.mark.parametrize("how", LINKS)
def test_hard_links_through_links_out(unpack: Unpack, canary: str, how: str) -> None:
    with pytest.raises(ArchiveError, match="cannot link stolen: No such file"):
        unpack(links_out(canary)[how].hardlink("stolen", "l/secret"))


def test_too_many_links(unpack: Unpack) -> None:
    archive = Tar().dir("l0")
    for i in range(1, 60):
        archive.symlink(f"l{i}", f"l{i - 1}")
    with pytest.raises(ArchiveError, match="Too many levels of symbolic links"):
        unpack(archive.file("l59/x"))


@pytest.mark.parametrize("target", ["l", "./l", "/l", "l/l", "x/../l"])
def test_loops(unpack: Unpack, target: str) -> None:
    with pytest.raises(ArchiveError, match=r"Too many levels|No such file|Not a directory"):
        unpack(Tar().dir("x").symlink("l", target).file("l/x"))


def test_links_that_grow(unpack: Unpack) -> None:
    """CVE-2025-4517: a path that becomes longer than PATH_MAX while it is resolved."""
    part = "d" * 247
    archive, path = Tar(), ""
    for letter in "abcdefghijklmnop":
        archive.pax({"path": path + part}).dir("x")
        archive.pax({"path": path + letter, "linkpath": part}).symlink("x", "x")
        path += letter + "/"
    short = path + "l" * 254
    archive.pax({"path": short, "linkpath": "../" * 16}).symlink("x", "x")
    archive.pax({"path": "escape", "linkpath": short + "/../../../../../etc"}).symlink("x", "x")
    archive.file("escape/fastbox-escaped", b"evil")
    try:
        unpack(archive)
    except ArchiveError as e:
        assert "File name too long" in str(e)
    assert not os.path.lexists("/etc/fastbox-escaped")


def test_link_swapped_between_entries(unpack: Unpack, dest: str, canary: str) -> None:
    archive = Tar()
    for _ in range(50):
        archive.dir("d").file("d/secret", b"evil").symlink("d", canary)
        archive.file("d/secret", b"evil", mode=0o666).dir("d", mode=0o777)
    unpack(archive)
    assert os.listdir(f"{dest}/d") == []
    assert read(dest + canary, "secret") == b"evil"


def test_times_and_modes_do_not_follow_links(unpack: Unpack, dest: str, canary: str) -> None:
    """CVE-2021-41089, CVE-2021-32760: what a directory gets last, when it is a link by then."""
    archive = Tar().dir("sub", mode=0o6777, uid=1000, mtime=1).symlink("sub", canary + "/sub")
    archive.dir("a").dir("a/sub", mode=0o6777, uid=1000, mtime=1).symlink("a", canary)
    archive.dir("a/sub", mode=0o777, uid=3)
    unpack(archive)
    assert os.stat(f"{dest}{canary}/sub").st_uid == 3, "it is the image's own directory"


# ---- D3: the root ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".", "./", "/.", "/", "a/.."])
@pytest.mark.parametrize("type", ["0", "2", "3", "6", "7", "S"])
def test_the_root_is_a_directory(unpack: Unpack, canary: str, name: str, type: str) -> None:
    with pytest.raises(ArchiveError, match="root has to be a directory"):
        unpack(Tar().entry(name, type, link=canary, device=(1, 3)).file("x"))


def test_the_root_is_no_hard_link(unpack: Unpack) -> None:
    with pytest.raises(ArchiveError, match="root has to be a directory"):
        unpack(Tar().file("f").hardlink(".", "f"))


def test_dest_is_not_followed(base: str, canary: str) -> None:
    os.symlink(canary, os.path.join(base, "l"))
    fd = os.memfd_create("x")
    with pytest.raises(Exception, match="cannot unpack a layer to"):
        tar.extract(fd, os.path.join(base, "l"))
    os.close(fd)
    os.unlink(os.path.join(base, "l"))


# ---- D4: hard links --------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["../canary/secret", "a/../../canary/secret", "/../etc/passwd"])
def test_hard_links_that_climb_out(unpack: Unpack, target: str) -> None:
    with pytest.raises(ArchiveError, match="refused"):
        unpack(Tar().hardlink("l", target))


def test_absolute_hard_links_are_below_the_root(unpack: Unpack, dest: str) -> None:
    with pytest.raises(ArchiveError, match="cannot link l: No such file"):
        unpack(Tar().hardlink("l", "/etc/passwd"))
    unpack(Tar().file("etc/passwd", b"image").hardlink("l", "/etc/passwd"))
    assert read(dest, "l") == b"image"


@pytest.mark.parametrize(
    "archive",
    [
        Tar().hardlink("a", "later").file("later"),
        Tar().hardlink("a", "a"),
        Tar().dir("d").hardlink("a", "d"),
        Tar().file("d/f").hardlink("d", "d/f"),
        Tar().file("f").hardlink("a", "f/g"),
    ],
)
def test_hard_links_to_nothing(unpack: Unpack, archive: Tar) -> None:
    with pytest.raises((ArchiveError, Exception), match="cannot link"):
        unpack(archive)


def test_set_user_id_through_a_hard_link(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("sh", b"x", uid=0, mode=0o755).hardlink("evil", "sh", mode=0o4755))
    assert stat.S_IMODE(os.stat(f"{dest}/sh").st_mode) == 0o755


def test_writing_a_name_does_not_write_its_hard_links(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("a", b"one", mode=0o600).hardlink("b", "a").file("b", b"two", mode=0o666))
    assert (read(dest, "a"), stat.S_IMODE(os.stat(f"{dest}/a").st_mode)) == (b"one", 0o600)


# ---- D6: devices -----------------------------------------------------------------------------


def test_the_whiteout_device_is_refused(unpack: Unpack) -> None:
    for mode in ("overlay", "keep"):
        with pytest.raises(ArchiveError, match="device 0:0"):
            unpack(Tar().entry("etc", "3", device=(0, 0)), whiteouts=mode)


@pytest.mark.parametrize("device", [(-1, 0), (0x1000, 1), (1, 0x100000), (2**40, 2**40), (256, -1)])
@pytest.mark.parametrize("type", ["3", "4"])
def test_devices_out_of_range(unpack: Unpack, device: tuple[int, int], type: str) -> None:
    with pytest.raises(ArchiveError, match="device number"):
        unpack(Tar().entry("d", type, device=device))


def test_fifos_do_not_block(unpack: Unpack, dest: str) -> None:
    archive = Tar().entry("p", "6").file("p", b"x").entry("p", "6").hardlink("q", "p").dir("p")
    unpack(archive)
    assert stat.S_ISFIFO(os.lstat(f"{dest}/q").st_mode)


# ---- D8: xattrs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.other",
        "user.overlay.opaque",
        "user.overlay.whiteout",
    ],
)
@pytest.mark.parametrize("type", ["0", "2", "5", "6"])
def test_overlay_xattrs_are_refused(unpack: Unpack, name: str, type: str) -> None:
    with pytest.raises(ArchiveError, match="overlayfs") as caught:
        unpack(Tar().pax({"SCHILY.xattr." + name: "y"}).entry("d", type, link="x"))
    assert getattr(caught.value, "entry", None) == "d"


def test_xattrs_do_not_go_through_links(unpack: Unpack, dest: str, canary: str) -> None:
    attribute = {"SCHILY.xattr.user.evil": "1"}
    unpack(Tar().pax(attribute).symlink("l", canary).pax(attribute).dir("d").symlink("d", canary))
    assert inside(dest) == ["./d", "./l"]


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([("SCHILY.xattr." + "user." + "n" * 251, "v")], "xattrs is refused"),
        ([("SCHILY.xattr.", "v")], "xattrs is refused"),
        ([("SCHILY.xattr.user.a\0b", "v")], "pax header is malformed"),
        ([("SCHILY.xattr.user.big", "v" * 65537)], "longer than 64 KiB"),
        ([(f"SCHILY.xattr.user.{i}", "v") for i in range(1025)], "more than 1024"),
        ([("SCHILY.xattr.security.capability", "junk")], "cannot set the extended attributes of f"),
    ],
)
def test_bad_xattrs(unpack: Unpack, records: list[tuple[str, str | bytes]], why: str) -> None:
    with pytest.raises(ArchiveError, match=why):
        unpack(Tar().pax(records).file("f"))


# ---- D9: numbers and headers -----------------------------------------------------------------


def test_checksum(unpack: Unpack) -> None:
    good = header("a")
    for at in (0, 99, 100, 124, 156, 300, 511):
        bad = bytearray(good)
        bad[at] ^= 1
        with pytest.raises(ArchiveError, match="checksum"):
            unpack(bytes(bad))
    for checksum in (b"        ", b"\0" * 8, b"zzzzzzzz", b"\xff" * 8, b"0000000\0"):
        with pytest.raises(ArchiveError, match="checksum"):
            unpack(header("a", checksum=checksum))


def test_text_is_no_archive(unpack: Unpack) -> None:
    for data in (b"hello world\n" * 100, b"<html>" * 500, bytes(range(1, 256)) * 4):
        with pytest.raises(ArchiveError):
            unpack(data)


@pytest.mark.parametrize("size", [-1, -512, -(2**63), base256(-1, 12), b"\xff" * 12])
@pytest.mark.parametrize("type", ["0", "5", "1", "x", "g", "L", "K", "S", "7"])
def test_negative_sizes(unpack: Unpack, size: int | bytes, type: str) -> None:
    """CVE-2025-8194: a reader that goes backwards never ends."""
    if isinstance(size, int):
        size = base256(size, 12)
    with pytest.raises(ArchiveError, match=r"negative|larger than 1 MiB"):
        unpack(Tar().raw(header("f", type, size=size, link="x")).file("g"))


@pytest.mark.parametrize(
    "size",
    [2**63 - 1, 2**63 - 512, base256(2**63, 12), base256(2**80, 12), base256(2**62, 12), 2**37],
)
def test_huge_sizes(unpack: Unpack, dest: str, size: int | bytes) -> None:
    with pytest.raises(ArchiveError, match=r"more than is allowed|not a number|out of range"):
        unpack(Tar().raw(header("f", size=size)).raw(b"x" * 5120))
    assert inside(dest) == []


@pytest.mark.parametrize(
    "field", [{"size": b"12x"}, {"size": b"9"}, {"mode": b"rw"}, {"uid": b"-1"}, {"mtime": b"1 2"}]
)
def test_fields_that_are_no_numbers(unpack: Unpack, field: dict[str, bytes]) -> None:
    with pytest.raises(ArchiveError, match="not a number"):
        unpack(Tar().raw(header("f", **field)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"5 a=b",
        b"6 a=b\n\n",
        b"99 path=a\n",
        b"0 path=a\n",
        b"-9 path=a\n",
        b"11 path=a\n",
        b"8 path=ab\n",
        b"9 path:a\n",
        b"6 =bc\n",
        b"3 \n",
        b"99999999999999999999 path=a\n",
        b" 9 path=a\n",
        b"9 path=a\0",
        b"\0" * 20,
        pax_record("size", "-1"),
        pax_record("size", "9223372036854775808"),
        pax_record("size", "0x10"),
        pax_record("uid", "-1"),
        pax_record("mtime", "yesterday"),
        pax_record("mtime", "1.5.5"),
        pax_record("mtime", "--1"),
        pax_record("mtime", "99999999999999999999"),
    ],
)
@pytest.mark.parametrize("type", ["x", "X", "g"])
def test_malformed_pax(unpack: Unpack, body: bytes, type: str) -> None:
    with pytest.raises(ArchiveError, match=r"malformed|not a number"):
        unpack(Tar().entry("x", type, body).file("f"))


def test_pax_size_and_header_size_differ(unpack: Unpack, dest: str) -> None:
    """Readers that do not agree about a size see different archives in one: pax counts."""
    unpack(Tar().pax({"size": "600"}).raw(header("a", size=0)).raw(padded(b"x" * 600)).file("b"))
    assert os.stat(f"{dest}/a").st_size == 600 and os.path.exists(f"{dest}/b")


@pytest.mark.parametrize("type", ["x", "g", "L", "K"])
def test_extended_headers_are_limited(unpack: Unpack, type: str) -> None:
    with pytest.raises(ArchiveError, match="larger than 1 MiB"):
        unpack(Tar().raw(header("x", type, size=2**20 + 1)).raw(b"\0" * (2**20 + 512)))
    comment = pax_record("comment", b"c" * (2**20 - 20))
    if type in "xg":
        unpack(Tar().entry("x", type, comment).file("f"))


def test_extended_headers_alone(unpack: Unpack) -> None:
    for archive in (Tar().pax({"path": "a"}), Tar().gnu_name("a"), Tar().gnu_link("a")):
        with pytest.raises(ArchiveError, match="ends after an extended header"):
            unpack(archive)
        with pytest.raises(ArchiveError, match="ends after an extended header"):
            unpack(bytes(archive.data))


def test_lonely_zero_block(unpack: Unpack) -> None:
    with pytest.raises(ArchiveError, match="lonely block"):
        unpack(Tar().file("a").raw(b"\0" * 512).file("b"))


def sparse_01(numbers: str, size: int = 100, data: bytes = b"") -> Tar:
    records = {"GNU.sparse.map": numbers, "GNU.sparse.size": str(size), "GNU.sparse.name": "s"}
    return Tar().pax(records).file("s", data)


def sparse_10(body: bytes, size: int = 100) -> Tar:
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(size)}
    return Tar().pax(records).file("s", body)


def sparse_gnu(
    fields: bytes, size: bytes = b"00000000144\0", data: bytes = b"", more: int = 0
) -> Tar:
    patch = {386: fields, 482: bytes([more]), 483: size}
    return Tar().raw(header("s", "S", size=len(data), magic=b"ustar  \0", patch=patch)).raw(data)


@pytest.mark.parametrize(
    "archive",
    [
        sparse_01("0"),
        sparse_01("0,1,2"),
        sparse_01("a,b"),
        sparse_01("0,-1"),
        sparse_01("-1,1"),
        sparse_01(",,"),
        sparse_01("50,10,40,10", data=b"x" * 20),  # out of order
        sparse_01("0,10,5,10", data=b"x" * 20),  # overlapping
        sparse_01("90,20", data=b"x" * 20),  # behind the end
        sparse_01("9223372036854775807,9223372036854775807", data=b"x"),
        sparse_01("0,9223372036854775807,1,1", data=b"x"),
        sparse_01("0,10", data=b"x" * 9),
        sparse_01("0,10", data=b"x" * 11),
        sparse_01("0,1", size=2**63 - 1, data=b"x"),
        sparse_01("0,1", size=2**62, data=b"x"),
        Tar().pax({"GNU.sparse.map": "0,1"}).file("s", b"x"),
        Tar().pax({"GNU.sparse.offset": "1"}).file("s", b"x"),
        Tar().pax([("GNU.sparse.offset", "1"), ("GNU.sparse.offset", "2")]).file("s", b"x"),
        Tar().pax({"GNU.sparse.numbytes": "1"}).file("s", b"x"),
        Tar().pax({"GNU.sparse.major": "7", "GNU.sparse.realsize": "1"}).file("s", b"x"),
        Tar().pax({"GNU.sparse.major": "1"}).file("s", b"x"),
        sparse_10(b""),
        sparse_10(padded(b"1\n0\n")),
        sparse_10(padded(b"\n")),
        sparse_10(padded(b"x\n")),
        sparse_10(padded(b"99999999999\n")),
        sparse_10(padded(b"9223372036854775807\n")),
        sparse_10(padded(b"1" * 400)),
        sparse_10(padded(b"1\n0\n5\n") + b"x" * 4),
        sparse_gnu(b"z" * 24),
        sparse_gnu(b"00000000000\x0000000000005\0"),
        sparse_gnu(b"\xff" * 24),
        sparse_gnu(b"", size=b"\xff" * 12),
        sparse_gnu(b"", size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7),
    ],
)
def test_malformed_sparse(unpack: Unpack, dest: str, archive: Tar) -> None:
    with pytest.raises(ArchiveError):
        unpack(archive.file("z"))
    assert "./z" not in inside(dest)


def test_sparse_extensions_without_end(unpack: Unpack) -> None:
    block = b"\0" * 504 + b"\1" + b"\0" * 7
    with pytest.raises(ArchiveError, match="ends too early"):
        unpack(bytes(sparse_gnu(b"", more=1).data) + block * 3000)


def test_too_many_sparse_pieces(unpack: Unpack) -> None:
    fields = b"00000000001\x0000000000000\0" * 21
    block = fields + b"\1" + b"\0" * 7
    with pytest.raises(ArchiveError, match="too many pieces"):
        unpack(bytes(sparse_gnu(b"", more=1).data) + block * 25_000)


# ---- D13: many and deep ----------------------------------------------------------------------


def test_entry_limit(unpack: Unpack) -> None:
    archive = Tar()
    for i in range(20):
        archive.file(f"f{i}")
    assert unpack(archive, max_entries=20).entries == 20
    with pytest.raises(ArchiveError, match="more entries") as caught:
        unpack(archive, max_entries=19)
    assert caught.value.hint
    with pytest.raises(ArchiveError, match="more entries"):
        unpack(Tar().raw(bytes(Tar().pax({"comment": "x"}).data) * 50).file("f"), max_entries=20)


def test_deep_trees(unpack: Unpack, dest: str) -> None:
    """A tree deeper than any path is long, through links; and it can be removed again."""
    archive, at = Tar(), ""
    for i in range(6):
        deep = f"{at}{'d/' * 1900}"
        archive.pax({"path": deep}).dir("x")
        archive.pax({"path": f"l{i}", "linkpath": deep}).symlink("x", "x")
        at = f"l{i}/"
    unpack(archive)
    remove_tree(dest)
    assert not os.path.exists(dest)
    os.mkdir(dest)


def test_deep_tree_replaced_by_a_file(unpack: Unpack, dest: str) -> None:
    unpack(Tar().pax({"path": "top/" + "d/" * 1900 + "f"}).file("x").file("top", b"now"))
    assert read(dest, "top") == b"now"


def test_many_duplicates_and_links(unpack: Unpack, dest: str) -> None:
    archive = Tar().file("target", b"t")
    for i in range(3000):
        archive.file("same", b"%d" % i).dir("same").hardlink(f"h{i}", "target")
    unpack(archive)
    assert os.stat(f"{dest}/target").st_nlink == 3001


def test_descriptors_are_few(unpack: Unpack) -> None:
    archive = Tar()
    for i in range(300):
        archive.file(f"d{i}/e/f")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
    try:
        unpack(archive)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_directories_than_are_kept_in_memory(unpack: Unpack, dest: str) -> None:
    """Their times go to an unlinked file, and come back from it."""
    archive, name = Tar().file(".fastbox-directories-0", b"own"), "n" * 200
    for i in range(30_000):
        archive.pax({"path": f"{name}{i % 100}/{name}/{i}", "mtime": str(i)}).dir("x", mode=0o2755)
    unpack(archive)
    for i in (0, 1, 12_345, 29_999):
        st = os.stat(f"{dest}/{name}{i % 100}/{name}/{i}")
        assert (st.st_mtime, stat.S_IMODE(st.st_mode)) == (i, 0o2755)
    assert len(os.listdir(dest)) == 101
    assert read(dest, ".fastbox-directories-0") == b"own"


# ---- D14: owners -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, 2**32 - 1, 2**32, 2**62])
@pytest.mark.parametrize("field", ["uid", "gid"])
def test_owners_out_of_range(unpack: Unpack, field: str, value: int) -> None:
    """(uid_t)-1 would tell chown to leave the owner as it is: root's."""
    with pytest.raises(ArchiveError, match=r"out of range|not a number"):
        unpack(Tar().file("f", **{field: base256(value, 8)}))
    if value > 0:
        with pytest.raises(ArchiveError, match="out of range"):
            unpack(Tar().pax({field: str(value)}).file("f"))
