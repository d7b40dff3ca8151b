"""A container's place on one network: its addresses, its link, the messages that make it."""

from __future__ import annotations

import _socket as socket  # the module over it costs milliseconds
import contextlib
import os
from collections.abc import Callable

import msgspec

from .. import atomic
from ..errors import Conflict, InvalidArgument, Unsupported
from . import device, leases, messages, options
from .types import Attachment, Endpoint, Network, Subnet

_NAME_SIZE = 15  # IFNAMSIZ - 1


class Messages(msgspec.Struct, frozen=True):
    """Netlink messages of a start.

    Attributes:
        host: sent over a socket of the host's namespace, else of the container's.
        answers: how many acknowledgements they get.
        interface: what the addresses among them are for.
        about: what an error in them is about.
    """

    data: bytes
    about: str
    answers: int = 1
    host: bool = False
    interface: str = ""


def lease(
    runtime: str,
    network: Network,
    attachment: Attachment,
    holder: str,
    interface: str,
    prefix: str,
    undo: contextlib.ExitStack,
    stale: Callable[[str], bool],
) -> Endpoint:
    """Take the addresses of a container on a network.

    Args:
        runtime: the store's runtime directory.
        holder: ``ID/NAME`` of the container.
        prefix: what the host's ends of a store's links are called.
        undo: told how to give them back.
        stale: see ``leases.take``.

    Raises:
        Conflict, InvalidArgument
    """
    endpoint = Endpoint(
        id=os.urandom(32).hex(),
        network=network.name,
        network_id=network.id,
        interface=interface,
        aliases=attachment.aliases,
    )
    for asked, is_ours in ((attachment.ip, _is_ipv4), (attachment.ip6, _is_ipv6)):
        if asked and not any(map(is_ours, network.subnets)):
            raise InvalidArgument(
                f"no configured subnet contains IP address {asked}",
                hint=f"network {network.name} has {', '.join(s.subnet for s in network.subnets)}",
            )
    for subnet in network.subnets:
        family = 6 if ":" in subnet.subnet else 4
        asked = attachment.ip6 if family == 6 else attachment.ip
        address = leases.take(runtime, network, holder, ip=asked, family=family, stale=stale)
        undo.callback(leases.free, runtime, network.id, address, holder)
        _place(endpoint, subnet, family, address, gateway=subnet.gateway)
    # Of a macvlan, an older link with the same one would be in the way, until the kernel has
    # destroyed its namespace.
    derived = endpoint.address if network.driver == "bridge" else ""
    endpoint.mac = attachment.mac or _mac(derived)
    if network.driver == "bridge":
        endpoint.host_interface = f"{prefix}{os.urandom(4).hex()}"[:_NAME_SIZE]
    return endpoint


def _is_ipv6(subnet: Subnet) -> bool:
    return ":" in subnet.subnet


def _is_ipv4(subnet: Subnet) -> bool:
    return ":" not in subnet.subnet


def lease_lines(endpoint: Endpoint, container_id: str) -> list[str]:
    """What gives its addresses back, see ``release``."""
    base = f"{endpoint.network_id}/leases"
    return [f"o {container_id} {base}/{address}" for address in endpoint.addresses]


def _place(endpoint: Endpoint, subnet: Subnet, family: int, address: str, gateway: str) -> None:
    prefix = int(subnet.subnet.partition("/")[2])
    if family == 4:
        endpoint.address, endpoint.prefix, endpoint.gateway = address, prefix, gateway
    else:
        endpoint.address6, endpoint.prefix6, endpoint.gateway6 = address, prefix, gateway


def _mac(address: str) -> str:
    """Of the address, as Docker's: whoever gets it after another has the same, and no neighbour's
    cache is wrong."""
    tail = socket.inet_aton(address) if address else os.urandom(4)
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *tail))


