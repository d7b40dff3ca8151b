"""What a container shows of its networks and ports: ``ps``, ``inspect``, filters.

What it is on tells its record; addresses and ports are those of its current run
(``Container.networking``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..network import ports, texts, wishes
from ..network.types import DEFAULT, Attachment, BoundPort, Endpoint

if TYPE_CHECKING:
    from .config import ContainerConfig
    from .record import Container, ContainerRecord

_SHORT_ID = 12


def places(record: ContainerRecord) -> list[Attachment]:
    """The networks that a container is on. ``none`` and ``host`` count, as in Docker; it is on none
    where it shares another container's, or was disconnected from all.
    """
    mode = record.config.network
    if mode in ("none", "host"):
        return [Attachment(network=mode)]
    return [] if mode.startswith(wishes.CONTAINER) else record.networks


def names(box: Container) -> list[str]:
    """Names of a container's networks, in their order."""
    return [wishes.canonical(place.network) for place in places(box.record)]


def is_on(box: Container, network: str) -> bool:
    """Whether a container is on a network, given by name or by (the start of) its id."""
    if network in names(box):
        return True
    return any(
        endpoint.network_id == network
        or (len(network) >= _SHORT_ID and endpoint.network_id.startswith(network))
        for endpoint in _endpoints(box)
    )


def _endpoints(box: Container) -> list[Endpoint]:
    return box.networking.endpoints if box.networking is not None else []


def ports_of(box: Container) -> dict[str, list[BoundPort]]:
    """``80/tcp`` -> where it is on the host; empty for one that is only exposed, and altogether
    while the container does not run or has no network of its own."""
    if not _endpoints(box) or not box.state.status.is_up:
        return {}
    assert box.networking is not None
    return ports.by_container(box.record.exposed_ports, box.networking.ports)


def published(box: Container) -> set[str]:
    """The container's ports that it publishes, whether or not it runs."""
    found = {f"{port.container}/{port.protocol}" for port in box.record.config.publish}
    return found | {key for key, bound in ports_of(box).items() if bound}


def port_bindings(config: ContainerConfig) -> dict[str, list[dict[str, str]]]:
    """``HostConfig.PortBindings``: what ``-p`` asked for."""
    found: dict[str, list[dict[str, str]]] = {}
    for port in config.publish:
        host = str(port.host or "")
        if port.host_end:
            host += f"-{port.host_end}"
        entry = {"HostIp": port.host_ip, "HostPort": host}
        found.setdefault(f"{port.container}/{port.protocol}", []).append(entry)
    return {key: found[key] for key in sorted(found, key=ports.sort_key)}


def legacy_links(record: ContainerRecord) -> list[str]:
    """``HostConfig.Links``: those on the default network, ``/db:/web/alias``."""
    return [
        f"/{name}:/{record.name}/{alias}"
        for place in places(record)
        if wishes.canonical(place.network) == DEFAULT
        for name, alias in (texts.link(text) for text in place.links)
    ]


def settings(box: Container) -> dict[str, Any]:
    """``NetworkSettings``. The fields beside ``Networks`` that Docker calls deprecated are those of
    the default network: scripts read ``.NetworkSettings.IPAddress``."""
    endpoints = {endpoint.network: endpoint for endpoint in _endpoints(box)}
    default = _addresses(endpoints.get(DEFAULT))
    up = box.state.status.is_up and not wishes.joined(box.record.config)
    return {
        "Bridge": "",
        "SandboxID": box.id if up else "",
        "SandboxKey": f"/proc/{box.state.pid}/ns/net" if up else "",
        "Ports": {
            key: [{"HostIp": port.host_ip, "HostPort": str(port.host)} for port in bound] or None
            for key, bound in ports_of(box).items()
        },
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **default,
        "Networks": {
            wishes.canonical(place.network): _network(
                place, endpoints.get(wishes.canonical(place.network))
            )
            for place in places(box.record)
        },
    }


def _addresses(endpoint: Endpoint | None) -> dict[str, Any]:
    if endpoint is None:
        endpoint = Endpoint(id="", network="", network_id="")
    return {
        "EndpointID": endpoint.id,
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.address,
        "IPPrefixLen": endpoint.prefix,
        "IPv6Gateway": endpoint.gateway6,
        "GlobalIPv6Address": endpoint.address6,
        "GlobalIPv6PrefixLen": endpoint.prefix6,
        "MacAddress": endpoint.mac,
    }


def _network(place: Attachment, endpoint: Endpoint | None) -> dict[str, Any]:
    """An entry of ``Networks``."""
    asked = {
        key: value
        for key, value in (("IPv4Address", place.ip), ("IPv6Address", place.ip6))
        if value
    }
    own_names = wishes.is_user_defined(place.network)
    return {
        "IPAMConfig": asked or None,
        "Links": place.links if place.links and own_names else None,
        "Aliases": place.aliases or None,
        "DriverOpts": None,
        "GwPriority": place.priority,
        "NetworkID": endpoint.network_id if endpoint else "",
        **_addresses(endpoint),
        "DNSNames": endpoint.names if endpoint and endpoint.names and own_names else None,
    }
