"""Archives with damage. Used by the fuzz test; alone, it writes them to a directory:

python -m tests.core.tar_mutants DIRECTORY COUNT [SEED]
"""

from __future__ import annotations

import gzip
import os
import random
import sys
import zlib
from collections.abc import Callable

from tests.core.tar_archives import BLOCK, Tar, base256, capability, padded, pax_record


def seeds(outside: str) -> list[bytes]:
    """Archives with everything in them, and with links to ``outside``."""
    long = "/".join(["long" * 30] * 8)
    plain = Tar().dir("./", mode=0o755).dir("d", mode=0o2755).file("d/f", b"x" * 1500, uid=5)
    plain.symlink("l", outside).symlink("m", "d").hardlink("h", "d/f").file("m/g", b"y")
    plain.entry("null", "3", device=(1, 3)).entry("p", "6").file("l/x", b"z").dir("d/e/f")
    whiteouts = Tar().dir("d").file("d/.wh.x").file("d/.wh..wh..opq").file(".wh.y").dir("y")
    whiteouts.file("y/z").file("d/x", b"new").symlink("s", "y").file("s/.wh.q").file(".wh..wh..opq")
    extended = Tar().pax({"path": long, "mtime": "1.25", "uid": "70000", "comment": "c" * 300})
    extended.file("short", b"abc").gnu_name(long + "2").file("short2", b"def").gnu_link(long)
    extended.symlink("s", "short").pax({"SCHILY.xattr.user.a": b"\0\1\2", "gid": "9"}).file("x")
    extended.pax({"SCHILY.xattr.security.capability": capability(1)}).file("cap", b"e", mode=0o4755)
    extended.pax({"linkpath": "x", "size": "0"}).hardlink("hx", "y").entry(
        "g", "g", pax_record("a", "b")
    )
    lines = padded(b"2\n0\n5\n1000\n3\n")
    sparse = Tar().pax(
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s1",
         "GNU.sparse.realsize": "2000"}
    )  # fmt: skip
    sparse.file("x", lines + b"HELLOabc")
    sparse.pax({"GNU.sparse.map": "0,1,4096,2", "GNU.sparse.size": "9000"}).file("s2", b"abc")
    fields = b"".join(b"%011o\0%011o\0" % (i * 1000, 1) for i in range(4))
    sparse.entry("s3", "S", magic=b"ustar  \0", size=25,
                 patch={386: fields, 482: b"\1", 483: b"%011o\0" % 90000})  # fmt: skip
    more = b"".join(b"%011o\0%011o\0" % (i * 1000 + 5000, 1) for i in range(21))
    sparse.raw(more + b"\0" * 8).raw(padded(b"s" * 25)).file("after", b"a", uid=base256(2**31, 8))
    big = Tar().file("big", bytes(range(256)) * 2500).dir("e").file("e/big", b"q" * 300_000)
    return [archive.bytes() for archive in (plain, whiteouts, extended, sparse, big)]


def fix_checksum(data: bytearray, at: int) -> None:
    block = data[at : at + BLOCK]
    if len(block) == BLOCK and any(block):
        block[148:156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(block)


# Separators, digits of several bases, types, signs: what parsers stumble over.
INTERESTING = [
    *(bytes([c]) for c in b"\0\xff/.\x80079 \n=xLS125"),
    *(b"..", b"../", b".wh.", b"\x80\0\0\0", b"\xff" * 8, b"77777777777\0"),
]
FIELDS = [0, 0, 100, 108, 116, 124, 124, 136, 156, 156, 157, 257, 329, 345, 386, 482, 483]


def flip(rng: random.Random, data: bytearray) -> None:
    """Bytes anywhere, the checksum left wrong."""
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def header_field(rng: random.Random, data: bytearray) -> None:
    """Something else in one field, with a checksum that fits."""
    at = rng.randrange(len(data) // BLOCK) * BLOCK
    field = rng.choice(FIELDS)
    value = rng.choice(INTERESTING)
    where = at + field + rng.choice([0, 0, 1, 3])
    data[where : where + len(value)] = value
    fix_checksum(data, at)


def body_byte(rng: random.Random, data: bytearray) -> None:
    """A digit or separator in something that is not a header."""
    at = rng.randrange(len(data))
    value = rng.choice(INTERESTING)
    data[at : at + len(value)] = value


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def drop_blocks(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) // BLOCK) * BLOCK
    del data[at : at + BLOCK * rng.randint(1, 4)]


def repeat_blocks(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) // BLOCK) * BLOCK
    to = rng.randrange(len(data) // BLOCK) * BLOCK
    data[to:to] = data[at : at + BLOCK * rng.randint(1, 4)]


MUTATIONS: list[Callable[[random.Random, bytearray], None]] = [
    flip, header_field, header_field, header_field, body_byte, cut, drop_blocks, repeat_blocks,
]  # fmt: skip


def mutant(seed: int, outside: str) -> bytes:
    """The seed-th archive: the same on every run."""
    rng = random.Random(seed)
    archives = seeds(outside)
    data = bytearray(rng.choice(archives))
    if rng.random() < 0.2:
        data = bytearray(data[:-1024] + rng.choice(archives))
    for _ in range(rng.randint(1, 5)):
        if len(data) >= 2 * BLOCK:
            rng.choice(MUTATIONS)(rng, data)
    form = rng.random()
    if form < 0.15:
        data = bytearray(gzip.compress(data, rng.choice([0, 1, 6]), mtime=0))
        if rng.random() < 0.5:
            flip(rng, data)
    elif form < 0.2:
        raw = zlib.compress(bytes(data))
        data = bytearray(b"\x1f\x8b\x08\0\0\0\0\0\0\3" + raw[2:])
    return bytes(data)


def main() -> None:
    directory, count = sys.argv[1], int(sys.argv[2])
    first = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    for seed in range(first, first + count):
        with open(os.path.join(directory, str(seed)), "wb") as file:
            file.write(mutant(seed, "/fastbox-outside"))


if __name__ == "__main__":
    main()
