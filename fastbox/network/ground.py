"""The host's ground for containers' links: their bridges, and the firewall's rules."""

from __future__ import annotations

import _socket as socket  # the module over it costs milliseconds
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import Conflict
from ..locks import lock
from . import binding, device, firewall, messages, options, strays
from .types import Network, Networking

if TYPE_CHECKING:
    from .store import NetworkStore


def prepare(
    store: NetworkStore,
    table: str,
    networks: Sequence[Network],
    running: Callable[[], Iterable[Networking]],
) -> socket.socket | None:
    """See that the bridges of networks are there and complete, and the rules.

    Quick when they are. Whoever removed them or set them down (a reboot, an administrator, ``nft
    flush ruleset``, a process that was killed while it made them): they are made again, the rules
    with what running containers have in them.

    Args:
        running: of each running container.

    Returns:
        The nfnetlink socket that has asked for the rules, for whoever has more to say; None: no
        network has a bridge.

    Raises:
        Unsupported, FastboxError
    """
    bridges = [network for network in networks if network.driver == "bridge"]
    if not bridges:
        return None
    with contextlib.ExitStack() as undo:
        netfilter = firewall.open_socket()
        undo.callback(netfilter.close)
        _prepare(store, table, bridges, running, netfilter)
        undo.pop_all()
        return netfilter


def _prepare(
    store: NetworkStore,
    table: str,
    bridges: Sequence[Network],
    running: Callable[[], Iterable[Networking]],
    netfilter: socket.socket,
) -> None:
    missing = [network for network in bridges if not device.is_up(network.device, netfilter)]
    if not missing and not firewall.missing(table, netfilter):
        return
    with lock(f"{store.runtime}/.ground", create=True):
        if firewall.missing(table):
            restore(store, table, running)
        for network in missing:
            # Rules first: a bridge that is there has them, whenever this process is killed.
            firewall.add_network(table, network)
            _reconnect(network, _bridge(store, network), running())
        device.enable_forwarding(
            os.path.dirname(store.runtime),
            any(network.ipv6 for network in bridges),
            lambda names: firewall.add_uplinks(table, names),
        )
        for network in missing:  # now they are complete
            device.set_up(network, netfilter)


def _bridge(store: NetworkStore, network: Network) -> int:
    owner = options.store_hash(store.root)
    try:
        return device.prepare_bridge(network, owner)
    except Conflict:
        # Of a network that had its name and was removed, by somebody who was killed.
        if not strays.sweep(store, thorough=True):
            raise
        return device.prepare_bridge(network, owner)


def _reconnect(network: Network, bridge: int, running: Iterable[Networking]) -> None:
    """Somebody deleted the bridge under containers that run: their links are on the new one."""
    for networking in running:
        place = networking.endpoint(network.id)
        if place is not None and device.bridge_index(place.host_interface) is not None:
            with messages.open_socket(messages.NETLINK_ROUTE) as netlink:
                messages.send(netlink, messages.join_bridge(place.host_interface, bridge))


def guard(store: NetworkStore, table: str, running: Callable[[], Iterable[Networking]]) -> bool:
    """Load the rules again if somebody has changed them, while containers need them.

    Returns:
        Whether they were.
    """
    if firewall.intact(table) or not any(networking.endpoints for networking in running()):
        return False
    with lock(f"{store.runtime}/.ground", create=True):
        restore(store, table, running)
    return True


def restore(store: NetworkStore, table: str, running: Callable[[], Iterable[Networking]]) -> None:
    """Load the rules, with all that there is of networks and of published ports."""
    firewall.ensure(table, _present(store), device.uplinks(os.path.dirname(store.runtime)))
    entries = [entry for networking in running() for entry in binding.entries_of(networking)]
    with messages.open_socket(messages.NETLINK_NETFILTER) as netfilter:
        for data in messages.elements(table, entries):
            messages.send(netfilter, data)


def update_relayed(store: NetworkStore, table: str) -> None:
    """See that the rules are those for a host with, or without, br_netfilter, as it is now."""
    firewall.update_relayed(table, _present(store))


def _present(store: NetworkStore) -> list[Network]:
    """The networks whose bridges are there."""
    return [
        network
        for network in store.list()
        if network.driver == "bridge" and device.bridge_index(network.device) is not None
    ]


def take_down(table: str, network: Network) -> None:
    """Remove a network's bridge and rules."""
    if network.driver == "bridge" and device.bridge_index(network.device) is not None:
        firewall.remove_network(table, network)
        device.remove_bridge(network.device)
