"""One container's cgroup: made, found again, emptied, frozen, removed."""

from __future__ import annotations

import errno
import os
import time

from ...errors import Conflict, FastboxError, InvalidArgument, Unsupported
from .. import devices
from . import files, v1, v2
from .layout import SYSTEMD, V2_CONTROLLERS, CgroupLayout, enable_v2
from .resources import Resources

REMOVE_SECONDS = 5.0
FREEZE_SECONDS = 10.0


class Cgroup:
    """A container's group in all hierarchies that it is in.

    Attributes:
        path: relative to the layout's directories, for example ``fastbox/0123…``.
        v2_dir: its directory in the v2 hierarchy (for CLONE_INTO_CGROUP), or None.
        v1_dirs: controller -> directory. Whoever is to be in the group writes 0 into
            ``cgroup.procs`` of each.
    """

    __slots__ = ("layout", "path", "v1_dirs", "v2_dir")

    def __init__(
        self, layout: CgroupLayout, path: str, v2_dir: str | None, v1_dirs: dict[str, str]
    ) -> None:
        self.layout = layout
        self.path = path
        self.v2_dir = v2_dir
        self.v1_dirs = v1_dirs

    def __repr__(self) -> str:
        return f"Cgroup({self.path!r}, v2_dir={self.v2_dir!r}, v1_dirs={self.v1_dirs!r})"

    @property
    def all_dirs(self) -> list[str]:
        """All its directories, each once, the v2 one first."""
        dirs = [self.v2_dir] if self.v2_dir else []
        dirs += dict.fromkeys(self.v1_dirs.values())
        return dirs

    @property
    def _members(self) -> str:
        """The directory that every process of the container is in."""
        if self.v2_dir:
            return self.v2_dir
        for controller in ("freezer", "devices", *self.v1_dirs):
            if controller in self.v1_dirs:
                return self.v1_dirs[controller]
        raise FileNotFoundError(errno.ENOENT, "no such cgroup", self.path)

    def exists(self) -> bool:
        """Whether there is anything of it."""
        return any(os.path.isdir(directory) for directory in self.all_dirs)

    def pids(self) -> list[int]:
        """Processes in the group and in groups below it; [] when it does not exist."""
        try:
            top = self._members
        except FileNotFoundError:
            return []
        result: set[int] = set()
        for directory in tree(top):
            try:
                result.update(map(int, files.read(directory, "cgroup.procs").split()))
            except FileNotFoundError:
                continue
            except OSError as e:
                if e.errno != errno.EOPNOTSUPP:  # a threaded group: its domain lists them
                    raise
        return sorted(result - {0})

    def kill(self) -> None:
        """SIGKILL to every process, also to those that are being forked; also when frozen.

        Raises:
            FastboxError: the kernel refused.
        """
        if not self.exists():
            return
        if self.v2_dir:
            try:
                files.write_raw(self.v2_dir, "cgroup.kill", "1")  # Linux 5.14
                self._thaw_v1()
                return
            except FileNotFoundError:
                pass
            except OSError as e:
                if e.errno != errno.EOPNOTSUPP:
                    raise files.failure(f"killing cgroup {self.v2_dir}", e) from e
        self._kill_each()

    def _kill_each(self) -> None:
        # Frozen processes cannot fork, so that one pass gets all of them. Where freezing is
        # impossible, passes are repeated until nothing is left.
        import signal

        try:
            self.freeze()
        except FastboxError:
            pass
        for attempt in range(100):
            pids = self.pids()
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            if attempt == 0:
                try:
                    self.thaw()
                except FastboxError:
                    pass
                self._thaw_v1()
            elif not pids:
                return
            else:
                time.sleep(0.001 * min(attempt, 20))

    def _thaw_v1(self) -> None:
        """A process frozen by the v1 freezer dies only when it is thawed, unlike one of v2."""
        if "freezer" in self.v1_dirs:
            for directory in tree(self.v1_dirs["freezer"]):
                try:
                    files.write_raw(directory, "freezer.state", "THAWED")
                except OSError:
                    continue  # gone

    def freeze(self) -> None:
        """Stop all processes; returns when they stand still.

        Raises:
            Unsupported: no freezer; or they did not stop within 10 s (then they are thawed).
        """
        if self.v2_dir and self.layout.v2_freezes:
            v2.freeze(self.v2_dir, FREEZE_SECONDS)
        elif "freezer" in self.v1_dirs:
            v1.freeze(self.v1_dirs["freezer"], FREEZE_SECONDS)
        else:
            raise Unsupported(f"cgroup {self.path} cannot be frozen: no freezer controller")

    def thaw(self) -> None:
        """Let all processes go on. Raises Unsupported: no freezer."""
        if self.v2_dir and self.layout.v2_freezes:
            files.write(self.v2_dir, "cgroup.freeze", "0")
        elif "freezer" in self.v1_dirs:
            files.write(self.v1_dirs["freezer"], "freezer.state", "THAWED")
        else:
            raise Unsupported(f"cgroup {self.path} cannot be thawed: no freezer controller")

    def is_frozen(self) -> bool:
        """Whether it is frozen."""
        try:
            if self.v2_dir and self.layout.v2_freezes:
                return v2.events(self.v2_dir).get("frozen") == "1"
            if "freezer" in self.v1_dirs:
                return files.read(self.v1_dirs["freezer"], "freezer.state") == "FROZEN"
        except FileNotFoundError:
            pass
        return False

    def oom_kills(self) -> int:
        """How many processes the kernel killed for want of memory; 0 when nobody counts."""
        try:
            if "memory" in self.v1_dirs:
                return v1.oom_kills(self.v1_dirs["memory"])
            if self.v2_dir:
                return v2.oom_kills(self.v2_dir)
        except FileNotFoundError:
            pass
        return 0

    def update(self, resources: Resources) -> None:
        """Change limits of controllers that the group has joined already (device rules: v2 only).

        Raises:
            Unsupported: a limit needs a v1 hierarchy that the container is not in (see ``join``).
            PermissionDenied, InvalidArgument: as ``create``.
        """
        for controller in resources.controllers():
            if controller in self.layout.v1 and controller not in self.v1_dirs:
                raise Unsupported(f"cgroup {self.path} is not in the {controller} hierarchy")
        for controller in resources.controllers():
            if controller in self.v1_dirs:
                v1.apply(self.v1_dirs[controller], controller, resources)
            else:
                self._apply_v2(controller, resources)

    def _apply_v2(self, controller: str, resources: Resources) -> None:
        if not self.v2_dir or not self.layout.v2:
            raise _no_controller(controller)
        try:
            v2.apply(self.v2_dir, controller, resources)
        except FileNotFoundError:
            # The controller is not switched on in the groups above, or not there at all.
            try:
                name = {"blkio": "io"}.get(controller, controller)
                enable_v2(self.layout.v2, self.path, (name,))
                v2.apply(self.v2_dir, controller, resources)
            except FileNotFoundError as e:
                raise _no_controller(controller) from e
            except OSError as e:
                raise files.failure(f"enabling the {controller} controller", e) from e

    def remove(self) -> None:
        """Remove the directories, groups below them first; fine when they are gone.

        Waits up to 5 s for processes that are on their way out.

        Raises:
            Conflict: processes are left in it.
        """
        deadline = time.monotonic() + REMOVE_SECONDS
        for directory in self.all_dirs:
            self._remove_one(directory, deadline)

    def _remove_one(self, directory: str, deadline: float) -> None:
        pause = 0.001
        while True:
            try:
                os.rmdir(directory)
                return
            except FileNotFoundError:
                return
            except OSError as e:
                if e.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise files.failure(f"removing cgroup {directory}", e) from e
            below = tree(directory)
            if len(below) > 1:
                for inner in reversed(below[1:]):
                    self._remove_one(inner, deadline)
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                pids = files.read(directory, "cgroup.procs").split()
                raise Conflict(
                    f"removing cgroup {directory} failed: processes are left in it: "
                    f"{' '.join(pids[:10]) or 'none visible'}"
                )
            if self.v2_dir and directory.startswith(self.v2_dir):
                v2.wait_empty(directory, min(left, 0.1))
            else:
                time.sleep(min(pause, left))
                pause = min(pause * 2, 0.1)


