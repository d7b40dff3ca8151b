"""What a worker has in common with the clients that it serves, as ``struct fb_likeness`` has it: it
cannot take that on, so whoever differs runs the Python command line instead."""

from __future__ import annotations

import os

from ... import __version__
from .protocol import LIKENESS

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_CPUS = 128  # bytes


def of_self() -> bytes:
    """Of this process."""
    said = _status()
    root = os.stat("/")
    cpus = sum(1 << cpu for cpu in os.sched_getaffinity(0))
    return LIKENESS.pack(
        __version__.encode(),
        os.getuid(), os.geteuid(), os.getgid(), os.getegid(),
        os.getpriority(os.PRIO_PROCESS, 0),
        int(said["NoNewPrivs"]), int(said["Seccomp"]), 0,
        int(said["CapEff"], 16), int(said["CapBnd"], 16),
        root.st_dev, root.st_ino,
        *map(_namespace, _NAMESPACES),
        cpus.to_bytes(_CPUS, "little"),
    )  # fmt: skip


def _status() -> dict[str, str]:
    with open("/proc/self/status") as file:
        pairs = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in pairs}


def _namespace(name: str) -> int:
    try:
        return os.stat(f"/proc/self/ns/{name}").st_ino
    except FileNotFoundError:  # the kernel has none of this kind
        return 0
