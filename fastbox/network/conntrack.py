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
_TUPLE, _TUPLE_ADDRESSES, _TUPLE_PROTOCOL, _NUMBER, _DESTINATION = 1, 1, 2, 1, 3
_DESTINATION4, _DESTINATION6 = 2, 4
_HEADER = 20  # of netlink and of nfnetlink
UDP = 17


def forget(ports: Collection[int], protocol: int = UDP) -> None:
    """Forget the flows to these ports of the host; a kernel that does not tell is left alone."""
    if not ports:
        return
    for family in (socket.AF_INET, socket.AF_INET6):
        with (
            contextlib.suppress(OSError),
            messages.open_socket(messages.NETLINK_NETFILTER) as asking,
        ):
            found = [t for t in _tuples(asking, family) if _leads_to(t, protocol, ports)]
            own = _own_addresses(family) if found else set()
            for data in found:
                if _destination_address(data) in own:
                    with contextlib.suppress(OSError):  # it has ended meanwhile
                        messages.send(asking, _message(_DELETE, _ACK, family, _attribute(data)))


def _own_addresses(family: int) -> set[bytes]:
    """The host's addresses, packed: a flow to somebody else's port is not ours to forget."""
    found: set[bytes] = set()
    if family == socket.AF_INET6:
        with open("/proc/thread-self/net/if_inet6", encoding="ascii") as file:
            return {bytes.fromhex(line.split()[0]) for line in file}
    with open("/proc/thread-self/net/fib_trie", encoding="ascii") as file:
        address = ""
        for line in file:
            words = line.split()
            if words[:1] == ["|--"]:
                address = words[1]
            elif words[:2] == ["/32", "host"] and words[2:] == ["LOCAL"]:
                found.add(socket.inet_aton(address))
    return found


def _destination_address(data: bytes) -> bytes:
    found = messages.attributes(messages.attributes(data).get(_TUPLE_ADDRESSES, b""))
    return found.get(_DESTINATION4) or found.get(_DESTINATION6) or b""


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
            found = messages.attributes(data[at + _HEADER : at + length]).get(_TUPLE)
            if found is not None:
                yield found
            at += max((length + 3) & ~3, 16)


def _leads_to(data: bytes, protocol: int, ports: Collection[int]) -> bool:
    found = messages.attributes(messages.attributes(data).get(_TUPLE_PROTOCOL, b""))
    if found.get(_NUMBER) != bytes([protocol]) or _DESTINATION not in found:
        return False
    return struct.unpack(">H", found[_DESTINATION])[0] in ports
