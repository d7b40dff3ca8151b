"""What a result was measured on: a number without its machine says little."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import Any

from bench.roster import versions

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def describe(store: str = "/var/tmp") -> dict[str, Any]:
    """The machine as the results record it.

    Args:
        store: a path of the file system that the stores are on.

    Returns:
        cpu, cores, memory (bytes), kernel, cgroup (``"v1"``, ``"v2"``, ``"hybrid"``), filesystem,
        kvm, load (of one minute, at the time of asking), python, revision (of git, with ``+`` for
        changes that are not committed; "" outside of it), peers (name -> version).
    """
    return {
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "cgroup": cgroup_version(),
        "filesystem": filesystem(store),
        "kvm": kvm(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "revision": revision(),
        "peers": versions(),
    }


def sentence(machine: dict[str, Any]) -> str:
    """One line of it, for plots and tables."""
    kvm_text = "/dev/kvm" if machine.get("kvm") else "no /dev/kvm"
    return (
        f"{machine.get('cpu', '?')}, {machine.get('cores', '?')} cores, "
        f"{machine.get('memory', 0) / (1 << 30):.0f} GiB, Linux {machine.get('kernel', '?')}, "
        f"cgroup {machine.get('cgroup', '?')}, {machine.get('filesystem', '?')}, {kvm_text}, "
        f"load {machine.get('load', 0):.1f} before"
    )


def cpu() -> str:
    """The processor's name."""
    names: dict[str, str] = {}
    with open("/proc/cpuinfo") as file:
        for line in file:
            name, _, value = line.partition(":")
            names[name.strip()] = value.strip()
    return names.get("model name") or platform.machine()


def cgroup_version(base: str = "/sys/fs/cgroup") -> str:
    """v2, v1, or hybrid: v1 with an empty v2 hierarchy beside it."""
    if os.path.exists(os.path.join(base, "cgroup.controllers")):
        return "v2"
    return "hybrid" if os.path.isdir(os.path.join(base, "unified")) else "v1"


def filesystem(path: str) -> str:
    """The type of the file system that a path is on."""
    found, length = "?", -1
    real = os.path.realpath(path)
    with open("/proc/self/mountinfo") as file:
        for line in file:
            head, _, tail = line.partition(" - ")
            point = head.split(" ")[4]
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= length:
                found, length = tail.split(" ")[0], len(point)
    return found


def kvm(device: str = "/dev/kvm") -> bool:
    """Whether hardware virtualisation can be asked for: the device opens."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def revision(project: str = PROJECT) -> str:
    """The short commit, as ``git describe`` tells it."""
    git = ["git", "-c", f"safe.directory={project}", "-C", project]
    try:
        done = subprocess.run(
            [*git, "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
