"""``update``: other limits and another restart policy for a container that exists."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from .. import atomic
from ..errors import Conflict, FastboxError
from . import cgroups, process
from .cgroups import Resources
from .config import ContainerConfig, RestartPolicy
from .store import storing

if TYPE_CHECKING:
    from .cgroups import Cgroup
    from .record import Container
    from .store import ContainerStore

_MEMORY = ("memory", "memory_swap", "memory_reservation")
_CPU = ("nano_cpus", "cpu_period", "cpu_quota")


class Changes(msgspec.Struct, kw_only=True):
    """What to change; None and 0 leave a limit as it is. Fields as in ``ContainerConfig``, but a
    pids_limit of 0 is none."""

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    nano_cpus: int | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None
    blkio_weight: int | None = None
    restart: RestartPolicy | None = None

    def limits(self) -> dict[str, Any]:
        """The limits to set, by the config's field."""
        asked = {key: value for key, value in msgspec.structs.asdict(self).items() if value}
        asked.pop("restart", None)
        if self.pids_limit == 0:
            asked["pids_limit"] = -1
        return asked


def update(
    store: ContainerStore, container: Container, changes: Changes, cgroup: Cgroup | None
) -> None:
    """Change a container; on an error it is as it was. The caller holds its lock.

    Args:
        cgroup: of a container that is up.

    Raises:
        InvalidArgument: a bad limit. Conflict: it does not go with what the container has.
        Unsupported: see ``Cgroup.update``. StoreError
    """
    record = container.record
    old, limits = record.config, changes.limits()
    with _named(container):
        new = _merged(old, changes, limits)
    cgroups.validate(Resources.from_config(new), cgroups.detect())
    with _named(container), contextlib.ExitStack() as undo:
        if cgroup is not None and limits:
            _apply(store, container, cgroup, _part(new, limits), _before(old, limits), undo)
        record.config = new
        with storing("storing it"):
            # The record last: it is what counts.
            _write_resources(store.bundle(record), new, sync=not old.auto_remove)
            store.save_record(record, sync=not old.auto_remove)
        undo.pop_all()


@contextlib.contextmanager
def _named(container: Container) -> Iterator[None]:
    try:
        yield
    except FastboxError as error:
        error.message = f"Cannot update container {container.id}: {error.message}"
        raise


def _merged(old: ContainerConfig, changes: Changes, limits: dict[str, Any]) -> ContainerConfig:
    new: ContainerConfig = msgspec.structs.replace(old, **limits)
    swap = old.memory_swap or 2 * max(old.memory, 0)
    if "memory" in limits and "memory_swap" not in limits and swap > 0:
        if new.memory > swap:
            raise Conflict(
                "Memory limit should be smaller than already set memoryswap limit, update the "
                "memoryswap at the same time"
            )
        new.memory_swap = swap  # as it was: it does not follow the memory
    _check_cpu(old, limits)
    if changes.restart is not None:
        if old.auto_remove and changes.restart.name != "no":
            raise Conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        new.restart = changes.restart
    return new


def _check_cpu(old: ContainerConfig, limits: dict[str, Any]) -> None:
    """A limit by ``--cpus`` and one by period and quota exclude each other."""
    has = [("CPU Period", old.cpu_period), ("CPU Quota", old.cpu_quota)]
    for name, value in has:
        if "nano_cpus" in limits and value > 0:
            raise Conflict(
                f"Conflicting options: Nano CPUs cannot be updated as {name} has already been set"
            )
    for name, key in (("CPU Period", "cpu_period"), ("CPU Quota", "cpu_quota")):
        if key in limits and old.nano_cpus:
            raise Conflict(
                f"Conflicting options: {name} cannot be updated as NanoCPUs has already been set"
            )


def _part(config: ContainerConfig, limits: dict[str, Any]) -> Resources:
    """Those of the config's limits that are to be set; memory and swap depend on each other."""
    wanted = set(limits)
    for group in (_MEMORY, _CPU):
        if not wanted.isdisjoint(group):
            wanted.update(group)
    return Resources(**{key: getattr(config, key) for key in wanted}, devices=None)