def is_announced(
    networks: str, network: Network, attachment: Attachment, endpoint: Endpoint
) -> bool:
    """Whether an endpoint's neighbours must be told its MAC: they may know another one for its
    address, where somebody has, or had, one of his own; or the bridge knows it at another port, of
    a container that has just ended. (An announcement is copied to each port: a millisecond with
    500.)

    Args:
        networks: ``RUNTIME/networks``; the network has a directory there.
    """
    if network.driver != "bridge":
        return True
    mark = f"{networks}/{network.id}/macs"
    if attachment.mac:
        atomic.touch(mark)
    if os.path.exists(mark):
        return True
    bridge = device.bridge_index(network.device)
    return bridge is not None and messages.is_known(bridge, endpoint.mac)


def messages_of(
    network: Network,
    endpoint: Endpoint,
    *,
    is_gateway: bool,
    namespace: int | None = None,
) -> list[Messages]:
    """What makes the endpoint's link, in order.

    Args:
        is_gateway: the default route leads here.
        namespace: descriptor of the container's, for a sender who is not its first process.

    Raises:
        FastboxError: the network's device cannot be had.
    """
    about = f"joining network {network.name}"
    made = [Messages(_link(network, endpoint, namespace), about, host=True)]
    if network.driver == "bridge" and not options.allows_icc(network):
        flag = messages.isolate(endpoint.host_interface)
        made.append(Messages(flag, f"{about}: isolating its port", host=True))
    inside = []
    if endpoint.address:
        inside.append(messages.address(endpoint.address, endpoint.prefix, 4))
    if endpoint.address6:
        inside.append(messages.address(endpoint.address6, endpoint.prefix6, 6))
    inside.append(messages.link_up(endpoint.interface))
    if is_gateway:
        inside += routes(endpoint)
    data = b"".join(inside)
    made.append(Messages(data, f"{about}: its address", len(inside), interface=endpoint.interface))
    return made


def routes(endpoint: Endpoint) -> list[bytes]:
    pairs = ((endpoint.gateway, 4), (endpoint.gateway6, 6))
    return [messages.default_route(gateway, family) for gateway, family in pairs if gateway]


def _link(network: Network, endpoint: Endpoint, namespace: int | None) -> bytes:
    mtu = options.mtu(network)
    if network.driver == "macvlan":
        return messages.macvlan(
            inside=endpoint.interface,
            parent=parent_index(network),
            mode=options.macvlan_mode(network),
            mac=endpoint.mac,
            mtu=mtu,
            namespace=namespace,
        )
    return messages.veth(
        host=endpoint.host_interface,
        inside=endpoint.interface,
        bridge=bridge_index(network),
        mac=endpoint.mac,
        mtu=mtu,
        namespace=namespace,
    )


def bridge_index(network: Network) -> int:
    """The number of its bridge.

    Raises:
        Conflict: it is not there: somebody has just removed it.
    """
    index = device.bridge_index(network.device)
    if index is None:
        raise Conflict(f"network {network.name}: bridge {network.device} is gone", hint="try again")
    return index


def parent_index(network: Network) -> int:
    """The number of a macvlan's parent.

    Raises:
        Conflict: the host has it no more.
    """
    try:
        return socket.if_nametoindex(network.device)
    except OSError as error:
        raise Conflict(
            f"network {network.name}: the host has no interface {network.device}"
        ) from error


def gateway_of(endpoints: list[tuple[Network, Attachment, Endpoint]]) -> Endpoint | None:
    """The endpoint over which a container reaches the outside: of those that lead there, the one
    with the highest priority, the first by name (as Docker)."""
    ways = [item for item in endpoints if not item[0].internal and _leads_out(item[2])]
    if not ways:
        return None
    ways.sort(key=lambda item: (-item[1].priority, item[0].name))
    return ways[0][2]


def _leads_out(endpoint: Endpoint) -> bool:
    return bool(endpoint.gateway or endpoint.gateway6)


def check_driver(network: Network) -> None:
    """Raise Unsupported for a network that a container cannot have an endpoint on."""
    if network.driver not in ("bridge", "macvlan"):
        raise Unsupported(
            f"network {network.name} has no endpoints", hint="use --network with its name alone"
        )