def tree(top: str) -> list[str]:
    """A directory and all below it, parents first."""
    result = [top]
    for directory in result:
        try:
            with os.scandir(directory) as entries:
                result += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            continue
    return result


def _no_controller(controller: str) -> FastboxError:
    return Unsupported(
        f"the kernel or the parent cgroup has no {controller} controller",
        hint="see cgroup.controllers of the hierarchy, and cgroup_disable= of the kernel",
    )


def _check_path(path: str) -> str:
    parts = path.strip("/").split("/")
    for part in parts:
        if part in ("", ".", "..") or "\0" in part or "\n" in part or len(part) > 255:
            raise InvalidArgument(f"invalid cgroup path: {path!r}")
    return "/".join(parts)


def open_existing(layout: CgroupLayout, path: str) -> Cgroup:
    """The group as far as it exists (``exists`` tells whether it does at all)."""
    path = _check_path(path)
    v2_dir = f"{layout.v2}/{path}" if layout.v2 else None
    if v2_dir is not None and not os.path.isdir(v2_dir):
        v2_dir = None
    v1_dirs = {}
    for controller, top in layout.v1.items():
        directory = f"{top}/{path}"
        if os.path.isdir(directory):
            v1_dirs[controller] = directory
    return Cgroup(layout, path, v2_dir, v1_dirs)


