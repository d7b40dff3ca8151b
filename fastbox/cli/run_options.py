"""The flags that ``run`` and ``create`` share, and the ContainerConfig that they amount to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..container.config import ContainerConfig, Mount
from ..errors import InvalidArgument, Unsupported
from . import (
    content_trust,
    parse_env,
    parse_health,
    parse_limits,
    parse_mount,
    parse_network,
    parse_policy,
    streams,
)
from .errors import CliError
from .flags import Checked, Flag, Integer, Mapping, Switch, Text, Texts, Values
from .human import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

_BYTES = Checked(parse_size, "bytes")

FLAGS = (
    Flag(
        "--annotation",
        Mapping(),
        "Add an annotation to the container (passed through to the OCI runtime)",
    ),
    Flag("-a --attach", Texts(streams.stream), "Attach to STDIN, STDOUT or STDERR"),
    Flag(
        "--blkio-weight",
        Checked(parse_limits.weight, "uint16"),
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    Flag(
        "--blkio-weight-device",
        Texts(parse_limits.device_weight),
        "Block IO weight (relative device weight)",
    ),
    Flag("--cap-add", Texts(), "Add Linux capabilities"),
    Flag("--cap-drop", Texts(), "Drop Linux capabilities"),
    Flag("--cidfile", Text(), "Write the container ID to the file"),
    Flag("--cpu-period", Integer(), "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("--cpu-quota", Integer(), "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("--cpu-rt-period", Integer(), hidden=True),
    Flag("--cpu-rt-runtime", Integer(), hidden=True),
    Flag("-c --cpu-shares", Integer(), "CPU shares (relative weight)"),
    Flag("--cpus", Checked(parse_limits.cpus, "decimal"), "Number of CPUs"),
    Flag("--cpuset-cpus", Text(), "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("--cpuset-mems", Text(), "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("--device", Texts(), "Add a host device to the container"),
    Flag(
        "--device-read-bps",
        Texts(parse_limits.device_bytes),
        "Limit read rate (bytes per second) from a device",
    ),
    Flag(
        "--device-read-iops",
        Texts(parse_limits.device_operations),
        "Limit read rate (IO per second) from a device",
    ),
    Flag(
        "--device-write-bps",
        Texts(parse_limits.device_bytes),
        "Limit write rate (bytes per second) to a device",
    ),
    Flag(
        "--device-write-iops",
        Texts(parse_limits.device_operations),
        "Limit write rate (IO per second) to a device",
    ),
    Flag("--entrypoint", Text(), "Overwrite the default ENTRYPOINT of the image"),
    Flag("-e --env", Texts(parse_env.variable), "Set environment variables"),
    Flag("--env-file", Texts(), "Read in a file of environment variables"),
    Flag("--group-add", Texts(), "Add additional groups to join"),
    *parse_health.FLAGS,
    Flag("--help", Switch(), "Print usage"),
    Flag(
        "--init",
        Switch(),
        "Run an init inside the container that forwards signals and reaps processes",
    ),
    Flag("-i --interactive", Switch(), "Keep STDIN open even if not attached"),
    Flag("--kernel-memory", _BYTES, hidden=True),
    Flag("-l --label", Texts(parse_env.label), "Set meta data on a container"),
    Flag("--label-file", Texts(), "Read in a line delimited file of labels"),
    Flag(
        "--log-driver",
        Text(),
        'Logging driver for the container ("cri", "journald", "none", "syslog")',
    ),
    Flag("--log-opt", Mapping(), "Log driver options"),
    Flag("-m --memory", _BYTES, "Memory limit"),
    Flag("--memory-reservation", _BYTES, "Memory soft limit"),
    Flag(
        "--memory-swap",
        Checked(parse_limits.swap, "bytes"),
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    ),
    Flag(
        "--memory-swappiness",
        Integer(),
        "Tune container memory swappiness (0 to 100)",
        default=-1,
    ),
    Flag(
        "--mount",
        Texts(parse_mount.mount, "mount"),
        "Attach a filesystem mount to the container",
        dest="mounts",
    ),
    Flag("--name", Text(), "Assign a name to the container", dest="container_name"),
    *parse_network.FLAGS,
    Flag("--oom-kill-disable", Switch(), "Disable OOM Killer"),
    Flag("--oom-score-adj", Integer(), "Tune host's OOM preferences (-1000 to 1000)"),
    Flag("--pids-limit", Integer(), "Tune container pids limit (set -1 for unlimited)"),
    Flag("--platform", Text(), "Set platform if the image is for several"),
    Flag("--privileged", Switch(), "Give extended privileges to this container"),
    Flag(
        "--pull",
        Text(),
        'Pull image before running ("always", "missing", "never")',
        default="missing",
    ),
    Flag("-q --quiet", Switch(), "Suppress the pull output"),
    content_trust.FLAG,
    Flag("--read-only", Switch(), "Mount the container's root filesystem as read only"),
    Flag("--restart", Text(), "Restart policy to apply when a container exits", default="no"),
    Flag(
        "--rm",
        Switch(),
        "Automatically remove the container and its associated anonymous volumes when it exits",
    ),
    Flag("--security-opt", Texts(), "Security Options"),
    Flag("--shm-size", _BYTES, "Size of /dev/shm"),
    Flag("--stop-signal", Text(), "Signal to stop the container"),
    Flag("--stop-timeout", Integer(), "Timeout (in seconds) to stop a container"),
    Flag("--sysctl", Mapping(parse_limits.sysctl), "Sysctl options"),
    Flag("--tmpfs", Texts(), "Mount a tmpfs directory"),
    Flag("-t --tty", Switch(), "Allocate a pseudo-TTY"),
    Flag("--ulimit", Texts(parse_limits.ulimit, "ulimit"), "Ulimit options"),
    Flag("-u --user", Text(), "Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("-v --volume", Texts(), "Bind mount a volume"),
    Flag("-w --workdir", Text(), "Working directory inside the container"),
)

# What a value is without further thought: the flag's name -> the config's field.
_PLAIN = {
    "container_name": "name",
    "stop_signal": "stop_signal",
    "user": "user",
    "workdir": "workdir",
    "blkio_weight": "blkio_weight",
    "blkio_weight_device": "blkio_weight_device",
    "cpu_period": "cpu_period",
    "cpu_quota": "cpu_quota",
    "cpu_shares": "cpu_shares",
    "cpus": "nano_cpus",
    "cpuset_cpus": "cpuset_cpus",
    "cpuset_mems": "cpuset_mems",
    "device_read_bps": "device_read_bps",
    "device_read_iops": "device_read_iops",
    "device_write_bps": "device_write_bps",
    "device_write_iops": "device_write_iops",
    "memory": "memory",
    "memory_reservation": "memory_reservation",
    "memory_swap": "memory_swap",
    "oom_kill_disable": "oom_kill_disable",
    "oom_score_adj": "oom_score_adj",
    "pids_limit": "pids_limit",
    "shm_size": "shm_size",
    "annotation": "annotations",
    "sysctl": "sysctls",
    "cap_add": "cap_add",
    "cap_drop": "cap_drop",
    "group_add": "group_add",
}

# Docker flags that fastbox will not have: attribute -> (what to say, what to do).
_NEVER = {
    "cpu_rt_period": (
        "--cpu-rt-period is not supported: a budget of real-time CPU time would have to be set in "
        "every cgroup above the container's",
        "use --cap-add SYS_NICE and --ulimit rtprio=N: its real-time threads share the host's",
    ),
    "cpu_rt_runtime": (
        "--cpu-rt-runtime is not supported: a budget of real-time CPU time would have to be set in "
        "every cgroup above the container's",
        "use --cap-add SYS_NICE and --ulimit rtprio=N: its real-time threads share the host's",
    ),
    "kernel_memory": (
        "--kernel-memory is not supported: the kernel has no such limit any more (Linux 5.16)",
        "use -m/--memory, which counts the kernel's memory too",
    ),
}


def build(values: Values, words: list[str]) -> ContainerConfig:
    """The config that the flags and arguments ask for.

    Args:
        words: the image and the command line.

    Raises:
        CliError: an option is malformed or contradicts another.
        InvalidArgument, Unsupported: it cannot be had.
    """
    refuse_never(values)
    image, *command = words
    config = ContainerConfig(image=image, command=command or None)
    for name, field in _PLAIN.items():
        value = getattr(values, name)
        if value:
            setattr(config, field, value)
    config.interactive = values.interactive
    config.tty = values.tty
    config.attach = streams.attached(values)
    config.stdin_once = values.interactive and "stdin" in config.attach
    config.auto_remove = values.rm
    config.init = values.init
    config.read_only = values.read_only
    config.privileged = values.privileged
    if "entrypoint" in values.given:
        config.entrypoint = [values.entrypoint] if values.entrypoint else []
    if values.memory_swappiness != -1:
        config.memory_swappiness = values.memory_swappiness
    if "stop_timeout" in values.given:
        config.stop_timeout = values.stop_timeout
    config.mounts = _mounts(values)
    config.ulimits = parse_limits.unique_ulimits(values.ulimit or [])
    config.env = parse_env.merged_variables(values.env_file or [], values.env or [])
    config.labels = parse_env.merged_labels(values.label_file or [], values.label or [])
    config.devices = _each(values.device, parse_limits.device)
    parse_network.fill(config, values)
    _policies(config, values)
    return config


def refuse_never(values: Values) -> None:
    """Raises:
    Unsupported: a flag was given that is none of fastbox's.
    """
    for name, (message, hint) in _NEVER.items():
        if getattr(values, name, None):
            raise Unsupported(message, hint=hint)


def _each(texts: list[str] | None, read: Callable[[str], Any]) -> list[Any]:
    return [read(text) for text in texts or ()]


def _mounts(values: Values) -> list[Mount]:
    """All mounts; what is mounted where only once."""
    volumes: list[Mount] = _each(values.volume, parse_mount.volume)
    # Of two --tmpfs at the same place, the later one counts.
    tmpfs = {mount.target: mount for mount in _each(values.tmpfs, parse_mount.tmpfs)}
    mounts = [*volumes, *(values.mounts or ()), *tmpfs.values()]
    seen = set()
    for mount in mounts:
        if mount.target in seen:
            raise InvalidArgument(f"Duplicate mount point: {mount.target}")
        seen.add(mount.target)
    return mounts


def _policies(config: ContainerConfig, values: Values) -> None:
    security = parse_policy.Security(values.security_opt or [])
    config.no_new_privileges = security.no_new_privileges
    config.seccomp = security.seccomp
    config.restart = parse_policy.restart(values.restart)
    config.healthcheck = parse_health.check(values)
    logging = parse_policy.Logging(values.log_driver or "", values.log_opt or {})
    config.log_driver = logging.driver
    config.log_options = logging.options
    if logging.max_size is not None:
        config.log_max_size = logging.max_size
    if logging.max_file is not None:
        config.log_max_file = logging.max_file
    if config.auto_remove and config.restart.name != "no":
        raise CliError("conflicting options: cannot specify both --restart and --rm")
    if not -1000 <= config.oom_score_adj <= 1000:
        raise InvalidArgument(
            f"Invalid value {config.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
