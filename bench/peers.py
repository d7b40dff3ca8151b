"""The other sides of the comparison: the floor in bare C, crun, docker, podman, skopeo, tar."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from bench.worlds import docker_answers

HERE = os.path.dirname(os.path.abspath(__file__))
docker_network = "/proc/1/ns/net"  # of docker's daemon; bench/__main__.py knows better


class Floor:
    """bench/floor.c: the kernel's own cost of a container.

    Args:
        layers: directory that holds the lower directories; lowers: their names, top first.
        seccomp: a file of struct sock_filter, or None.
    """

    def __init__(
        self, work: str, layers: str, lowers: list[str], args: list[str], seccomp: str | None
    ) -> None:
        self.program = compile_c(os.path.join(HERE, "floor.c"), "floor")
        self.work = work
        os.makedirs(work)
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
        self.argv += args

    def run(self) -> float:
        """Seconds of one container, as measured inside (the helper's own start is not part)."""
        done = subprocess.run(self.argv, stdout=subprocess.PIPE, check=True)
        return int(done.stdout) / 1e9

    def close(self) -> None:
        if self.cgroup:
            remove_cgroups(self.cgroup)


def remove_cgroups(path: str) -> None:
    """Remove a cgroup and those below it, as far as they are empty."""
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def compile_c(source: str, name: str, *flags: str) -> str:
    """Build a C file with the system's compiler; its path, below bench/bin."""
    target = os.path.join(HERE, "bin", name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not os.path.exists(target) or os.stat(target).st_mtime < os.stat(source).st_mtime:
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


class Crun:
    """``crun run`` of a bundle that was prepared from a fastbox container's own config.json.

    crun gets its root filesystem ready made (fastbox's start makes an overlay as part of the
    measured time), everything else is what fastbox gives its containers.
    """

    def __init__(self, work: str, rootfs: str, config: dict[str, Any], args: list[str]) -> None:
        self.work = work
        self.count = 0
        os.makedirs(work)
        self.cgroup = f"crun-bench-{os.getpid()}"
        spec = copy.deepcopy(config)
        spec["root"] = {"path": rootfs, "readonly": False}
        spec["process"]["args"] = args
        spec["process"]["terminal"] = False
        spec["linux"]["cgroupsPath"] = f"/{self.cgroup}/box"
        for device in spec["linux"]["resources"].get("devices", []):
            for number in ("major", "minor"):
                if device.get(number) == -1:  # "all" for runc and for us, an error for crun
                    del device[number]
        # The example container is removed before crun runs: keep what its mounts bind.
        for mount in spec["mounts"]:
            if mount["type"] == "bind":
                kept = os.path.join(work, os.path.basename(mount["source"]))
                shutil.copyfile(mount["source"], kept)
                mount["source"] = kept
        spec.pop("hooks", None)
        spec.pop("annotations", None)
        with open(os.path.join(work, "config.json"), "w") as file:
            json.dump(spec, file)
        self.argv = ["crun", "--root", os.path.join(work, "state"), "--cgroup-manager=cgroupfs"]

    def command(self, *words: str) -> None:
        """Any other command of crun's."""
        done = subprocess.run(
            [*self.argv, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"crun {words[0]}: {done.stderr.strip()}")

    def start_sleeping(self) -> str:
        """A container that does nothing, from the same bundle; its name."""
        name, path = f"sleep{os.getpid()}", os.path.join(self.work, "config.json")
        with open(path) as file:
            spec = json.load(file)
        sleeping = copy.deepcopy(spec)
        sleeping["process"]["args"] = ["sleep", "10000"]
        sleeping["linux"]["cgroupsPath"] += "-sleep"
        with open(path, "w") as file:
            json.dump(sleeping, file)
        argv = [*self.argv, "run", "--detach", "--bundle", self.work, name]
        with open(os.devnull, "r+") as null:
            subprocess.run(argv, stdin=null, stdout=null, stderr=null, check=True)
        with open(path, "w") as file:
            json.dump(spec, file)
        return name

    def delete(self, name: str) -> None:
        self.command("delete", "--force", name)

    def run(self) -> float:
        self.count += 1
        argv = [*self.argv, "run", "--bundle", self.work, f"bench{os.getpid()}x{self.count}"]
        start = time.perf_counter()
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        taken = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"crun: {done.stderr.strip()}")
        return taken

    def close(self) -> None:
        base = "/sys/fs/cgroup"
        for name in [base, *(os.path.join(base, name) for name in os.listdir(base))]:
            remove_cgroups(os.path.join(name, self.cgroup))


class Docker:
    """docker, with an image made from the same archive."""

    IMAGE = "fastbox-bench/busybox"

    def __init__(self, archive: str, args: list[str]) -> None:
        self.args = args
        subprocess.run(["docker", "import", archive, self.IMAGE], check=True, capture_output=True)

    def run(self, *options: str) -> float:
        """Seconds of ``docker run --rm``; without options: without a network."""
        start = time.perf_counter()
        options = options or ("--network", "none")
        argv = ["docker", "run", "--rm", *options, self.IMAGE, *self.args]
        subprocess.run(argv, check=True, capture_output=True)
        return time.perf_counter() - start

    @contextlib.contextmanager
    def network(self, name: str) -> Iterator[None]:
        """A bridge of that name."""
        command = ["docker", "network"]
        subprocess.run([*command, "create", name], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run([*command, "rm", name], check=True, capture_output=True)

    def close(self) -> None:
        subprocess.run(["docker", "rmi", "-f", self.IMAGE], check=True, capture_output=True)


def absent() -> dict[str, str]:
    """Peers that cannot run here: name -> why."""
    missing = {}
    if not shutil.which("crun"):
        missing["crun"] = "not installed"
    if why := docker_answers():
        missing["docker"] = why
    for name in ("tar", "podman", "skopeo"):
        if not shutil.which(name):
            missing[name] = "not installed"
    return missing
