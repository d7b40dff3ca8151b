"""Which device nodes a container may use: rules, their normal form, and what enforces them.

Rules are OCI runtime-spec ``linux.resources.devices`` entries: applied in order, a later one
overrides. They are brought to the form of the v1 device controller (a default and exceptions to
it), which is then written to ``devices.deny``/``devices.allow`` (v1) or becomes a
BPF_PROG_TYPE_CGROUP_DEVICE program (v2), so that both enforce the same.
"""

from __future__ import annotations

import _thread
import functools
import os
import stat
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..errors import InvalidArgument, NotFound
from .config import Device

# linux/bpf.h: enum of bpf_cgroup_dev_ctx.access_type
MKNOD, READ, WRITE = 1, 2, 4
BITS = {"m": MKNOD, "r": READ, "w": WRITE}
RWM = MKNOD | READ | WRITE
TYPES = {"b": 1, "c": 2}

ANY = -1
MAX_MAJOR, MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1  # MAJOR and MINOR of the kernel's dev_t


class DeviceRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule.

    Attributes:
        type: ``"a"`` (all devices; the rest is ignored), ``"b"`` or ``"c"``.
        major, minor: -1 = any.
        access: some of ``r`` (read), ``w`` (write), ``m`` (mknod).
    """

    allow: bool
    type: str = "a"
    major: int = ANY
    minor: int = ANY
    access: str = "rwm"


def _allow(type: str, major: int, minor: int, access: str = "rwm") -> DeviceRule:
    return DeviceRule(allow=True, type=type, major=major, minor=minor, access=access)


# Docker's and runc's together (moby daemon/pkg/oci/defaults.go, runc specconv): nothing, except
# making nodes (which opens none of them), the harmless memory devices, terminals and tun.
DEFAULT: tuple[DeviceRule, ...] = (
    DeviceRule(allow=False),
    _allow("c", ANY, ANY, "m"),
    _allow("b", ANY, ANY, "m"),
    _allow("c", 1, 3),  # null
    _allow("c", 1, 5),  # zero
    _allow("c", 1, 7),  # full
    _allow("c", 1, 8),  # random
    _allow("c", 1, 9),  # urandom
    _allow("c", 5, 0),  # tty
    _allow("c", 5, 1),  # console
    _allow("c", 5, 2),  # ptmx
    _allow("c", 136, ANY),  # pts
    _allow("c", 10, 200),  # net/tun
)

# --device and --device-cgroup-rule texts ------------------------------------------------------


def parse(text: str) -> Device:
    """``HOST[:CONTAINER[:rwm]]`` of ``--device``.

    Raises:
        InvalidArgument: with Docker's texts.
    """
    parts = text.split(":")
    host = parts[0]
    container, permissions = host, "rwm"
    if len(parts) > 3 or not host:
        raise InvalidArgument(f"invalid device specification: {text}")
    if len(parts) == 2 and _is_access(parts[1]):
        permissions = parts[1]
    elif len(parts) >= 2:
        container = parts[1] or host
    if len(parts) == 3:
        permissions = parts[2]
    if not _is_access(permissions):
        raise InvalidArgument(f"invalid device mode: {permissions}", hint="it is some of r, w, m")
    for path in (host, container):
        if not path.startswith("/") or "\0" in path:
            raise InvalidArgument(f"{path} is not an absolute path")
    if os.path.normpath(container) in ("/", "/dev"):
        raise InvalidArgument(f"invalid device specification: {text}")
    return Device(host=host, container=container, permissions=permissions)


def _is_access(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


class HostDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A node to make in a container, as found on the host."""

    path: str
    type: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    access: str

    def rule(self) -> DeviceRule:
        return _allow(self.type, self.major, self.minor, self.access)

    def to_oci(self) -> dict[str, Any]:
        """OCI ``linux.devices`` entry."""
        return {
            "path": self.path,
            "type": self.type,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }


