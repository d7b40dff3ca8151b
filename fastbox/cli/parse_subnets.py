"""``--subnet``, ``--gateway``, ``--ip-range``, ``--aux-address``: which belong together.

They are given in any order; as in Docker, an address belongs to the subnet that it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..network import texts
from ..network.types import Subnet
from .errors import CliError
from .flags import Kind


class Strings(Kind):
    """A list, several of which may stand in one value, with commas between."""

    name = "strings"
    many = True

    def add(self, old: Any, text: str) -> list[str]:
        return [*(old or ()), *text.split(",")]


def subnets(
    asked: Sequence[str],
    *,
    gateways: Sequence[str],
    ranges: Sequence[str],
    reserved: Mapping[str, str],
) -> list[Subnet]:
    """The subnets of a new network.

    Raises:
        CliError: with Docker's text.
    """
    if len(gateways) > len(asked) or len(ranges) > len(asked):
        raise CliError("every ip-range or gateway must have a corresponding subnet")
    pools = [(_network(text, exact=True), Subnet(subnet=text)) for text in asked]
    for place, (network, subnet) in enumerate(pools):
        subnet.subnet = str(network)
        if any(network.overlaps(other) for other, _ in pools[:place]):
            raise CliError("multiple overlapping subnet configuration is not supported")
    for text in ranges:
        subnet = _home(pools, _network(text), f"no matching subnet for range {text}")
        if subnet.ip_range:
            raise CliError(
                f"cannot configure multiple ranges ({text}, {subnet.ip_range}) on the same subnet "
                f"({subnet.subnet})"
            )
        subnet.ip_range = str(_network(text))
    for text in gateways:
        problem = f"no matching subnet for gateway {text}"
        address = _address(text, problem)
        subnet = _home(pools, _network(address), problem)
        if subnet.gateway:
            raise CliError(
                f"cannot configure multiple gateways ({text}, {subnet.gateway}) for the same "
                f"subnet ({subnet.subnet})"
            )
        subnet.gateway = address
    for name, text in reserved.items():
        problem = f"no matching subnet for aux-address {text}"
        address = _address(text, problem)
        _home(pools, _network(address), problem).reserved[name] = address
    return [subnet for _, subnet in pools]


def _network(text: str, *, exact: bool = False) -> Any:
    """Args:
    exact: bits below the prefix are a mistake.

    Raises:
        CliError
    """
    import ipaddress

    try:
        if exact and "/" not in text:
            raise ValueError
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise CliError(f"invalid CIDR address: {text}") from None
    if exact and str(found.network_address) != texts.address(text.partition("/")[0]):
        raise CliError(f"invalid subnet {text}: it should be {found}")
    return found


def _address(text: str, problem: str) -> str:
    try:
        return texts.address(text)
    except ValueError:
        raise CliError(problem) from None


def _home(pools: list[tuple[Any, Subnet]], part: Any, problem: str) -> Subnet:
    for network, subnet in pools:
        if network.version == part.version and part.subnet_of(network):
            return subnet
    raise CliError(problem)
