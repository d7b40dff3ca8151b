"""What processes cost in memory, and which of them belong to a container."""

from __future__ import annotations

import os
from collections.abc import Iterable


def processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def keepers(ids: Iterable[str]) -> set[int]:
    """Processes whose command line names one of the containers: conmon, containerd-shim; fastbox's
    monitors are known by their record (they name nothing)."""
    wanted = set(ids)
    return {pid for pid in processes() if any(name in command_of(pid) for name in wanted)}


def command_of(pid: int) -> str:
    """A process's command line, "" when it is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def pss(pid: int) -> int:
    """Proportional set size in KiB: pages that several processes share are divided among them.

    Raises:
        OSError: the process is gone, or is not ours to look at.
    """
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return proportional(file.read())


def proportional(rollup: str) -> int:
    """The KiB after ``Pss:``; 0 of a process without memory (a zombie)."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def tree_bytes(path: str) -> int:
    """What a directory with all in it takes on disk; other file systems are left out."""
    device = os.lstat(path).st_dev
    total = os.lstat(path).st_blocks * 512
    for directory, names, files in os.walk(path):
        names[:] = [n for n in names if os.lstat(os.path.join(directory, n)).st_dev == device]
        for name in [*names, *files]:
            total += os.lstat(os.path.join(directory, name)).st_blocks * 512
    return total