def _before(old: ContainerConfig, limits: dict[str, Any]) -> Resources:
    """What the limits to be set were until now; none is said in words here."""
    before = _part(old, limits)
    if not limits.keys().isdisjoint(_MEMORY):
        before.memory = before.memory or -1
        before.memory_swap = before.swap_limit or -1
    if not limits.keys().isdisjoint(_CPU):
        before.cpu_quota = before.quota or -1
        before.cpu_period = before.period or cgroups.PERIOD
        before.nano_cpus = 0
    if "cpu_shares" in limits:
        before.cpu_shares = before.cpu_shares or cgroups.DEFAULT_SHARES
    if "blkio_weight" in limits:
        before.blkio_weight = before.blkio_weight or cgroups.DEFAULT_WEIGHT
    if "pids_limit" in limits:
        before.pids_limit = before.pids_limit or -1
    return before


def _apply(
    store: ContainerStore,
    container: Container,
    cgroup: Cgroup,
    wanted: Resources,
    before: Resources,
    undo: contextlib.ExitStack,
) -> None:
    """Set the limits of a container that is up. Should it end meanwhile, nothing is left of that:
    its monitor, which removes its groups, may have come too early for new ones."""
    state, path = container.state, store.more_cgroups(container.id)
    try:
        with contextlib.ExitStack() as mine, storing("joining cgroups"):
            cgroups.join(
                cgroup,
                wanted,
                mine,
                note=lambda new: _note(path, new, mine),
                standing_still=lambda: _standing_still(store, container.id, cgroup),
            )
            # Undone first: it wants to find all groups.
            mine.callback(_put_back, cgroup, before)
            cgroup.update(wanted)
            if process.is_alive(state.pid, state.pid_starttime):
                undo.enter_context(mine.pop_all())
    except FastboxError:
        if process.is_alive(state.pid, state.pid_starttime):
            raise


def _put_back(cgroup: Cgroup, before: Resources) -> None:
    with contextlib.suppress(FastboxError):
        cgroup.update(before)


def _note(path: str, new: dict[str, str], undo: contextlib.ExitStack) -> None:
    """Tell the monitor of further cgroups; see ``ContainerStore.more_cgroups``."""
    try:
        with open(path, "rb") as file:
            old = file.read()
    except FileNotFoundError:
        old = None
    lines = list(dict.fromkeys(new.values()))
    if "memory" in new:
        lines.append(f"oom {new['memory']}/memory.oom_control")
    text = b"".join(os.fsencode(line) + b"\n" for line in lines)
    undo.callback(_put_back_note, path, old)
    atomic.write(path, (old or b"") + text, sync=False)


def _put_back_note(path: str, old: bytes | None) -> None:
    with contextlib.suppress(OSError):
        if old is None:
            os.unlink(path)
        else:
            atomic.write(path, old, sync=False)


@contextlib.contextmanager
def _standing_still(store: ContainerStore, container_id: str, cgroup: Cgroup) -> Iterator[None]:
    """The container is paused, also for whoever looks: should this process be killed meanwhile,
    ``unpause`` lets it go on."""
    mark = store.pause_mark(container_id)
    atomic.touch(mark)
    try:
        cgroup.freeze()
        yield
    finally:
        cgroup.thaw()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(mark)


def _write_resources(bundle: str, config: ContainerConfig, *, sync: bool) -> None:
    """The limits in config.json, for whoever reads it as a runtime's; its devices stay."""
    path = os.path.join(bundle, "config.json")
    with open(path, "rb") as file:
        spec = orjson.loads(file.read())
    resources = spec["linux"]["resources"]
    devices = {"devices": resources["devices"]} if "devices" in resources else {}
    spec["linux"]["resources"] = {**Resources.from_config(config).to_oci(), **devices}
    atomic.write(path, orjson.dumps(spec), sync=sync)
