"""Peers that start what is ready made: a bundle (crun, runc) or a directory (bubblewrap)."""

from __future__ import annotations

import copy
import json
import os
import shutil
from typing import Any

from bench.commands import output, seconds
from bench.worlds import remove_cgroups

_CGROUPS = "/sys/fs/cgroup"


class Oci:
    """``crun run`` or ``runc run`` of a bundle that was prepared from a fastbox container's own
    config.json.

    They get their root filesystem ready made (fastbox's start makes an overlay as part of the
    measured time), everything else is what fastbox gives its containers.
    """

    def __init__(
        self, name: str, work: str, rootfs: str, config: dict[str, Any], args: list[str]
    ) -> None:
        self.name = name
        self.work = work
        self.count = 0
        os.makedirs(work)
        self.cgroup = f"{name}-bench-{os.getpid()}"
        spec = copy.deepcopy(config)
        spec["root"] = {"path": rootfs, "readonly": False}
        spec["process"]["args"] = args
        spec["process"]["terminal"] = False
        spec["linux"]["cgroupsPath"] = f"/{self.cgroup}/box"
        for device in spec["linux"]["resources"].get("devices", []):
            for number in ("major", "minor"):
                if device.get(number) == -1:  # "all" for runc and for us, an error for crun
                    del device[number]
        # The example container is removed before they run: keep what its mounts bind.
        for mount in spec["mounts"]:
            if mount["type"] == "bind":
                kept = os.path.join(work, os.path.basename(mount["source"]))
                shutil.copyfile(mount["source"], kept)
                mount["source"] = kept
        spec.pop("hooks", None)
        spec.pop("annotations", None)
        self.spec = spec
        self.bundle = self.make_bundle("bundle", spec)
        self.argv = [name, "--root", os.path.join(work, "state")]
        if name == "crun":
            self.argv.append("--cgroup-manager=cgroupfs")

    def make_bundle(self, name: str, spec: dict[str, Any]) -> str:
        """Write a spec to a directory of its own; the directory."""
        path = os.path.join(self.work, name)
        os.makedirs(path)
        with open(os.path.join(path, "config.json"), "w") as file:
            json.dump(spec, file)
        return path

    def command(self, *words: str) -> None:
        """Any other command of theirs."""
        output([*self.argv, *words])

    def start_sleeping(self) -> str:
        """A container that does nothing, of the same spec; its name."""
        self.count += 1
        name = f"sleep{os.getpid()}x{self.count}"
        sleeping = copy.deepcopy(self.spec)
        sleeping["process"]["args"] = ["sleep", "10000"]
        sleeping["linux"]["cgroupsPath"] += f"-{name}"
        bundle = self.make_bundle(name, sleeping)
        seconds([*self.argv, "run", "--detach", "--bundle", bundle, name])
        return name

    def delete(self, name: str) -> None:
        self.command("delete", "--force", name)

    def run(self) -> float:
        """Seconds of a container, as a whole process."""
        self.count += 1
        name = f"bench{os.getpid()}x{self.count}"
        return seconds([*self.argv, "run", "--bundle", self.bundle, name])

    def close(self) -> None:
        for name in [_CGROUPS, *(os.path.join(_CGROUPS, name) for name in os.listdir(_CGROUPS))]:
            remove_cgroups(os.path.join(name, self.cgroup))


class Bubblewrap:
    """``bwrap`` with namespaces of every kind, fastbox's seccomp filter and capabilities, and a
    directory as its root: no overlay, no cgroup, no masked paths, since it has none."""

    def __init__(self, rootfs: str, args: list[str], seccomp: str, kept: list[str]) -> None:
        self.filter = seccomp
        # No user namespace: neither do the others make one.
        self.argv = ["bwrap", "--unshare-ipc", "--unshare-pid"]
        self.argv += ["--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        self.argv += ["--hostname", "box", "--new-session", "--die-with-parent"]
        self.argv += ["--bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev"]
        self.argv += ["--ro-bind", "/sys", "/sys", "--cap-drop", "ALL"]
        for name in kept:
            self.argv += ["--cap-add", name]
        self.args = args

    def run(self) -> float:
        with open(self.filter, "rb") as file:
            argv = [*self.argv, "--seccomp", str(file.fileno()), *self.args]
            return seconds(argv, pass_fds=[file.fileno()])

    def close(self) -> None:
        """Nothing of it is left."""
