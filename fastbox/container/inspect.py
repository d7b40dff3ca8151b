"""``inspect`` of containers and volumes, in the shape of Docker's API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..network import wishes
from . import networks
from .spec import MASKED, READ_ONLY

if TYPE_CHECKING:
    from ..image.types import Volume
    from .config import ContainerConfig, DeviceLimit, Mount
    from .record import Container, ContainerRecord, Health, MountPoint

ZERO_TIME = "0001-01-01T00:00:00Z"


def inspect(container: Container) -> dict[str, Any]:
    """Docker's JSON of a container; ``SizeRw`` and ``SizeRootFs`` where the sizes are known."""
    record, bundle = container.record, container.bundle
    config = record.config
    result: dict[str, Any] = {
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": record.args,
        "State": _state(container),
        "Image": record.image_id,
        "ResolvConfPath": f"{bundle}/resolv.conf",
        "HostnamePath": f"{bundle}/hostname",
        "HostsPath": f"{bundle}/hosts",
        "LogPath": container.log_path if config.log_driver == "cri" else "",
        "Name": f"/{record.name}",
        "RestartCount": container.state.restart_count,
        "Driver": record.driver or "overlay",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config(record),
        "GraphDriver": _graph_driver(container),
    }
    if container.size_rw is not None:
        result["SizeRw"] = container.size_rw
        result["SizeRootFs"] = container.size_root or 0
    result["Mounts"] = [_mount_point(point) for point in record.mounts]
    result["Config"] = _config(container)
    result["NetworkSettings"] = networks.settings(container)
    return result


def _state(container: Container) -> dict[str, Any]:
    state = container.state
    status = state.status.value
    result: dict[str, Any] = {
        "Status": status,
        "Running": state.status.is_up or status == "restarting",
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": status == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at or ZERO_TIME,
        "FinishedAt": state.finished_at or ZERO_TIME,
    }
    if state.health is not None:
        result["Health"] = _health(state.health)
    return result


def _health(health: Health) -> dict[str, Any]:
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": probe.start,
                "End": probe.end,
                "ExitCode": probe.exit_code,
                "Output": probe.output,
            }
            for probe in health.log
        ],
    }


def _host_config(record: ContainerRecord) -> dict[str, Any]:
    config = record.config
    privileged = config.privileged
    return {
        "Binds": _binds(config.mounts) or None,
        "ContainerIDFile": "",
        "LogConfig": {
            "Type": config.log_driver,
            "Config": {**_log_limits(config), **config.log_options},
        },
        "NetworkMode": wishes.mode(config),
        "PortBindings": networks.port_bindings(config),
        "RestartPolicy": {
            "Name": config.restart.name,
            "MaximumRetryCount": config.restart.max_retries,
        },
        "AutoRemove": config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "ConsoleSize": [0, 0],
        "Annotations": dict(sorted(config.annotations.items())),
        "CapAdd": config.cap_add or None,
        "CapDrop": config.cap_drop or None,
        "CgroupnsMode": "private",
        "Dns": config.dns,
        "DnsOptions": config.dns_options,
        "DnsSearch": config.dns_search,
        "ExtraHosts": config.add_hosts or None,
        "GroupAdd": config.group_add or None,
        "IpcMode": "private",
        "Cgroup": "",
        "Links": networks.legacy_links(record) or None,
        "OomScoreAdj": config.oom_score_adj,
        "PidMode": "",
        "Privileged": privileged,
        "PublishAllPorts": config.publish_all,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": _security_options(config) or None,
        "Tmpfs": _tmpfs(config.mounts),
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": config.shm_size,
        "Sysctls": dict(sorted(config.sysctls.items())),
        "Runtime": "fastbox",
        "Isolation": "",
        "CpuShares": config.cpu_shares,
        "Memory": config.memory,
        "NanoCpus": config.nano_cpus,
        "CgroupParent": "",
        "BlkioWeight": config.blkio_weight,
        "BlkioWeightDevice": [
            {"Path": limit.path, "Weight": limit.value} for limit in config.blkio_weight_device
        ],
        "BlkioDeviceReadBps": _rates(config.device_read_bps),
        "BlkioDeviceWriteBps": _rates(config.device_write_bps),
        "BlkioDeviceReadIOps": _rates(config.device_read_iops),
        "BlkioDeviceWriteIOps": _rates(config.device_write_iops),
        "CpuPeriod": config.cpu_period,
        "CpuQuota": config.cpu_quota,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": config.cpuset_cpus,
        "CpusetMems": config.cpuset_mems,
        "Devices": [
            {
                "PathOnHost": device.host,
                "PathInContainer": device.container,
                "CgroupPermissions": device.permissions,
            }
            for device in config.devices
        ],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": config.memory_reservation,
        "MemorySwap": config.memory_swap or config.memory * 2,
        "MemorySwappiness": config.memory_swappiness,
        "OomKillDisable": config.oom_kill_disable,
        "PidsLimit": config.pids_limit or None,
        "Ulimits": [
            {"Name": limit.name, "Hard": limit.hard, "Soft": limit.soft} for limit in config.ulimits
        ],
        "Init": config.init,
        "Mounts": _mounts(config.mounts) or None,
        "MaskedPaths": None if privileged else MASKED,
        "ReadonlyPaths": None if privileged else READ_ONLY,
    }


