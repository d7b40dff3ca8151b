"""``stats``: what a container uses, read once.

Each number comes from the group's own files where its controller is there. On a hybrid host a
container without limits is only in a v2 group without controllers: there the kernel keeps its CPU
time (cpu.stat is in every v2 group), and the rest is summed over its processes.
"""

from __future__ import annotations

import errno
import os
import time
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from . import process
from .cgroups import files

if TYPE_CHECKING:
    from .cgroups import Cgroup
    from .record import Container

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# smaps_rollup walks all pages of a process. Beyond this size its resident memory has to do.
_MEASURED_EXACTLY = 1 << 30


class Stats(msgspec.Struct, kw_only=True, frozen=True):
    """One sample. All numbers are 0 when the container does not run.

    Attributes:
        time: when it was taken, in ns of the monotonic clock.
        cpu: CPU time that it used since its start, in ns.
        memory: bytes in use, without page cache that nobody used lately (as Docker counts).
        memory_limit: bytes that it may use: its own limit, else the host's memory.
        net_rx, net_tx: bytes received and sent by its interfaces other than lo; 0 with the host's
            network. interfaces: the same for each (``Endpoint.interface`` tells its network).
        block_read, block_write: bytes that it read from and wrote to block devices.
        pids: processes and threads.
    """

    id: str
    name: str
    time: int
    cpu: int = 0
    memory: int = 0
    memory_limit: int = 0
    net_rx: int = 0
    net_tx: int = 0
    interfaces: dict[str, tuple[int, int]] = {}
    block_read: int = 0
    block_write: int = 0
    pids: int = 0

    def cpu_percent(self, before: Stats | None) -> float:
        """CPU used between an earlier sample and this one; 100 is one CPU busy all the time.
        0 without an earlier one, or if the container was restarted since."""
        if before is None or self.time <= before.time:
            return 0.0
        return max(0.0, 100.0 * (self.cpu - before.cpu) / (self.time - before.time))

    @property
    def memory_percent(self) -> float:
        """Of the limit."""
        return 100.0 * self.memory / self.memory_limit if self.memory_limit else 0.0


def sample(container: Container, cgroup: Cgroup, *, joined_late: bool = False) -> Stats:
    """Take one. What ends meanwhile is not counted.

    Args:
        joined_late: it may have memory that is charged to another group (see ``cgroups.join``).
    """
    state, record = container.state, container.record
    now = time.monotonic_ns()
    if not state.status.is_up:
        return Stats(id=record.id, name=record.name, time=now)
    group = _Group(cgroup, joined_late)
    memory, limit = group.memory()
    read, write = group.block_io()
    interfaces: dict[str, tuple[int, int]] = {}
    if record.config.network != "host":
        interfaces = _interfaces(state.pid, state.pid_starttime)
    return Stats(
        id=record.id,
        name=record.name,
        time=now,
        cpu=group.cpu(),
        memory=memory,
        memory_limit=limit,
        net_rx=sum(received for received, _ in interfaces.values()),
        net_tx=sum(sent for _, sent in interfaces.values()),
        interfaces=interfaces,
        block_read=read,
        block_write=write,
        pids=group.pids(),
    )


class _Group:
    def __init__(self, cgroup: Cgroup, joined_late: bool) -> None:
        self.joined_late = joined_late
        self.v1 = cgroup.v1_dirs
        self.v2 = cgroup.v2_dir
        self.cgroup = cgroup

    @cached_property
    def members(self) -> list[int]:
        return self.cgroup.pids()

    def cpu(self) -> int:
        """ns"""
        stat = _numbers(self.v2, "cpu.stat")
        if "usage_usec" in stat:
            return stat["usage_usec"] * 1000
        # Often mounted together with cpu, and joined with it then.
        for directory in (self.v1.get("cpuacct"), self.v1.get("cpu")):
            value = _number(directory, "cpuacct.usage")
            if value is not None:
                return value
        return sum(map(_cpu_of, self.members))

    def memory(self) -> tuple[int, int]:
        """(bytes used, bytes that may be used)"""
        total = host_memory()
        if "memory" in self.v1:
            directory = self.v1["memory"]
            used = _number(directory, "memory.usage_in_bytes") or 0
            idle = _numbers(directory, "memory.stat").get("total_inactive_file", 0)
            limit = _number(directory, "memory.limit_in_bytes")
        else:
            current = _number(self.v2, "memory.current")
            if current is None:
                return sum(map(_memory_of, self.members)), total
            used = current
            idle = _numbers(self.v2, "memory.stat").get("inactive_file", 0)
            limit = _number(self.v2, "memory.max")
        if idle < used:
            used -= idle
        if self.joined_late:
            used = max(used, sum(map(_memory_of, self.members)))
        return used, min(limit or total, total)

    def block_io(self) -> tuple[int, int]:
        """(bytes read, bytes written)"""
        found = None
        if "blkio" in self.v1:
            directory = self.v1["blkio"]
            found = _service_bytes(directory, "blkio.throttle.io_service_bytes_recursive")
            # Counted only on devices for which somebody has a limit (Linux 6.10).
            if found == (0, 0):
                found = None
        elif self.v2:
            found = _io_stat(self.v2)
        if found is not None:
            return found
        read = write = 0
        for pid in self.members:
            values = _io_of(pid)
            read, write = read + values[0], write + values[1]
        return read, write

    def pids(self) -> int:
        """Tasks, as the pids controller counts them."""
        directory = self.v1.get("pids", self.v2)
        value = _number(directory, "pids.current")
        return sum(map(_threads_of, self.members)) if value is None else value


