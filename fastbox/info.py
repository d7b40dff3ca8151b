"""What the engine says about itself and the host: ``fastbox version`` and ``fastbox info``."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration import Configuration
    from .engine import Engine

OCI_RUNTIME_VERSION = "1.1.0"


def version() -> dict[str, Any]:
    """Versions of fastbox and of what it runs on.

    Returns:
        Docker's keys of the client's half (Version, Os, Arch …), and Python's and the kernel's.
    """
    from . import __version__

    return {
        "Version": __version__,
        "PythonVersion": platform.python_version(),
        "OciRuntimeSpec": OCI_RUNTIME_VERSION,
        "Os": "linux",
        "Arch": _go_arch(),
        "KernelVersion": os.uname().release,
    }


def _go_arch() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def info(engine: Engine) -> dict[str, Any]:
    """The store's contents and the host's abilities, under Docker's keys where it has one."""
    from . import configuration, graphdriver
    from .container import cgroups
    from .container.record import Status

    configured = configuration.load()
    boxes = engine.containers(all=True)
    states = [box.state.status for box in boxes]
    layout = cgroups.detect()
    images = len({image.id for image in engine.images(all=True)})
    driver = graphdriver.read(engine.root) or graphdriver.OVERLAY
    running = states.count(Status.RUNNING)
    paused = states.count(Status.PAUSED)
    return {
        "ID": _host_id(),
        "Containers": len(boxes),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(boxes) - running - paused,
        "Images": images,
        "Driver": driver,
        "BackingFilesystem": _filesystem(engine.root),
        "LoggingDriver": "cri",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": {"v1": "1", "v2": "2", "hybrid": "1 (hybrid)"}[layout.mode],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "macvlan", "null"],
            "Log": ["cri", "journald", "none", "syslog"],
        },
        "DefaultRuntime": "fastbox",
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "KernelVersion": os.uname().release,
        "OperatingSystem": _operating_system(),
        "OSType": "linux",
        "Architecture": os.uname().machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": os.uname().nodename,
        "DockerRootDir": engine.root,
        "RuntimeDir": engine.runtime_dir,
        "RegistryConfig": _registries(configured),
        "ConfigurationFiles": configured.files,
        "ServerVersion": version()["Version"],
        "Warnings": [
            *_warnings(),
            *_of_driver(engine.root, driver),
            *(f"WARNING: {x}" for x in engine.network_obstacles()),
        ],
    }


def _registries(configured: Configuration) -> dict[str, Any]:
    """Docker's ``RegistryConfig``. This machine itself is always among the excepted networks."""
    mirrors = configured.registry_mirrors
    insecure = configured.insecure_registries
    indexes: dict[str, Any] = {
        "docker.io": {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}
    }
    for name in insecure:
        if "/" not in name:
            index = {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
            indexes.setdefault(name, index)
    cidrs = [entry for entry in insecure if "/" in entry]
    local = [cidr for cidr in ("::1/128", "127.0.0.0/8") if cidr not in cidrs]
    return {
        "IndexConfigs": indexes,
        "InsecureRegistryCIDRs": cidrs + local,
        "Mirrors": mirrors,
    }


def _host_id() -> str:
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _filesystem(path: str) -> str:
    """Type of the filesystem that holds ``path``, from /proc/self/mountinfo."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split()
            if fields[2] == wanted:
                return fields[fields.index("-") + 1]
    return "unknown"


def _of_driver(root: str, driver: str) -> list[str]:
    """That containers take more room than they would elsewhere."""
    from . import graphdriver

    why = graphdriver.reason(root)
    if driver == graphdriver.OVERLAY or not why:
        return []
    return [
        f"WARNING: overlayfs does not work in {root} ({why}): each container gets a copy of its"
        " image"
    ]


def _warnings() -> list[str]:
    """What this host lacks, a line each."""
    from .container import capabilities

    warnings = []
    lacking = [
        name
        for name in ("CAP_SYS_ADMIN", "CAP_SYS_RESOURCE")
        if not capabilities.to_mask([name]) & capabilities.own_bounding_set()
    ]
    if "CAP_SYS_RESOURCE" in lacking:
        warnings.append(
            "WARNING: no CAP_SYS_RESOURCE: rlimits cannot be raised and oom_score_adj not lowered"
        )
    if "CAP_SYS_ADMIN" in lacking:
        warnings.append("WARNING: no CAP_SYS_ADMIN: containers cannot be started")
    return warnings
