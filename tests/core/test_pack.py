"""Packing: what is kept, and that the bytes depend on nothing but the tree."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import socket
import stat
import subprocess
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastbox._core import pack, tar
from fastbox._core.tree import remove_tree
from fastbox.errors import ArchiveError
from tests.core.pack_trees import acl, make_tree, trees
from tests.core.tar_archives import capability, tree


@pytest.fixture(params=[True, False], ids=["clone", "careful"])
def clone(request: pytest.FixtureRequest) -> bool:
    """With a mount of its own, and as where that is not possible."""
    found: bool = request.param
    return found


@pytest.fixture
def source(base: str) -> str:
    path = os.path.join(base, "source")
    os.mkdir(path)
    return path


def packed(source: str | int, **options: Any) -> tuple[bytes, pack.Packed]:
    options.setdefault("whiteouts", "none")
    fd = os.memfd_create("archive")
    try:
        done = pack.pack(source, fd, **options)
        assert os.fstat(fd).st_size == done.size
        return os.pread(fd, done.size, 0), done
    finally:
        os.close(fd)


def unpacked(data: bytes, dest: str, **options: Any) -> tar.Extracted:
    fd = os.memfd_create("archive")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return tar.extract(fd, dest, **options)
    finally:
        os.close(fd)


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()


def names(data: bytes) -> list[str]:
    return [member.name for member in members(data)]


def write(path: str, data: bytes = b"", mode: int = 0o644) -> str:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)
    return path


# ---- there and back ------------------------------------------------------------------------------


@pytest.fixture
def zoo(source: str) -> str:
    """Everything that a file system can hold and a layer keeps."""
    write(f"{source}/empty")
    write(f"{source}/small", b"s", 0o600)
    write(f"{source}/large", os.urandom(3 << 20))
    write(f"{source}/program", b"#!", 0o755)
    write(f"{source}/set-id", b"#!", 0o6755)
    os.link(f"{source}/small", f"{source}/also-small")
    os.symlink("small", f"{source}/link")
    os.link(f"{source}/link", f"{source}/linked-link", follow_symlinks=False)
    os.symlink("/nowhere/" + "long" * 1000, f"{source}/dangling")
    os.mkfifo(f"{source}/fifo", 0o640)
    os.mknod(f"{source}/char", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(f"{source}/block", stat.S_IFBLK | 0o660, os.makedev(4095, 1048575))
    os.mkdir(f"{source}/sticky")
    os.chmod(f"{source}/sticky", 0o1777)
    os.makedirs(f"{source}/{'d' * 200}/{'e' * 200}")
    write(f"{source}/{'d' * 200}/{'e' * 200}/deep", b"deep")
    os.makedirs(f"{source}/{'p' * 99}/q")  # fits the header's two fields
    write(f"{source}/{'p' * 99}/q/{'r' * 99}")
    write(os.fsdecode(os.fsencode(source) + b"/not-\xff-utf8"), b"?")
    write(os.fsdecode(os.fsencode(source) + b"/not-\xff" + b"8" * 150), b"?")
    write(f"{source}/größe", b"x")
    write(f"{source}/line\nfeed", b"x")
    for name, ids in (("small", (1, 2)), ("link", (3, 4)), ("sticky", (5, 3_000_000)),
                      ("fifo", (0xFFFFFFFE, 6))):  # fmt: skip
        os.chown(f"{source}/{name}", *ids, follow_symlinks=False)
    os.setxattr(f"{source}/program", "security.capability", capability(1))
    os.setxattr(f"{source}/program", "user.text", b"a=b\nc\0d")
    os.setxattr(f"{source}/large", "user.large", os.urandom(2000))
    os.setxattr(f"{source}/empty", "user.empty", b"")
    os.setxattr(f"{source}/small", "system.posix_acl_access", acl(1000))
    os.setxattr(f"{source}/sticky", "system.posix_acl_default", acl(1001))
    os.setxattr(f"{source}/sticky", "user.dir", b"1")
    for number, name in enumerate(sorted(os.listdir(source))):
        times = (10**9, 10**18 + number * 1_000_000_007)
        os.utime(f"{source}/{name}", ns=times, follow_symlinks=False)
    os.utime(f"{source}/empty", ns=(0, -1_500_000_000))
    os.utime(f"{source}/set-id", ns=(0, -(10**9)))
    os.chown(source, 7, 8)
    os.chmod(source, 0o2750)
    os.setxattr(source, "user.root", b"1")
    os.utime(source, ns=(10**9, 123_456_789_012_345_678))
    return source


def test_everything_survives(zoo: str, dest: str, clone: bool) -> None:
    data, done = packed(zoo, clone=clone)
    back = unpacked(data, dest)
    assert tree(dest) == tree(zoo)
    assert back.diff_id == done.diff_id == done.digest == sha256(data)
    assert (back.tar_size, back.entries) == (done.tar_size, done.entries)
    assert back.unpacked_size == done.unpacked_size
    assert packed(dest)[0] == data


def test_root_is_an_entry(source: str) -> None:
    os.mkdir(f"{source}/d")
    os.utime(source, (1, 1))
    os.utime(f"{source}/d", (1, 1))
    data, _ = packed(source)
    assert data[:2] == b"./" and data[2] == 0
    assert data[512:515] == b"d/\0"
    assert names(data) == [".", "d"]
    assert len(data) == 4 * 512


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(plan=trees, overlay=st.booleans())
def test_any_tree(session_base: str, plan: list[Any], overlay: bool) -> None:
    """pack, extract, pack: the same tree, the same bytes; and tarfile reads the same."""
    place = tempfile.mkdtemp(dir=session_base)
    try:
        first, second = f"{place}/first", f"{place}/second"
        os.mkdir(first)
        os.mkdir(second)
        make_tree(first, plan)
        data, done = packed(first)
        assert packed(first, clone=False, compression="none")[0] == data
        unpacked(data, second)
        assert tree(second) == tree(first)
        options = {"whiteouts": "overlay"} if overlay else {}
        again, _ = packed(second, **options)
        assert again == data
        assert done.entries == len(members(data))
        for member in members(data):
            real = os.lstat(os.path.join(first, member.name))
            assert stat.S_IMODE(real.st_mode) == member.mode
            assert (real.st_uid, real.st_gid) == (member.uid, member.gid)
            if member.isreg():
                assert member.size == real.st_size
    finally:
        remove_tree(place)


def test_gnu_tar_reads_it(zoo: str, base: str) -> None:
    data, _ = packed(zoo)
    dest = f"{base}/gnu"
    os.mkdir(dest)
    subprocess.run(
        ["tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*",
         "-C", dest],
        input=data, check=True, capture_output=True,
    )  # fmt: skip
    assert tree(dest) == tree(zoo)


def test_order_is_by_bytes(source: str) -> None:
    for name in ("b", "a", "B", "ab", "a-b", "ü", "~"):
        write(f"{source}/{name}")
    os.mkdir(f"{source}/a.d")
    write(f"{source}/a.d/x")
    assert names(packed(source)[0])[1:] == ["B", "a", "a-b", "a.d", "a.d/x", "ab", "b", "~", "ü"]


def test_linked_file_is_packed_once_and_first_by_name(source: str) -> None:
    os.mkdir(f"{source}/z")
    write(f"{source}/z/1", b"x" * 1000)
    os.link(f"{source}/z/1", f"{source}/a")
    data, done = packed(source)
    assert [(m.name, m.type, m.linkname) for m in members(data)[1:]] == [
        ("a", b"0", ""), ("z", b"5", ""), ("z/1", b"1", "a")
    ]  # fmt: skip
    assert done.unpacked_size == 1000


def test_size_beyond_octal(source: str) -> None:
    """9 GiB need a record. Who reads has seen enough then."""
    write(f"{source}/hole")
    os.truncate(f"{source}/hole", 9 << 30)
    reader, writer = os.pipe()
    with open(reader, "rb") as file, ThreadPoolExecutor() as pool:
        job = pool.submit(pack.pack, source, writer, whiteouts="none", digests=False)
        head = file.read(8192)
        file.close()
        with pytest.raises(BrokenPipeError):
            job.result()
    os.close(writer)
    assert b" size=%d\n" % (9 << 30) in head
    with tarfile.open(fileobj=io.BytesIO(head)) as archive:
        archive.next()
        hole = archive.next()
    assert hole is not None and (hole.name, hole.size) == ("hole", 9 << 30)


def test_holes_are_zeros(source: str, dest: str) -> None:
    size = 5 << 20
    with open(f"{source}/f", "wb") as file:
        file.truncate(size)
        for at in (0, 1 << 20, size - 7):
            file.seek(at)
            file.write(b"content")
    with open(f"{source}/f", "rb") as file:
        content = file.read()
    data, _ = packed(source)
    unpacked(data, dest)
    with open(f"{dest}/f", "rb") as file:
        assert file.read() == content
    assert os.stat(f"{dest}/f").st_blocks * 512 < 1 << 20  # and holes again


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, 1 << 18, (3 << 18) - 1, 1 << 20])
def test_file_of_zeros(source: str, dest: str, size: int) -> None:
    write(f"{source}/z", bytes(size))
    write(f"{source}/{'z' * 50}", bytes(1 << 16) + b"x")
    unpacked(packed(source)[0], dest)
    assert tree(dest) == tree(source)


def test_deeper_than_a_path_may_be(source: str, clone: bool) -> None:
    fd = os.open(source, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d" * 50, dir_fd=fd)
        deeper = os.open("d" * 50, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    write(f"{source}/{'d' * 50}/e")
    data, done = packed(source, clone=clone)
    assert done.entries == 203
    found = names(data)
    assert found[-1] == "d" * 50 + "/e"
    assert found[-2] == "/".join(["d" * 50] * 200 + ["bottom"])


# ---- what is left out ----------------------------------------------------------------------------


def test_sockets_are_left_out(source: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{source}/s")
    write(f"{source}/f")
    assert names(packed(source)[0]) == [".", "f"]


def test_foreign_attributes_are_left_out(source: str, dest: str) -> None:
    write(f"{source}/f")
    for key in ("trusted.x", "trusted.overlay.origin", "user.overlay.opaque", "user.a=b"):
        os.setxattr(f"{source}/f", key, b"y")
    os.setxattr(f"{source}/f", "user.kept", b"y")
    for mode in ("none", "overlay"):
        data, _ = packed(source, whiteouts=mode)
        assert data.count(b"SCHILY.xattr.") == 1
    unpacked(data, dest)
    assert os.listxattr(f"{dest}/f") == ["user.kept"]


def test_what_is_mounted_below_is_left_out(source: str, clone: bool) -> None:
    os.mkdir(f"{source}/m")
    subprocess.run(["mount", "-t", "tmpfs", "x", f"{source}/m"], check=True)
    try:
        write(f"{source}/m/inside")
        assert names(packed(source, clone=clone)[0]) == [".", "m"]
    finally:
        subprocess.run(["umount", f"{source}/m"], check=True)


# ---- whiteouts -----------------------------------------------------------------------------------


@pytest.fixture
def upper(source: str) -> str:
    """What overlayfs writes when files are deleted and directories replaced."""
    os.mkdir(f"{source}/dir")
    os.mkdir(f"{source}/dir/new")
    os.setxattr(f"{source}/dir/new", "trusted.overlay.opaque", b"y")
    write(f"{source}/dir/new/!first", b"1")
    write(f"{source}/dir/added", b"1")
    for name in ("gone", "dir/gone", "dir/zzz"):
        os.mknod(f"{source}/{name}", stat.S_IFCHR, 0)
    os.link(f"{source}/gone", f"{source}/gone2")  # as newer kernels make them
    os.setxattr(f"{source}/dir", "trusted.overlay.origin", b"x")
    os.setxattr(f"{source}/dir", "trusted.overlay.impure", b"y")
    return source


def test_whiteouts_first(upper: str) -> None:
    data, done = packed(upper, whiteouts="overlay")
    assert names(data) == [
        ".", ".wh.gone", ".wh.gone2",
        "dir", "dir/.wh.gone", "dir/.wh.zzz", "dir/added",
        "dir/new", "dir/new/.wh..wh..opq", "dir/new/!first",
    ]  # fmt: skip
    assert done.entries == 10
    assert b"overlay" not in data


def test_whiteouts_there_and_back(upper: str, dest: str) -> None:
    data, _ = packed(upper, whiteouts="overlay")
    unpacked(data, dest, whiteouts="overlay")
    assert os.getxattr(f"{dest}/dir/new", "trusted.overlay.opaque") == b"y"
    assert os.lstat(f"{dest}/dir/gone").st_rdev == 0
    assert packed(dest, whiteouts="overlay")[0] == data


def test_whiteout_of_the_longest_name(source: str, dest: str) -> None:
    os.mknod(f"{source}/{'n' * 255}", stat.S_IFCHR, 0)
    data, _ = packed(source, whiteouts="overlay")
    assert names(data) == [".", ".wh." + "n" * 255]
    unpacked(data, dest)
    assert os.listdir(dest) == ["n" * 255]
    with pytest.raises(ArchiveError, match="File name too long"):
        unpacked(data, dest, whiteouts="keep")


def test_opaque_root(source: str, dest: str) -> None:
    os.setxattr(source, "trusted.overlay.opaque", b"y")
    data, _ = packed(source, whiteouts="overlay")
    assert names(data) == [".", ".wh..wh..opq"]
    assert unpacked(data, dest).opaque_root


def test_a_plain_tree_has_no_whiteouts(upper: str) -> None:
    write(f"{upper}/.wh.x")
    found = {member.name: member.type for member in members(packed(upper)[0])}
    assert found["gone"] == tarfile.CHRTYPE
    assert found[".wh.x"] == tarfile.REGTYPE
    assert "dir/new/.wh..wh..opq" not in found


# ---- compression ---------------------------------------------------------------------------------


@pytest.fixture
def large(source: str) -> str:
    """More than the ring of chunks holds."""
    block = os.urandom(1 << 16)
    write(f"{source}/data", b"".join(block + bytes(1 << 16) for _ in range(160)))
    write(f"{source}/small", b"x")
    return source


@pytest.mark.parametrize("level", [None, 0, 1, 2, 3])
def test_gzip(large: str, level: int | None) -> None:
    plain, done = packed(large)
    data, zipped = packed(large, compression="gzip", level=level)
    assert (zipped.diff_id, zipped.tar_size) == (done.diff_id, done.tar_size)
    assert zipped.digest == sha256(data)
    assert zipped.size == len(data) < len(plain) * 0.7
    assert gzip.decompress(data) == plain
    assert subprocess.run(["gzip", "-dc"], input=data, stdout=-1, check=True).stdout == plain
    assert data[:10] == b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    for _ in range(2):
        assert packed(large, compression="gzip", level=level)[0] == data


@pytest.mark.parametrize("level", [None, 1, 19])
def test_zstd(large: str, dest: str, level: int | None) -> None:
    plain, done = packed(large)
    data, zipped = packed(large, compression="zstd", level=level)
    assert zipped.diff_id == done.diff_id
    assert zipped.digest == sha256(data)
    assert subprocess.run(["zstd", "-dc"], input=data, stdout=-1, check=True).stdout == plain
    assert unpacked(data, dest).diff_id == done.diff_id


@pytest.mark.parametrize("length", [0, 1, (1 << 20) - 2560, (1 << 20) - 2559, (2 << 20) - 2560])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_chunks_end_anywhere(source: str, dest: str, length: int, compression: str) -> None:
    write(f"{source}/f", os.urandom(length))
    os.utime(f"{source}/f", (1, 1))
    os.utime(source, (1, 1))
    data, done = packed(source, compression=compression)
    assert unpacked(data, dest).diff_id == done.diff_id
    assert tree(dest) == tree(source)


def test_digests_without_writing(large: str) -> None:
    data, done = packed(large)
    alone = pack.pack(large, -1, whiteouts="none", compression="gzip")
    assert (alone.diff_id, alone.digest, alone.size) == (done.diff_id, sha256(data), len(data))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"whiteouts": "keep"}, "whiteouts is 'overlay' or 'none', not 'keep'"),
        ({"compression": "xz"}, "compression is 'none', 'gzip' or 'zstd', not 'xz'"),
        ({"compression": "gzip", "level": 9}, "the level of gzip is 0 to 3, not 9"),
        ({"compression": "zstd", "level": 0}, "the level of zstd is 1 to 19, not 0"),
    ],
)
def test_wrong_arguments(source: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match="^" + text):
        pack.pack(source, -1, **options)


def test_hostile_archive_of_ours_is_still_refused(source: str, dest: str) -> None:
    """A device 0:0 in a plain tree is packed as what it is, and not unpacked as a whiteout."""
    os.mknod(f"{source}/x", stat.S_IFCHR, 0)
    with pytest.raises(ArchiveError):
        unpacked(packed(source)[0], dest)
