"""What runs in the machines and containers that are compared: redis-server with its libraries and
little else, as the initramfs of a virtual machine and as the archive of an image."""

from __future__ import annotations

import io
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

REDIS = "/usr/bin/redis-server"
REDIS_COMMAND = [REDIS, "--protected-mode", "no", "--save", ""]


class Entry(NamedTuple):
    """A file of the userland.

    Attributes:
        mode: type and permissions, as in st_mode. device: major and minor, of a device file.
    """

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def libraries(listing: str) -> list[str]:
    """The files that ldd's output names."""
    return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", listing, re.MULTILINE)


def redis_files() -> Iterator[Entry]:
    """This machine's redis-server and its libraries.

    Raises:
        OSError, CalledProcessError: it is not installed.
    """
    yield Entry("usr/bin/redis-server", stat.S_IFREG | 0o755, read(REDIS))
    listing = subprocess.run(["ldd", REDIS], check=True, capture_output=True, text=True).stdout
    for path in libraries(listing):
        yield Entry(path.lstrip("/"), stat.S_IFREG | 0o755, read(path))


def with_parents(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The entries, each after the directories that it needs."""
    made = set()
    for entry in entries:
        parts = entry.path.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in made:
                made.add(parent)
                yield Entry(parent, stat.S_IFDIR | 0o755)
        if entry.path not in made:
            made.add(entry.path)
            yield entry


def cpio(entries: Iterable[Entry]) -> bytes:
    """An initramfs: the "newc" format of Documentation/driver-api/early-userspace/
    buffer-format.rst, not compressed, owned by root."""
    parts = []
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], 1):
        name = entry.path.encode() + b"\0"
        fields = [number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device]
        header = "070701" + "".join(f"{field:08X}" for field in [*fields, len(name), 0])
        parts += [_padded(header.encode() + name), _padded(entry.data)]
    return b"".join(parts)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def archive(path: str, entries: Iterable[Entry]) -> None:
    """Write directories and regular files as a tar, owned by root."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode, info.size = stat.S_IMODE(entry.mode), len(entry.data)
            info.type = tarfile.DIRTYPE if stat.S_ISDIR(entry.mode) else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(entry.data))


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def needed_modules(directory: str, names: Iterable[str]) -> list[str]:
    """Files of kernel modules, each after those that it needs.

    Args:
        directory: ``lib/modules/VERSION``; needs no modules.dep, which a package does not bring.

    Raises:
        KeyError: a module is not there (nor, as the caller sees to it, built in).
    """
    files = {
        name.split(".ko")[0].replace("-", "_"): os.path.join(place, name)
        for place, _, found in os.walk(directory)
        for name in found
        if name.endswith(".ko")
    }
    order: list[str] = []

    def add(name: str) -> None:
        path = files[name]
        if path not in order:
            for needed in dependencies(read(path)):
                if needed in files:
                    add(needed)
            order.append(path)

    for name in names:
        add(name)
    return order


def dependencies(module: bytes) -> list[str]:
    """What a module's .modinfo says that it needs."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    names = found[1].decode().split(",") if found else []
    return [name.replace("-", "_") for name in names if name]
