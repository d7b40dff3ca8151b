"""Devices of the host: bridges, and what else is rare. What happens at every start is done by
prepared netlink messages (network/messages.py), not here.

pyroute2 takes 120 ms to import, and its synchronous API cannot run in a thread that has a running
event loop: it runs in a thread of its own, with a stock loop. A thread is in the network namespace
of the one that started it, and ``/proc/sys/net`` is that of whoever opens it.
"""

from __future__ import annotations

import _socket as socket  # the module over it costs milliseconds
import contextlib
import errno
import fcntl
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from .. import atomic
from ..errors import Conflict, FastboxError, InvalidArgument, PermissionDenied, Unsupported
from . import addresses, leases, options
from .types import Network

if TYPE_CHECKING:
    from pyroute2 import IPRoute  # type: ignore[import-untyped]

T = TypeVar("T")
_Link: TypeAlias = Any  # pyroute2 has no types

_SYS = "/proc/sys/net"
_AF_INET, _AF_INET6 = 2, 10
_IFF_UP = 1
_IFREQ = struct.Struct("=16sh22x")  # linux/if.h, with its flags
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
# A bridge's alias says whose it is: `fastbox STORE NETWORKID`, in 0.1 `fastbox NETWORKID`.
_ALIAS = "fastbox "
_ONE_AT_A_TIME = threading.Lock()


# ---- quick looks, without pyroute2 ---------------------------------------------------------------


def bridge_index(name: str) -> int | None:
    """The index of the interface of that name, None: there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def is_up(name: str, asking: socket.socket) -> bool:
    """Whether there is an interface of that name that is up; a microsecond.

    Args:
        asking: any socket; it is that one's network namespace.
    """
    try:
        return bool(_flags(name, asking) & _IFF_UP)
    except OSError:
        return False


def set_up(network: Network, asking: socket.socket) -> None:
    """Set a network's bridge up: it is complete then, see ``prepare_bridge``."""
    name = network.device
    with _doing(f"set bridge {name} up"):
        flags = _flags(name, asking)
        request = _IFREQ.pack(name.encode(), (flags | _IFF_UP) & 0x7FFF)
        fcntl.ioctl(asking, _SIOCSIFFLAGS, request)


def _flags(name: str, asking: socket.socket) -> int:
    answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
    return int(_IFREQ.unpack(answer)[1])


def interfaces() -> list[str]:
    """Names of all interfaces."""
    return [name for _, name in socket.if_nameindex()]


# ---- bridges -------------------------------------------------------------------------------------


class Bridge(NamedTuple):
    """A bridge of ours, by its alias.

    Attributes:
        owner: the store's hash (``options.store_hash``). network: its id. (Both may be ``""``: it
            has not been said, or not yet.)
        is_used: something is on it.
    """

    owner: str
    network: str
    is_used: bool = False


def ensure_bridge(network: Network, owner: str = "") -> int:
    """``prepare_bridge``, and set it up."""
    index = prepare_bridge(network, owner)
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        set_up(network, asking)
    finally:
        asking.close()
    return index


def prepare_bridge(network: Network, owner: str = "") -> int:
    """Make a network's bridge, or repair what is wrong with it: without its address, MTU or
    settings. Idempotent; several processes may do it at once.

    A new one is down. Whoever wants to know whether a bridge is complete asks whether it is up, so
    setting it up is the last of all that has to be done, here and elsewhere.

    Args:
        owner: the store's hash, for its alias; ``""``: whoever knows it adds it.

    Returns:
        Its interface index.

    Raises:
        Conflict: an interface of that name is not this network's.
        Unsupported: no bridges in the kernel.
        PermissionDenied: no CAP_NET_ADMIN.
        FastboxError: the kernel's word.
    """
    with _doing(f"set up bridge {network.device}"):
        return _in_thread(lambda ip: _ensure_bridge(ip, network, owner))


def remove_bridge(name: str) -> bool:
    """Remove a bridge of ours; whether there was one. Anything else of that name stays."""

    def remove(ip: IPRoute) -> bool:
        link = _link(ip, name)
        if link is None or not _is_ours(link):
            return False
        return _delete(ip, link["index"])

    with _doing(f"remove bridge {name}"):
        return _in_thread(remove)


