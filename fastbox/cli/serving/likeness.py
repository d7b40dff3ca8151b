"""What a worker has in common with the clients that it serves, as ``struct fb_likeness`` has it: it
cannot take that on, so whoever differs runs the Python command line instead."""

from __future__ import annotations

import ctypes
import os
import struct

from ... import __version__
from .protocol import LIKENESS

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_CPUS = 128  # bytes
_AT_FDCWD = -100
_STATX_SIZE, _STX_MNT_ID, _STATX_MNT_ID = 256, 144, 0x1000  # struct statx


def of_self() -> bytes:
    """Of this process."""
    said = _status()
    root = os.stat("/")
    cpus = sum(1 << cpu for cpu in os.sched_getaffinity(0))
    return LIKENESS.pack(
        __version__.encode(),
        os.getuid(), os.geteuid(), os.getgid(), os.getegid(),
        os.getpriority(os.PRIO_PROCESS, 0),
        int(said["NoNewPrivs"]), int(said["Seccomp"]), _mount_of_root(),
        int(said["CapEff"], 16), int(said["CapBnd"], 16),
        root.st_dev, root.st_ino,
        *map(_namespace, _NAMESPACES),
        cpus.to_bytes(_CPUS, "little"),
    )  # fmt: skip


def _status() -> dict[str, str]:
    with open("/proc/self/status") as file:
        pairs = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in pairs}


def _mount_of_root() -> int:
    """As statx(2) has it; 0 before Linux 5.8."""
    found = ctypes.create_string_buffer(_STATX_SIZE)
    if ctypes.CDLL(None).statx(_AT_FDCWD, b"/", 0, _STATX_MNT_ID, found) < 0:
        return 0
    (mask,) = struct.unpack_from("=I", found)
    (mount,) = struct.unpack_from("=Q", found, _STX_MNT_ID)
    return mount & 0xFFFFFFFF if mask & _STATX_MNT_ID else 0


def _namespace(name: str) -> int:
    try:
        return os.stat(f"/proc/self/ns/{name}").st_ino
    except FileNotFoundError:  # the kernel has none of this kind
        return 0
