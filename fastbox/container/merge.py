"""Image config and user config become what a container is: the fixed part of its record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import InvalidArgument
from ..network import ports
from . import health
from .config import ContainerConfig
from .record import VERSION, ContainerRecord

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IDLE = "fastbox-idle"  # the mode of the helper that is PID 1 of a box
# Labels that would steer the engine are the operator's to give, never an image's (CVE-2026-53488).
RESERVED_LABELS = (
    "dev.fastbox.",
    "run.oci.",
    "io.podman.",
    "io.containers.",
    "cdi.k8s.io/",
    "org.systemd.property.",
)


def merge(
    record_id: str,
    name: str,
    created: str,
    config: ContainerConfig,
    image_config: dict[str, Any],
) -> ContainerRecord:
    """The record of a container, without its image's layers and its mounts.

    Args:
        image_config: the ``config`` object of an OCI image config, types checked.

    Raises:
        InvalidArgument: there is no command, or a value cannot be used.
    """
    argv = process_args(config, image_config)
    path, args = argv[0], argv[1:]
    hostname = config.hostname or _default_hostname(config, record_id)
    return ContainerRecord(
        version=VERSION,
        id=record_id,
        name=name,
        created=created,
        config=config,
        path=path,
        args=args,
        env=_environment(config, image_config, hostname),
        workdir=_workdir(config, image_config),
        user=config.user if config.user is not None else image_config.get("User") or "",
        hostname=hostname,
        labels=_labels(config, image_config),
        exposed_ports=ports.exposed(
            image_config.get("ExposedPorts") or {}, config.expose, config.publish
        ),
        image_volumes=[] if config.idle else sorted(image_config.get("Volumes") or {}),
        image_cmd=image_config.get("Cmd"),
        image_entrypoint=image_config.get("Entrypoint"),
        stop_signal=config.stop_signal or image_config.get("StopSignal") or "SIGTERM",
        healthcheck=health.merge(config.healthcheck, image_config.get("Healthcheck")),
        shell=list(image_config.get("Shell") or []),
    )


def process_args(config: ContainerConfig, image: dict[str, Any]) -> list[str]:
    """ENTRYPOINT + (COMMAND or CMD); a new entrypoint drops the image's CMD."""
    if config.idle:
        return [IDLE]
    if config.entrypoint is None:
        entrypoint = list(image.get("Entrypoint") or [])
        command = config.command if config.command else list(image.get("Cmd") or [])
    else:
        entrypoint = [word for word in config.entrypoint if word] or []
        command = list(config.command or [])
    argv = entrypoint + command
    if not argv:
        raise InvalidArgument(
            "no command specified",
            hint="the image names none; give one after the image's name",
        )
    for word in argv:
        if "\0" in word:
            raise InvalidArgument("an argument of the command holds a NUL character")
    return argv


def _environment(config: ContainerConfig, image: dict[str, Any], hostname: str) -> list[str]:
    base = [DEFAULT_PATH, f"HOSTNAME={hostname}"]
    if config.tty:
        base.append("TERM=xterm")
    return environment(base, image.get("Env") or [], config.env)


def environment(base: Iterable[str], image: Iterable[str], own: Iterable[str]) -> list[str]:
    """Later entries replace earlier ones of the same name, in the place of the first.

    An image's entry without "=" is no request to copy from the engine's environment
    (CVE-2026-57231): it is left out.

    Args:
        own: an entry without "=" takes the variable away.

    Raises:
        InvalidArgument: one cannot be a variable.
    """
    merged: dict[str, str] = {}
    inherited = [entry for entry in image if entry.find("=") > 0]
    for entry in (*base, *inherited, *own):
        key, equals, _ = entry.partition("=")
        if not key or "\0" in entry:
            raise InvalidArgument(f"invalid environment variable: {entry!r}")
        if not equals:  # "-e NAME" of a variable that the client has not: unset
            merged.pop(key, None)
        else:
            merged[key] = entry
    return list(merged.values())


def _workdir(config: ContainerConfig, image: dict[str, Any]) -> str:
    path = config.workdir or image.get("WorkingDir") or "/"
    if not path.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{path}' is invalid, it needs to be an absolute path"
        )
    if "\0" in path:
        raise InvalidArgument("the working directory holds a NUL character")
    return path


def _default_hostname(config: ContainerConfig, record_id: str) -> str:
    if config.network == "host":
        import os

        return os.uname().nodename
    return record_id[:12]


def _labels(config: ContainerConfig, image: dict[str, Any]) -> dict[str, str]:
    inherited = {
        key: value
        for key, value in (image.get("Labels") or {}).items()
        if not key.startswith(RESERVED_LABELS)
    }
    return {**inherited, **config.labels}


def adopt(record: ContainerRecord, config: ContainerConfig) -> None:
    """Have a record, made for another command, tell what ``config`` asks for.

    Raises:
        InvalidArgument: there is no command, or a value cannot be used.
    """
    image = {"Cmd": record.image_cmd, "Entrypoint": record.image_entrypoint}
    argv = process_args(config, image)
    record.path, record.args = argv[0], argv[1:]
    record.env = environment((), record.env, config.env)
    record.config.image = config.image
    record.config.command, record.config.env = config.command, [*record.config.env, *config.env]
    record.config.interactive = config.interactive
    record.config.stdin_once, record.config.attach = config.stdin_once, config.attach
