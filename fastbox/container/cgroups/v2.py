"""What is particular to cgroup v2: files of its controllers, events, the BPF device filter."""

from __future__ import annotations

import errno
import os
import select
import time

from ...errors import Unsupported
from .. import devices
from . import blkio, files
from .resources import PERIOD, Resources

_PIECE = 0.05  # seconds


def apply(directory: str, controller: str, r: Resources) -> None:
    """Set the limits of one controller.

    Raises:
        FileNotFoundError: the controller is not enabled for the group.
        FastboxError: see ``files.write``.
    """
    for name, value, optional in _settings(directory, controller, r):
        try:
            files.write_raw(directory, name, value)
        except FileNotFoundError:
            if not optional:
                raise
        except OSError as e:
            raise files.failure(f"setting {name} of cgroup {directory} to {value!r}", e) from e


def _settings(directory: str, controller: str, r: Resources) -> list[tuple[str, str, bool]]:
    """(file, value, whether it may be missing)"""
    out = []
    if controller == "memory":
        if r.memory:
            out.append(("memory.max", _bytes(r.memory), False))
        if r.swap_limit:
            swap = r.swap_limit if r.swap_limit < 0 else r.swap_limit - max(r.memory, 0)
            # Without CONFIG_SWAP there is no such file, and no swap either.
            out.append(("memory.swap.max", _bytes(swap), r.memory_swap <= 0))
        if r.memory_reservation:
            out.append(("memory.low", str(r.memory_reservation), False))
    elif controller == "cpu":
        if r.cpu_shares:
            out.append(("cpu.weight", str(r.weight), False))
        if r.quota or r.period:
            quota = str(r.quota) if r.quota > 0 else "max"
            out.append(("cpu.max", f"{quota} {r.period or PERIOD}", False))
    elif controller == "cpuset":
        if r.cpuset_cpus:
            out.append(("cpuset.cpus", r.cpuset_cpus, False))
        if r.cpuset_mems:
            out.append(("cpuset.mems", r.cpuset_mems, False))
    elif controller == "pids":
        out.append(("pids.max", "max" if r.pids_limit < 0 else str(r.pids_limit), False))
    elif controller == "blkio":
        out += blkio.settings_v2(directory, r.blkio_weight, r.block_limits)
    return out


def _bytes(value: int) -> str:
    return "max" if value < 0 else str(value)


def events(directory: str) -> dict[str, str]:
    """cgroup.events. Raises OSError."""
    lines = files.read(directory, "cgroup.events").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def oom_kills(directory: str) -> int:
    """oom_kill of memory.events, with the groups below. Raises FileNotFoundError."""
    for line in files.read(directory, "memory.events").splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return 0


def _wait_for(directory: str, key: str, value: str, seconds: float) -> bool:
    """Wait for an entry of cgroup.events, which poll(2) reports as POLLPRI."""
    deadline = time.monotonic() + seconds
    try:
        fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        wanted = f"{key} {value}\n".encode()
        while True:
            try:
                if wanted in os.pread(fd, 4096, 0):
                    return True
            except OSError as e:
                if e.errno == errno.ENODEV:  # removed meanwhile
                    return True
                raise
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # In pieces: the group's removal wakes nobody up.
            poller.poll(min(left, _PIECE) * 1000)
    finally:
        os.close(fd)


def wait_empty(directory: str, seconds: float) -> bool:
    """Wait until no process is in the group or below; False when it took too long."""
    return _wait_for(directory, "populated", "0", seconds)


def freeze(directory: str, seconds: float) -> None:
    """Freeze, and wait for it.

    Raises:
        Unsupported: not frozen in time; it is thawed again.
        FastboxError: see ``files.write``.
    """
    files.write(directory, "cgroup.freeze", "1")
    if not _wait_for(directory, "frozen", "1", seconds):
        files.write(directory, "cgroup.freeze", "0")
        raise Unsupported(
            f"freezing cgroup {directory} failed: a process did not stop in {seconds} s"
        )


def attach_devices(directory: str, policy: devices.Policy) -> None:
    """Attach the device filter of a policy. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        devices.attach(fd, policy)
    finally:
        os.close(fd)
