"""Netlink messages as bytes: those that a container's start consists of.

pyroute2 makes the rest (``device``); its import alone takes longer than the whole start, and these
messages are replayed by the container's own first process (``_core/launch/network.c``).

Sources: rtnetlink(7), include/uapi/linux/{rtnetlink,if_link,netfilter/nf_tables}.h.
"""

from __future__ import annotations

import _socket as socket  # the module over it costs milliseconds
import contextlib
import functools
import os
import struct
from collections.abc import Iterable, Sequence

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

_HEADER = struct.Struct("=IHHII")
_REQUEST, _ACK, _REPLACE, _EXCL, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_NESTED = 0x8000
_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE = 16, 17, 20, 24
_NEWNEIGH, _GETNEIGH = 28, 30
_UP = 0x1

# nf_tables
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEWTABLE, _NEWCHAIN, _NEWRULE, _NEWSETELEM, _DELSETELEM = 0, 3, 6, 12, 14
_INET, _IPV4 = 1, 2
# Of the name server's sockets in a container's own namespace, where nothing else is yet.
NAME_SERVER_PORT = 41253
ELEMENTS_EACH = 32  # of a batch: what the monitor sends at once has 8 KiB at most


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by their kind, without the flags of it."""
    found, at = {}, 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += max((size + 3) & ~3, 4)
    return found


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, 0, 0) + body


def _link(flags: int = 0, change: int = 0, index: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, change)


def mac_bytes(mac: str) -> bytes:
    """The six bytes of ``02:42:ac:11:00:02``."""
    return bytes.fromhex(mac.replace(":", ""))


# ---- links, addresses, routes --------------------------------------------------------------------


def veth(
    *, host: str, inside: str, bridge: int, mac: str, mtu: int = 0, namespace: int | None = None
) -> bytes:
    """A pair whose host end is up and on a bridge, and whose other end is in a container.

    Args:
        bridge: its index. mtu: 0: the bridge's.
        namespace: a descriptor; None: the sender's, who is the first process of its pid namespace.
    """
    where = attribute(19, struct.pack("=I", 1))  # IFLA_NET_NS_PID
    if namespace is not None:
        where = attribute(28, struct.pack("=I", namespace))  # IFLA_NET_NS_FD
    size = attribute(4, struct.pack("=I", mtu)) if mtu else b""
    peer = _link() + _text(3, inside) + attribute(1, mac_bytes(mac)) + size + where
    data = _nest(2, _nest(1, peer))  # IFLA_INFO_DATA, VETH_INFO_PEER
    body = (
        _link(_UP, _UP)
        + _text(3, host)
        + attribute(10, struct.pack("=I", bridge))  # IFLA_MASTER
        + size
        + _nest(18, _text(1, "veth"), data)  # IFLA_LINKINFO
    )
    return _message(_NEWLINK, _ACK | _CREATE | _EXCL, body)


def join_bridge(host: str, bridge: int) -> bytes:
    """The host's end of a pair is on a bridge, and up."""
    master = attribute(10, struct.pack("=I", bridge))
    return _message(_NEWLINK, _ACK, _link(_UP, _UP) + _text(3, host) + master)


def isolate(host: str) -> bytes:
    """The bridge passes nothing between this port and others that have the same flag."""
    flag = _nest(5, attribute(33, b"\x01"))  # IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_ISOLATED
    body = _link() + _text(3, host) + _nest(18, _text(4, "bridge"), flag)
    return _message(_NEWLINK, _ACK, body)


def macvlan(
    *, inside: str, parent: int, mode: str, mac: str, mtu: int = 0, namespace: int | None = None
) -> bytes:
    """A macvlan link of ``parent``'s in the sender's namespace, or one by descriptor.

    Args:
        mode: ``private``, ``vepa``, ``bridge`` or ``passthru``.
    """
    where = attribute(19, struct.pack("=I", 1))
    if namespace is not None:
        where = attribute(28, struct.pack("=I", namespace))
    number = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}[mode]
    body = (
        _link()
        + _text(3, inside)
        + attribute(5, struct.pack("=I", parent))  # IFLA_LINK
        + (attribute(1, mac_bytes(mac)) if mac else b"")
        + (attribute(4, struct.pack("=I", mtu)) if mtu else b"")
        + where
        + _nest(18, _text(1, "macvlan"), _nest(2, attribute(1, struct.pack("=I", number))))
    )
    return _message(_NEWLINK, _ACK | _CREATE | _EXCL, body)


