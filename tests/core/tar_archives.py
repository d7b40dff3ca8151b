"""Archives made byte by byte (tarfile would refuse most of them), and looking at what came out."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Callable, Mapping
from typing import Any

from fastbox._core import tar

BLOCK = 512

# The fixture unpack(archive, **options): into the fixture dest.
Unpack = Callable[..., tar.Extracted]


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    """GNU's encoding of numbers that octal digits cannot hold."""
    data = bytearray(value.to_bytes(width, "big", signed=True))
    data[0] |= 0x80
    return bytes(data)


def number(value: int | bytes, width: int) -> bytes:
    if isinstance(value, bytes):
        return value.ljust(width, b"\0")
    if 0 <= value < 8 ** (width - 1):
        return octal(value, width)
    return base256(value, width)


def header(
    name: bytes | str,
    type: bytes | str = "0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 1_000_000_000,
    link: bytes | str = b"",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    device: tuple[int | bytes, int | bytes] = (0, 0),
    patch: Mapping[int, bytes] | None = None,
    checksum: bytes | None = None,
) -> bytes:
    """One header block. ``patch`` overwrites bytes at offsets, before the checksum is made."""
    block = bytearray(BLOCK)

    def put(at: int, data: bytes, width: int) -> None:
        assert len(data) <= width, (at, data)
        block[at : at + len(data)] = data

    put(0, _bytes(name), 100)
    put(100, number(mode, 8), 8)
    put(108, number(uid, 8), 8)
    put(116, number(gid, 8), 8)
    put(124, number(size, 12), 12)
    put(136, number(mtime, 12), 12)
    put(156, _bytes(type), 1)
    put(157, _bytes(link), 100)
    put(257, magic, 8)
    put(329, number(device[0], 8), 8)
    put(337, number(device[1], 8), 8)
    put(345, prefix, 155)
    for at, data in (patch or {}).items():
        block[at : at + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = checksum if checksum is not None else b"%06o\0 " % sum(block)
    return bytes(block)


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % BLOCK)


def pax_record(key: bytes | str, value: bytes | str) -> bytes:
    body = b" " + _bytes(key) + b"=" + _bytes(value) + b"\n"
    length = len(body)
    while len(body) + len(b"%d" % length) != length:
        length = len(body) + len(b"%d" % length)
    return b"%d" % length + body


class Tar:
    """An archive under construction. Every method returns it, for chaining."""

    def __init__(self) -> None:
        self.data = bytearray()

    def raw(self, data: bytes) -> Tar:
        self.data += data
        return self

    def entry(self, name: bytes | str, type: bytes | str, data: bytes = b"", **fields: Any) -> Tar:
        fields.setdefault("size", len(data))
        self.data += header(name, type, **fields)
        return self.raw(padded(data))

    def file(self, name: bytes | str, data: bytes = b"", **fields: Any) -> Tar:
        return self.entry(name, "0", data, **fields)

    def dir(self, name: bytes | str, **fields: Any) -> Tar:
        fields.setdefault("mode", 0o755)
        return self.entry(name, "5", **fields)

    def symlink(self, name: bytes | str, target: bytes | str, **fields: Any) -> Tar:
        if len(_bytes(target)) > 100:
            self.pax({"linkpath": target})
        return self.entry(name, "2", link=_bytes(target)[:100], mode=0o777, **fields)

    def hardlink(self, name: bytes | str, target: bytes | str, **fields: Any) -> Tar:
        return self.entry(name, "1", link=target, **fields)

    def pax(self, records: Mapping[str, bytes | str] | list[tuple[str, bytes | str]]) -> Tar:
        """Records about the entry that follows."""
        pairs = records if isinstance(records, list) else list(records.items())
        return self.entry("PaxHeaders/x", "x", b"".join(pax_record(k, v) for k, v in pairs))

    def gnu_name(self, name: bytes | str) -> Tar:
        return self.entry("././@LongLink", "L", _bytes(name) + b"\0", magic=b"ustar  \0")

    def gnu_link(self, name: bytes | str) -> Tar:
        return self.entry("././@LongLink", "K", _bytes(name) + b"\0", magic=b"ustar  \0")

    def bytes(self) -> bytes:
        return bytes(self.data) + b"\0" * (2 * BLOCK)


def capability(permitted: int) -> bytes:
    """A security.capability value of version 2 (capabilities(7))."""
    return struct.pack("<IIIII", 0x02000001, permitted, 0, 0, 0)


def tree(path: str, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Everything below path, path included: kind, mode, owner, size, time, links, xattrs, content.

    Inode numbers are compared by naming the first path of each hard-linked file.
    """
    found: dict[str, tuple[object, ...]] = {}
    first: dict[int, str] = {}

    def look(full: str, name: str) -> None:
        st = os.lstat(full)
        content: object = None
        if stat.S_ISREG(st.st_mode):
            with open(full, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(full)
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            content = st.st_rdev
        is_dir = stat.S_ISDIR(st.st_mode)
        found[name] = (
            stat.S_IFMT(st.st_mode),
            oct(stat.S_IMODE(st.st_mode)),
            st.st_uid,
            st.st_gid,
            0 if is_dir else st.st_size,
            st.st_mtime_ns if times else 0,
            0 if is_dir else st.st_nlink,
            None if is_dir else first.setdefault(st.st_ino, name),
            tuple((x, os.getxattr(full, x, follow_symlinks=False)) for x in xattrs(full)),
            content,
        )
        if is_dir:
            for child in sorted(os.listdir(full)):
                look(os.path.join(full, child), os.path.join(name, child))

    look(path, ".")
    return found


def xattrs(path: str) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


def read(*path: str) -> bytes:
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def extract(archive: Tar | bytes, dest: int | str, **options: Any) -> tar.Extracted:
    """Unpack from memory."""
    data = archive.bytes() if isinstance(archive, Tar) else archive
    fd = os.memfd_create("archive")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
        return tar.extract(fd, dest, **options)
    finally:
        os.close(fd)