def bridges() -> dict[str, Bridge]:
    """Name -> bridge, of all that are some store's of ours."""

    def dump(ip: IPRoute) -> dict[str, Bridge]:
        links = list(ip.get_links())
        used = {link.get_attr("IFLA_MASTER") for link in links}
        return {
            link.get_attr("IFLA_IFNAME"): _said(link)._replace(is_used=link["index"] in used)
            for link in links
            if _is_ours(link)
        }

    with _doing("list interfaces"):
        return _in_thread(dump)


def _ensure_bridge(ip: IPRoute, network: Network, owner: str = "") -> int:
    name = network.device
    options.check_interface_name(name)
    link = _link(ip, name)
    if link is None:
        more: dict[str, Any] = {"mtu": options.mtu(network)} if options.mtu(network) else {}
        try:
            # Without STP a port forwards at once. A fixed MAC: by default the lowest of its ports'
            # is the bridge's, and it would change under the containers' ARP caches.
            ip.link(
                "add", ifname=name, kind="bridge", br_stp_state=0, br_forward_delay=0,
                address=_mac(network), **more,
            )  # fmt: skip
        except Exception as error:
            if getattr(error, "code", 0) != errno.EEXIST:  # another process was faster
                raise
        link = _link(ip, name)
        if link is None:
            raise FastboxError(f"cannot set up bridge {name}: it has been removed")
    _check_owner(link, network)
    index = int(link["index"])
    said = _said(link)
    if not said.network or owner not in ("", said.owner):  # the kernel takes none with the creation
        ip.link("set", index=index, ifalias=f"{_ALIAS}{owner} {network.id}".replace("  ", " "))
    _settings(network)
    if options.mtu(network) and link.get_attr("IFLA_MTU") != options.mtu(network):
        ip.link("set", index=index, mtu=options.mtu(network))
    _addresses(ip, network, index)
    return index


def _check_owner(link: _Link, network: Network) -> None:
    alias = link.get_attr("IFLA_IFALIAS")
    # The MAC is there from the first instant on: another process may be about to set the alias.
    mine = _said(link).network == network.id if alias else _has_mac(link, network)
    if _kind(link) == "bridge" and mine:
        return
    what = "is another network's bridge" if _is_ours(link) else "is there and not fastbox's"
    raise Conflict(
        f"interface {network.device} {what}",
        hint=f"choose another name (-o {options.BRIDGE_NAME}=NAME), or remove the interface"
        f" (ip link delete {network.device})",
    )


def _addresses(ip: IPRoute, network: Network, index: int) -> None:
    wanted = set()
    for subnet in network.subnets:
        block, _ = addresses.parse_prefix(subnet.subnet)
        gateway = subnet.gateway or addresses.text(block.family, block.first + 1)
        wanted.add((gateway, block.prefix))
    there = {
        (address.get_attr("IFA_ADDRESS"), address["prefixlen"])
        for address in ip.get_addr(index=index)
    }
    for address, prefix in sorted(wanted - there):
        # Without waiting for duplicate address detection: there is nobody yet.
        more = {"flags": 0x02} if ":" in address else {}  # IFA_F_NODAD
        try:
            ip.addr("add", index=index, address=address, prefixlen=prefix, **more)
        except Exception as error:
            if getattr(error, "code", 0) != errno.EEXIST:
                raise


def _settings(network: Network) -> None:
    """sysctls of a bridge."""
    name = network.device
    _write(f"ipv4/conf/{name}/route_localnet", "1")
    # A container must not become the host's router (CVE-2020-13401, CVE-2020-10749).
    for setting in ("accept_ra", "autoconf"):
        _write(f"ipv6/conf/{name}/{setting}", "0", optional=True)
    _write(
        f"ipv6/conf/{name}/disable_ipv6", "0" if network.ipv6 else "1", optional=not network.ipv6
    )


def _has_mac(link: _Link, network: Network) -> bool:
    return bool(link.get_attr("IFLA_ADDRESS") == _mac(network))


