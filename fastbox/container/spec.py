"""From a container's record to its OCI runtime configuration (``config.json``).

What the runtime-spec has no word for (user names, an overlay's layers) stays in the record.
Defaults are Docker's; masked and read-only paths are the union of Docker's and podman's.
"""

from __future__ import annotations

import os
import stat
from typing import Any

from . import capabilities, devices, networking, rlimits, seccomp, sysctl, users
from .cgroups import Resources
from .config import ContainerConfig, Device
from .record import ContainerRecord, MountPoint

OCI_VERSION = "1.1.0"

MASKED = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

# (path, type, major, minor): made in every container.
DEVICES = [
    ("/dev/null", "c", 1, 3),
    ("/dev/zero", "c", 1, 5),
    ("/dev/full", "c", 1, 7),
    ("/dev/random", "c", 1, 8),
    ("/dev/urandom", "c", 1, 9),
    ("/dev/tty", "c", 5, 0),
]
# Not the container's business even when privileged: it has its own.
_OWN_DEVICES = (
    "/dev/pts",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/console",
    "/dev/ptmx",
    "/dev/fd",
    "/dev/.",
    "/dev/lxc",
)


def build(record: ContainerRecord, *, rootfs: str, files: str, cgroup_path: str) -> dict[str, Any]:
    """The runtime configuration.

    Args:
        rootfs: what ``root.path`` says.
        files: the directory of the files for its /etc.
        cgroup_path: as ``linux.cgroupsPath``.

    Raises:
        InvalidArgument, PermissionDenied: a value that cannot be had.
    """
    config = record.config
    caps = capabilities.resolve(config.cap_add, config.cap_drop, privileged=config.privileged)
    return {
        "ociVersion": OCI_VERSION,
        "process": _process(record, caps),
        "root": {"path": rootfs, "readonly": config.read_only},
        "hostname": record.hostname,
        **({"domainname": config.domainname} if config.domainname else {}),
        "mounts": _mounts(record, files),
        "annotations": {"dev.fastbox.user": record.user, **config.annotations},
        "linux": _linux(record, caps, cgroup_path),
    }


def _process(record: ContainerRecord, caps: list[str]) -> dict[str, Any]:
    config = record.config
    user = users.parse(record.user)
    limits = rlimits.resolve(config.ulimits)
    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": {"uid": user.uid or 0, "gid": user.gid or 0, "umask": 0o022},
        "args": [record.path, *record.args],
        "env": record.env,
        "cwd": record.workdir,
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        "noNewPrivileges": config.no_new_privileges,
        "rlimits": [
            {"type": f"RLIMIT_{rlimits.NAMES[number].upper()}", "soft": soft, "hard": hard}
            for number, soft, hard in limits
        ],
    }
    groups = [users.parse_group(group) for group in config.group_add]
    if groups:
        process["user"]["additionalGids"] = [gid for gid, _ in groups if gid is not None]
    if config.oom_score_adj:
        process["oomScoreAdj"] = config.oom_score_adj
    return process


def _linux(record: ContainerRecord, caps: list[str], cgroup_path: str) -> dict[str, Any]:
    config = record.config
    own_net = networking.is_own(config.network)
    kinds = ["mount", "pid", "uts", "ipc", "cgroup"] + (["network"] if own_net else [])
    sysctls = {**sysctl.defaults(own_net=own_net), **config.sysctls}
    asked = asked_devices(record)
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in kinds],
        "cgroupsPath": cgroup_path,
        "sysctl": {
            path.replace("/", "."): value
            for path, value in sysctl.resolve(sysctls, own_net=own_net)
        },
        "devices": [
            *(_device(path, kind, major, minor) for path, kind, major, minor in DEVICES),
            *(node.to_oci() for node in asked),
        ],
        "resources": resources(config, asked).to_oci(),
        "rootfsPropagation": "private",
    }
    if config.privileged:
        return linux
    linux["maskedPaths"] = MASKED + _thermal_throttle()
    linux["readonlyPaths"] = READ_ONLY
    if config.seccomp != "unconfined":
        linux["seccomp"] = seccomp.to_oci(config.seccomp, caps)
    return linux


