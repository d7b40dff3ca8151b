"""Where a container's output is kept: log drivers, as the monitor is told of them.

``cri`` (files in the container's directory, the default), ``none``, and the host's ``journald`` and
``syslog``, where they are.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from ..errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from .config import ContainerConfig
    from .record import ContainerRecord

JOURNALD = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
DRIVERS = ("cri", "journald", "none", "syslog")
# What --log-opt may say beside max-size and max-file, which are cri's.
OPTIONS = {
    "cri": ("labels", "env"),
    "journald": ("tag", "labels", "env"),
    "syslog": ("tag", "syslog-address", "syslog-facility"),
    "none": (),
}
# RFC 3164, 4.1.1
_NAMES = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp"
FACILITIES = {
    **{name: number for number, name in enumerate(_NAMES.split())},
    **{f"local{number}": 16 + number for number in range(8)},
}
_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")


class Sink(msgspec.Struct, frozen=True):
    """What the monitor needs to know; see ``_core/monitor/log.h``."""

    driver: str
    socket: str = ""
    header: str = ""


def check_options(driver: str, options: Iterable[str]) -> None:
    """Raises:
    InvalidArgument: an unknown driver, or an option that it does not have.
    """
    if driver not in DRIVERS:
        raise InvalidArgument(
            f"logger: no log driver named '{driver}' is registered",
            hint=f"use --log-driver {', '.join(DRIVERS[:-1])} or {DRIVERS[-1]}",
        )
    for name in options:
        if name not in OPTIONS[driver]:
            known = [*(["max-size", "max-file"] if driver == "cri" else []), *OPTIONS[driver]]
            raise InvalidArgument(
                f"unknown log opt '{name}' for {driver} log driver",
                hint=f"known: {', '.join(known)}" if known else None,
            )


def check(config: ContainerConfig) -> None:
    """Refuse what cannot be had, before anything is made.

    Raises:
        InvalidArgument: an unknown driver or option, a bad value.
        Unsupported: the host has no such daemon.
    """
    driver = config.log_driver
    check_options(driver, config.log_options)
    if driver == "syslog":
        _facility(config)
    _tag_fields(config.log_options.get("tag", ""))
    if driver in ("journald", "syslog"):
        socket = _socket(config)
        try:
            there = stat.S_ISSOCK(os.stat(socket).st_mode)
        except OSError:
            there = False
        if not there:
            raise Unsupported(
                f"failed to initialize logging driver: {driver} does not run on this host "
                f"(there is no {socket})",
                hint="--log-driver cri keeps the output in files",
            )


def sink(record: ContainerRecord) -> Sink:
    """What a container's monitor is told."""
    config = record.config
    driver = config.log_driver
    if driver == "journald":
        return Sink(driver, _socket(config), _journal_fields(record))
    if driver == "syslog":
        return Sink(driver, _socket(config), f"{_facility(config) * 8} {_tag(record)}")
    return Sink(driver)


def details(record: ContainerRecord) -> dict[str, str]:
    """The labels and variables that ``--log-opt labels=…`` and ``env=…`` chose."""
    options = record.config.log_options
    chosen: dict[str, str] = {}
    for name in options.get("labels", "").split(","):
        if name in record.labels:
            chosen[name] = record.labels[name]
    environment = dict(entry.split("=", 1) for entry in record.env if "=" in entry)
    for name in options.get("env", "").split(","):
        if name in environment:
            chosen[name] = environment[name]
    return chosen


def _socket(config: ContainerConfig) -> str:
    if config.log_driver == "journald":
        return JOURNALD
    address = config.log_options.get("syslog-address", f"unixgram://{SYSLOG}")
    scheme, _, path = address.partition("://")
    if scheme not in ("unix", "unixgram") or not path.startswith("/") or len(path) > 100:
        raise Unsupported(
            f"invalid syslog-address: {address}",
            hint="unixgram:///PATH is supported; remote daemons are the host's own syslog's matter",
        )
    return path


def _facility(config: ContainerConfig) -> int:
    text = config.log_options.get("syslog-facility", "daemon")
    if text in FACILITIES:
        return FACILITIES[text]
    if text.isascii() and text.isdigit() and 0 <= int(text[:4]) <= 23:
        return int(text)
    raise InvalidArgument("invalid syslog facility")


def _tag_fields(tag: str) -> list[str]:
    known = ("ID", "FullID", "Name", "ImageID", "ImageFullID", "ImageName", "DaemonName")
    fields = [str(name) for name in _FIELD.findall(tag)]
    rest = _FIELD.sub("", tag)
    if "{{" in rest or any(name not in known for name in fields) or "\n" in tag:
        raise InvalidArgument(
            f"log opt tag={tag}: only plain text and fields can be used",
            hint="fields: " + " ".join(f"{{{{.{name}}}}}" for name in known),
        )
    return fields


def _tag(record: ContainerRecord) -> str:
    image = record.image_id.removeprefix("sha256:")
    values = {
        "ID": record.id[:12],
        "FullID": record.id,
        "Name": record.name,
        "ImageID": image[:12],
        "ImageFullID": image,
        "ImageName": record.config.image,
        "DaemonName": "fastbox",
    }
    tag = record.config.log_options.get("tag", "{{.ID}}")
    return _FIELD.sub(lambda match: values[match.group(1)], tag)


def _journal_fields(record: ContainerRecord) -> str:
    fields = {
        "CONTAINER_ID": record.id[:12],
        "CONTAINER_ID_FULL": record.id,
        "CONTAINER_NAME": record.name,
        "CONTAINER_TAG": _tag(record),
        "IMAGE_NAME": record.config.image,
        "SYSLOG_IDENTIFIER": _tag(record),
    }
    for name, value in details(record).items():
        # systemd.journal-fields(7): capitals, digits and underscores; none of the trusted ones.
        key = re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")[:64]
        if key and key not in ("MESSAGE", "PRIORITY"):
            fields.setdefault(key, value)
    return "".join(f"{key}={value}\n" for key, value in fields.items() if "\n" not in value)
