"""What is particular to cgroup v1: files of its controllers, and the freezer."""

from __future__ import annotations

import errno
import time

from ...errors import Unsupported
from . import blkio, files
from .resources import MAX_SHARES, MIN_SHARES, Resources


def apply(directory: str, controller: str, r: Resources) -> None:
    """Set the limits of one controller.

    Raises:
        FastboxError: see ``files.write``.
    """
    if controller == "memory":
        _apply_memory(directory, r)
    elif controller == "cpu":
        if r.cpu_shares:
            shares = min(max(r.cpu_shares, MIN_SHARES), MAX_SHARES)
            files.write(directory, "cpu.shares", str(shares))
        if r.period:
            files.write(directory, "cpu.cfs_period_us", str(r.period))
        if r.quota:
            files.write(directory, "cpu.cfs_quota_us", str(r.quota))
    elif controller == "cpuset":
        if r.cpuset_cpus:
            files.write(directory, "cpuset.cpus", r.cpuset_cpus)
        if r.cpuset_mems:
            files.write(directory, "cpuset.mems", r.cpuset_mems)
    elif controller == "pids":
        files.write(directory, "pids.max", "max" if r.pids_limit < 0 else str(r.pids_limit))
    elif controller == "blkio":
        blkio.apply_v1(directory, r.blkio_weight, r.block_limits)


def _apply_memory(directory: str, r: Resources) -> None:
    if r.memory or r.swap_limit:
        # The kernel holds memory <= memory+swap at every moment. To raise both, memory+swap goes
        # first; to lower both, memory. In a new group both orders start from unlimited.
        steps = []
        if r.memory:
            steps.append(("memory.limit_in_bytes", r.memory))
        if r.swap_limit:
            steps.append(("memory.memsw.limit_in_bytes", r.swap_limit))
        try:
            _write_memory(directory, steps, r)
        except OSError as e:
            if e.errno != errno.EINVAL or len(steps) < 2:
                raise _memory_failure(directory, r, e) from e
            try:
                _write_memory(directory, steps[::-1], r)
            except OSError as again:
                raise _memory_failure(directory, r, again) from again
    if r.memory_reservation:
        files.write(directory, "memory.soft_limit_in_bytes", str(r.memory_reservation))
    if r.memory_swappiness is not None:
        files.write(directory, "memory.swappiness", str(r.memory_swappiness))
    if r.oom_kill_disable:
        files.write(directory, "memory.oom_control", "1")


def _write_memory(directory: str, steps: list[tuple[str, int]], r: Resources) -> None:
    for name, value in steps:
        try:
            files.write_raw(directory, name, str(value))
        except FileNotFoundError:
            # No swap accounting (swapaccount=0). Without it swap is not limited; that is an error
            # only for who asked for it.
            if name != "memory.memsw.limit_in_bytes" or r.memory_swap > 0:
                raise


def _memory_failure(directory: str, r: Resources, e: OSError) -> Exception:
    if isinstance(e, FileNotFoundError):
        return Unsupported(
            "the kernel does not support swap limits",
            hint="boot with swapaccount=1, or leave out --memory-swap",
        )
    error = files.failure(f"setting the memory limit of {directory} to {r.memory}", e)
    if e.errno == errno.EBUSY:
        error.hint = "the container uses more memory than that"
    return error


def fill_cpuset(top: str, path: str) -> None:
    """Give a new cpuset group and those above it CPUs and nodes: v1 makes them empty, and an
    empty group takes no process (ENOSPC).

    Raises:
        FastboxError: see ``files.write``.
    """
    directory = top
    for part in path.split("/"):
        parent, directory = directory, f"{directory}/{part}"
        for name in ("cpuset.cpus", "cpuset.mems"):
            try:
                if not files.read(directory, name):
                    files.write(directory, name, files.read(parent, name))
            except OSError as e:
                raise files.failure(f"reading {name} of cgroup {parent}", e) from e


def freeze(directory: str, seconds: float) -> None:
    """Freeze, and wait for it. The kernel's v1 freezer can get stuck half way with processes in
    vfork or in uninterruptible sleep; writing again, after a thaw, usually gets it going.

    Raises:
        Unsupported: not frozen in time; it is thawed again.
    """
    deadline = time.monotonic() + seconds
    attempt = 0
    while time.monotonic() < deadline:
        files.write(directory, "freezer.state", "FROZEN")
        try:
            state = files.read(directory, "freezer.state")
        except OSError as e:
            raise files.failure(f"freezing cgroup {directory}", e) from e
        if state == "FROZEN":
            return
        attempt += 1
        if attempt % 50 == 0:
            files.write(directory, "freezer.state", "THAWED")
        time.sleep(0.001 if attempt < 50 else 0.01)
    files.write(directory, "freezer.state", "THAWED")
    raise Unsupported(f"freezing cgroup {directory} failed: a process did not stop in {seconds} s")


def oom_kills(directory: str) -> int:
    """oom_kill of memory.oom_control (Linux 4.13); 0 before."""
    for line in files.read(directory, "memory.oom_control").splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return 0
