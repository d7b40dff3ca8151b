"""Sizes, CPUs, ulimits, sysctls and devices of ``run`` and ``create``."""

from __future__ import annotations

from ..container.config import Device, DeviceLimit, Ulimit
from . import gotext
from .errors import CliError
from .human import parse_size

_ULIMITS = frozenset(
    (
        "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc",
        "rss", "rtprio", "rttime", "sigpending", "stack",
    )
)  # fmt: skip
_SYSCTLS = frozenset(
    (
        "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall",
        "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
    )
)  # fmt: skip
_NANO = 10**9


def swap(text: str) -> int:
    """Bytes, or -1 for no limit.

    Raises:
        ValueError
    """
    return -1 if text == "-1" else parse_size(text)


def cpus(text: str) -> int:
    """``1.5``, ``1/2``, ``1e-1`` in nano-CPUs.

    Raises:
        ValueError
    """
    from fractions import Fraction

    try:
        if not text.isascii() or text.strip() != text or len(text) > 100:
            raise ValueError
        if text[:2].lower() in ("0x", "0b", "0o"):
            value = Fraction(int(text, 0))
        else:
            _, _, exponent = text.lower().partition("e")
            if exponent and abs(int(exponent)) > 30:  # a short text, a number of any length
                raise ValueError
            value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"failed to parse {text} as a rational number") from None
    nano = value * _NANO
    if nano.denominator != 1:
        raise ValueError("value is too precise")
    if abs(nano) >= 1 << 63:
        raise ValueError(f"{text} is out of range")
    return int(nano)


def weight(text: str) -> int:
    """A number of 16 bits.

    Raises:
        ValueError
    """
    quoted = gotext.quote(text)
    try:
        value = gotext.parse_int(text)
    except ValueError:
        value = -1
    if value < 0 or text[:1] in ("-", "+"):
        raise ValueError(f"strconv.ParseUint: parsing {quoted}: invalid syntax")
    if value >= 1 << 16:
        raise ValueError(f"strconv.ParseUint: parsing {quoted}: value out of range")
    return value


def _device_value(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def device_weight(text: str) -> DeviceLimit:
    """``PATH:WEIGHT``.

    Raises:
        ValueError
    """
    path, value = _device_value(text)
    if not _is_number(value) or (int(value) and not 10 <= int(value) <= 1000):
        raise ValueError(f"invalid weight for device: {text}")
    return DeviceLimit(path=path, value=int(value))


def device_bytes(text: str) -> DeviceLimit:
    """``PATH:SIZE``, per second.

    Raises:
        ValueError
    """
    path, value = _device_value(text)
    try:
        return DeviceLimit(path=path, value=parse_size(value))
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>"
            "[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def device_operations(text: str) -> DeviceLimit:
    """``PATH:NUMBER``, per second.

    Raises:
        ValueError
    """
    path, value = _device_value(text)
    if not _is_number(value):
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. "
            "Number must be a positive integer"
        )
    return DeviceLimit(path=path, value=int(value))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 1 << 64


def ulimit(text: str) -> Ulimit:
    """``NAME=SOFT[:HARD]``.

    Raises:
        ValueError: with the text of Docker's go-units.
    """
    name, equals, values = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    parts = values.split(":")
    if len(parts) > 2:
        raise ValueError(
            f"too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
        )
    soft = gotext.parse_int(parts[0], base=10)
    hard = gotext.parse_int(parts[1], base=10) if len(parts) == 2 else soft
    if hard != -1 and soft == -1:
        raise ValueError(
            "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), "
            f"hard: {hard}"
        )
    if hard != -1 and soft > hard:
        raise ValueError(
            f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )
    return Ulimit(name=name, soft=soft, hard=hard)


def unique_ulimits(limits: list[Ulimit]) -> list[Ulimit]:
    """The last one of each name."""
    return list({limit.name: limit for limit in limits}.values())


def sysctl(text: str) -> None:
    """Whether a container may have a ``NAME=VALUE`` of its own (the engine looks closer).

    Raises:
        ValueError
    """
    name, equals, _ = text.partition("=")
    if not equals or not (name in _SYSCTLS or name.startswith(("net.", "fs.mqueue."))):
        raise ValueError(f"sysctl '{text}' is not allowed")


def device(text: str) -> Device:
    """``HOST[:CONTAINER][:PERMISSIONS]``.

    Raises:
        CliError
    """
    parts = text.split(":")
    if not parts[0] or len(parts) > 3:
        raise CliError(f"bad format for path: {text}")
    host = container = parts[0]
    permissions = "rwm"
    if len(parts) == 3:
        container, permissions = parts[1], parts[2]
        if not _is_mode(permissions):
            raise CliError(f"bad mode specified: {permissions}")
    elif len(parts) == 2 and _is_mode(parts[1]):
        permissions = parts[1]
    elif len(parts) == 2:
        container = parts[1]
    for path in (container, host):
        if not path.startswith("/"):
            raise CliError(f"{path} is not an absolute path")
    return Device(host=host, container=container, permissions=permissions)


def _is_mode(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)