def address(text: str, prefix: int, family: int, index: int = 0) -> bytes:
    """An address for the interface ``index``; 0: it is filled in when the message is sent."""
    raw = socket.inet_pton(FAMILIES[family], text)
    body = struct.pack("=BBBBI", FAMILIES[family], prefix, 0, 0, index)
    body += attribute(2, raw) + attribute(1, raw)  # IFA_LOCAL, IFA_ADDRESS
    if family == 4 and prefix < 31:
        mask = (1 << (32 - prefix)) - 1
        last = int.from_bytes(raw, "big") | mask
        body += attribute(4, last.to_bytes(4, "big"))  # IFA_BROADCAST
    if family == 6:
        body += attribute(8, struct.pack("=I", 0x2))  # IFA_FLAGS: IFA_F_NODAD, nobody else has it
    return _message(_NEWADDR, _ACK | _CREATE | _EXCL, body)


def link_up(name: str) -> bytes:
    """The interface ``name`` goes up."""
    return _message(_NEWLINK, _ACK, _link(_UP, _UP) + _text(3, name))


def delete_link(name: str) -> bytes:
    """The interface ``name`` goes away."""
    return _message(_DELLINK, _ACK, _link() + _text(3, name))


def default_route(gateway: str, family: int) -> bytes:
    """The way out of a namespace, instead of the one that it may have."""
    raw = socket.inet_pton(FAMILIES[family], gateway)
    body = struct.pack("=BBBBBBBBI", FAMILIES[family], 0, 0, 0, 254, 3, 0, 1, 0)
    return _message(_NEWROUTE, _ACK | _CREATE | _REPLACE, body + attribute(5, raw))  # RTA_GATEWAY


# ---- nftables ------------------------------------------------------------------------------------


def _nft(kind: int, family: int, flags: int, body: bytes) -> bytes:
    header = struct.pack("=BBH", family, 0, 0)
    return _message(_SUBSYSTEM << 8 | kind, flags, header + body)


def _batch(messages: Iterable[bytes]) -> bytes:
    edge = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
    return b"".join(
        [_message(_BATCH_BEGIN, 0, edge), *messages, _message(_BATCH_END, 0, edge)],
    )


def _padded(value: bytes) -> bytes:
    return value + b"\0" * (-len(value) % 4)


def port_key(protocol: str, port: int, address_at: str = "") -> bytes:
    """The key of a published port in the maps of ``firewall``: with the address, if it is one's."""
    number = {"tcp": 6, "udp": 17, "sctp": 132}[protocol]
    raw = _raw_address(address_at) if address_at else b""
    return raw + _padded(bytes([number])) + _padded(struct.pack(">H", port))


def port_target(address_to: str, port: int) -> bytes:
    """What a published port leads to."""
    return _raw_address(address_to) + _padded(struct.pack(">H", port))


