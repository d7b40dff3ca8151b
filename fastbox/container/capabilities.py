"""Linux capabilities: names and numbers, Docker's default set, and ``--cap-add``/``--cap-drop``.

A container gets bounding = permitted = effective; inheritable and ambient stay empty
(CVE-2022-24769, CVE-2022-29162: inheritable ones come back through file capabilities).
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InvalidArgument, Unsupported

# linux/capability.h; the index is the number. Complete up to Linux 6.18 (CAP_LAST_CAP = 40).
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}

# Docker's 14 (moby daemon/pkg/oci/caps/defaults.go): CapBnd 00000000a80425fb.
DEFAULT_MASK = 0xA80425FB

ALL = "ALL"

_own_bounding: int | None = None


def own_bounding_set() -> int:
    """The engine's own bounding set as a bit mask, read once per process (it only shrinks)."""
    global _own_bounding
    if _own_bounding is None:
        mask = 0
        with open("/proc/thread-self/status", "rb") as f:
            for line in f:
                if line.startswith(b"CapBnd:"):
                    mask = int(line[7:], 16)
                    break
        _own_bounding = mask & (1 << len(NAMES)) - 1
    return _own_bounding


def from_mask(mask: int) -> list[str]:
    """Names of a bit mask, in order of their numbers; bits without a name are left out."""
    return [name for number, name in enumerate(NAMES) if mask >> number & 1]


def to_mask(names: Iterable[str]) -> int:
    """Bit mask of full names (``"CAP_CHOWN"``), as capset(2) and the prctls want it.

    Raises:
        InvalidArgument: an unknown name.
    """
    mask = 0
    for name in names:
        if name not in NUMBERS:
            raise InvalidArgument(f'unknown capability: "{name}"')
        mask |= 1 << NUMBERS[name]
    return mask


def normalize(name: str) -> str:
    """``chown``, ``CHOWN`` or ``cap_chown`` as ``CAP_CHOWN``; ``all`` as ``ALL``.

    Raises:
        InvalidArgument: an unknown name.
    """
    upper = name.upper()
    if upper in (ALL, "CAP_ALL"):
        return ALL
    if not upper.startswith("CAP_"):
        upper = f"CAP_{upper}"
    # isascii: upper() folds characters such as the long s onto ASCII letters
    if not name.isascii() or upper not in NUMBERS:
        raise InvalidArgument(
            f'unknown capability: "{upper}"', hint="capabilities(7) lists the names"
        )
    return upper


def resolve(
    cap_add: Iterable[str] = (),
    cap_drop: Iterable[str] = (),
    *,
    privileged: bool = False,
    bounding: int | None = None,
) -> list[str]:
    """The capabilities of a container, as full names in order of their numbers.

    As in Docker, a capability both added and dropped is added, unless ALL is added. Of the
    default set, of ALL and of ``privileged``, what the engine itself lacks is left out; asking for
    it by name is an error.

    Args:
        cap_add, cap_drop: names in any case, with or without ``CAP_``, or ``ALL``.
        bounding: the set to stay within, as a mask; None = the engine's own bounding set.

    Raises:
        InvalidArgument: an unknown name.
        Unsupported: a name asked for that the engine does not have.
    """
    have = own_bounding_set() if bounding is None else bounding
    added = [normalize(name) for name in cap_add]
    dropped = [normalize(name) for name in cap_drop]
    if privileged:
        return from_mask(have)
    drop_mask = to_mask(name for name in dropped if name != ALL)
    add_mask = to_mask(name for name in added if name != ALL)
    missing = add_mask & ~have
    if missing:
        name = from_mask(missing)[0]
        raise Unsupported(
            "capability not supported by your kernel or not available in the current "
            f'environment: "{name}"',
            hint="fastbox can only give what it has itself, see CapBnd in /proc/self/status",
        )
    if ALL in added:
        return from_mask(have & ~drop_mask)
    if ALL in dropped:
        return from_mask(add_mask)
    return from_mask((DEFAULT_MASK & have & ~drop_mask) | add_mask)
