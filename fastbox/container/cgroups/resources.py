"""A container's limits: from flags, to the runtime spec, and their checks with Docker's texts."""

from __future__ import annotations

import math
import os
from typing import Any

import msgspec

from ...errors import InvalidArgument, Unsupported
from ..config import ContainerConfig
from ..devices import ANY, DEFAULT, DeviceRule, Policy, normalize
from . import blkio, files
from .layout import CgroupLayout

MIB = 1024 * 1024
MINIMUM_MEMORY = 6 * MIB
PERIOD = 100_000  # µs, the kernel's default
MIN_QUOTA = 1_000  # µs, the kernel refuses less
MIN_PERIOD, MAX_PERIOD = 1_000, 1_000_000  # µs
MIN_SHARES, MAX_SHARES = 2, 262_144
DEFAULT_SHARES = 1024


class Resources(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What to limit. 0 and ``""`` mean: not asked for.

    Attributes:
        memory: bytes; -1 = explicitly unlimited.
        memory_swap: memory and swap together, in bytes; -1 = unlimited; 0 = twice the memory.
        memory_reservation: bytes that are kept when the host runs short.
        memory_swappiness: 0 to 100; None = not asked for.
        oom_kill_disable: processes wait where they would be killed for want of memory.
        nano_cpus: 1e9 = one CPU.
        cpu_shares: 2 to 262144, 1024 is the default weight.
        cpu_period, cpu_quota: µs; quota -1 = explicitly unlimited. Instead of nano_cpus.
        cpuset_cpus, cpuset_mems: lists like ``0-2,5``.
        pids_limit: -1 = explicitly unlimited.
        blkio_weight: 10 to 1000; block_limits: of single devices.
        devices: rules in order; None = no device filter (privileged).
    """

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
    block_limits: tuple[blkio.OfDevice, ...] = ()
    devices: tuple[DeviceRule, ...] | None = DEFAULT

    @classmethod
    def from_config(
        cls, config: ContainerConfig, devices: tuple[DeviceRule, ...] = ()
    ) -> Resources:
        """The limits of a container; ``devices``: rules to add to the default ones."""
        return cls(
            memory=config.memory,
            memory_swap=config.memory_swap,
            memory_reservation=config.memory_reservation,
            memory_swappiness=config.memory_swappiness,
            oom_kill_disable=config.oom_kill_disable,
            nano_cpus=config.nano_cpus,
            cpu_shares=config.cpu_shares,
            cpu_period=config.cpu_period,
            cpu_quota=config.cpu_quota,
            cpuset_cpus=config.cpuset_cpus,
            cpuset_mems=config.cpuset_mems,
            pids_limit=config.pids_limit,
            blkio_weight=config.blkio_weight,
            block_limits=blkio.of_config(config),
            devices=None if config.privileged else (*DEFAULT, *devices),
        )

    @classmethod
    def from_oci(cls, oci: dict[str, Any]) -> Resources:
        """The inverse of ``to_oci``: OCI runtime-spec ``linux.resources`` of a config.json.

        Raises:
            InvalidArgument: a member of the wrong type or range.
        """
        try:
            spec = msgspec.convert(oci, type=_OciResources)
        except msgspec.ValidationError as e:
            raise InvalidArgument(f"invalid linux.resources: {e}") from e
        nano, quota, period = 0, spec.cpu.quota, spec.cpu.period
        if quota > 0 and period in (0, PERIOD):
            nano, quota, period = quota * 1_000_000_000 // PERIOD, 0, 0
        return cls(
            memory=spec.memory.limit,
            memory_swap=spec.memory.swap,
            memory_reservation=spec.memory.reservation,
            memory_swappiness=spec.memory.swappiness,
            oom_kill_disable=spec.memory.disable_oom_killer,
            nano_cpus=nano,
            cpu_shares=spec.cpu.shares,
            cpu_period=period,
            cpu_quota=quota,
            cpuset_cpus=spec.cpu.cpus,
            cpuset_mems=spec.cpu.mems,
            pids_limit=spec.pids.limit,
            blkio_weight=spec.block_io.weight,
            block_limits=spec.block_io.limits(),
            devices=_rules_from_oci(spec.devices),
        )

    @property
    def quota(self) -> int:
        """CPU time in µs per ``period``; 0 = not asked for, -1 = unlimited."""
        if self.nano_cpus:
            return self.nano_cpus * PERIOD // 1_000_000_000
        return self.cpu_quota

    @property
    def period(self) -> int:
        """µs; 0 = not asked for."""
        return PERIOD if self.nano_cpus else self.cpu_period

    @property
    def swap_limit(self) -> int:
        """Memory and swap together, as it is to be set; 0 = do not set."""
        if self.memory_swap:
            return self.memory_swap
        return 2 * self.memory if self.memory > 0 else 0

    @property
    def weight(self) -> int:
        """cpu_shares as a cgroup v2 weight: 2, 1024, 262144 become 1, 100, 10000 (the curve of
        runc 1.3.2 and crun 1.23, which keeps the default at the default)."""
        shares = min(max(self.cpu_shares, MIN_SHARES), MAX_SHARES)
        if shares == MIN_SHARES:
            return 1
        x = math.log2(shares)
        # 1e-9: 1024 shares are 99.99999999999999 or 100.00000000000001, as libm rounds
        return math.ceil(10 ** ((x * x + 125 * x) / 612 - 7 / 34) - 1e-9)

    def controllers(self) -> list[str]:
        """Controllers that a limit needs, in the order in which they are joined."""
        needed = []
        if (
            self.memory
            or self.memory_swap
            or self.memory_reservation
            or self.memory_swappiness is not None
            or self.oom_kill_disable
        ):
            needed.append("memory")
        if self.quota or self.period or self.cpu_shares:
            needed.append("cpu")
        if self.cpuset_cpus or self.cpuset_mems:
            needed.append("cpuset")
        if self.pids_limit:
            needed.append("pids")
        if self.blkio_weight or self.block_limits:
            needed.append("blkio")
        return needed

    def to_oci(self) -> dict[str, Any]:
        """OCI runtime-spec ``linux.resources``."""
        memory: dict[str, Any] = {
            "limit": self.memory,
            "swap": self.swap_limit,
            "reservation": self.memory_reservation,
            "disableOOMKiller": self.oom_kill_disable,
        }
        cpu: dict[str, Any] = {
            "shares": self.cpu_shares,
            "quota": self.quota,
            "period": self.period,
            "cpus": self.cpuset_cpus,
            "mems": self.cpuset_mems,
        }
        rules = self.devices if self.devices is not None else (DeviceRule(allow=True),)
        result: dict[str, Any] = {"devices": [_rule_to_oci(rule) for rule in rules]}
        for name, section in (("memory", memory), ("cpu", cpu)):
            asked = {key: value for key, value in section.items() if value}
            if name == "memory" and self.memory_swappiness is not None:
                asked["swappiness"] = self.memory_swappiness
            if asked:
                result[name] = asked
        if self.pids_limit:
            result["pids"] = {"limit": self.pids_limit}
        block_io = blkio.to_oci(self.blkio_weight, self.block_limits)
        if block_io:
            result["blockIO"] = block_io
        return result


class _OciMemory(msgspec.Struct):
    limit: int = 0
    swap: int = 0
    reservation: int = 0
    swappiness: int | None = None
    disable_oom_killer: bool = msgspec.field(default=False, name="disableOOMKiller")


class _OciCpu(msgspec.Struct):
    shares: int = 0
    quota: int = 0
    period: int = 0
    cpus: str = ""
    mems: str = ""


class _OciPids(msgspec.Struct):
    limit: int = 0


class _OciDevice(msgspec.Struct):
    allow: bool
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    access: str | None = None


class _OciResources(msgspec.Struct):
    memory: _OciMemory = msgspec.field(default_factory=_OciMemory)
    cpu: _OciCpu = msgspec.field(default_factory=_OciCpu)
    pids: _OciPids = msgspec.field(default_factory=_OciPids)
    block_io: blkio.Oci = msgspec.field(default_factory=blkio.Oci, name="blockIO")
    devices: list[_OciDevice] = []


def _rules_from_oci(entries: list[_OciDevice]) -> tuple[DeviceRule, ...] | None:
    rules = tuple(
        DeviceRule(
            allow=entry.allow,
            type=entry.type or "a",
            major=ANY if entry.major is None else entry.major,
            minor=ANY if entry.minor is None else entry.minor,
            access=entry.access or "rwm",
        )
        for entry in entries
    )
    # A filter that allows everything is none.
    return None if normalize(rules) == Policy(True) else rules


def _rule_to_oci(rule: DeviceRule) -> dict[str, Any]:
    out: dict[str, Any] = {"allow": rule.allow, "type": rule.type, "access": rule.access}
    if rule.type != "a":
        out["major"], out["minor"] = rule.major, rule.minor
    return out


def validate(resources: Resources, layout: CgroupLayout | None = None) -> None:
    """Check limits against each other and against the host.

    Args:
        layout: for the CPUs and memory nodes that our groups can have; None = all that are online.

    Raises:
        InvalidArgument: with Docker's texts. Unsupported: cgroup v2 has no such thing.
    """
    _validate_memory(resources)
    if layout is not None and "memory" not in layout.v1:
        _refuse_v1_only(resources)
    _validate_cpu(resources)
    blkio.check_weight(resources.blkio_weight)
    if resources.pids_limit < -1:
        raise InvalidArgument(
            f"invalid pids limit ({resources.pids_limit}): it is a positive number, or -1 for none"
        )
    _validate_cpuset(resources.cpuset_cpus, "cpus", "CPUs", layout)
    _validate_cpuset(resources.cpuset_mems, "mems", "memory nodes", layout)


def _refuse_v1_only(r: Resources) -> None:
    if r.oom_kill_disable:
        raise Unsupported(
            "--oom-kill-disable is not supported: with cgroup v2 the kernel has no way to switch "
            "the OOM killer off",
            hint="leave it out; --oom-score-adj says who is killed first, and --memory-swap how "
            "much may be swapped out before that",
        )
    if r.memory_swappiness is not None:
        raise Unsupported(
            "--memory-swappiness is not supported: with cgroup v2 there is only the host's "
            "(vm.swappiness)",
            hint="leave it out; --memory-swap limits how much is swapped out",
        )


def _validate_cpu(r: Resources) -> None:
    if r.nano_cpus and r.cpu_period:
        raise InvalidArgument(
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            hint="--cpus sets both period and quota",
        )
    if r.nano_cpus and r.cpu_quota:
        raise InvalidArgument(
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            hint="--cpus sets both period and quota",
        )
    if r.nano_cpus:
        count = len(os.sched_getaffinity(0))
        if r.quota < MIN_QUOTA or r.nano_cpus > count * 1_000_000_000:
            raise InvalidArgument(
                f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs "
                "available"
            )
    if r.cpu_shares < 0:
        raise InvalidArgument(
            f"invalid CPU shares ({r.cpu_shares}): value must be a positive integer"
        )
    if r.cpu_period and not MIN_PERIOD <= r.cpu_period <= MAX_PERIOD:
        raise InvalidArgument(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if 0 < r.cpu_quota < MIN_QUOTA:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if r.cpu_quota < -1:
        raise InvalidArgument(f"invalid CPU quota ({r.cpu_quota}): it is a time, or -1 for none")


def _validate_memory(r: Resources) -> None:
    if r.memory < -1 or (r.memory != -1 and 0 != r.memory < MINIMUM_MEMORY):
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if r.memory_swap < -1:
        raise InvalidArgument(
            f"invalid memory and swap limit ({r.memory_swap}): it is a size, or -1 for no limit"
        )
    if r.memory > 0 and 0 < r.memory_swap < r.memory:
        raise InvalidArgument(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if r.memory <= 0 < r.memory_swap:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if r.memory_reservation and r.memory_reservation < MINIMUM_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if 0 < r.memory < r.memory_reservation:
        raise InvalidArgument(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if r.memory_swappiness is not None and not 0 <= r.memory_swappiness <= 100:
        raise InvalidArgument(
            f"invalid value: {r.memory_swappiness}. Valid memory swappiness range is 0-100"
        )
    if max(r.memory, r.memory_swap, r.memory_reservation) >= 1 << 63:
        raise InvalidArgument("a memory limit does not fit in 63 bits")


def _validate_cpuset(text: str, kind: str, what: str, layout: CgroupLayout | None) -> None:
    if not text:
        return
    try:
        wanted = parse_list(text)
    except ValueError:
        raise InvalidArgument(f"Invalid value {text} for cpuset {kind}") from None
    available_text = available(kind, layout)
    if not wanted <= parse_list(available_text):
        raise InvalidArgument(
            f"Requested {what} are not available - requested {text}, available: {available_text}"
        )


def parse_list(text: str) -> frozenset[int]:
    """The kernel's list format: ``0-2,5``.

    Raises:
        ValueError: something else, or numbers beyond 8191.
    """
    result: set[int] = set()
    for part in text.split(","):
        first, separator, last = part.partition("-")
        numbers = (first, last) if separator else (first, first)
        if not all(n.isascii() and n.isdigit() and len(n) < 5 for n in numbers):
            raise ValueError(text)
        low, high = int(numbers[0]), int(numbers[1])
        if high < low or high > 8191:
            raise ValueError(text)
        result.update(range(low, high + 1))
    return frozenset(result)


def available(kind: str, layout: CgroupLayout | None) -> str:
    """CPUs (``"cpus"``) or memory nodes (``"mems"``) that a group of ours can have, as a list."""
    places = []
    if layout is not None and "cpuset" in layout.v1:
        places.append((layout.v1["cpuset"], f"cpuset.effective_{kind}"))
        places.append((layout.v1["cpuset"], f"cpuset.{kind}"))
    if layout is not None and layout.v2 is not None:
        places.append((layout.v2, f"cpuset.{kind}.effective"))
    online = "cpu" if kind == "cpus" else "node"
    places.append((f"/sys/devices/system/{online}", "online"))
    for directory, name in places:
        try:
            text = files.read(directory, name)
        except OSError:
            continue
        if text:
            return text
    return "0"  # a kernel without NUMA has node 0 only


# msgspec analyses a type when it is first used, which two threads must not do at the same time.
msgspec.json.Decoder(_OciResources)