def _mac(network: Network) -> str:
    """Locally administered, from the network's id."""
    octets = [int(network.id[n : n + 2], 16) for n in range(0, 12, 2)]
    octets[0] = (octets[0] | 2) & 0xFE
    return ":".join(f"{octet:02x}" for octet in octets)


# ---- forwarding ----------------------------------------------------------------------------------


def uplinks(runtime: str) -> dict[int, list[str]]:
    """Family (4, 6) -> the interfaces that were there when ``enable_forwarding`` switched
    forwarding on; a family is missing that others have switched on."""
    found = {}
    for family in (4, 6):
        with contextlib.suppress(FileNotFoundError):
            with open(_uplinks_file(runtime, family), encoding="utf-8") as file:
                found[family] = file.read().split("\n")[:-1]
    return found


def is_forwarding(ipv6: bool = False) -> bool:
    """Whether the host forwards packets of a family."""
    return _read("ipv6/conf/all/forwarding" if ipv6 else "ipv4/ip_forward") != "0"


def enable_forwarding(
    runtime: str, ipv6: bool, before: Callable[[dict[int, list[str]]], None] | None = None
) -> dict[int, list[str]]:
    """Let the host forward, if it does not.

    It would become a router between all of its interfaces by that: those that there are now are
    kept (``uplinks``), so that the packet filter drops what is between them. Interfaces that come
    later, and hosts that forwarded already, are not touched.

    Args:
        before: called with the result before forwarding is on: puts it into the filter.

    Returns:
        ``uplinks``.

    Raises:
        FastboxError: it cannot be switched on.
    """
    families = [family for family in ((4, 6) if ipv6 else (4,)) if not is_forwarding(family == 6)]
    if not families:
        return uplinks(runtime)
    mine = {name for name, alias in _aliases().items() if alias.startswith(_ALIAS)}
    names = sorted(set(interfaces()) - mine - {"lo"})
    names = [name for name in names if not set(name) & set('"\\\n')]
    leases.make_directory(f"{runtime}/networks")
    for family in families:
        known = uplinks(runtime).get(family, [])
        lines = "".join(f"{name}\n" for name in sorted({*known, *names}))
        atomic.write(_uplinks_file(runtime, family), lines.encode(), sync=False)
    found = uplinks(runtime)
    if before is not None:
        before(found)
    for family in families:
        if family == 6:
            _keep_accepting_ra()
        _write("ipv6/conf/all/forwarding" if family == 6 else "ipv4/ip_forward", "1")
    return found


def _keep_accepting_ra() -> None:
    """With forwarding, 1 means no more router advertisements, 2 means as before: the host would
    lose its default route."""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"{_SYS}/ipv6/conf"):
            if name != "all" and _read(f"ipv6/conf/{name}/accept_ra") == "1":
                _write(f"ipv6/conf/{name}/accept_ra", "2", optional=True)


def _aliases() -> dict[str, str]:
    def dump(ip: IPRoute) -> dict[str, str]:
        return {
            link.get_attr("IFLA_IFNAME"): link.get_attr("IFLA_IFALIAS") or ""
            for link in ip.get_links()
        }

    with _doing("list interfaces"):
        return _in_thread(dump)


def _uplinks_file(runtime: str, family: int) -> str:
    return f"{runtime}/networks/.uplinks{family}"


# ---- macvlan -------------------------------------------------------------------------------------


def check_parent(network: Network) -> int:
    """The index of the interface that a macvlan network is on.

    Raises:
        InvalidArgument: there is none of that name.
    """
    index = bridge_index(network.device)
    if index is None:
        raise InvalidArgument(
            f"network {network.name}: there is no interface {network.device}",
            hint=f"interfaces: {', '.join(interfaces())}",
        )
    return index


# ---- helpers -------------------------------------------------------------------------------------


def _link(ip: IPRoute, name: str) -> _Link | None:
    index = bridge_index(name)
    if index is None:
        return None
    try:
        found = list(ip.link("get", index=index))
    except Exception as error:
        if getattr(error, "code", 0) == errno.ENODEV:
            return None
        raise
    return found[0] if found else None


