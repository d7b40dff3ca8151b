"""Seccomp: a Docker profile becomes OCI ``linux.seccomp``, and that a classic BPF program.

The program is compiled here, without libseccomp: for each architecture a balanced search tree over
the ranges of system call numbers that share a verdict. Plain allows need no run of the filter at
all on Linux 5.11 and later: the kernel finds out once which numbers are allowed whatever their
arguments (``seccomp_cache_prepare``), and the tree uses only what that emulation understands.

Where profiles leave room, the rules are libseccomp's and runc's, so that one profile means the
same under Docker and here:

- a rule without arguments wins over rules with arguments on the same call, the first such rule
  over later ones; a rule whose action is the default action is ignored;
- several conditions of one rule must all hold, except that a rule with two conditions on the same
  argument means any of its conditions;
- of rules with arguments and different actions, the most restrictive that matches is taken.

Where fastbox differs on purpose: numbers that the system call table does not know end in ENOSYS
when the default action denies (a libc that probes for a new call falls back, which EPERM prevents);
x32 calls end in EPERM unless the profile names x32.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import Any

import msgspec

from ..errors import InvalidArgument, StoreError, Unsupported
from . import _seccomp_bpf as bpf

DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data")

# uname -m -> (Go's name as profiles say it in includes/excludes, libseccomp's token)
NATIVE = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i386": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "arm": ("arm", "SCMP_ARCH_ARM"),
}
ALIASES = {"amd64": "x86_64", "arm64": "aarch64", "i686": "i386", "x86": "i386", "armv7l": "arm"}

# SECCOMP_FILTER_FLAG_* of linux/seccomp.h that make sense for a filter without a listener.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}


class Argument(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One condition: ``args[index] op value`` (MASKED_EQ: ``args[index] & value == valueTwo``)."""

    index: int
    value: int
    op: str
    valueTwo: int = 0


class Conditions(msgspec.Struct, forbid_unknown_fields=True):
    """``includes``/``excludes`` of a rule: when it is part of the filter at all."""

    caps: list[str] | None = None
    arches: list[str] | None = None
    minKernel: str | None = None


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """One entry of ``syscalls``."""

    action: str
    names: list[str] | None = None
    name: str = ""
    errnoRet: int | None = None
    errno: str = ""
    args: list[Argument] | None = None
    comment: str | None = None
    includes: Conditions | None = None
    excludes: Conditions | None = None


class ArchMap(msgspec.Struct, forbid_unknown_fields=True):
    """An architecture and those whose programs its kernel runs as well."""

    architecture: str
    subArchitectures: list[str] | None = None


class Profile(msgspec.Struct, forbid_unknown_fields=True):
    """Docker's profile file (with podman's ``errno`` names)."""

    defaultAction: str
    defaultErrnoRet: int | None = None
    defaultErrno: str = ""
    architectures: list[str] | None = None
    archMap: list[ArchMap] | None = None
    flags: list[str] | None = None
    syscalls: list[Rule] | None = None
    comment: str | list[str] | None = None


_default: Profile | None = None


def native_arch() -> str:
    """The machine's architecture as this module calls it (``x86_64``, ``aarch64``, ``arm`` …)."""
    machine = os.uname().machine
    return ALIASES.get(machine, machine)


def parse_profile(text: str | bytes | None) -> Profile:
    """Decode a profile; None is fastbox's own.

    Raises:
        InvalidArgument: not JSON, a wrong type, an unknown field, both of two exclusive fields.
    """
    global _default
    if text is None:
        if _default is None:
            with open(os.path.join(DATA, "seccomp.json"), "rb") as f:
                _default = msgspec.json.decode(f.read(), type=Profile)
        return _default
    try:
        profile = msgspec.json.decode(text, type=Profile)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise InvalidArgument(
            f"decoding seccomp profile failed: {e}",
            hint="the file must be a JSON seccomp profile as Docker documents it",
        ) from e
    if profile.architectures and profile.archMap:
        raise InvalidArgument(
            "invalid seccomp profile: both 'architectures' and 'archMap' are given; use one of them"
        )
    return profile


def to_oci(
    profile_text: str | bytes | None, caps: Iterable[str], arch: str | None = None
) -> dict[str, Any]:
    """A profile for one container, as OCI runtime-spec ``linux.seccomp``.

    Args:
        profile_text: the profile's JSON, or None for fastbox's default.
        caps: the container's bounding set (``"CAP_CHOWN"`` …), for includes and excludes.
        arch: ``uname -m`` or Go's name of it; None = this machine's.

    Raises:
        InvalidArgument: the profile is malformed.
    """
    profile = parse_profile(profile_text)
    machine = native_arch() if arch is None else ALIASES.get(arch, arch)
    go_name, token = NATIVE.get(machine, (machine, ""))
    have = frozenset(caps)
    kernel = _kernel_version()
    architectures = list(profile.architectures or [])
    for entry in profile.archMap or []:
        if entry.architecture == token:
            architectures = [token, *(entry.subArchitectures or [])]
            break
    result: dict[str, Any] = {"defaultAction": profile.defaultAction}
    default_errno = _errno(profile.defaultErrnoRet, profile.defaultErrno)
    if default_errno is not None:
        result["defaultErrnoRet"] = default_errno
    if architectures:
        result["architectures"] = architectures
    if profile.flags:
        result["flags"] = list(profile.flags)
    result["syscalls"] = [
        _oci_rule(rule) for rule in profile.syscalls or [] if _applies(rule, have, go_name, kernel)
    ]
    return result