def create(layout: CgroupLayout, path: str, resources: Resources) -> Cgroup:
    """Make a group with its limits and its device filter, still without processes.

    A leftover of the same path is removed first if it is empty. On an error nothing is left.

    Args:
        path: for example ``fastbox/ID``; groups above are made as needed and stay.

    Raises:
        Conflict: the group exists and has processes.
        Unsupported: a controller is missing, or devices cannot be filtered here.
        PermissionDenied: the hierarchy is not writable.
        InvalidArgument: the path, or a value that the kernel refuses.
    """
    path = _check_path(path)
    group = Cgroup(layout, path, None, {})
    try:
        if layout.v2 is not None:
            _make_v2(group, layout.v2)
        if resources.devices is not None:
            _filter_devices(group, resources.devices)
        if layout.mode == "v1":
            for controller in ("devices", "freezer"):
                make_v1(group, controller)
            if SYSTEMD in layout.v1:
                make_v1(group, SYSTEMD)
        elif not layout.v2_freezes and "freezer" in layout.v1:
            make_v1(group, "freezer")
        for controller in resources.controllers():
            if controller in layout.v1:
                v1.apply(make_v1(group, controller), controller, resources)
            else:
                group._apply_v2(controller, resources)
    except BaseException:
        for directory in reversed(group.all_dirs):
            try:
                os.rmdir(directory)
            except OSError:
                pass
        raise
    return group


def _make_v2(group: Cgroup, top: str) -> None:
    directory = f"{top}/{group.path}"
    made_parents = _mkdir(top, group.path)
    group.v2_dir = directory
    if made_parents and group.layout.mode == "v2":
        # For accounting, and for limits that are set later. One after the other: a controller
        # that cannot be had must not keep the others out.
        offered = group.layout.v2_controllers()
        for controller in V2_CONTROLLERS:
            if controller in offered:
                try:
                    enable_v2(top, group.path, (controller,))
                except OSError:
                    continue


def make_v1(group: Cgroup, controller: str) -> str:
    """Join a v1 hierarchy: make the group's directory there; its path."""
    top = group.layout.v1.get(controller)
    if top is None:
        raise _no_controller(controller)
    directory = f"{top}/{group.path}"
    if directory not in group.v1_dirs.values():
        _mkdir(top, group.path)
    group.v1_dirs[controller] = directory
    if controller == "cpuset":
        v1.fill_cpuset(top, group.path)
    return directory


def _mkdir(top: str, path: str) -> bool:
    """Make a group; whether groups above it had to be made."""
    directory = f"{top}/{path}"
    made_parents = False
    for _ in range(3):
        try:
            os.mkdir(directory, 0o755)
            return made_parents
        except FileNotFoundError:
            os.makedirs(os.path.dirname(directory), 0o755, exist_ok=True)
            made_parents = True
        except FileExistsError:
            # What a killed engine left behind; with processes in it, it is somebody's.
            for inner in reversed(tree(directory)):
                try:
                    os.rmdir(inner)
                except FileNotFoundError:
                    continue
                except OSError as e:
                    raise Conflict(
                        f"creating cgroup {directory} failed: it exists and is in use",
                        hint="another container or program runs in it",
                    ) from e
        except OSError as e:
            raise files.failure(f"creating cgroup {directory}", e) from e
    raise Conflict(f"creating cgroup {directory} failed: somebody else keeps changing it")


def _filter_devices(group: Cgroup, rules: tuple[devices.DeviceRule, ...]) -> None:
    """Put the device filter on: BPF on the v2 group, else the v1 controller. Never neither."""
    policy = devices.normalize(rules)
    problem: OSError | None = None
    if group.v2_dir is not None and group.layout.bpf_devices is not False:
        try:
            v2.attach_devices(group.v2_dir, policy)
            group.layout.bpf_devices = True
            return
        except OSError as e:
            problem = e
            if group.layout.bpf_devices:
                raise files.failure(f"attaching the device filter to {group.v2_dir}", e) from e
    if "devices" not in group.layout.v1:
        reason = f": {problem.strerror}" if problem else ""
        raise Unsupported(
            f"devices cannot be filtered: BPF programs do not attach to cgroups{reason}",
            hint="the kernel needs CONFIG_CGROUP_BPF and the engine CAP_BPF and CAP_NET_ADMIN",
        ) from problem
    if problem is not None:
        group.layout.bpf_devices = False
    directory = make_v1(group, "devices")
    for name, line in devices.v1_writes(policy):
        files.write(directory, name, line)