def _log_limits(config: ContainerConfig) -> dict[str, str]:
    if config.log_driver != "cri":
        return {}
    return {"max-file": str(config.log_max_file), "max-size": str(config.log_max_size)}


def _rates(limits: list[DeviceLimit]) -> list[dict[str, Any]]:
    return [{"Path": limit.path, "Rate": limit.value} for limit in limits]


def _binds(mounts: list[Mount]) -> list[str]:
    """``-v`` in the form in which it is typed."""
    result = []
    for mount in mounts:
        if not _is_short(mount) or not mount.source:
            continue
        options = [word for word, wanted in (
            ("ro", mount.read_only), ("nocopy", mount.no_copy),
            (mount.propagation, mount.propagation != "rprivate"),
        ) if wanted]  # fmt: skip
        text = f"{mount.source}:{mount.target}"
        result.append(f"{text}:{','.join(options)}" if options else text)
    return result


def _is_short(mount: Mount) -> bool:
    """Whether it came from ``-v`` (a bind that may make its source, a plain volume)."""
    return (mount.type == "bind" and mount.create_source) or (
        mount.type == "volume" and not mount.labels
    )


def _mounts(mounts: list[Mount]) -> list[dict[str, Any]]:
    """What ``--mount`` asked for."""
    result: list[dict[str, Any]] = []
    for mount in mounts:
        if _is_short(mount) or (mount.type == "tmpfs" and mount.options):
            continue
        entry: dict[str, Any] = {"Type": mount.type}
        if mount.source:
            entry["Source"] = mount.source
        entry["Target"] = mount.target
        if mount.read_only:
            entry["ReadOnly"] = True
        if mount.type == "bind" and (mount.propagation != "rprivate" or not mount.recursive):
            entry["BindOptions"] = {"Propagation": mount.propagation}
            if not mount.recursive:
                entry["BindOptions"]["NonRecursive"] = True
        if mount.type == "volume":
            entry["VolumeOptions"] = {"NoCopy": mount.no_copy, "Labels": mount.labels}
        if mount.type == "tmpfs" and mount.tmpfs_size:
            entry["TmpfsOptions"] = {"SizeBytes": mount.tmpfs_size, "Mode": mount.tmpfs_mode}
        result.append(entry)
    return result


def _tmpfs(mounts: list[Mount]) -> dict[str, str] | None:
    found = {}
    for mount in mounts:
        if mount.type == "tmpfs" and mount.options:
            options = list(mount.options)
            if mount.tmpfs_size:
                options.append(f"size={mount.tmpfs_size}")
            found[mount.target] = ",".join(options)
    return found or None


def _security_options(config: ContainerConfig) -> list[str]:
    options = ["no-new-privileges"] if config.no_new_privileges else []
    if config.seccomp is not None:
        options.append(f"seccomp={config.seccomp}")
    return options


def _graph_driver(container: Container) -> dict[str, Any]:
    record, directory = container.record, container.directory
    layers = directory.rpartition("/containers/")[0] + "/layers"
    if record.driver:
        return {"Data": {"ID": record.id, "Root": f"{directory}/upper"}, "Name": record.driver}
    return {
        "Data": {
            "ID": record.id,
            "LowerDir": ":".join(f"{layers}/{name}" for name in record.layers),
            "UpperDir": f"{directory}/upper",
            "WorkDir": f"{directory}/work",
        },
        "Name": "overlay",
    }


def _mount_point(point: MountPoint) -> dict[str, Any]:
    result: dict[str, Any] = {"Type": point.type}
    if point.name:
        result["Name"] = point.name
    result["Source"] = point.source
    result["Destination"] = point.destination
    if point.driver:
        result["Driver"] = point.driver
    result["Mode"] = point.mode
    result["RW"] = point.rw
    result["Propagation"] = point.propagation
    return result


def _config(container: Container) -> dict[str, Any]:
    record = container.record
    config = record.config
    result: dict[str, Any] = {
        "Hostname": record.hostname,
        "Domainname": config.domainname or "",
        "User": record.user,
        "AttachStdin": "stdin" in config.attach,
        "AttachStdout": "stdout" in config.attach,
        "AttachStderr": "stderr" in config.attach,
    }
    if record.exposed_ports:
        result["ExposedPorts"] = {port: {} for port in sorted(record.exposed_ports)}
    result |= {
        "Tty": config.tty,
        "OpenStdin": config.interactive,
        "StdinOnce": config.stdin_once,
        "Env": record.env,
        "Cmd": record.command,
        "Image": config.image,
        "Volumes": {path: {} for path in sorted(record.image_volumes)} or None,
        "WorkingDir": record.workdir,
        "Entrypoint": record.entrypoint,
        "Labels": dict(sorted(record.labels.items())),
        "StopSignal": record.stop_signal,
    }
    if record.healthcheck is not None:
        result["Healthcheck"] = msgspec.to_builtins(record.healthcheck)
    if config.stop_timeout is not None:
        result["StopTimeout"] = config.stop_timeout
    return result


def inspect_volume(volume: Volume) -> dict[str, Any]:
    """Docker's JSON of a volume."""
    labels = dict(sorted(volume.labels.items()))
    if volume.anonymous:
        labels.setdefault("com.docker.volume.anonymous", "")
    return {
        "CreatedAt": volume.created,
        "Driver": volume.driver,
        "Labels": labels or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": dict(sorted(volume.options.items())) or None,
        "Scope": "local",
    }
