"""The other sides of the comparison: the floor in bare C, docker, podman (bundles.py has crun, runc
and bubblewrap)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bench.commands import CommandFailed, output, seconds
from bench.worlds import remove_cgroups
from fastbox.container.nursery import spread

HERE = os.path.dirname(os.path.abspath(__file__))
docker_network = "/proc/1/ns/net"  # of docker's daemon; bench/__main__.py knows better


class Life(NamedTuple):
    """Seconds of a container: until exec, and until nothing of it is left."""

    to_exec: float
    whole: float


class Floor:
    """bench/floor.c: the kernel's own cost of a container.

    Args:
        layers: directory that holds the lower directories; lowers: their names, top first.
        seccomp: a file of struct sock_filter, or None. bridge: of a network to be on, or None.
    """

    def __init__(
        self,
        work: str,
        layers: str,
        lowers: list[str],
        args: list[str],
        seccomp: str | None,
        bridge: str | None = None,
    ) -> None:
        self.program = compile_c(os.path.join(HERE, "floor.c"), "floor")
        self.work = work
        os.makedirs(os.path.dirname(work), exist_ok=True)
        # In a block group of its own: on ext4 it would pay for what others have just deleted.
        spread(os.path.dirname(work))
        os.mkdir(work)
        for name in ("hosts", "hostname", "resolv.conf"):
            with open(os.path.join(work, name), "w"):
                pass
        self.argv = [self.program, "-l", layers, "-d", ":".join(lowers), "-w", work]
        self.cgroup = unified_hierarchy()
        if self.cgroup:
            self.cgroup += f"/fastbox-floor-{os.getpid()}-{os.path.basename(work)}"
            os.mkdir(self.cgroup)
            self.argv += ["-c", self.cgroup]
        if seccomp:
            self.argv += ["-s", seccomp]
        if bridge:
            self.argv += ["-b", bridge]
        self.argv += args

    def live(self) -> Life:
        """One container, as measured inside (the helper's own start is not part)."""
        executed, whole = output(self.argv).split()
        return Life(int(executed) / 1e9, int(whole) / 1e9)

    def run(self) -> float:
        """Seconds of the whole life of one."""
        return self.live().whole

    def start(self) -> float:
        """Seconds until the exec of one."""
        return self.live().to_exec

    def close(self) -> None:
        if self.cgroup:
            remove_cgroups(self.cgroup)


def compile_c(source: str, name: str, *flags: str) -> str:
    """Build a C file with the system's compiler; its path, below bench/bin."""
    target = os.path.join(HERE, "bin", name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    changed = max(os.stat(path).st_mtime for path in (source, os.path.join(HERE, "common.h")))
    if not os.path.exists(target) or os.stat(target).st_mtime < changed:
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", *flags, "-o", target, source], check=True)
    return target


def unified_hierarchy() -> str:
    """Where cgroup v2 is mounted, or ``""``."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            head, _, tail = line.partition(" - ")
            if tail.startswith("cgroup2 "):
                return head.split(" ")[4]
    return ""


class Docker:
    """docker, with an image made from the same archive."""

    IMAGE = "fastbox-bench/busybox"
    NAME = "docker"
    LIMITS: list[str] = []

    def __init__(self, archive: str, args: list[str]) -> None:
        self.args = args
        self.argv = ["docker"]
        output([*self.argv, "import", archive, self.IMAGE])

    def run(self, *options: str) -> float:
        """Seconds of ``docker run --rm``; without options: without a network."""
        options = options or ("--network", "none")
        return seconds([*self.argv, "run", "--rm", *options, self.IMAGE, *self.args])

    @contextlib.contextmanager
    def sleeping(self, *options: str) -> Iterator[str]:
        """The id of a container that does nothing."""
        yield from _sleeping(self.argv, options or ("--network", "none"), self.IMAGE)

    @contextlib.contextmanager
    def network(self, name: str) -> Iterator[None]:
        """A bridge of that name."""
        output([*self.argv, "network", "create", name])
        try:
            yield
        finally:
            output([*self.argv, "network", "rm", name])

    def close(self) -> None:
        output([*self.argv, "rmi", "-f", self.IMAGE])


class Podman:
    """podman, with a store of its own on the same file system as fastbox's.

    Args:
        place: an existing directory; podman wants its path to be short.
    """

    IMAGE = "localhost/fastbox-bench/busybox"
    NAME = "podman"
    # As root on a machine with low hard limits its default of 1048576 files cannot be set.
    LIMITS = ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1000:1000"]

    def __init__(self, place: str, archive: str, args: list[str]) -> None:
        self.place = place
        self.args = args
        self.argv = ["podman", "--root", f"{place}/root", "--runroot", f"{place}/run"]
        self.argv += ["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]
        self.argv += ["--events-backend", "file"]
        output([*self.argv, "import", archive, self.IMAGE])

    def run(self, *options: str) -> float:
        """Seconds of ``podman run --rm``; without options: without a network."""
        options = options or ("--network", "none")
        return seconds([*self.argv, "run", "--rm", *self.LIMITS, *options, self.IMAGE, *self.args])

    @contextlib.contextmanager
    def sleeping(self, *options: str) -> Iterator[str]:
        """The id of a container that does nothing."""
        options = (*self.LIMITS, *(options or ("--network", "none")))
        yield from _sleeping(self.argv, options, self.IMAGE)

    def close(self) -> None:
        with contextlib.suppress(CommandFailed):
            output([*self.argv, "rm", "--all", "--force"])
        output([*self.argv, "rmi", "--all", "--force"])
        shutil.rmtree(self.place, ignore_errors=True)


def _sleeping(argv: list[str], options: Sequence[str], image: str) -> Iterator[str]:
    container = output([*argv, "run", "-d", *options, image, "sleep", "10000"])
    try:
        yield container
    finally:
        output([*argv, "rm", "-f", container])
