"""Connections that the kernel remembers.

A datagram's way is decided by the first one of its flow. A client that goes on sending from a port
while a container is not there, or moves to another address, would be sent the old way for ever
(moby#8795): when a port is published, the flows to it are forgotten.

Messages are those of linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import _socket as socket
import contextlib
import struct
from collections.abc import Collection, Iterator

from . import messages

_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_TUPLE, _TUPLE_PROTOCOL, _NUMBER, _DESTINATION = 1, 2, 1, 3
_HEADER = 20  # of netlink and of nfnetlink
UDP = 17


def forget(ports: Collection[int], protocol: int = UDP) -> None:
    """Forget all flows to these ports; a kernel that does not tell of them is left alone."""
    if not ports:
        return
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError), messages.open_socket(12) as asking:
            found = [t for t in _tuples(asking, family) if _leads_to(t, protocol, ports)]
            for data in found:
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    messages.send(asking, _message(_DELETE, _ACK, family, _attribute(data)))


def _message(kind: int, flags: int, family: int, body: bytes) -> bytes:
    header = struct.pack("=IHHII", _HEADER + len(body), kind, flags | _REQUEST, 0, 0)
    return header + struct.pack("=BBH", family, 0, 0) + body


def _attribute(data: bytes) -> bytes:
    return messages.attribute(_TUPLE | 0x8000, data)


def _tuples(asking: socket.socket, family: int) -> Iterator[bytes]:
    """The original direction of each flow, as attributes."""
    asking.send(_message(_GET, _DUMP, family, b""))
    while True:
        data, at = asking.recv(1 << 17), 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind in (2, 3):  # NLMSG_ERROR, NLMSG_DONE
                return
            found = _attributes(data[at + _HEADER : at + length]).get(_TUPLE)
            if found is not None:
                yield found
            at += max((length + 3) & ~3, 16)


def _leads_to(data: bytes, protocol: int, ports: Collection[int]) -> bool:
    found = _attributes(_attributes(data).get(_TUPLE_PROTOCOL, b""))
    if found.get(_NUMBER) != bytes([protocol]) or _DESTINATION not in found:
        return False
    return struct.unpack(">H", found[_DESTINATION])[0] in ports


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += max((size + 3) & ~3, 4)
    return found
