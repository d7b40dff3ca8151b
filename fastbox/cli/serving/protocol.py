"""What goes over the command socket; the other side is ``_core/client/client.h``."""

from __future__ import annotations

import array
import os
import socket
import struct

MAGIC = 0x31584246
PACKET = 60 * 1024  # bytes of argv and environment in a packet
MOST = 8 << 20  # … in a memfd
LIKENESS = struct.Struct("=32s4I3iI2Q2Q8Q128s")
_HEAD = struct.Struct("=II")
_TAIL = struct.Struct("=Q256s6I")
LIKE = slice(_HEAD.size, _HEAD.size + LIKENESS.size)
REQUEST = LIKE.stop + _TAIL.size
LIMITS = struct.Struct("=32Q")
_ANSWER = struct.Struct("=Ii")
TAKEN, STATUS, REFUSED = ord("A"), ord("S"), ord("R")
_RIGHTS = array.array("i", [0] * 8)


class Malformed(Exception):
    """No client of ours has sent this."""


class Request:
    """A command line, and what its process is like.

    Attributes:
        likeness: see ``likeness``.
        ignored: bit N-1: signal N. limits: see ``LIMITS``.
        directory, streams: descriptors; a stream is None where the client has none.
        arguments, variables: each word with a zero behind it.
    """

    __slots__ = ("arguments", "directory", "fds", "ignored", "likeness", "limits", "streams",
                 "umask", "variables")  # fmt: skip

    def __init__(self, data: memoryview, fds: list[int]) -> None:
        self.fds = fds
        if len(data) < REQUEST:
            raise Malformed("too short")
        magic, in_memfd = _HEAD.unpack_from(data)
        (self.ignored, self.limits, self.umask, opened, count, variables, size, rest) = (
            _TAIL.unpack_from(data, LIKE.stop)
        )
        streams = [opened >> number & 1 for number in range(3)]
        if (
            magic != MAGIC
            or opened > 7
            or len(fds) != 1 + sum(streams) + (in_memfd == 1)
            or size + rest > MOST
        ):
            raise Malformed("not a request")
        self.likeness = bytes(data[LIKE])
        words = bytes(data[REQUEST:])
        if in_memfd:
            words = _read(fds[-1], size + rest)
        if len(words) != size + rest:
            raise Malformed("half a request")
        self.arguments, self.variables = words[:size], words[size:]
        if self.arguments.count(b"\0") != count or self.variables.count(b"\0") != variables:
            raise Malformed("other words than announced")
        following = iter(fds[1:])
        self.directory = fds[0]
        self.streams = [next(following) if there else None for there in streams]

    def argv(self) -> list[str]:
        """The words behind the program's name."""
        return [os.fsdecode(word) for word in self.arguments.split(b"\0")[:-1]]

    def environment(self) -> dict[bytes, bytes]:
        """As ``os.environb`` has it."""
        pairs = (entry.partition(b"=") for entry in self.variables.split(b"\0"))
        found: dict[bytes, bytes] = {}
        for name, equals, value in pairs:
            if name and equals:
                found.setdefault(name, value)
        return found

    def close(self) -> None:
        """Close its descriptors."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def _read(fd: int, size: int) -> bytes:
    """All of a file that has so many bytes; read, not mapped: whoever has it could cut it off."""
    parts, done = [], 0
    while done < size and (part := os.pread(fd, size - done, done)):
        parts.append(part)
        done += len(part)
    return b"".join(parts)


def receive(connection: socket.socket, buffer: bytearray) -> Request:
    """The request. The caller closes it.

    Raises:
        Malformed: it is none. OSError: it did not come.
    """
    space = socket.CMSG_SPACE(_RIGHTS.itemsize * len(_RIGHTS))
    size, control, flags, _ = connection.recvmsg_into([buffer], space, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Malformed("too long")
        return Request(memoryview(buffer)[:size], fds.tolist())
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def answer(connection: socket.socket, kind: int, value: int = 0, fd: int | None = None) -> None:
    """Tell the client.

    Raises:
        OSError: it has gone.
    """
    rights = []
    if fd is not None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    connection.sendmsg([_ANSWER.pack(kind, value)], rights, socket.MSG_NOSIGNAL)
