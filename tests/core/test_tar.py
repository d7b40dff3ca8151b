"""What archives of all formats become on disk."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable

import pytest

from fastbox._core.tree import remove_tree
from fastbox.errors import ArchiveError
from tests.core.tar_archives import Tar, Unpack, capability, header, padded, pax_record, read

# ---- the result ------------------------------------------------------------------------------


def test_result(unpack: Unpack) -> None:
    archive = Tar().dir("d").file("d/a", b"x" * 1000).file("b", b"yz").hardlink("c", "b").bytes()
    got = unpack(archive)
    digest = "sha256:" + hashlib.sha256(archive).hexdigest()
    assert (got.digest, got.diff_id, got.size, got.tar_size) == (
        digest,
        digest,
        len(archive),
        len(archive),
    )
    assert (got.unpacked_size, got.entries, got.compression) == (1002, 4, "none")
    assert not got.opaque_root
    assert digest in repr(got)


def test_extended_headers_are_no_entries(unpack: Unpack) -> None:
    archive = Tar().pax({"mtime": "1"}).file("a").gnu_name("b").file("x")
    assert unpack(archive).entries == 2


def test_empty_archive(unpack: Unpack, dest: str) -> None:
    assert unpack(b"").entries == 0
    assert unpack(Tar()).entries == 0
    assert os.listdir(dest) == []


def test_missing_end_blocks(unpack: Unpack, dest: str) -> None:
    whole = Tar().file("a", b"1").bytes()
    assert unpack(whole[:-1024]).entries == 1
    assert unpack(whole[:-512]).entries == 1
    assert read(dest, "a") == b"1"


def test_what_follows_the_end_is_hashed_but_not_unpacked(unpack: Unpack, dest: str) -> None:
    archive = Tar().file("a").bytes() + Tar().file("hidden").bytes() + b"rest" * 77
    assert unpack(archive).diff_id == "sha256:" + hashlib.sha256(archive).hexdigest()
    assert os.listdir(dest) == ["a"]


# ---- kinds and metadata ----------------------------------------------------------------------


def test_root_without_entry(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("a"))
    assert stat.S_IMODE(os.stat(dest).st_mode) == 0o755


@pytest.mark.parametrize("name", [".", "./", "/", "/.", "./."])
def test_root_entry(unpack: Unpack, dest: str, name: str) -> None:
    unpack(Tar().dir(name, mode=0o1751, uid=7, gid=8, mtime=5).file("later"))
    st = os.stat(dest)
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime) == (0o1751, 7, 8, 5)


@pytest.mark.parametrize("owner", [(0, 0), (1000, 50), (0, 42), (2**31 + 5, 2**32 - 2)])
@pytest.mark.parametrize("mode", [0o644, 0o000, 0o777, 0o4755, 0o2755, 0o1777, 0o6711])
def test_owner_and_mode(unpack: Unpack, dest: str, owner: tuple[int, int], mode: int) -> None:
    before = os.umask(0o077)
    try:
        archive = Tar().dir("d", mode=mode, uid=owner[0], gid=owner[1])
        archive.file("d/f", b"data", mode=mode, uid=owner[0], gid=owner[1])
        archive.entry("d/p", "6", mode=mode, uid=owner[0], gid=owner[1])
        unpack(archive)
        assert os.umask(0o077) == 0o077, "the umask is the process's"
    finally:
        os.umask(before)
    for name in ("d", "d/f", "d/p"):
        st = os.lstat(os.path.join(dest, name))
        assert (st.st_uid, st.st_gid) == owner, name
        assert stat.S_IMODE(st.st_mode) == mode, name


def test_mode_with_file_type_bits(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("a", mode=0o100640).dir("b", mode=0o040751))
    assert stat.S_IMODE(os.stat(f"{dest}/a").st_mode) == 0o640
    assert stat.S_IMODE(os.stat(f"{dest}/b").st_mode) == 0o751


def test_files_in_a_set_group_id_directory_keep_their_group(unpack: Unpack, dest: str) -> None:
    unpack(Tar().dir("d", mode=0o2775, gid=50).file("d/f").dir("d/e").file("d/e/g"))
    assert os.stat(f"{dest}/d").st_gid == 50
    assert [os.stat(f"{dest}/d/{n}").st_gid for n in ("f", "e", "e/g")] == [0, 0, 0]
    assert stat.S_IMODE(os.stat(f"{dest}/d/e").st_mode) == 0o755


def test_times_of_directories_survive_their_contents(unpack: Unpack, dest: str) -> None:
    archive = (
        Tar().dir("a", mtime=1).dir("a/b", mtime=2).file("a/b/f", mtime=3).file("a/g", mtime=4)
    )
    unpack(archive.symlink("a/l", "g", mtime=6).dir("a/c", mtime=5))
    for name, want in (("a", 1), ("a/b", 2), ("a/b/f", 3), ("a/g", 4), ("a/c", 5), ("a/l", 6)):
        assert os.lstat(os.path.join(dest, name)).st_mtime == want, name


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("1.5", 1_500_000_000),
        ("1700000000.123456789", 1_700_000_000_123_456_789),
        ("1700000000.1234567899", 1_700_000_000_123_456_789),
        ("-1.5", -1_500_000_000),
        ("-0.000000001", -1),
        ("0", 0),
        ("253402300799", None),
    ],
)
def test_pax_times(unpack: Unpack, dest: str, text: str, want: int | None) -> None:
    unpack(Tar().pax({"mtime": text}).file("a"))
    got = os.stat(f"{dest}/a").st_mtime_ns
    if want is None:  # beyond what ext4 keeps: any time, but no error
        assert got > 0
    else:
        assert got == want


def test_header_times_before_1970_and_far_away(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("a", mtime=-86400).file("b", mtime=2**40).file("c", mtime=-(2**62)))
    assert os.stat(f"{dest}/a").st_mtime == -86400


def test_devices_and_fifos(unpack: Unpack, dest: str) -> None:
    archive = Tar().entry("null", "3", device=(1, 3), mode=0o666).entry("sda", "4", device=(8, 0))
    unpack(archive.entry("pipe", "6", mode=0o600).entry("big", "3", device=(0xFFF, 0xFFFFF)))
    st = os.stat(f"{dest}/null")
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(st.st_mode) == 0o666
    st = os.stat(f"{dest}/sda")
    assert stat.S_ISBLK(st.st_mode) and st.st_rdev == os.makedev(8, 0)
    assert stat.S_ISFIFO(os.stat(f"{dest}/pipe").st_mode)
    assert os.stat(f"{dest}/big").st_rdev == os.makedev(0xFFF, 0xFFFFF)


def test_contiguous_and_v7_files(unpack: Unpack, dest: str) -> None:
    archive = Tar().entry("seven", "7", b"7").entry("old", b"\0", b"old", magic=b"")
    unpack(archive.entry("olddir/", b"\0", magic=b"", mode=0o755))
    assert read(dest, "seven") == b"7" and read(dest, "old") == b"old"
    assert os.path.isdir(f"{dest}/olddir")


def test_volume_labels_and_global_headers_are_skipped(unpack: Unpack, dest: str) -> None:
    archive = Tar().entry("label", "V").entry("g", "g", pax_record("path", "other"))
    assert unpack(archive.file("a")).entries == 1
    assert os.listdir(dest) == ["a"]


# ---- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        ("a/b", "a/b"),
        ("/abs/x", "abs/x"),
        ("./a//b/./c", "a/b/c"),
        ("a/../b", "b"),
        ("back\\slash\\..\\x", "back\\slash\\..\\x"),
        ("new\nline", "new\nline"),
        ("...", "..."),
        (b"latin\xe9\xff", "latin\udce9\udcff"),
        ("trailing ", "trailing "),
    ],
)
def test_names(unpack: Unpack, dest: str, raw: bytes | str, want: str) -> None:
    unpack(Tar().file(raw, b"x"))
    assert read(dest, want) == b"x"


def test_ustar_prefix(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("n" * 100, b"x", prefix=b"p" * 77 + b"/" + b"q" * 77))
    assert read(dest, "p" * 77, "q" * 77, "n" * 100) == b"x"


def test_gnu_headers_have_times_where_ustar_has_a_prefix(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("a", b"x", magic=b"ustar  \0", prefix=b"14371234567"))
    assert read(dest, "a") == b"x"


LONG = "/".join(["d" * 200] * 19) + "/" + "f" * 200


def test_long_names_gnu(unpack: Unpack, dest: str) -> None:
    archive = Tar().gnu_name(LONG).file("cut", b"x").gnu_name("link").gnu_link(LONG)
    unpack(archive.hardlink("cut", "cut").gnu_link("t" * 3000).symlink("s", "cut"))
    assert read(dest, LONG) == b"x"
    assert os.stat(f"{dest}/link").st_nlink == 2
    assert os.readlink(f"{dest}/s") == "t" * 3000


def test_long_names_pax(unpack: Unpack, dest: str) -> None:
    archive = Tar().pax({"path": LONG}).file("cut", b"x")
    unpack(archive.pax({"path": "link", "linkpath": LONG}).hardlink("cut", "cut"))
    assert read(dest, LONG) == b"x"
    assert os.stat(f"{dest}/link").st_nlink == 2


def test_name_of_4095_bytes(unpack: Unpack, dest: str) -> None:
    name = "/".join(["d" * 250] * 16) + "/" + "f" * (4095 - 16 * 251)
    assert len(name) == 4095
    unpack(Tar().pax({"path": name}).file("x", b"deep"))
    fd = os.open(dest, os.O_RDONLY)
    for part in name.split("/")[:-1]:
        below = os.open(part, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    assert os.stat(name.split("/")[-1], dir_fd=fd).st_size == 4
    os.close(fd)
    remove_tree(dest)


def test_gnu_name_outranks_pax_and_pax_outranks_the_header(unpack: Unpack, dest: str) -> None:
    unpack(Tar().pax({"path": "pax"}).gnu_name("gnu").file("header").pax({"path": "two"}).file("h"))
    assert sorted(os.listdir(dest)) == ["gnu", "two"]


def test_meta_headers_concern_one_entry(unpack: Unpack, dest: str) -> None:
    archive = Tar().pax({"path": "a", "uid": "5", "mtime": "9", "SCHILY.xattr.user.x": "1"})
    unpack(archive.file("x").file("b"))
    assert os.stat(f"{dest}/a").st_uid == 5
    st = os.stat(f"{dest}/b")
    assert (st.st_uid, st.st_mtime, os.listxattr(f"{dest}/b")) == (0, 1_000_000_000, [])


def test_empty_pax_values_do_not_count(unpack: Unpack, dest: str) -> None:
    unpack(Tar().pax({"path": "", "uid": "", "comment": ""}).file("a", b"x", uid=3))
    assert os.stat(f"{dest}/a").st_uid == 3


def test_numbers_beyond_octal(unpack: Unpack, dest: str) -> None:
    unpack(Tar().pax({"uid": "3000000000", "gid": "4294967294", "size": "3"}).file("a", b"abc"))
    st = os.stat(f"{dest}/a")
    assert (st.st_uid, st.st_gid, st.st_size) == (3000000000, 4294967294, 3)
    spaces = header("b", size=b"     000003 ", mode=b"   644 \0")
    unpack(spaces + padded(b"xyz"))
    assert read(dest, "b") == b"xyz"


def test_signed_checksums_of_old_writers(unpack: Unpack, dest: str) -> None:
    block = bytearray(header(b"\xe9\xe9"))
    block[148:156] = b" " * 8
    total = sum(b - 256 if b > 127 else b for b in block)
    block[148:156] = b"%06o\0 " % total
    unpack(bytes(block))
    assert os.listdir(os.fsencode(dest)) == [b"\xe9\xe9"]


# ---- links -----------------------------------------------------------------------------------


def test_hard_links(unpack: Unpack, dest: str) -> None:
    archive = Tar().file("d/a", b"x").hardlink("b", "d/a").hardlink("e/c", "/d/a")
    unpack(archive.hardlink("b", "d/a").hardlink("d/a", "d/a").hardlink("f", "./d/../d/a"))
    assert os.stat(f"{dest}/d/a").st_nlink == 4
    assert read(dest, "e/c") == b"x"


def test_hard_link_replaces_what_was_there(unpack: Unpack, dest: str) -> None:
    archive = Tar().file("a", b"new").file("b", b"old").file("c/d/e", b"old")
    unpack(archive.hardlink("b", "a").hardlink("c", "a"))
    assert read(dest, "b") == read(dest, "c") == b"new"
    assert os.stat(f"{dest}/a").st_nlink == 3


def test_hard_link_does_not_change_its_target(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("a", mode=0o644, uid=5).hardlink("b", "a", mode=0o4755, uid=0, mtime=3))
    st = os.stat(f"{dest}/a")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_mtime) == (0o644, 5, 1_000_000_000)


def test_hard_link_to_a_symlink_is_the_symlink(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("a").symlink("l", "a").hardlink("h", "l"))
    assert os.path.islink(f"{dest}/h") and os.lstat(f"{dest}/l").st_nlink == 2


def test_sizes_of_things_without_data_are_ignored(unpack: Unpack, dest: str) -> None:
    archive = Tar().file("a", b"x").hardlink("b", "a", size=700).symlink("l", "a", size=1)
    unpack(archive.dir("d", size=4096).file("z", b"end"))
    assert read(dest, "z") == b"end"


def test_symlinks(unpack: Unpack, dest: str) -> None:
    unpack(Tar().symlink("a", "../../x").symlink("b", "/etc/passwd", uid=3, gid=4, mtime=7))
    assert os.readlink(f"{dest}/a") == "../../x"
    st = os.lstat(f"{dest}/b")
    assert (st.st_uid, st.st_gid, st.st_mtime) == (3, 4, 7)


@pytest.mark.parametrize(
    ("link", "target", "through", "lands"),
    [
        ("lib", "usr/lib", "lib/x", "usr/lib/x"),
        ("var/run", "/run", "var/run/pid/x", "run/pid/x"),
        ("var/run", "../run", "var/run/x", "run/x"),
        ("var/run", "../../../../run", "var/run/x", "run/x"),
        ("a", "/", "a/x", "x"),
        ("a", ".", "a/x", "x"),
        (
            "etc/alternatives",
            "/./usr//share/../share/alt/",
            "etc/alternatives/x",
            "usr/share/alt/x",
        ),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_later_files_through_links(
    unpack: Unpack, dest: str, link: str, target: str, through: str, lands: str, exists: bool
) -> None:
    archive = Tar()
    if exists and os.path.dirname(lands):
        archive.dir(os.path.dirname(lands), mode=0o700, mtime=77)
    unpack(archive.symlink(link, target).file(through, b"x"))
    assert os.readlink(os.path.join(dest, link)) == target
    assert read(dest, lands) == b"x"
    if exists and os.path.dirname(lands):
        assert os.stat(os.path.dirname(os.path.join(dest, lands))).st_mtime == 77


def test_links_through_links(unpack: Unpack, dest: str) -> None:
    archive = (
        Tar().dir("real").symlink("one", "/two").symlink("two", "three").symlink("three", "real")
    )
    unpack(archive.file("one/f", b"x").hardlink("two/g", "three/f").symlink("one/s", "f"))
    assert os.stat(f"{dest}/real/f").st_nlink == 2
    assert os.readlink(f"{dest}/real/s") == "f"


# ---- duplicates ------------------------------------------------------------------------------

KINDS: dict[str, Callable[[Tar], Tar]] = {
    "file": lambda t: t.file("x", b"file"),
    "dir": lambda t: t.dir("x", mode=0o711).file("x/below", b"b"),
    "symlink": lambda t: t.symlink("x", "other"),
    "fifo": lambda t: t.entry("x", "6"),
    "device": lambda t: t.entry("x", "3", device=(1, 3)),
    "hardlink": lambda t: t.hardlink("x", "other/f"),
}


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_the_later_entry_wins(unpack: Unpack, dest: str, first: str, second: str) -> None:
    archive = Tar().dir("other", mtime=4).file("other/f", b"other")
    unpack(KINDS[second](KINDS[first](archive)).file("last", b"z"))
    st = os.lstat(f"{dest}/x")
    kind = {
        "file": stat.S_IFREG,
        "hardlink": stat.S_IFREG,
        "dir": stat.S_IFDIR,
        "symlink": stat.S_IFLNK,
        "fifo": stat.S_IFIFO,
        "device": stat.S_IFCHR,
    }[second]
    assert stat.S_IFMT(st.st_mode) == kind
    if second == "dir":
        assert os.listdir(f"{dest}/x") == ["below"] and stat.S_IMODE(st.st_mode) == 0o711
    assert read(dest, "other/f") == b"other", "what a replaced name led to is untouched"
    assert os.listdir(f"{dest}/other") == ["f"] and os.stat(f"{dest}/other").st_mtime == 4
    assert read(dest, "last") == b"z"


def test_repeated_directories_keep_their_contents(unpack: Unpack, dest: str) -> None:
    archive = (
        Tar().file("d/f", b"x").dir("d", mode=0o700, uid=3).dir("d", mode=0o750, uid=0, mtime=8)
    )
    unpack(archive)
    st = os.stat(f"{dest}/d")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_mtime) == (0o750, 0, 8)
    assert read(dest, "d/f") == b"x"


def test_a_replaced_file_leaves_its_hard_links_alone(unpack: Unpack, dest: str) -> None:
    unpack(Tar().file("a", b"old").hardlink("b", "a").file("a", b"new"))
    assert (read(dest, "a"), read(dest, "b")) == (b"new", b"old")


def test_later_entries_go_where_the_name_leads_now(unpack: Unpack, dest: str) -> None:
    archive = Tar().dir("one").dir("two").symlink("l", "one").file("l/a")
    unpack(archive.symlink("l", "two").file("l/b").dir("l").file("l/c"))
    assert os.listdir(f"{dest}/one") == ["a"] and os.listdir(f"{dest}/two") == ["b"]
    assert os.listdir(f"{dest}/l") == ["c"]


def test_metadata_of_a_replaced_directory_is_not_applied(unpack: Unpack, dest: str) -> None:
    unpack(Tar().dir("x", mode=0o6777, uid=9, mtime=1).file("x", b"f", mode=0o600))
    st = os.stat(f"{dest}/x")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_mtime) == (0o600, 0, 1_000_000_000)


def test_a_file_is_no_directory(unpack: Unpack) -> None:
    with pytest.raises(ArchiveError, match="directory of a/b: Not a directory"):
        unpack(Tar().file("a").file("a/b"))


# ---- xattrs ----------------------------------------------------------------------------------


def xattr(name: str, value: bytes | str) -> dict[str, bytes | str]:
    return {"SCHILY.xattr." + name: value}


def test_xattrs(unpack: Unpack, dest: str) -> None:
    records: list[tuple[str, bytes | str]] = [
        ("SCHILY.xattr.user.one", b"v\0\n=\xff"),
        ("SCHILY.xattr.user.empty", b""),
    ]
    unpack(
        Tar().pax(records).file("f", b"x").pax(records).dir("d").file("d/g").pax(records).dir(".")
    )
    for name in ("f", "d", "."):
        path = os.path.join(dest, name)
        assert os.getxattr(path, "user.one") == b"v\0\n=\xff"
        assert os.getxattr(path, "user.empty") == b""
    assert os.listxattr(f"{dest}/d/g") == []


def test_file_capabilities(unpack: Unpack, dest: str) -> None:
    cap = xattr("security.capability", capability(1 << 10))
    archive = Tar().pax(cap).file("ping", b"\x7fELF", mode=0o755, uid=4)
    unpack(archive.pax(cap).dir("d").pax(cap).symlink("l", "ping"))
    assert os.getxattr(f"{dest}/ping", "security.capability") == capability(1 << 10)
    assert os.listxattr(f"{dest}/d") == []
    assert os.listxattr(f"{dest}/l", follow_symlinks=False) == []


ACL = bytes.fromhex("02000000" "01000700ffffffff" "02000500e8030000" "04000500ffffffff"
                    "10000500ffffffff" "20000000ffffffff")  # fmt: skip


def test_default_acls_are_not_inherited_while_unpacking(unpack: Unpack, dest: str) -> None:
    unpack(Tar().pax(xattr("system.posix_acl_default", ACL)).dir("d").file("d/f", mode=0o666))
    assert os.getxattr(f"{dest}/d", "system.posix_acl_default") == ACL
    assert os.listxattr(f"{dest}/d/f") == []
    assert stat.S_IMODE(os.stat(f"{dest}/d/f").st_mode) == 0o666


@pytest.mark.parametrize(
    "name",
    ["security.selinux", "security.ima", "security.apparmor", "com.apple.quarantine", "system.x"],
)
def test_foreign_xattrs_are_left_out(unpack: Unpack, dest: str, name: str) -> None:
    unpack(Tar().pax(xattr(name, "label")).file("f").pax(xattr(name, "label")).dir("d"))
    assert os.listxattr(f"{dest}/f") == os.listxattr(f"{dest}/d") == []


# ---- sparse files ----------------------------------------------------------------------------

MAP = [(0, 3), (100_000, 5), (1_000_000, 0)]
DATA = b"abcHELLO"


def sparse_result() -> bytes:
    data = bytearray(1_000_000)
    data[0:3] = b"abc"
    data[100_000:100_005] = b"HELLO"
    return bytes(data)


def gnu_sparse(segments: list[tuple[int, int]], size: int, data: bytes) -> bytes:
    def fields(part: list[tuple[int, int]]) -> bytes:
        return b"".join(b"%011o\0%011o\0" % pair for pair in part)

    rest = segments[4:]
    patch = {386: fields(segments[:4]), 482: bytes([bool(rest)]), 483: b"%011o\0" % size}
    blocks = header("s", "S", size=len(data), magic=b"ustar  \0", patch=patch)
    while rest:
        more, rest = rest[:21], rest[21:]
        blocks += fields(more).ljust(504, b"\0") + bytes([bool(rest)]) + b"\0" * 7
    return blocks + padded(data)


def flat(segments: list[tuple[int, int]]) -> list[int]:
    return [n for pair in segments for n in pair]


def pax_sparse_00() -> Tar:
    records: list[tuple[str, bytes | str]] = [
        ("GNU.sparse.size", "1000000"),
        ("GNU.sparse.numblocks", str(len(MAP))),
    ]
    for offset, length in MAP:
        records += [("GNU.sparse.offset", str(offset)), ("GNU.sparse.numbytes", str(length))]
    return Tar().pax(records).file("s", DATA)


def pax_sparse_01() -> Tar:
    records: dict[str, bytes | str] = {
        "GNU.sparse.size": "1000000",
        "GNU.sparse.numblocks": str(len(MAP)),
        "GNU.sparse.map": ",".join(map(str, flat(MAP))),
        "GNU.sparse.name": "s",
    }
    return Tar().pax(records).file("GNUSparseFile.1/s", DATA)


def pax_sparse_10(segments: list[tuple[int, int]] = MAP, data: bytes = DATA) -> Tar:
    lines = "".join(f"{n}\n" for n in [len(segments), *flat(segments)])
    records: dict[str, bytes | str] = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "s",
        "GNU.sparse.realsize": "1000000",
    }
    return Tar().pax(records).file("GNUSparseFile.1/s", padded(lines.encode()) + data)


@pytest.mark.parametrize(
    "archive",
    [
        lambda: Tar().raw(gnu_sparse(MAP, 1_000_000, DATA)),
        pax_sparse_00,
        pax_sparse_01,
        pax_sparse_10,
    ],
    ids=["gnu", "pax 0.0", "pax 0.1", "pax 1.0"],
)
def test_sparse(unpack: Unpack, dest: str, archive: Callable[[], Tar]) -> None:
    got = unpack(archive().file("after", b"ok"))
    assert got.unpacked_size == 1_000_002
    assert read(dest, "s") == sparse_result()
    assert os.stat(f"{dest}/s").st_blocks * 512 < 100_000
    assert read(dest, "after") == b"ok"


@pytest.mark.parametrize("count", [5, 25, 26, 300])
def test_sparse_with_many_pieces(unpack: Unpack, dest: str, count: int) -> None:
    segments = [(i * 3000, 2) for i in range(count)]
    data = b"".join(b"%02d" % (i % 100) for i in range(count))
    unpack(Tar().raw(gnu_sparse(segments, 1_000_000, data)).file("after", b"ok"))
    first = read(dest, "s")
    assert [first[o : o + 2] for o, _ in segments] == [b"%02d" % (i % 100) for i in range(count)]
    unpack(pax_sparse_10(segments, data))
    assert read(dest, "s") == first


def test_sparse_without_data(unpack: Unpack, dest: str) -> None:
    unpack(Tar().raw(gnu_sparse([(5_000_000, 0)], 5_000_000, b"")))
    assert os.stat(f"{dest}/s").st_size == 5_000_000


# ---- removing --------------------------------------------------------------------------------
