"""The outer tar of an archive of images: making its headers, and reading those of others.

Only headers are handled here (ustar, pax, GNU); nothing of an archive is ever a path of this
machine. What lies in the layers is the business of ``_core.tar``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable

import msgspec

from ..errors import ArchiveError
from ..oci.text import printable

BLOCK = 512
MAX_ENTRIES = 100_000
_MAX_EXTENSION = 1 << 20  # bytes of a pax or GNU header's data
_MAX_NAME = 4096  # characters; every name is kept until the end
_FILES = b"0\x007"
_LONGEST = 8**11  # what 11 octal digits cannot say any more

Exactly = Callable[[int], bytes]


class Member(msgspec.Struct, frozen=True):
    """One entry.

    Attributes:
        name: normalised, without a leading slash or ``..``.
        size: bytes of its data.
        kind: ``"file"``, ``"symlink"``, ``"hardlink"`` or ``"other"``.
        target: of a link, as it is written.
    """

    name: str
    size: int
    kind: str = "file"
    target: str = ""


# ---- writing ---------------------------------------------------------------------------------


def header(name: str, size: int = 0, *, directory: bool = False) -> bytes:
    """The header block of a file or directory: root's, of the epoch.

    Args:
        name: at most 100 bytes.
    """
    mode, kind = (b"0000755\0", b"5") if directory else (b"0000644\0", b"0")
    count = b"%011o\0" % size if size < _LONGEST else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(BLOCK)
    block[: len(name)] = name.encode()
    block[100:124] = mode + b"0000000\0" * 2
    block[124:136] = count
    block[136:156] = b"%011o\0" % 0 + b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padding(size: int) -> int:
    """Bytes that fill the last block of ``size`` bytes of data."""
    return -size % BLOCK


# ---- reading ---------------------------------------------------------------------------------


def malformed(why: str) -> ArchiveError:
    """The error for what is no archive of images."""
    return ArchiveError(
        f"invalid archive: {why}",
        hint="`fastbox load` reads what `save` wrote, and OCI image layouts;"
        " `fastbox import` reads a root filesystem's tar",
    )


def is_header(block: bytes) -> bool:
    """Whether a block is a tar header, by its checksum."""
    if len(block) < BLOCK:
        return False
    try:
        said = _number(block[148:156])
    except ArchiveError:
        return False
    # The sum with eight blanks in the checksum's place; old programs added signed bytes.
    total = sum(block) - sum(block[148:156]) + 8 * 32
    high = sum(1 for byte in block[:148] + block[156:] if byte > 127)
    return said in (total, total - 256 * high)


def next_member(read: Exactly) -> Member | None:
    """The next entry, None at the end of the archive.

    Args:
        read: gives exactly so many bytes; fewer only at the end of the stream.

    Raises:
        ArchiveError: it is malformed.
    """
    extended: dict[str, str] = {}
    for _ in range(16):
        block = read(BLOCK)
        if not block or not block.strip(b"\0"):
            return None
        if not is_header(block):
            raise malformed("it is not a tar archive, or damaged")
        size, kind = _number(block[124:136]), block[156:157]
        if kind in (b"x", b"L", b"K", b"g"):
            _extend(extended, kind, _data(read, size))
        else:
            return _member(block, size, kind, extended)
    raise malformed("it has too many extended headers in a row")


def _member(block: bytes, size: int, kind: bytes, extended: dict[str, str]) -> Member:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    name = extended.get("path") or (f"{prefix}/{name}" if prefix else name)
    target = extended.get("linkpath") or _text(block[157:257])
    if max(len(name), len(target)) > _MAX_NAME:
        raise malformed(f"it has a name of more than {_MAX_NAME} characters")
    if "size" in extended:
        text = extended["size"]
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise malformed("it has a bad size in a header")
        size = int(text)
    if any(key.startswith("GNU.sparse") for key in extended):
        kind = b"S"
    if kind in _FILES and not name.endswith("/"):
        return Member(normalised(name), size)
    if kind in (b"1", b"2"):
        if size:
            raise malformed("it has a link with content")
        what = "hardlink" if kind == b"1" else "symlink"
        return Member(normalised(name), 0, what, target)
    if kind == b"S":
        raise malformed(f"{shown(name)} is stored sparse")
    return Member(normalised(name), 0 if kind in b"3456" else size, "other")


def normalised(name: str) -> str:
    """A name within the archive: one key for all spellings, and none leads out of it."""
    return posixpath.normpath("/" + name).lstrip("/")


def shown(name: str) -> str:
    """A name of the archive on one line, and not too long for one."""
    text = printable(name)
    return text if len(text) <= 120 else text[:60] + "..." + text[-57:]


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _number(field: bytes) -> int:
    """A numeric field: octal, or base 256 where the first bit is set.

    Raises:
        ArchiveError: neither, or not a size of this world.
    """
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if value >= 2**62:  # negative ones too
            raise malformed("it has a bad number in a header")
        return value
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise malformed("it has a bad number in a header")
    return int(digits, 8) if digits else 0


def _data(read: Exactly, size: int) -> bytes:
    if size > _MAX_EXTENSION:
        raise malformed("it has an extended header of more than 1 MiB")
    whole = size + padding(size)
    data = read(whole)
    if len(data) < whole:
        raise malformed("it ends too early")
    return data[:size]


def _extend(extended: dict[str, str], kind: bytes, data: bytes) -> None:
    """Note what an extended header says of the entry behind it."""
    if kind == b"L":
        extended["path"] = _text(data)
    elif kind == b"K":
        extended["linkpath"] = _text(data)
    elif kind == b"x":
        extended.update(_records(data))


def _records(data: bytes) -> dict[str, str]:
    """pax: ``LENGTH KEY=VALUE\\n``, the length counting all of it."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        digits, blank, _ = data[at : at + 20].partition(b" ")
        if not blank or not digits.isdigit():
            raise malformed("it has a malformed extended header")
        end = at + int(digits)
        key, equals, value = data[at + len(digits) + 1 : end].partition(b"=")
        if end > len(data) or not equals or not value.endswith(b"\n"):
            raise malformed("it has a malformed extended header")
        found[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "backslashreplace")
        at = end
    return found
