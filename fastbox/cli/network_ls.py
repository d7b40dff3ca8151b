"""``fastbox network ls``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import human, output
from .command import App, FlagCommand
from .flags import Flag, Switch, Values
from .listing import FORMAT, filter_flag
from .tables import render

if TYPE_CHECKING:
    from ..network.types import Network

HEADERS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


def ls(app: App, values: Values, words: list[str]) -> int:
    """List networks by name."""
    networks = app.engine.networks(filters=values.filter or {})
    trunc = not values.no_trunc
    if values.quiet:
        output.write("".join(_id(network, trunc) + "\n" for network in networks))
        return 0
    output.write(
        render(
            [row(network, trunc=trunc) for network in networks],
            format=values.format or "",
            default="ID\tName\tDriver\tScope",
            headers=HEADERS,
            type_name="*formatter.networkContext",
        )
    )
    return 0


def row(network: Network, *, trunc: bool = True) -> dict[str, Callable[..., Any]]:
    """The fields of one line."""
    from ..network.inspect import driver_name

    labels = network.labels
    return {
        "CreatedAt": lambda: human.local_time(network.created),
        "Driver": lambda: driver_name(network),
        "ID": lambda: _id(network, trunc),
        "IPv4": lambda: "true",
        "IPv6": lambda: str(network.ipv6).lower(),
        "Internal": lambda: str(network.internal).lower(),
        "_Label": lambda name: labels.get(name, ""),
        "Labels": lambda: ",".join(f"{key}={labels[key]}" for key in sorted(labels)),
        "Name": lambda: network.name,
        "Scope": lambda: "local",
    }


def _id(network: Network, trunc: bool) -> str:
    return network.id[:12] if trunc else network.id


COMMAND = FlagCommand(
    "network_ls",
    ls,
    "",
    (
        filter_flag("-f --filter", 'Provide filter values (e.g. "driver=bridge")'),
        FORMAT,
        Flag("--no-trunc", Switch(), "Do not truncate the output"),
        Flag("-q --quiet", Switch(), "Only display network IDs"),
    ),
    most=0,
)
