"""A container as it is stored: its fixed part, its state, and the status derived from both.

``container.json`` (in the container's directory) is written whole at create and on rename/update.
``state.json`` (in the runtime directory, gone after a reboot) is written by the monitor at start.
``exit`` (in the container's directory) is written by the monitor when init has ended.
"""

from __future__ import annotations

import enum

import msgspec

from ..network.types import Attachment, Networking
from ..oci.healthcheck import Healthcheck
from .config import ContainerConfig

VERSION = 3


class Status(str, enum.Enum):
    """Docker's container states, and what each of them allows."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"

    @property
    def is_up(self) -> bool:
        """Whether an init process exists."""
        return self in (Status.RUNNING, Status.PAUSED)

    @property
    def is_active(self) -> bool:
        """Whether it is up, or about to be started again: Docker's *running*."""
        return self.is_up or self is Status.RESTARTING


class Probe(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One run of a health check.

    Attributes:
        start, end: RFC 3339 with nanoseconds.
        exit_code: 0: healthy, -1: it could not be run, or took too long.
        output: its beginning, see ``health.MAX_OUTPUT``.
    """

    start: str
    end: str
    exit_code: int
    output: str = ""


class Health(msgspec.Struct, kw_only=True):
    """What a health check found in a run of its container (``health.json``).

    Attributes:
        status: ``"starting"``, ``"healthy"`` or ``"unhealthy"``.
        failing_streak: how many of the last probes failed.
        log: the last probes, oldest first.
    """

    version: int = 1
    run: int = 0
    status: str = "starting"
    failing_streak: int = 0
    log: list[Probe] = []


class MountPoint(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A user mount as resolved at create (what ``inspect`` shows under ``Mounts``)."""

    type: str
    source: str
    destination: str
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    anonymous: bool = False


class ContainerRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``container.json``: what is fixed when a container is created.

    Attributes:
        created: RFC 3339 with nanoseconds, UTC (``2026-01-02T03:04:05.123456789Z``).
        image_name: canonical name (``docker.io/library/redis:latest``) or ``""``.
        image_id: ``sha256:…`` of the image's config.
        layers: directory names of the lower layers, top first.
        committed: those of them that were its own upper directory, see ``layered``.
        driver: of its root, see ``graph``; ``""``: overlay.
        creator: pid and start time of the process that was to start it at once (``run``), or None.
        path, args: the process as started (entrypoint + command merged).
        image_labels_merged: labels of image and user together (``inspect`` Config.Labels).
        env, workdir, user, exposed_ports, volumes, stop_signal, healthcheck: merged from image and
            config.
        shell: the image's SHELL, for a health check's command line.
        networks: those that it is on when it runs (``network connect`` changes it); none for the
            modes none, host and container:ID.
    """

    version: int = 1  # of the first, which did not say so; ``merge`` makes those of VERSION
    id: str
    name: str
    created: str
    image_name: str = ""
    image_id: str = ""
    manifest_digest: str = ""
    layers: list[str] = []
    committed: list[str] = []
    driver: str = ""
    config: ContainerConfig
    path: str = ""
    args: list[str] = []
    env: list[str] = []
    workdir: str = "/"
    user: str = ""
    hostname: str = ""
    labels: dict[str, str] = {}
    exposed_ports: list[str] = []
    image_volumes: list[str] = []
    image_cmd: list[str] | None = None
    image_entrypoint: list[str] | None = None
    stop_signal: str = "SIGTERM"
    mounts: list[MountPoint] = []
    cgroup_path: str = ""
    creator: tuple[int, int] | None = None
    healthcheck: Healthcheck | None = None
    shell: list[str] = []
    networks: list[Attachment] = []

    @property
    def command(self) -> list[str] | None:
        """``Config.Cmd``: the user's or the image's. A new entrypoint drops the image's."""
        if self.config.command:
            return self.config.command
        return self.image_cmd if self.config.entrypoint is None else None

    @property
    def entrypoint(self) -> list[str] | None:
        """``Config.Entrypoint``: the user's or the image's."""
        own = self.config.entrypoint
        return self.image_entrypoint if own is None else own


class ContainerState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a container is doing now, as far as files and the kernel tell.

    Attributes:
        pid: init's pid on the host, 0 when not running.
        exit_code: of the last run; 128+n when killed by signal n.
        started_at, finished_at: RFC 3339 with nanoseconds, ``""`` if never.
        run: how many times it was started.
        restart_count: how often its restart policy started it since the last start by hand.
        health: what its health check found; None without one.
    """

    status: Status = Status.CREATED
    pid: int = 0
    pid_starttime: int = 0
    monitor_pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    started_at: str = ""
    finished_at: str = ""
    run: int = 0
    restart_count: int = 0
    health: Health | None = None


class Container(msgspec.Struct, kw_only=True):
    """A stored container with its state; what ``Engine.containers()`` lists.

    Attributes:
        bundle: where its config.json and its files of /etc are.
        networking: what its current run has of networks; None while it does not run.
        warnings: what whoever made it should know; of ``Engine.create`` only.
    """

    record: ContainerRecord
    state: ContainerState
    directory: str
    bundle: str
    size_rw: int | None = None
    size_root: int | None = None
    networking: Networking | None = None
    warnings: list[str] = []

    @property
    def id(self) -> str:
        """64 hex digits."""
        return self.record.id

    @property
    def short_id(self) -> str:
        """First 12 hex digits."""
        return self.record.id[:12]

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def log_path(self) -> str:
        """The current CRI log file; rotated ones are ``log_path + ".1"`` (newest) and up."""
        return self.directory + "/container.log"
