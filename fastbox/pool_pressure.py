"""Whether the machine is short of memory, and what a prepared container takes of it."""

from __future__ import annotations

import contextlib

SHARE_LEFT = 0.05  # of the memory: with less available, nothing is kept prepared
STALLED = 10.0  # percent of the last 10 s in which something waited for memory (PSI ``some``)
# What the kernel keeps for one besides its processes' own pages, in bytes: namespaces, mounts,
# cgroup, sockets and pipes 380 KiB, page tables 55, stacks 32, per-cpu data 7; a link (veth) comes
# to that. Measured with 100 of them on Linux 6.18, by the growth of /proc/meminfo's lines.
KERNEL = 474 << 10
LINK = 60 << 10


def is_short() -> str:
    """Why nothing should be kept in memory that is not needed now; "" when there is enough."""
    stalled = _stalled()
    if stalled is not None and stalled >= STALLED:
        return f"processes waited for memory in {stalled:.0f} % of the last 10 seconds"
    total, available = _memory()
    if total and available < total * SHARE_LEFT:
        return f"{available >> 20} MiB of {total >> 20} MiB of memory are available"
    return ""


def _stalled() -> float | None:
    """``some avg10`` of /proc/pressure/memory; None: the kernel does not tell."""
    try:
        with open("/proc/pressure/memory", "rb") as file:
            line = file.readline()
        return float(line.split()[1].partition(b"=")[2])
    except (OSError, ValueError, IndexError):
        return None


def _memory() -> tuple[int, int]:
    """(total, available) in bytes; zeros: not known."""
    found = {}
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", "rb") as file:
        for line in file:
            name, _, rest = line.partition(b":")
            if name in (b"MemTotal", b"MemAvailable"):
                found[name] = int(rest.split()[0]) << 10
    return found.get(b"MemTotal", 0), found.get(b"MemAvailable", 0)


def cost(pids: tuple[int, ...], links: int) -> int:
    """Bytes of a prepared container: its processes' own pages (the program's are shared by all),
    and the kernel's part.

    Args:
        links: how many networks it is on.
    """
    return KERNEL + links * LINK + sum(map(_own_pages, pids))


def _own_pages(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss_Anon:"):
                return int(line.split()[1]) << 10
    return 0
