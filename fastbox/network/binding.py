"""Ports of the host for a container: bound sockets, which its monitor keeps, and elements of the
packet filter's maps.

The socket is what reserves a port: the kernel refuses it when any other process has it, lets one of
two win, and takes it back when the monitor ends, however it ends. Packets do not reach it: the
rules send them on before. What these do not cover (``::1``, IPv6 for a container that has
only IPv4, rules that somebody flushed) does, and the monitor's helper relays it.
"""

from __future__ import annotations

import _socket as socket  # the module over it costs milliseconds
import contextlib
import errno
import fcntl
import io
import os
from collections.abc import Iterable

import msgspec

from ..errors import Conflict, FastboxError, InvalidArgument
from . import messages
from .types import BoundPort, Endpoint, Networking, Publish

_BACKLOG = 512
_RANGE = "/proc/sys/net/ipv4/ip_local_port_range"
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class Reserved(msgspec.Struct):
    """A published port that is ours.

    Attributes:
        bound: one for each family in which it is reachable.
        sockets: what reserves it; for sctp, see ``_claim``.
    """

    bound: list[BoundPort]
    sockets: list[socket.socket | io.FileIO]


def reserve(
    wanted: Iterable[Publish], undo: contextlib.ExitStack, claims: str, default_ip: str = ""
) -> list[Reserved]:
    """Take the host's ports.

    Args:
        undo: told how to give them back.
        claims: a directory for what has no sockets, see ``_claim``.
        default_ip: for those that name no address.

    Raises:
        Conflict: one is in use; ``errno`` of its cause is EADDRINUSE.
        InvalidArgument: an address that the host does not have.
    """
    taken: list[Reserved] = []
    for publish in wanted:
        reserved = _reserve(publish, publish.host_ip or default_ip, claims)
        for item in reserved.sockets:
            undo.callback(item.close)
        taken.append(reserved)
    return taken


def _reserve(publish: Publish, host_ip: str, claims: str) -> Reserved:
    if publish.host and not publish.host_end:
        candidates: Iterable[int] = (publish.host,)
    elif publish.host:
        candidates = range(publish.host, publish.host_end + 1)
    else:
        candidates = _ephemeral()
    failure: OSError | None = None
    for host in candidates:
        try:
            return _bind(publish, host_ip, host, claims)
        except OSError as error:
            failure = error
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                break
    raise _refusal(publish, host_ip, failure) from failure


def _refusal(publish: Publish, host_ip: str, failure: OSError | None) -> FastboxError:
    shown = f"[{host_ip}]" if ":" in host_ip else host_ip or "0.0.0.0"
    what = f"failed to bind host port {shown}:{publish.host}/{publish.protocol}"
    if not publish.host:
        return Conflict(f"no port of {_RANGE} is free for the container's port {publish.container}")
    code = failure.errno if failure is not None else errno.EADDRINUSE
    text = os.strerror(code or 0).lower()
    if code == errno.EADDRINUSE:
        return Conflict(f"{what}: {text}", hint="stop what uses it, or publish another port")
    if code == errno.EADDRNOTAVAIL:
        return InvalidArgument(f"{what}: {text}", hint="the host has no such address")
    if code in (errno.EMFILE, errno.ENFILE):
        return Conflict(f"{what}: {text}", hint="raise the limit of open files (ulimit -n)")
    return FastboxError(f"{what}: {text}")


def _ephemeral() -> range:
    try:
        with open(_RANGE, encoding="ascii") as file:
            first, last = map(int, file.read().split())
        return range(first, last + 1)
    except (OSError, ValueError):
        return range(32768, 61000)


def has_ipv6() -> bool:
    """Whether this network namespace has IPv6 at all."""
    return os.path.exists("/proc/thread-self/net/if_inet6")


def _bind(publish: Publish, host_ip: str, host: int, claims: str) -> Reserved:
    families = _families(host_ip)
    bound = [
        BoundPort(
            host_ip=host_ip or ("0.0.0.0" if family == 4 else "::"),
            host=host,
            container=publish.container,
            protocol=publish.protocol,
            twin=number > 0,
        )
        for number, family in enumerate(families)
    ]
    kind = _KINDS.get(publish.protocol)
    if kind is None:
        return Reserved(bound, [_claim(publish, host, claims)])
    family = socket.AF_INET6 if 6 in families else socket.AF_INET
    item = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            item.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(4 not in families))
        if kind == socket.SOCK_STREAM:
            # Connections that are closing do not stand in the way; a listening socket does.
            item.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        item.bind((host_ip or ("::" if 6 in families else "0.0.0.0"), host))
        if kind == socket.SOCK_STREAM:
            item.listen(_BACKLOG)
    except BaseException:
        item.close()
        raise
    return Reserved(bound, [item])


def _claim(publish: Publish, host: int, directory: str) -> io.FileIO:
    """Reserve a port of a protocol whose sockets the kernel may not have: a locked file, whose lock
    goes with the monitor as a port would. One for all addresses.

    Raises:
        OSError: EADDRINUSE.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(f"{directory}/{publish.protocol}-{host}", flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from error
    return io.FileIO(fd, "r+")


def _families(host_ip: str) -> tuple[int, ...]:
    if host_ip:
        return (6,) if ":" in host_ip else (4,)
    return (4, 6) if has_ipv6() else (4,)


def map_entries(ports: Iterable[BoundPort], endpoint: Endpoint) -> list[tuple[str, bytes, bytes]]:
    """The elements of the firewall's maps that lead to an endpoint: (map, key, data)."""
    entries = []
    for port in ports:
        family, everywhere = (6, "::") if ":" in port.host_ip else (4, "0.0.0.0")
        to = endpoint.address6 if family == 6 else endpoint.address
        if not to:
            continue
        at = "" if port.host_ip == everywhere else port.host_ip
        key = messages.port_key(port.protocol, port.host, at)
        name = f"ports{family}" + ("_at" if at else "")
        entries.append((name, key, messages.port_target(to, port.container)))
    return entries


def entries_of(networking: Networking) -> list[tuple[str, bytes, bytes]]:
    """The elements of the packet filter's maps for the ports of a run."""
    place = networking.endpoint(networking.publisher)
    return [] if place is None else map_entries(networking.ports, place)


def relay_lines(ports: Iterable[BoundPort], endpoint: Endpoint | None) -> list[str]:
    """Where each socket's callers are relayed to, see ``names.write_ports``."""
    to = endpoint.address or endpoint.address6 if endpoint is not None else ""
    return [
        f"{port.protocol} {to} {port.container}" if to and port.protocol in _KINDS else "-"
        for port in ports
        if not port.twin
    ]
