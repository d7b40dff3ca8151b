"""Building a launch plan: the flat buffer that ``_core/launch`` replays (see launch/plan.h)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from .._core import launch

_HEADER = struct.Struct("=22I6Q")
_OP = struct.Struct("=HH5I3Q")
OP_SIZE = _OP.size
_PAIR = struct.Struct("=II")


class Filter(msgspec.Struct, frozen=True):
    """A seccomp filter: an array of ``struct sock_filter``, and the flags of seccomp(2)."""

    program: bytes
    flags: int = 0


class PlanBuilder:
    """Collects operations and attributes; ``build`` gives the bytes.

    Strings are stored once each, NUL-terminated.
    """

    def __init__(self) -> None:
        self._strings = bytearray()
        self._known: dict[str, int] = {}
        self._ops: list[tuple[int, ...]] = []
        self.descriptions: list[str] = []
        self.slots = 0

    def _string(self, text: str) -> int:
        """Offset from the start of the string area plus one; 0 stands for none."""
        offset = self._known.get(text)
        if offset is None:
            data = text.encode("utf-8", "surrogateescape")
            if b"\0" in data:
                raise ValueError(f"NUL in {text!r}")
            offset = len(self._strings) + 1
            self._strings += data + b"\0"
            self._known[text] = offset
        return offset

    def op(
        self,
        kind: int,
        a: str = "",
        b: str = "",
        c: str = "",
        *,
        flags: int = 0,
        slot: int = 0,
        x: int = 0,
        y: int = 0,
        z: int = 0,
    ) -> None:
        """Add an operation; errors in it are described by its first or second string."""
        offsets = [self._string(text) if text else 0 for text in (a, b, c)]
        self._ops.append((kind, flags, slot, *offsets, 0, x, y, z))
        self.descriptions.append(b if kind in (launch.OP_ATTACH, launch.OP_FSMOUNT) else a)

    def messages(
        self,
        data: bytes,
        *,
        protocol: int,
        answers: int,
        about: str,
        interface: str = "",
        host: int | None = None,
    ) -> None:
        """Add an operation that sends netlink messages.

        Args:
            protocol: ``NETLINK_*``, of a socket of the container's own; host: a descriptor instead.
            answers: how many acknowledgements to wait for.
            about: what an error in it is about.
            interface: what the addresses among them are for.
        """
        # Strings are told apart by their NUL; this is found by its length.
        place = len(self._strings)
        self._strings += data
        self.op(
            launch.OP_NETLINK,
            interface,
            flags=0 if host is None else launch.F_HOST,
            slot=host or 0,
            x=protocol << 32 | answers,
            y=place,
            z=len(data),
        )
        self.descriptions[-1] = about

    def new_slot(self) -> int:
        """A place for a detached mount between two operations."""
        self.slots += 1
        return self.slots - 1

    def build(
        self,
        *,
        argv: Sequence[str],
        env: Sequence[str],
        cwd: str,
        uid: int = 0,
        gid: int = 0,
        user_name: str = "",
        group_name: str = "",
        groups: Sequence[tuple[int | None, str]] = (),
        flags: int = 0,
        umask: int = 0o022,
        namespaces: int = 0,
        seccomp: Filter | None = None,
        capabilities: Sequence[int] = (0, 0, 0, 0, 0),
    ) -> bytes:
        """The plan.

        Args:
            groups: supplementary (gid, "") or (None, name).
            capabilities: masks: bounding, effective, permitted, inheritable, ambient.
        """
        argv_offsets = [self._string(word) for word in argv]
        env_offsets = [self._string(entry) for entry in env]
        cwd_offset, user, group = self._string(cwd), 0, 0
        user = self._string(user_name) if user_name else 0
        group = self._string(group_name) if group_name else 0
        group_entries = [
            (self._string(name) if name else 0, number or 0) for number, name in groups
        ]

        program = seccomp.program if seccomp is not None else b""
        ops_at = _HEADER.size
        seccomp_at = ops_at + len(self._ops) * _OP.size
        argv_at = seccomp_at + len(program)
        env_at = argv_at + 4 * len(argv_offsets)
        groups_at = env_at + 4 * len(env_offsets)
        strings_at = groups_at + _PAIR.size * len(group_entries)
        base = strings_at - 1  # offsets of strings count from one

        def place(offset: int) -> int:
            return offset + base if offset else 0

        size = strings_at + len(self._strings) + 1
        header = _HEADER.pack(
            launch.MAGIC,
            size,
            len(self._ops),
            ops_at,
            len(argv_offsets),
            argv_at,
            len(env_offsets),
            env_at,
            place(cwd_offset),
            place(user),
            place(group),
            uid,
            gid,
            len(group_entries),
            groups_at,
            flags,
            umask,
            self.slots,
            seccomp_at,
            len(program) // 8,
            seccomp.flags if seccomp is not None else 0,
            0,
            namespaces,
            *capabilities,
        )
        parts = [header]
        for kind, op_flags, slot, a, b, c, reserved, x, y, z in self._ops:
            at = y + strings_at if kind == launch.OP_NETLINK else y
            parts.append(
                _OP.pack(kind, op_flags, slot, place(a), place(b), place(c), reserved, x, at, z)
            )
        parts.append(program)
        parts.append(struct.pack(f"={len(argv_offsets)}I", *map(place, argv_offsets)))
        parts.append(struct.pack(f"={len(env_offsets)}I", *map(place, env_offsets)))
        parts += [_PAIR.pack(place(name), number) for name, number in group_entries]
        parts.append(bytes(self._strings))
        parts.append(b"\0")
        return b"".join(parts)
