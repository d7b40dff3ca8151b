"""A running container gets into v1 hierarchies that it did not start in, for limits that it did
not have. (On cgroup v2 there is nothing to join: one group has all controllers.)"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from ...errors import FastboxError, Unsupported
from . import files, v1
from .group import Cgroup, make_v1, tree
from .resources import Resources

# How often who is not in yet is moved, before forking is prevented: a parent that was moved has its
# children in the new group, so that few passes do, unless processes end as fast as they fork.
PASSES = 10
SECONDS = 10.0

StandingStill = Callable[[], AbstractContextManager[None]]


def join(
    cgroup: Cgroup,
    resources: Resources,
    undo: ExitStack,
    *,
    note: Callable[[dict[str, str]], None],
    standing_still: StandingStill,
) -> None:
    """See to it that the container is in every v1 hierarchy that a limit needs, with all its
    processes; new groups have their limits before the first one comes.

    Memory that is in use already stays charged where it is: the kernel does not move it.

    Args:
        undo: gets what takes the new groups away again.
        note: told the new directories (controller -> directory) before they are made, to remember
            them for the container's end.
        standing_still: while it is entered, none of the container's processes runs.

    Raises:
        FastboxError: see ``create``. Unsupported: a process cannot be moved.
    """
    wanted = [name for name in resources.controllers() if name in cgroup.layout.v1]
    new = {
        name: f"{cgroup.layout.v1[name]}/{cgroup.path}"
        for name in wanted
        if name not in cgroup.v1_dirs
    }
    if new:
        note(new)
    for name in wanted:
        if name not in new:
            # Also here somebody may be missing: an update that was killed half way.
            _Move(cgroup, name, standing_still).all_in()
            continue
        joined = dict(cgroup.v1_dirs)
        move = _Move(cgroup, name, standing_still)
        undo.callback(_leave, cgroup, joined, move)
        v1.apply(make_v1(cgroup, name), name, resources)
        move.all_in()


def _leave(cgroup: Cgroup, joined: dict[str, str], move: _Move) -> None:
    directory = cgroup.v1_dirs.get(move.controller)
    cgroup.v1_dirs = joined
    if directory is None or directory in joined.values():
        return
    with contextlib.suppress(FastboxError, OSError):
        move.all_out(directory)
    with contextlib.suppress(OSError):
        os.rmdir(directory)


class _Move:
    """Moves a container's processes into its group of one hierarchy, and back."""

    def __init__(self, cgroup: Cgroup, controller: str, standing_still: StandingStill) -> None:
        self.cgroup = cgroup
        self.controller = controller
        self.top = cgroup.layout.v1[controller]
        self.standing_still = standing_still
        self.origins: dict[int, str] = {}
        self._known: dict[str, str] = {}

    def all_in(self) -> None:
        directory = self.cgroup.v1_dirs[self.controller]

        def left() -> list[int]:
            return sorted(set(self.cgroup.pids()) - _pids(directory))

        def move(pid: int) -> None:
            self.origins.setdefault(pid, self._group_of(pid))
            _put(directory, pid)

        self._until_none(left, move)

    def all_out(self, directory: str) -> None:
        """Each to where it was; who was born since, to where the first one was."""
        usual = next(iter(self.origins.values()), self.top)

        def move(pid: int) -> None:
            try:
                _put(self.origins.get(pid, usual), pid)
            except FastboxError:
                _put(self.top, pid)

        self._until_none(lambda: sorted(_pids(directory)), move)

    def _until_none(self, left: Callable[[], list[int]], move: Callable[[int], None]) -> None:
        for _ in range(PASSES):
            pids = left()
            if not pids:
                return
            for pid in pids:
                move(pid)
        deadline = time.monotonic() + SECONDS
        with self.standing_still():
            while pids := left():
                for pid in pids:
                    move(pid)
                if time.monotonic() > deadline:
                    raise Unsupported(
                        f"cgroup {self.cgroup.path}: processes cannot be moved in the "
                        f"{self.controller} hierarchy: {' '.join(map(str, pids[:10]))}",
                        hint="stop the container, update it, start it",
                    )
                time.sleep(0.001)  # who is just ending

    def _group_of(self, pid: int) -> str:
        """The directory of the group that it is in. What /proc/PID/cgroup says is relative to the
        top of the hierarchy, of which only a part may be mounted."""
        path = _path_of(pid, self.controller)
        if path not in self._known:
            parts = [part for part in path.split("/") if part]
            places = ["/".join([self.top, *parts[n:]]) for n in range(len(parts) + 1)]
            found = (place for place in places if pid in _pids_of(place))
            self._known[path] = next(found, self.top)
        return self._known[path]


def _path_of(pid: int, controller: str) -> str:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                if controller in controllers.split(","):
                    return path
    except OSError:
        pass
    return "/"


def _put(directory: str, pid: int) -> None:
    try:
        files.write_raw(directory, "cgroup.procs", str(pid))
    except ProcessLookupError:
        pass
    except OSError as error:
        raise files.failure(f"moving process {pid} to cgroup {directory}", error) from error


def _pids_of(directory: str) -> set[int]:
    try:
        return set(map(int, files.read(directory, "cgroup.procs").split()))
    except OSError:
        return set()


def _pids(directory: str) -> set[int]:
    """Of a group and those below."""
    return set().union(*map(_pids_of, tree(directory)))