def _raw_address(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def elements(
    table: str, entries: Sequence[tuple[str, bytes, bytes]], *, delete: bool = False
) -> list[bytes]:
    """Batches that add, or delete, elements of a table's maps; one acknowledgement each.

    Args:
        entries: (map, key, data).
    """
    kind, flags = (_DELSETELEM, 0) if delete else (_NEWSETELEM, _CREATE)
    batches = []
    for start in range(0, len(entries), ELEMENTS_EACH):
        part = entries[start : start + ELEMENTS_EACH]
        messages = []
        for number, (name, key, data) in enumerate(part):
            value = _nest(1, attribute(1, key))  # NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
            if not delete:
                value += _nest(2, attribute(1, data))  # NFTA_SET_ELEM_DATA
            body = _text(1, table) + _text(2, name) + _nest(3, _nest(1, value))
            last = _ACK if number + 1 == len(part) else 0
            messages.append(_nft(kind, _INET, flags | last, body))
        batches.append(_batch(messages))
    return batches


@functools.cache
def name_server_rules(port: int) -> bytes:
    """What lets a name server at 127.0.0.11, port ``port``, be reached at port 53 from inside: a
    container may have one of its own on that port. Four rules, no connection tracking: one
    acknowledgement."""
    table, chain = _text(1, "fastbox"), "names"
    hook = _nest(4, attribute(1, struct.pack(">I", 3)), attribute(2, struct.pack(">i", -150)))
    messages = [
        _nft(_NEWTABLE, _IPV4, _CREATE, table),
        _nft(_NEWCHAIN, _IPV4, _CREATE, table + _text(3, chain) + hook + _text(7, "filter")),
    ]
    for protocol, checksum in ((17, 6), (6, 16)):
        messages.append(_port_rule(chain, protocol, checksum, (16, 2), (53, port)))
        messages.append(_port_rule(chain, protocol, checksum, (12, 0), (port, 53)))
    last = bytearray(messages[-1])
    last[6:8] = struct.pack("=H", _CREATE | _REQUEST | _ACK)
    return _batch([*messages[:-1], bytes(last)])


def _expression(name: str, *parts: bytes) -> bytes:
    return _nest(1, _text(1, name), _nest(2, *parts))  # NFTA_LIST_ELEM, NFTA_EXPR_NAME/_DATA


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _load(base: int, offset: int, length: int) -> bytes:
    """payload: base 1 network header, 2 transport header."""
    return _expression(
        "payload", _number(1, 1), _number(2, base), _number(3, offset), _number(4, length)
    )


def _equals(value: bytes) -> bytes:
    return _expression("cmp", _number(1, 1), _number(2, 0), _nest(3, attribute(1, value)))


def _port_rule(
    chain: str, protocol: int, checksum: int, where: tuple[int, int], change: tuple[int, int]
) -> bytes:
    """``ip saddr|daddr 127.0.0.11 PROTOCOL sport|dport OLD`` becomes NEW.

    Args:
        checksum: its offset in the protocol's header.
        where: offsets of the address and of the port.
        change: old and new port.
    """
    old, new = (struct.pack(">H", port) for port in change)
    expressions = [
        _load(1, 9, 1),
        _equals(bytes([protocol])),
        _load(1, where[0], 4),
        _equals(b"\x7f\x00\x00\x0b"),
        _load(2, where[1], 2),
        _equals(old),
        _expression("immediate", _number(1, 1), _nest(2, attribute(1, new))),
        _expression(
            "payload", _number(5, 1), _number(2, 2), _number(3, where[1]), _number(4, 2),
            _number(6, 1), _number(7, checksum), _number(8, 1),
        ),
    ]  # fmt: skip
    body = _text(1, "fastbox") + _text(2, chain) + _nest(4, *expressions)
    return _nft(_NEWRULE, _IPV4, _CREATE, body)


def numbered(data: bytes, interface: str) -> bytes:
    """Messages in which addresses are for ``interface`` of this thread's namespace."""
    if not interface:
        return data
    changed, at = bytearray(data), 0
    while at + _HEADER.size <= len(changed):
        length, kind, *_ = _HEADER.unpack_from(changed, at)
        if kind == _NEWADDR:
            struct.pack_into("=I", changed, at + _HEADER.size + 4, socket.if_nametoindex(interface))
        at += max((length + 3) & ~3, _HEADER.size)
    return bytes(changed)


# ---- sending -------------------------------------------------------------------------------------


def open_socket(protocol: int) -> contextlib.closing[socket.socket]:
    """A netlink socket of this thread's network namespace, to be closed."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    return contextlib.closing(socket.socket(socket.AF_NETLINK, kind, protocol))


def is_known(bridge: int, mac: str) -> bool:
    """Whether a bridge has learned at which port a MAC is (Linux 5.0)."""
    body = struct.pack("=BxxxiHBB", 7, 0, 0, 0, 0)  # AF_BRIDGE
    body += attribute(2, mac_bytes(mac)) + attribute(9, struct.pack("=I", bridge))  # NDA_*
    with open_socket(NETLINK_ROUTE) as asking:
        asking.send(_message(_GETNEIGH, 0, body))
        _, kind, *_ = _HEADER.unpack_from(asking.recv(8192))
    return bool(kind == _NEWNEIGH)


def send(to: socket.socket, data: bytes, answers: int = 1) -> None:
    """Send messages and wait until ``answers`` have been acknowledged.

    Raises:
        OSError: one was refused.
    """
    to.send(data)
    while answers > 0:
        reply = to.recv(65536)
        while len(reply) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(reply)
            if kind == 2:  # NLMSG_ERROR
                (code,) = struct.unpack_from("=i", reply, _HEADER.size)
                if code:
                    raise OSError(-code, os.strerror(-code))
                answers -= 1
            reply = reply[max((length + 3) & ~3, _HEADER.size) :]
