"""A client of the command server, made by hand: it says what the native one says, and more."""

from __future__ import annotations

import array
import os
import resource
import socket
import struct

from fastbox import supervision
from fastbox.cli.serving import likeness, protocol

ANSWER = struct.Struct("=Ii")


def connect(runtime: str) -> socket.socket:
    """A connection to the command server of a store."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.settimeout(30)
    try:
        made.connect(supervision.command_socket_path(runtime))
    except BaseException:
        made.close()
        raise
    return made


def request(
    *argv: str,
    magic: int = protocol.MAGIC,
    like: bytes | None = None,
    environment: tuple[str, ...] = ("PATH=/usr/bin:/bin", "LANG=C.UTF-8"),
    opened: int = 7,
    count: int | None = None,
) -> bytes:
    """The packet of a command line."""
    words = b"".join(word.encode() + b"\0" for word in argv)
    variables = b"".join(entry.encode() + b"\0" for entry in environment)
    limits = (value & 2**64 - 1 for n in range(16) for value in resource.getrlimit(n))
    return b"".join((
        struct.pack("=II", magic, 0),
        likeness.of_self() if like is None else like,
        struct.pack("=Q", 0),
        protocol.LIMITS.pack(*limits),
        struct.pack("=6I", 0o22, opened, len(argv) if count is None else count, len(environment),
                    len(words), len(variables)),
        words,
        variables,
    ))  # fmt: skip


def send(connection: socket.socket, data: bytes, fds: list[int]) -> None:
    """Send it with descriptors."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([data], rights)


def answer(connection: socket.socket) -> tuple[str, int] | None:
    """(kind, value) of the next answer; None: the connection is closed."""
    try:
        data, fds, _, _ = socket.recv_fds(connection, ANSWER.size, 4)
    except ConnectionResetError:
        return None
    for fd in fds:
        os.close(fd)
    if not data:
        return None
    kind, value = ANSWER.unpack(data)
    return chr(kind), value