def _kind(link: _Link) -> str:
    info = link.get_attr("IFLA_LINKINFO")
    return str(info.get_attr("IFLA_INFO_KIND") or "") if info is not None else ""


def _said(link: _Link) -> Bridge:
    alias = link.get_attr("IFLA_IFALIAS") or ""
    if not alias.startswith(_ALIAS):
        return Bridge("", "")
    owner, _, network = alias[len(_ALIAS) :].rpartition(" ")
    return Bridge(owner, network)


def _is_ours(link: _Link) -> bool:
    alias = link.get_attr("IFLA_IFALIAS") or ""
    name = link.get_attr("IFLA_IFNAME") or ""
    # Without an alias: of a process that was killed between the two calls.
    is_half_made = (
        not alias and re.fullmatch(options.BRIDGE_PREFIX + "[0-9a-f]{12}", name) is not None
    )
    return _kind(link) == "bridge" and (alias.startswith(_ALIAS) or is_half_made)


def _delete(ip: IPRoute, index: int) -> bool:
    try:
        ip.link("del", index=index)
    except Exception as error:
        if getattr(error, "code", 0) in (errno.ENODEV, errno.ENOENT):
            return False
        raise
    return True


def _read(setting: str) -> str:
    try:
        with open(f"{_SYS}/{setting}") as file:
            return file.read().strip()
    except OSError:
        return "0"  # no IPv6 in the kernel


def _write(setting: str, value: str, *, optional: bool = False) -> None:
    """Write a sysctl that does not have the value.

    Args:
        setting: a fixed path, with no more in it than a checked interface name.
        optional: a kernel without IPv6 has no such file.
    """
    path = f"{_SYS}/{setting}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if os.read(fd, 64).strip() != value.encode():
                os.pwrite(fd, value.encode(), 0)
        finally:
            os.close(fd)
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError):
            return
        hint = None
        if isinstance(error, FileNotFoundError) and "ipv6" in setting:
            hint = "the kernel has no IPv6 (ipv6.disable=1?)"
        elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            hint = f"/proc/sys is read-only here: let the host set {setting.replace('/', '.')}"
        raise FastboxError(
            f"cannot set net/{setting} to {value}: {(error.strerror or '').lower()}", hint=hint
        ) from error


def _in_thread(action: Callable[[IPRoute], T]) -> T:
    """Run what uses pyroute2 in a thread of its own; one at a time."""
    result: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(_with_iproute(action))
        except BaseException as error:
            failure.append(error)

    with _ONE_AT_A_TIME:
        thread = threading.Thread(target=work, name="fastbox-netlink", daemon=True)
        thread.start()
        thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _with_iproute(action: Callable[[IPRoute], T]) -> T:
    import asyncio

    from pyroute2 import IPRoute

    # A stock loop even where a program has made uvloop the policy: uvloop refuses AF_NETLINK.
    loop = asyncio.SelectorEventLoop()
    try:
        try:
            made = IPRoute(use_event_loop=loop)
        except TypeError:  # before 0.9: no event loop is used
            made = IPRoute()
        with made as ip:
            return action(ip)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(asyncio.sleep(0))  # the transport is closed by a callback
        loop.close()


@contextlib.contextmanager
def _doing(what: str) -> Iterator[None]:
    """Put the kernel's refusals into words."""
    try:
        yield
    except FastboxError:
        raise
    except Exception as error:
        # pyroute2's NetlinkError is no OSError before 0.9; both have the number.
        code = getattr(error, "code", 0) or getattr(error, "errno", 0) or 0
        if code in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            raise Unsupported(
                f"cannot {what}: the kernel does not have it",
                hint="modprobe bridge, or use --network none or host",
            ) from error
        if code in (errno.EPERM, errno.EACCES):
            raise PermissionDenied(
                f"cannot {what}: operation not permitted",
                hint="networks need root's CAP_NET_ADMIN; --network none or host do without",
            ) from error
        if not code:
            raise
        raise FastboxError(f"cannot {what}: {os.strerror(code).lower()}") from error
