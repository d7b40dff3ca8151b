"""Which cgroup hierarchies this host has, where they are mounted, and where we may make groups."""

from __future__ import annotations

import os
import re

from ...errors import Unsupported
from . import files

# Controllers that fastbox uses. v2 has no "devices" and no "freezer" controller.
CONTROLLERS = frozenset(("cpu", "cpuset", "memory", "pids", "devices", "freezer", "blkio"))
# The v1 hierarchy by which systemd tells whose process is whose. Not a controller, but what stays
# in a session's group there is killed with the session.
SYSTEMD = "name=systemd"
V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")

# Where processes go that stand in the way of the "no internal processes" rule, when the engine
# runs in a delegated cgroup.
LEAF = "fastbox-host"


class CgroupLayout:
    """The host's hierarchies.

    Attributes:
        mode: ``"v1"``, ``"v2"`` or ``"hybrid"``.
        v2: directory below which groups are made in the v2 hierarchy, or None.
        v1: controller -> directory below which groups are made in its v1 hierarchy. Controllers
            that are mounted together share one directory.
        v2_freezes: whether v2 groups have cgroup.freeze (Linux 5.2).
        bpf_devices: whether device filters attach to v2 groups; None = not tried yet.
    """

    __slots__ = ("bpf_devices", "mode", "v1", "v2", "v2_freezes")

    def __init__(self, v2: str | None, v1: dict[str, str], *, v2_freezes: bool = True) -> None:
        self.v2 = v2
        self.v1 = v1
        self.mode = "v1" if v2 is None else "hybrid" if v1 else "v2"
        self.v2_freezes = v2_freezes
        self.bpf_devices: bool | None = None if v2 is not None else False

    def __repr__(self) -> str:
        return f"CgroupLayout(mode={self.mode!r}, v2={self.v2!r}, v1={self.v1!r})"

    def v2_controllers(self) -> frozenset[str]:
        """Controllers that the v2 hierarchy offers to our groups (those not taken by v1)."""
        if self.v2 is None:
            return frozenset()
        try:
            return frozenset(files.read(self.v2, "cgroup.controllers").split())
        except OSError:
            return frozenset()


_detected: CgroupLayout | None = None


def detect(*, refresh: bool = False) -> CgroupLayout:
    """The host's layout, found once per process from /proc/self/mountinfo and /proc/self/cgroup.

    Args:
        refresh: look again (mounts changed).

    Raises:
        Unsupported: no cgroup hierarchy is mounted that we may write to.
    """
    global _detected
    if _detected is None or refresh:
        with open("/proc/self/mountinfo", "rb") as f:
            mountinfo = f.read()
        with open("/proc/self/cgroup", "rb") as f:
            own = f.read()
        _detected = parse(mountinfo, own)
    return _detected


def parse(mountinfo: bytes, own: bytes) -> CgroupLayout:
    """``detect`` on given file contents (proc_pid_mountinfo(5), cgroups(7))."""
    v2_mounts: list[tuple[str, str]] = []
    v1_mounts: dict[str, list[tuple[str, str]]] = {}
    for line in mountinfo.splitlines():
        head, separator, tail = line.partition(b" - cgroup")
        if not separator:
            continue
        fields = head.split(b" ")
        place = _unescape(fields[4]), _unescape(fields[3])
        if tail.startswith(b"2 "):
            v2_mounts.append(place)
        elif tail.startswith(b" "):
            for option in tail.split(b" ")[-1].decode("ascii", "replace").split(","):
                if option in CONTROLLERS or option == SYSTEMD:
                    v1_mounts.setdefault(option, []).append(place)
    v2_own, v1_own = _own_groups(own)
    v2 = _usable(v2_mounts, v2_own)
    v1 = {}
    for controller, places in v1_mounts.items():
        directory = _usable(places, v1_own.get(controller, "/"))
        if directory is not None:
            v1[controller] = directory
    if v2 is None and "devices" not in v1:
        raise Unsupported(
            "no writable cgroup hierarchy is mounted",
            hint="mount -t cgroup2 none /sys/fs/cgroup, and run as root or in a delegated cgroup",
        )
    return CgroupLayout(v2, v1, v2_freezes=v2 is not None and _has_freeze())


def _unescape(field: bytes) -> str:
    if b"\\" in field:  # octal, for blanks, tabs, newlines and backslashes
        field = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), field)
    return os.fsdecode(field)


def _own_groups(text: bytes) -> tuple[str, dict[str, str]]:
    v2, v1 = "/", {}
    for line in text.splitlines():
        number, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if number == b"0" and not controllers:
            v2 = os.fsdecode(path)
        else:
            for controller in controllers.decode("ascii", "replace").split(","):
                v1[controller] = os.fsdecode(path)
    return v2, v1


def _usable(places: list[tuple[str, str]], own: str) -> str | None:
    """The directory for our groups: the hierarchy's top if we may write there, else our own
    group (delegated to us), or None."""

    # Several mounts of one hierarchy: the usual place and the whole tree first.
    def unusual(place: tuple[str, str]) -> tuple[bool, bool]:
        return not place[0].startswith("/sys/fs/cgroup"), place[1] != "/"

    for mount, root in sorted(places, key=unusual):
        if _may_make_groups(mount):
            return mount
        prefix = "" if root == "/" else root
        if own != "/" and own.startswith(f"{prefix}/") and ".." not in own.split("/"):
            directory = mount + own[len(prefix) :]
            if os.path.basename(directory) == LEAF:
                directory = os.path.dirname(directory)
            if _may_make_groups(directory):
                return directory
    return None


def _may_make_groups(directory: str) -> bool:
    # access(2) also tells a read-only mount
    return os.access(directory, os.W_OK | os.X_OK) and os.access(
        f"{directory}/cgroup.procs", os.W_OK
    )


def _has_freeze() -> bool:
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(re.match(r"\d*", minor)[0] or 0)) >= (5, 2)  # type: ignore[index]


def enable_v2(top: str, path: str, controllers: tuple[str, ...] | list[str]) -> None:
    """Let the group ``top``/``path`` have v2 controllers: switch them on in all groups above it.

    Raises:
        OSError: ENOENT when the hierarchy does not offer a controller, EBUSY when there are
            processes in a group between.
    """
    command = " ".join(f"+{name}" for name in controllers)
    # A delegated group (a container's, a systemd unit's with Delegate=) holds the engine itself,
    # and a group with processes cannot hand controllers down (cgroup-v2.rst, "No Internal Process
    # Constraint"; only the true root, which has no cgroup.type, can). EBUSY says so for memory and
    # io; cpu and pids are switched on, but make all groups below "domain invalid".
    if os.path.exists(f"{top}/cgroup.type") and files.read(top, "cgroup.procs"):
        _clear(top)
    directory = top
    for part in ("", *path.split("/")[:-1]):
        directory = f"{directory}/{part}" if part else directory
        files.write_raw(directory, "cgroup.subtree_control", command)


def _clear(top: str) -> None:
    """Move the processes of a group to a leaf below it, as Docker's own dind script does."""
    leaf = f"{top}/{LEAF}"
    try:
        os.mkdir(leaf)
    except FileExistsError:
        pass
    for _ in range(100):  # processes fork while we move them
        pids = files.read(top, "cgroup.procs").split()
        for pid in pids:
            try:
                files.write_raw(leaf, "cgroup.procs", pid)
            except ProcessLookupError:
                pass
        if not pids:
            return
