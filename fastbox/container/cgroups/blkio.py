"""Block I/O: weights and rates, for the v1 controller (blkio) and that of v2 (io).

Weights are 10 to 1000, as Docker has them. They have an effect on disks whose scheduler is bfq.
"""

from __future__ import annotations

import os
import stat

import msgspec

from ...errors import InvalidArgument
from ..config import ContainerConfig, DeviceLimit
from . import files

MIN_WEIGHT, MAX_WEIGHT = 10, 1000
DEFAULT_WEIGHT = 100  # of bfq
# Kind of limit -> (v1 file, key in v2's io.max, member of the OCI runtime spec's blockIO)
_RATES = {
    "read_bps": ("blkio.throttle.read_bps_device", "rbps", "throttleReadBpsDevice"),
    "write_bps": ("blkio.throttle.write_bps_device", "wbps", "throttleWriteBpsDevice"),
    "read_iops": ("blkio.throttle.read_iops_device", "riops", "throttleReadIOPSDevice"),
    "write_iops": ("blkio.throttle.write_iops_device", "wiops", "throttleWriteIOPSDevice"),
}


class OfDevice(msgspec.Struct, frozen=True):
    """A limit for one device.

    Attributes:
        kind: ``"weight"``, ``"read_bps"``, ``"write_bps"``, ``"read_iops"`` or ``"write_iops"``.
        value: a weight; bytes or operations per second, 0 = no limit.
    """

    kind: str
    major: int
    minor: int
    value: int

    @property
    def device(self) -> str:
        """As the kernel's files name it."""
        return f"{self.major}:{self.minor}"


def of_config(config: ContainerConfig) -> tuple[OfDevice, ...]:
    """The limits per device, devices looked up by their path.

    Raises:
        InvalidArgument: a path is no block device.
    """
    asked: list[tuple[str, list[DeviceLimit]]] = [
        ("weight", config.blkio_weight_device),
        ("read_bps", config.device_read_bps),
        ("write_bps", config.device_write_bps),
        ("read_iops", config.device_read_iops),
        ("write_iops", config.device_write_iops),
    ]
    return tuple(_look_up(kind, limit) for kind, limits in asked for limit in limits)


def _look_up(kind: str, limit: DeviceLimit) -> OfDevice:
    try:
        info = os.stat(limit.path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidArgument(f"stat {limit.path}: {reason.lower()}") from error
    if not stat.S_ISBLK(info.st_mode):
        raise InvalidArgument(f"{limit.path} is not a block device")
    if kind == "weight" and limit.value and not MIN_WEIGHT <= limit.value <= MAX_WEIGHT:
        raise InvalidArgument(f"invalid weight for device: {limit.path}:{limit.value}")
    if limit.value < 0:
        raise InvalidArgument(f"invalid rate for device: {limit.path}:{limit.value}")
    return OfDevice(kind, os.major(info.st_rdev), os.minor(info.st_rdev), limit.value)


def check_weight(weight: int) -> None:
    """Raises:
    InvalidArgument
    """
    if weight and not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")


def apply_v1(directory: str, weight: int, limits: tuple[OfDevice, ...]) -> None:
    """Raises:
    FastboxError: see ``files.write``.
    """
    # Without a prefix until cfq was removed (Linux 5.0).
    prefix = "blkio." if os.path.exists(f"{directory}/blkio.weight") else "blkio.bfq."
    if weight:
        files.write(directory, f"{prefix}weight", str(weight))
    for limit in limits:
        name = f"{prefix}weight_device" if limit.kind == "weight" else _RATES[limit.kind][0]
        files.write(directory, name, f"{limit.device} {limit.value}")


def settings_v2(
    directory: str, weight: int, limits: tuple[OfDevice, ...]
) -> list[tuple[str, str, bool]]:
    """(file, value, whether it may be missing)"""
    bfq = os.path.exists(f"{directory}/io.bfq.weight")
    name = "io.bfq.weight" if bfq else "io.weight"

    def scaled(value: int) -> int:
        # io.weight is 1 to 10000, io.bfq.weight 1 to 1000; the line is runc's.
        return value if bfq else 1 + (value - MIN_WEIGHT) * 9999 // (MAX_WEIGHT - MIN_WEIGHT)

    out = []
    if weight:
        out.append((name, str(scaled(weight)), False))
    for limit in limits:
        if limit.kind == "weight":
            value = str(scaled(limit.value)) if limit.value else "default"
            out.append((name, f"{limit.device} {value}", False))
        else:
            rate = str(limit.value) if limit.value else "max"
            out.append(("io.max", f"{limit.device} {_RATES[limit.kind][1]}={rate}", False))
    return out


def to_oci(weight: int, limits: tuple[OfDevice, ...]) -> dict[str, object]:
    """OCI runtime-spec ``linux.resources.blockIO``; empty if there is nothing."""
    result: dict[str, object] = {"weight": weight} if weight else {}
    for kind, member, key in (
        ("weight", "weightDevice", "weight"),
        *((kind, names[2], "rate") for kind, names in _RATES.items()),
    ):
        entries = [
            {"major": limit.major, "minor": limit.minor, key: limit.value}
            for limit in limits
            if limit.kind == kind
        ]
        if entries:
            result[member] = entries
    return result


class _OciEntry(msgspec.Struct):
    major: int
    minor: int
    weight: int = 0
    rate: int = 0


class Oci(msgspec.Struct, rename="camel"):
    """blockIO of a config.json."""

    weight: int = 0
    weight_device: list[_OciEntry] = []
    throttle_read_bps_device: list[_OciEntry] = []
    throttle_write_bps_device: list[_OciEntry] = []
    throttle_read_iops_device: list[_OciEntry] = msgspec.field(
        default_factory=list, name="throttleReadIOPSDevice"
    )
    throttle_write_iops_device: list[_OciEntry] = msgspec.field(
        default_factory=list, name="throttleWriteIOPSDevice"
    )

    def limits(self) -> tuple[OfDevice, ...]:
        """The inverse of ``to_oci``."""
        found = [OfDevice("weight", e.major, e.minor, e.weight) for e in self.weight_device]
        for kind in _RATES:
            entries = getattr(self, f"throttle_{kind}_device")
            found += [OfDevice(kind, e.major, e.minor, e.rate) for e in entries]
        return tuple(found)