def _applies(rule: Rule, caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> bool:
    wanted, unwanted = rule.includes, rule.excludes
    if unwanted is not None:
        if unwanted.arches and arch in unwanted.arches:
            return False
        if unwanted.caps and not caps.isdisjoint(unwanted.caps):
            return False
        if unwanted.minKernel and kernel >= _version(unwanted.minKernel):
            return False
    if wanted is not None:
        if wanted.arches and arch not in wanted.arches:
            return False
        if wanted.caps and not caps.issuperset(wanted.caps):
            return False
        if wanted.minKernel and kernel < _version(wanted.minKernel):
            return False
    return True


def _oci_rule(rule: Rule) -> dict[str, Any]:
    if rule.name and rule.names:
        raise InvalidArgument(
            f"invalid seccomp profile: both 'name' ({rule.name}) and 'names' are given in one rule"
        )
    names = [rule.name] if rule.name else list(rule.names or [])
    if not names:
        raise InvalidArgument("invalid seccomp profile: a rule names no system call")
    out: dict[str, Any] = {"names": names, "action": rule.action}
    number = _errno(rule.errnoRet, rule.errno)
    if number is not None:
        out["errnoRet"] = number
    if rule.args:
        out["args"] = [msgspec.structs.asdict(argument) for argument in rule.args]
    return out


def _errno(number: int | None, name: str) -> int | None:
    if not name:
        return number
    value = getattr(errno, name, None)
    if not isinstance(value, int) or (number is not None and number != value):
        raise InvalidArgument(f"invalid seccomp profile: errno {name!r} is unknown or contradicts")
    return value


def _version(text: str) -> tuple[int, int]:
    parts = text.split(".")
    if len(parts) == 2 and all(p.isascii() and p.isdigit() and len(p) < 6 for p in parts):
        return int(parts[0]), int(parts[1])
    raise InvalidArgument(
        f"invalid seccomp profile: minKernel {text!r} is not a kernel version like 4.8"
    )


def _kernel_version() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    digits = ""
    for c in minor:
        if not c.isdigit():
            break
        digits += c
    return int(major), int(digits)


def filter_flags(oci: dict[str, Any]) -> int:
    """The ``flags`` argument of seccomp(SECCOMP_SET_MODE_FILTER).

    Without any in the profile it is SPEC_ALLOW, as runc does: the mitigation of speculative store
    bypass that a filter otherwise switches on costs a container up to a third of its speed.

    Raises:
        InvalidArgument: an unknown flag, or one that needs a listener.
    """
    names = oci.get("flags")
    if names is None:
        return FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    value = 0
    for name in names:
        if name not in FLAGS:
            raise InvalidArgument(
                f"invalid seccomp profile: unknown flag {name!r}",
                hint="known: " + ", ".join(FLAGS),
            )
        value |= FLAGS[name]
    return value


def compile(oci: dict[str, Any], cache_dir: str | None = None, arch: str | None = None) -> bytes:
    """Compile OCI ``linux.seccomp`` to an array of ``struct sock_filter`` (8 bytes each).

    Args:
        oci: as ``to_oci`` makes it or as config.json holds it.
        cache_dir: where compiled programs are kept, one file per content key; made with mode 0700.
            A directory that others can write to, or whose owner is somebody else, is not used.
        arch: the kernel's architecture; None = this machine's.

    Raises:
        InvalidArgument: unknown action, operator, architecture or call; a program too long.
        Unsupported: no system call table for the architecture, or SCMP_ACT_NOTIFY.
    """
    machine = native_arch() if arch is None else ALIASES.get(arch, arch)
    if not cache_dir:
        return bpf.compile(_decode(oci), machine, DATA)
    import hashlib

    # The key covers the input, the compiler and its tables. Python's "sorted keys" makes the
    # order in which config.json has its members irrelevant; the order of rules stays.
    key = hashlib.sha256(bpf.fingerprint(DATA))
    key.update(f"\0{machine}\0".encode())
    key.update(msgspec.json.encode(oci, order="deterministic"))
    path = os.path.join(cache_dir, key.hexdigest())
    program = _cached(cache_dir, path)
    if program is None:
        program = bpf.compile(_decode(oci), machine, DATA)
        _remember(cache_dir, path, program)
    return program


def _decode(oci: dict[str, Any]) -> bpf.Filter:
    if oci.get("listenerPath"):
        raise Unsupported("seccomp: a listener (SCMP_ACT_NOTIFY) is not supported")
    try:
        return msgspec.convert(oci, type=bpf.Filter)
    except msgspec.ValidationError as e:
        raise InvalidArgument(f"invalid seccomp configuration: {e}") from e


def _cached(directory: str, path: str) -> bytes | None:
    """The program in the cache, or None when there is none that can be trusted."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        file, parent = os.fstat(fd), os.stat(directory, follow_symlinks=False)
        if file.st_uid != os.geteuid() or not _is_private(parent) or file.st_mode & 0o022:
            return None
        data = os.read(fd, 32 + 8 * bpf.MAX_INSTRUCTIONS + 1)
    finally:
        os.close(fd)
    import hashlib

    checksum, program = data[:32], data[32:]
    if not program or len(program) % 8 or hashlib.sha256(program).digest() != checksum:
        return None
    return program


def _is_private(info: os.stat_result) -> bool:
    return info.st_uid == os.geteuid() and not info.st_mode & 0o022


def _remember(directory: str, path: str, program: bytes) -> None:
    """Put a program into the cache. A cache that cannot be written is a slower start, no error."""
    import hashlib

    from .. import atomic

    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        if _is_private(os.stat(directory, follow_symlinks=False)):
            atomic.write(path, hashlib.sha256(program).digest() + program, sync=False)
    except (OSError, StoreError):
        return


# msgspec analyses a type when it is first used, which two threads must not do at the same time.
msgspec.json.Decoder(Profile)
