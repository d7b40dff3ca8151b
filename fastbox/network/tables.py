"""Looking at nftables by netlink: no process is started, nothing is imported; some 20 µs each.

Messages are those of linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import _socket as socket  # the module over it costs milliseconds
import contextlib
import errno
import os
import struct
from collections.abc import Iterator

from . import messages

_NETFILTER = 12  # NETLINK_NETFILTER
_NFTABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GETTABLE, _GETCHAIN, _GETGEN = _NFTABLES | 1, _NFTABLES | 4, _NFTABLES | 16
_REQUEST, _DUMP = 1, 0x300
_DUMP_INTERRUPTED = 0x10
_DUMPS = 100  # how often a list is asked for again
_ERROR, _DONE = 2, 3
_INET = 1  # NFPROTO_INET
_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_USE = 1, 3, 6
_GEN_ID = 1
_RECEIVE = 1 << 16

# Of a kernel without nf_tables, or without netfilter's netlink.
ABSENT = (errno.EINVAL, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT)


def exists(table: str, netfilter: socket.socket | None = None) -> bool:
    """Whether there is an ``inet`` table of that name.

    Args:
        netfilter: the nfnetlink socket over which to ask; None: one for this question.

    Raises:
        OSError: the kernel refuses to tell (one of ABSENT: it has no nf_tables).
    """
    try:
        return any(
            True
            for _ in _ask(
                _GETTABLE, 0, messages.attribute(_TABLE_NAME, table.encode() + b"\0"), netfilter
            )
        )
    except FileNotFoundError:
        return False


def generation() -> int:
    """The number of the rule set, which grows with each change to any table or element of the
    network namespace. (By netlink messages or by nft; not by a packet.)

    Raises:
        OSError: see ``exists``.
    """
    for attributes in _ask(_GETGEN, 0, b""):
        return int(struct.unpack(">I", attributes[_GEN_ID])[0])
    raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))


def rules(table: str) -> dict[str, int]:
    """Chain -> number of rules, of an ``inet`` table (a jump to a chain counts as one, too).

    Raises:
        OSError: see ``exists``.
    """
    for _ in range(_DUMPS):
        with contextlib.suppress(InterruptedError):
            return _rules(table)
    return {}


def _rules(table: str) -> dict[str, int]:
    found = {}
    for attributes in _ask(_GETCHAIN, _DUMP, b""):
        if attributes.get(_CHAIN_TABLE, b"").rstrip(b"\0") == table.encode():
            name = attributes[_CHAIN_NAME].rstrip(b"\0").decode(errors="replace")
            found[name] = struct.unpack(">I", attributes[_CHAIN_USE])[0]
    return found


def _ask(
    kind: int, flags: int, attributes: bytes, netfilter: socket.socket | None = None
) -> Iterator[dict[int, bytes]]:
    """Send a request; the attributes of each answer."""
    body = struct.pack("=BBH", _INET, 0, 0) + attributes
    header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | flags, 1, 0)
    with contextlib.ExitStack() as own:
        s = netfilter
        if s is None:
            type_ = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            s = socket.socket(socket.AF_NETLINK, type_, _NETFILTER)
            own.callback(s.close)
            s.settimeout(10)
        s.send(header + body)
        while True:
            data = s.recv(_RECEIVE)
            at = 0
            while at + 16 <= len(data):
                length, answer, about = struct.unpack_from("=IHH", data, at)
                if about & _DUMP_INTERRUPTED:  # somebody changed what was being listed
                    raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
                if answer == _ERROR:
                    code = -struct.unpack_from("=i", data, at + 16)[0]
                    if not code:
                        return
                    raise OSError(code, os.strerror(code))
                if answer == _DONE:
                    return
                yield messages.attributes(data[at + 20 : at + length])
                at += max((length + 3) & ~3, 16)
            if not flags & _DUMP:
                return