def _device(
    path: str, kind: str, major: int, minor: int, mode: int = 0o666, uid: int = 0, gid: int = 0
) -> dict[str, Any]:
    return {
        "path": path,
        "type": kind,
        "major": major,
        "minor": minor,
        "fileMode": mode,
        "uid": uid,
        "gid": gid,
    }


def asked_devices(record: ContainerRecord) -> list[devices.HostDevice]:
    """The nodes that the user asked for; all of the host's when privileged.

    Raises:
        NotFound, InvalidArgument: one is not there, or is no device.
    """
    found: dict[str, devices.HostDevice] = {}
    asked = list(record.config.devices)
    if record.config.privileged:
        own = {path for path, *_ in DEVICES}
        asked[:0] = [
            Device(host=path, container=path) for path in _host_devices("/dev") if path not in own
        ]
    for device in asked:
        for node in devices.find(device):
            found[node.path] = node
    return list(found.values())


def _host_devices(directory: str) -> list[str]:
    paths: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.path.startswith(_OWN_DEVICES):
                continue
            if entry.is_dir(follow_symlinks=False):
                paths += _host_devices(entry.path)
            else:
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                    paths.append(entry.path)
    return paths


def _thermal_throttle() -> list[str]:
    """Side channel (GHSA-6fw5-f8r9-fgfm); a directory for each CPU that has it."""
    base = "/sys/devices/system/cpu"
    if not os.path.isdir(f"{base}/cpu0/thermal_throttle"):
        return []
    return [
        f"{base}/{name}/thermal_throttle"
        for name in os.listdir(base)
        if name.startswith("cpu") and name[3:].isdigit()
    ]


def _mounts(record: ContainerRecord, files: str) -> list[dict[str, Any]]:
    config = record.config
    sysfs_ro = [] if config.privileged else ["ro"]
    defaults = [
        _mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", *sysfs_ro]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", *sysfs_ro]),
        _mount(
            "/dev/pts",
            "devpts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        _mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            ["nosuid", "noexec", "nodev", "mode=1777", f"size={config.shm_size}"],
        ),
    ]
    etc_options = ["bind", "rprivate", *(["ro"] if config.read_only else [])]
    for name in ("resolv.conf", "hostname", "hosts"):
        defaults.append(_mount(f"/etc/{name}", "bind", f"{files}/{name}", etc_options))
    asked = [_user_mount(point, record) for point in record.mounts]
    targets = {mount["destination"] for mount in asked}
    kept = [mount for mount in defaults if mount["destination"] not in targets]
    # A mount below another comes after it; the sort is stable, so defaults come first.
    return sorted(kept + asked, key=lambda mount: str(mount["destination"]).count("/"))


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _user_mount(point: MountPoint, record: ContainerRecord) -> dict[str, Any]:
    if point.type == "tmpfs":
        options = ["nosuid", "nodev", "noexec"]
        for word in point.mode.split(","):
            plain = word.removeprefix("no")
            if word in ("exec", "suid", "dev", "noexec", "nosuid", "nodev"):
                options = [o for o in options if o != f"no{plain}"]
                if word.startswith("no"):
                    options.append(word)
            elif word:
                options.append(word)
        return _mount(point.destination, "tmpfs", "tmpfs", options)
    asked = next((m for m in record.config.mounts if m.target == point.destination), None)
    recursive = asked.recursive if asked is not None else True
    options = ["rbind" if recursive else "bind", point.propagation or "rprivate"]
    if not point.rw:
        options += ["ro", "rro"] if recursive else ["ro"]
    if point.type == "volume":
        options.append("nodev")
    return _mount(point.destination, "bind", point.source, options)


def resources(config: ContainerConfig, asked: list[devices.HostDevice]) -> Resources:
    """The limits and the device rules of a container."""
    return Resources.from_config(config, tuple(node.rule() for node in asked))
