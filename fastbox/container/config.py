"""What a user asks of a container: the typed form of ``run``'s and ``create``'s flags.

Nothing here touches the disk, except that it is stored with the container (``container.json``).
Units: memory and sizes in bytes, CPU in nano-CPUs (1e9 = one core), times in seconds.
"""

from __future__ import annotations

import msgspec

from ..network.types import Attachment, Publish
from ..oci.healthcheck import Healthcheck


class Mount(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One ``-v``/``--mount``/``--tmpfs``.

    Attributes:
        type: ``"bind"``, ``"volume"`` or ``"tmpfs"``.
        source: absolute host path (bind), volume name (volume; empty = anonymous), unused (tmpfs).
        target: absolute path in the container.
        read_only: recursively read-only (mount_setattr AT_RECURSIVE, Linux 5.12).
        create_source: make a missing bind source as a root-owned directory (``-v`` does).
        propagation: ``"rprivate"``, ``"private"``, ``"rshared"``, ``"shared"``, ``"rslave"``,
            ``"slave"``.
        recursive: bind the source's submounts too.
        no_copy: do not fill a new volume with the image's content at the target.
        tmpfs_size: bytes, 0 = kernel default; tmpfs_mode: e.g. 0o1777.
        options: further tmpfs options of ``--tmpfs /x:exec,uid=1`` as a list.
    """

    type: str
    target: str
    source: str = ""
    read_only: bool = False
    create_source: bool = False
    propagation: str = "rprivate"
    recursive: bool = True
    no_copy: bool = False
    tmpfs_size: int = 0
    tmpfs_mode: int = 0o1777
    options: list[str] = []
    labels: dict[str, str] = {}


class Device(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One ``--device HOST[:CONTAINER[:rwm]]``."""

    host: str
    container: str
    permissions: str = "rwm"


class Ulimit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One ``--ulimit NAME=SOFT[:HARD]``; -1 is unlimited. name is lower case (``"nofile"``)."""

    name: str
    soft: int
    hard: int


class DeviceLimit(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One ``--device-read-bps`` … ``--blkio-weight-device``: the path of a disk on the host, and
    bytes or operations per second, or a weight."""

    path: str
    value: int


class RestartPolicy(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``--restart``: ``"no"``, ``"on-failure"``, ``"always"`` or ``"unless-stopped"``."""

    name: str = "no"
    max_retries: int = 0

    @property
    def is_set(self) -> bool:
        """Whether the end of a run may be followed by another."""
        return self.name not in ("", "no")


class ContainerConfig(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything that can be asked of a container. Only ``image`` is required.

    Attributes:
        command: replaces the image's CMD; None keeps it.
        entrypoint: replaces the image's ENTRYPOINT (and drops its CMD); None keeps it, [] resets.
        env: ``"NAME=value"`` entries, applied over the image's.
        user: ``"name|uid[:group|gid]"``; None = the image's USER.
        stop_signal: name or number, None = the image's, else SIGTERM.
        stop_timeout: seconds before SIGKILL; None = 10, -1 = never.
        idle: no command of the image: PID 1 is fastbox's own, which waits until whoever started it
            is gone (see ``fastbox.Sandbox``). The image's volumes are plain directories then.
        interactive: standard input stays open. stdin_once: until the first attached client that has
            input is done.
        attach: which streams the client that starts it attaches (``inspect`` shows them).
        memory_swap: memory + swap in bytes, -1 unlimited, 0 = twice the memory.
        memory_swappiness: 0 to 100; None = the host's. cgroup v1 only, as oom_kill_disable.
        cpu_period, cpu_quota: microseconds (quota: of each period; -1 = unlimited); 0 = unset.
            Not together with nano_cpus.
        pids_limit: 0 = unset, -1 = unlimited.
        blkio_weight: 10 to 1000, 0 = unset; for disks whose scheduler is bfq.
        seccomp: None = fastbox's default profile, ``"unconfined"``, or the profile's JSON text.
        network: ``"bridge"`` (the default network), ``"none"``, ``"host"``, ``"container:NAME"``,
            or the name of a network.
        networks: how it is on its networks, by name; empty: on ``network``, with no wishes.
        publish: ports of the host that are the container's. publish_all: all exposed ones as well.
        expose: ``PORT[/PROTOCOL]``, besides the image's.
        dns: addresses of name servers; empty: the host's.
        healthcheck: laid over the image's, field by field: what is 0 or None there is kept, test
            ``["NONE"]`` switches it off.
        log_driver: ``"cri"``, ``"none"``, ``"journald"`` or ``"syslog"``; log_options: see
            ``logging.OPTIONS``.
        log_max_size: bytes per log file, -1 unlimited; log_max_file: how many files are kept.
    """

    image: str
    command: list[str] | None = None
    entrypoint: list[str] | None = None
    name: str | None = None
    env: list[str] = []
    workdir: str | None = None
    user: str | None = None
    group_add: list[str] = []
    hostname: str | None = None
    domainname: str | None = None
    add_hosts: list[str] = []
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    idle: bool = False
    interactive: bool = False
    stdin_once: bool = False
    attach: list[str] = msgspec.field(default_factory=lambda: ["stdout", "stderr"])
    tty: bool = False
    auto_remove: bool = False
    init: bool = False
    read_only: bool = False
    mounts: list[Mount] = []
    stop_signal: str | None = None
    stop_timeout: int | None = None
    ulimits: list[Ulimit] = []
    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    blkio_weight: int = 0
    blkio_weight_device: list[DeviceLimit] = []
    device_read_bps: list[DeviceLimit] = []
    device_write_bps: list[DeviceLimit] = []
    device_read_iops: list[DeviceLimit] = []
    device_write_iops: list[DeviceLimit] = []
    oom_score_adj: int = 0
    shm_size: int = 64 * 1024 * 1024
    cap_add: list[str] = []
    cap_drop: list[str] = []
    no_new_privileges: bool = False
    seccomp: str | None = None
    privileged: bool = False
    devices: list[Device] = []
    sysctls: dict[str, str] = {}
    network: str = "bridge"
    networks: list[Attachment] = []
    publish: list[Publish] = []
    publish_all: bool = False
    expose: list[str] = []
    dns: list[str] = []
    dns_search: list[str] = []
    dns_options: list[str] = []
    restart: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    healthcheck: Healthcheck | None = None
    log_driver: str = "cri"
    log_options: dict[str, str] = {}
    log_max_size: int = 20 * 1024 * 1024
    log_max_file: int = 5
