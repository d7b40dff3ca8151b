"""``inspect`` of networks, in the shape of Docker's API."""

from __future__ import annotations

from typing import Any

from .types import Endpoint, Network, Subnet


def driver_name(network: Network) -> str:
    """The driver as Docker calls it: that of ``none`` is ``null``."""
    return "null" if network.driver == "none" else network.driver


def inspect_network(
    network: Network, containers: list[tuple[str, str, Endpoint]]
) -> dict[str, Any]:
    """Docker's JSON of a network.

    Args:
        containers: (id, name, its place on this network) of the running ones.
    """
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": network.created,
        "Scope": "local",
        "Driver": driver_name(network),
        "EnableIPv4": True,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": "default",
            "Options": {} if network.is_user_defined else None,
            "Config": [_subnet(subnet) for subnet in network.subnets],
        },
        "Internal": network.internal,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container_id: _endpoint(name, endpoint)
            for container_id, name, endpoint in sorted(containers, key=lambda found: found[0])
        },
        "Options": dict(sorted(network.options.items())),
        "Labels": dict(sorted(network.labels.items())),
    }


def _subnet(subnet: Subnet) -> dict[str, Any]:
    result: dict[str, Any] = {"Subnet": subnet.subnet}
    if subnet.ip_range:
        result["IPRange"] = subnet.ip_range
    if subnet.gateway:
        result["Gateway"] = subnet.gateway
    if subnet.reserved:
        result["AuxiliaryAddresses"] = dict(sorted(subnet.reserved.items()))
    return result


def _endpoint(name: str, endpoint: Endpoint) -> dict[str, str]:
    return {
        "Name": name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": f"{endpoint.address}/{endpoint.prefix}" if endpoint.address else "",
        "IPv6Address": f"{endpoint.address6}/{endpoint.prefix6}" if endpoint.address6 else "",
    }