def find(device: Device) -> list[HostDevice]:
    """The node that a ``--device`` names; for a directory, all nodes below it.

    Raises:
        NotFound: there is no such path.
        InvalidArgument: it is not a device.
    """
    try:
        info = os.stat(device.host)
    except OSError as e:
        raise NotFound(
            f'error gathering device information while adding custom device "{device.host}": '
            f"{(e.strerror or str(e)).lower()}"
        ) from e
    if not stat.S_ISDIR(info.st_mode):
        found = _host_device(info, device.container, device.permissions)
        if found is None:
            raise InvalidArgument(
                "error gathering device information while adding custom device "
                f'"{device.host}": not a device node'
            )
        return [found]
    result = []
    for directory, subdirectories, files in os.walk(device.host):
        subdirectories.sort()
        below = directory[len(device.host.rstrip("/")) :]
        for name in sorted(files):
            try:
                info = os.stat(os.path.join(directory, name), follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            path = os.path.join(device.container.rstrip("/") + below, name)
            found = _host_device(info, path, device.permissions)
            if found is not None:
                result.append(found)
    if not result:
        raise InvalidArgument(
            "error gathering device information while adding custom device "
            f'"{device.host}": no device nodes in this directory'
        )
    return result


def _host_device(info: os.stat_result, path: str, access: str) -> HostDevice | None:
    if stat.S_ISBLK(info.st_mode):
        kind = "b"
    elif stat.S_ISCHR(info.st_mode):
        kind = "c"
    else:
        return None
    return HostDevice(
        path=path,
        type=kind,
        major=os.major(info.st_rdev),
        minor=os.minor(info.st_rdev),
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        access=access,
    )


# normal form ------------------------------------------------------------------------------------


class Policy(msgspec.Struct, frozen=True):
    """Rules in normal form: a default, and the exceptions (type, major, minor, access bits)."""

    default_allow: bool
    exceptions: tuple[tuple[str, int, int, int], ...] = ()


def normalize(rules: Iterable[DeviceRule]) -> Policy:
    """The normal form of rules; see ``_normalized``, whose last results are kept."""
    return _normalized(tuple(rules))


@functools.lru_cache(maxsize=64)
def _normalized(rules: tuple[DeviceRule, ...]) -> Policy:
    """Apply rules in order, as the v1 controller does on writes to devices.allow and .deny.

    Without any rule everything is allowed, as in a new cgroup of a host.

    Raises:
        InvalidArgument: a malformed rule, or one that would have to cut a hole into a wildcard
            exception, which the controller cannot express.
    """
    default = True
    exceptions: dict[tuple[str, int, int], int] = {}
    for rule in rules:
        access = _access_bits(rule)
        if rule.type == "a":
            default, exceptions = rule.allow, {}
            continue
        key = (rule.type, rule.major, rule.minor)
        if rule.allow != default:
            exceptions[key] = exceptions.get(key, 0) | access
            continue
        for other, bits in list(exceptions.items()):
            if other[0] != rule.type or not bits & access:
                continue
            if _covers(key, other):
                exceptions[other] = bits & ~access
                if not exceptions[other]:
                    del exceptions[other]
            elif _covers(other, key) or _overlaps(key, other):
                raise InvalidArgument(
                    f"device rule {_text(rule)} would cut a hole into an earlier wildcard rule",
                    hint="put the rules so that exceptions name single devices",
                )
    return Policy(default, tuple(sorted((*key, bits) for key, bits in exceptions.items())))


def _access_bits(rule: DeviceRule) -> int:
    if rule.type == "a":
        return RWM
    bad = (
        rule.type not in TYPES
        or not ANY <= rule.major <= MAX_MAJOR
        or not ANY <= rule.minor <= MAX_MINOR
        or not _is_access(rule.access)
    )
    if bad:
        raise InvalidArgument(f"invalid device rule: {_text(rule)}")
    bits = 0
    for letter in rule.access:
        bits |= BITS[letter]
    return bits


def _covers(wide: tuple[str, int, int], narrow: tuple[str, int, int]) -> bool:
    return all(w in (ANY, n) for w, n in zip(wide[1:], narrow[1:], strict=True))


def _overlaps(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return all(a == b or ANY in (a, b) for a, b in zip(one[1:], other[1:], strict=True))


def _text(rule: DeviceRule) -> str:
    numbers = ":".join("*" if n == ANY else str(n) for n in (rule.major, rule.minor))
    return f"{'allow' if rule.allow else 'deny'} {rule.type} {numbers} {rule.access}"


def v1_writes(policy: Policy) -> list[tuple[str, str]]:
    """(file, line) in the order to write them into a v1 devices cgroup without children."""
    reset, file = ("devices.allow", "devices.deny")
    if not policy.default_allow:
        reset, file = file, reset
    writes = [(reset, "a")]
    for kind, major, minor, bits in policy.exceptions:
        access = "".join(letter for letter, bit in BITS.items() if bits & bit)
        numbers = ":".join("*" if n == ANY else str(n) for n in (major, minor))
        writes.append((file, f"{kind} {numbers} {access}"))
    return writes


# the BPF program --------------------------------------------------------------------------------

# linux/bpf.h and linux/bpf_common.h opcodes
_LDX_W = 0x61  # dst = *(u32 *)(src + off)
_MOV_K, _MOV_X, _AND_K = 0xB7, 0xBF, 0x57
_JA, _JEQ, _JNE, _JSET, _EXIT = 0x05, 0x15, 0x55, 0x45, 0x95
_JLT, _JLE = 0xA5, 0xB5  # Linux 4.14; the program type is of 4.15
_VERDICT, _CONTEXT, _ACCESS, _MAJOR, _MINOR, _TYPE = 0, 1, 2, 3, 4, 5  # registers


class _Assembler:
    """eBPF instructions with jumps to names."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int, int, str]] = []
        self._labels: dict[str, int] = {}
        self._names = 0

    def emit(self, op: int, dst: int = 0, src: int = 0, imm: int = 0, offset: int = 0) -> None:
        self._code.append((op, dst, src, offset, imm, ""))

    def jump(self, target: str, op: int = _JA, register: int = 0, imm: int = 0) -> None:
        self._code.append((op, register, 0, 0, imm, target))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def unique(self) -> str:
        self._names += 1
        return str(self._names)

    def assemble(self) -> bytes:
        out = bytearray()
        for at, (op, dst, src, distance, imm, target) in enumerate(self._code):
            offset = self._labels[target] - at - 1 if target else distance
            # struct bpf_insn: the two registers are bit fields, in the byte order of the machine
            registers = dst | src << 4 if sys.byteorder == "little" else dst << 4 | src
            out += struct.pack("=BBhi", op, registers, offset, imm)
        return bytes(out)


def bpf_program(policy: Policy) -> bytes:
    """Instructions of a BPF_PROG_TYPE_CGROUP_DEVICE program; it returns 1 (allow) or 0.

    The kernel asks with struct bpf_cgroup_dev_ctx: u32 access_type (access << 16 | type), u32
    major, u32 minor. An allow exception applies when it has all the access that is asked for, a
    deny exception when it has any of it, as in the v1 controller (match_exception and
    match_exception_partial of security/device_cgroup.c).

    The verdict register holds the verdict of an exception from the start, so that a match is one
    jump to the exit; what matches nothing runs into the instruction before it. The verifier
    refuses code that cannot be reached, so nothing may follow what matches always.
    """
    code = _Assembler()
    rest = _without_covered(policy.exceptions)
    hit = 0 if policy.default_allow else 1
    if len([e for e in rest if e[1:] == (ANY, ANY, RWM)]) == len(TYPES):
        return bpf_program(Policy(not policy.default_allow))
    if rest:
        code.emit(_MOV_K, _VERDICT, imm=hit)
        code.emit(_LDX_W, _ACCESS, _CONTEXT)
        wild = {kind: bits for kind, major, minor, bits in rest if major == minor == ANY}
        if len(wild) == 2 and wild["b"] == wild["c"]:
            # The same for all devices: one test, before anything else is looked at.
            _match_access(code, wild["b"], policy.default_allow)
            rest = tuple(e for e in rest if not e[1] == e[2] == ANY)
    if rest:
        _match_device(code, rest, policy.default_allow)
    code.label("miss")
    code.emit(_MOV_K, _VERDICT, imm=1 - hit)
    code.label("exit")
    code.emit(_EXIT)
    return code.assemble()


def _without_covered(
    exceptions: Sequence[tuple[str, int, int, int]],
) -> tuple[tuple[str, int, int, int], ...]:
    """Leave out exceptions that a wider one includes."""
    return tuple(
        e
        for e in exceptions
        if not any(
            o is not e and o[0] == e[0] and _covers(o[:3], e[:3]) and not e[3] & ~o[3]
            for o in exceptions
        )
    )


def _match_device(
    code: _Assembler, exceptions: Sequence[tuple[str, int, int, int]], any_of: bool
) -> None:
    if any(bits != RWM for *_, bits in exceptions):
        code.emit(_MOV_X, _TYPE, _ACCESS)
        type_register = _TYPE
    else:
        type_register = _ACCESS  # the access bits are not needed any more
    code.emit(_AND_K, type_register, imm=0xFFFF)
    if any(major != ANY for _, major, _, _ in exceptions):
        code.emit(_LDX_W, _MAJOR, _CONTEXT, offset=4)
    if any(minor != ANY for _, _, minor, _ in exceptions):
        code.emit(_LDX_W, _MINOR, _CONTEXT, offset=8)
    kinds = sorted({e[0] for e in exceptions})
    for kind in kinds:
        after = "miss" if kind == kinds[-1] else code.unique()
        code.jump(after, _JNE, type_register, TYPES[kind])
        for major in sorted({e[1] for e in exceptions if e[0] == kind}):
            group = [(e[2], e[3]) for e in exceptions if e[0] == kind and e[1] == major]
            _match_major(code, major, group, any_of)
        if after != "miss":
            code.label(after)


def _match_major(
    code: _Assembler, major: int, group: Sequence[tuple[int, int]], any_of: bool
) -> None:
    if major != ANY and (ANY, RWM) in group:
        code.jump("exit", _JEQ, _MAJOR, major)
        return
    after = code.unique()
    if major != ANY:
        code.jump(after, _JNE, _MAJOR, major)
    for first, last in _runs([minor for minor, bits in group if bits == RWM and minor != ANY]):
        if first == 0:
            code.jump("exit", _JLE, _MINOR, last)
        elif last - first >= 2:
            above = code.unique()
            code.jump(above, _JLT, _MINOR, first)
            code.jump("exit", _JLE, _MINOR, last)
            code.label(above)
        else:
            for minor in range(first, last + 1):
                code.jump("exit", _JEQ, _MINOR, minor)
    for minor, bits in group:
        if minor == ANY:
            _match_access(code, bits, any_of)
        elif bits != RWM:
            other = code.unique()
            code.jump(other, _JNE, _MINOR, minor)
            _match_access(code, bits, any_of)
            code.label(other)
    code.label(after)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as runs (first, last)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] + 1 == number:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs


def _match_access(code: _Assembler, bits: int, any_of: bool) -> None:
    """Jump to the exit when the access that is asked for matches, else go on."""
    if bits == RWM:
        code.jump("exit")
    elif any_of:
        code.jump("exit", _JSET, _ACCESS, bits << 16)
    else:
        code.emit(_JSET, _ACCESS, imm=(RWM & ~bits) << 16, offset=1)
        code.jump("exit")


MAX_PROGRAMS = 64

_programs: dict[Policy, int] = {}
_lock = _thread.allocate_lock()  # threading costs a millisecond of import


def attach(cgroup_fd: int, policy: Policy) -> None:
    """Attach the device filter of a policy to a v2 cgroup.

    Each rule set goes through the verifier once per process: the descriptors of the last 64
    programs are kept, until ``forget_programs``.

    Raises:
        OSError: the kernel refuses or lacks it (see ``_core.bpf``).
    """
    from .._core import bpf

    # The lock is for the descriptor's sake: nobody closes it between look-up and use.
    with _lock:
        fd = _programs.get(policy)
        if fd is None:
            fd = bpf.load(bpf_program(policy))
            if len(_programs) >= MAX_PROGRAMS:
                os.close(_programs.pop(next(iter(_programs))))
            _programs[policy] = fd
        bpf.attach(cgroup_fd, fd)


def forget_programs() -> None:
    """Close the kept descriptors; what is attached stays attached."""
    with _lock:
        while _programs:
            os.close(_programs.popitem()[1])
