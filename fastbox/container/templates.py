"""What containers of one configuration have in common, made once.

A program that starts one sandbox after the other makes the same container again and again: only
its id, its name and its times differ. The first one is made the long way; its record, its
config.json and its launch plan are kept, and the next ones get copies in which the first one's id
(64 random hex digits, which nothing that existed before it can hold) is replaced by theirs.

That is right where nothing else goes into them. So what has mounts, volumes, devices, a name or a
hostname from outside, or limits that depend on the engine's own, is always made the long way.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from .flatten import Plan
from .record import ContainerRecord

if TYPE_CHECKING:
    from .cgroups import Cgroup
    from .config import ContainerConfig

MOST = 64  # templates
MOST_FRESH = 256  # containers that are made and not started yet

_decoder: msgspec.json.Decoder[ContainerRecord] = msgspec.json.Decoder(ContainerRecord)


class Template:
    """The first container of a kind.

    Args:
        record, config: its record; its config.json as it was written.
    """

    def __init__(self, record: ContainerRecord, config: bytes) -> None:
        self._id = record.id
        self._record = msgspec.json.encode(record)
        self._config = config
        self._plan: tuple[tuple[object, ...], str, Plan] | None = None

    def record(self, container_id: str, name: str, created: str) -> ContainerRecord:
        """The record of another container, but for its creator."""
        record = _decoder.decode(_adapted(self._record, self._id, container_id))
        record.name, record.created = name, created
        return record

    def config(self, container_id: str) -> bytes:
        """Its config.json."""
        return _adapted(self._config, self._id, container_id)

    def plan(self, record: ContainerRecord, cgroup: Cgroup) -> Plan | None:
        """Its launch plan, once one of the kind was started in such a cgroup."""
        if self._plan is None or self._plan[0] != _shape(cgroup):
            return None
        _, first, plan = self._plan
        return Plan(_adapted(plan.data, first, record.id), plan.descriptions, (first, record.id))

    def keep_plan(self, record: ContainerRecord, cgroup: Cgroup, plan: Plan) -> None:
        """Remember the plan of a container of this kind."""
        self._plan = _shape(cgroup), record.id, plan


def _adapted(data: bytes, first: str, other: str) -> bytes:
    """With another id; its first twelve digits alone are the default hostname."""
    own, new = first.encode(), other.encode()
    return data.replace(own, new).replace(own[:12], new[:12])


def _shape(cgroup: Cgroup) -> tuple[object, ...]:
    """What a plan takes from a cgroup, but for the container's id."""
    return cgroup.v2_dir is not None, *cgroup.v1_dirs


class Fresh(msgspec.Struct):
    """A container that was made of a template, or into one, and not started since.

    Attributes:
        record: as it was written. resolvers: see ``etc_files.resolvers_stamp``.
    """

    template: Template
    record: bytes
    resolvers: object


class Templates:
    """The templates of one store in this process; threads may share them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], Template] = {}
        self._checked: set[object] = set()
        self._fresh: dict[str, Fresh] = {}

    def get(self, key: tuple[object, ...] | None) -> Template | None:
        """The template of a kind, or None."""
        return self._known.get(key) if key is not None else None

    def put(self, key: tuple[object, ...], template: Template) -> None:
        """Keep a template; the oldest one gives way.

        Args:
            key: what it is of; the JSON of its configuration comes first.
        """
        with self._lock:
            while len(self._known) >= MOST:
                del self._known[next(iter(self._known))]
            self._known[key] = template
            self._checked = {known[0] for known in self._known}

    def was_checked(self, config: bytes) -> bool:
        """Whether there is a template of a configuration, so that nothing is wrong with it."""
        return config in self._checked

    def made(self, container_id: str, fresh: Fresh) -> None:
        """A container exists now."""
        with self._lock:
            while len(self._fresh) >= MOST_FRESH:
                del self._fresh[next(iter(self._fresh))]
            self._fresh[container_id] = fresh

    def take(self, record: ContainerRecord) -> Fresh | None:
        """What is known of a container that is to be started; None once it was changed."""
        with self._lock:
            fresh = self._fresh.pop(record.id, None)
        if fresh is None or fresh.record != msgspec.json.encode(record):
            return None
        return fresh


def is_plain(config: ContainerConfig) -> bool:
    """Whether a container depends on nothing but its configuration, its image and its networks."""
    return not (
        config.name
        or config.mounts
        or config.devices
        or config.privileged
        or config.ulimits
        or config.network == "host"
        or config.network.startswith("container:")
    )