def host_memory() -> int:
    """Bytes of memory that the host has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# ---- files of a group ------------------------------------------------------------------------


def _text(directory: str | None, name: str) -> str | None:
    """A file of a group; None when there is none (no controller, no group any more)."""
    if directory is None:
        return None
    try:
        return files.read(directory, name)
    except OSError as error:
        # Some files of a controller that is switched off by the kernel's command line.
        if isinstance(error, FileNotFoundError) or error.errno in (errno.EOPNOTSUPP, errno.EIO):
            return None
        raise


def _number(directory: str | None, name: str) -> int | None:
    """None also for "max"."""
    text = _text(directory, name)
    return int(text) if text is not None and text.isdigit() else None


def _numbers(directory: str | None, name: str) -> dict[str, int]:
    """A file of ``key value`` lines."""
    found = {}
    for line in (_text(directory, name) or "").splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
    return found


def _service_bytes(directory: str, name: str) -> tuple[int, int] | None:
    """``8:0 Read 4096`` per device and operation (blkio-controller.rst)."""
    text = _text(directory, name)
    if text is None:
        return None
    totals = {"Read": 0, "Write": 0}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in totals:
            totals[fields[1]] += int(fields[2])
    return totals["Read"], totals["Write"]


def _io_stat(directory: str) -> tuple[int, int] | None:
    """``8:0 rbytes=4096 wbytes=0 …`` per device (cgroup-v2.rst)."""
    text = _text(directory, "io.stat")
    if text is None:
        return None
    totals = {"rbytes": 0, "wbytes": 0}
    for word in text.split():
        key, _, value = word.partition("=")
        if key in totals and value.isdigit():
            totals[key] += int(value)
    return totals["rbytes"], totals["wbytes"]


# ---- processes -------------------------------------------------------------------------------


def _proc(pid: int, name: str) -> bytes:
    """A file of a process; empty when it has ended."""
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _cpu_of(pid: int) -> int:
    """ns, with the children that it waited for (fields 14 to 17)."""
    return sum(map(int, process.stat_fields(pid)[11:15])) * _TICK


def _threads_of(pid: int) -> int:
    fields = process.stat_fields(pid)
    return int(fields[17]) if len(fields) > 17 else 0


def _memory_of(pid: int) -> int:
    """Bytes; memory that is shared counts for each of n processes as an n-th."""
    fields = _proc(pid, "statm").split()
    resident = int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0
    if not 0 < resident <= _MEASURED_EXACTLY:
        return resident
    for line in _proc(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return resident


def _io_of(pid: int) -> tuple[int, int]:
    """Bytes from and to block devices, with the children that it waited for."""
    read = write = 0
    for line in _proc(pid, "io").splitlines():
        key, _, value = line.partition(b": ")
        if key == b"read_bytes":
            read = int(value)
        elif key == b"write_bytes":
            write = int(value)
    return read, write


def _interfaces(pid: int, started: int) -> dict[str, tuple[int, int]]:
    """Bytes received and sent in a process's network namespace, by interface."""
    found: dict[str, tuple[int, int]] = {}
    for line in _proc(pid, "net/dev").splitlines()[2:]:
        name, _, rest = line.partition(b":")
        fields = rest.split()
        if name.strip() != b"lo" and len(fields) > 8:
            found[name.strip().decode(errors="replace")] = int(fields[0]), int(fields[8])
    return found if process.is_alive(pid, started) else {}
