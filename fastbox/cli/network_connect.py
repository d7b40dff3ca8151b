"""``fastbox network connect``."""

from __future__ import annotations

from typing import Any

from ..errors import Unsupported
from ..network import wishes
from ..network.types import Attachment
from . import parse_network
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Integer, Text, Texts, Values

_MAC = "com.docker.network.endpoint.macaddress"


def connect(app: App, values: Values, words: list[str]) -> int:
    """Put a container, running or not, on a network; prints nothing."""
    network, container = words
    if values.link_local_ip:
        raise Unsupported(
            "--link-local-ip is not supported",
            hint="the kernel gives each interface one itself",
        )
    wish = Attachment(
        network=network,
        ip=values.ip or "",
        ip6=values.ip6 or "",
        mac=values.mac_address or _mac(values.driver_opt or []),
        aliases=values.alias or [],
        links=values.link or [],
        priority=values.gw_priority or 0,
    )
    app.engine.connect_network(network, container, **_arguments(wishes.settled(wish)))
    return 0


def _mac(options: list[str]) -> str:
    """The only option that an endpoint has."""
    found = ""
    for option in options:
        key, equals, value = option.partition("=")
        if not key or not equals:
            raise CliError("invalid key/value pair format in driver options")
        if key != _MAC:
            raise Unsupported(
                f"--driver-opt {key} is not supported", hint=f"{_MAC} is, as --mac-address"
            )
        found = value
    return found


def _arguments(place: Attachment) -> dict[str, Any]:
    """What was asked for."""
    fields = ("ip", "ip6", "mac", "aliases", "links", "priority")
    return {name: getattr(place, name) for name in fields if getattr(place, name)}


COMMAND = FlagCommand(
    "network_connect",
    connect,
    "NETWORK CONTAINER",
    (
        Flag("--alias", Texts(name="strings"), "Add network-scoped alias for the container"),
        Flag("--driver-opt", Texts(name="strings"), "driver options for the network"),
        Flag(
            "--gw-priority",
            Integer(),
            "Highest gw-priority provides the default gateway. Accepts positive and negative "
            "values.",
        ),
        Flag("--ip", Text(), 'IPv4 address (e.g., "172.30.100.104")'),
        Flag("--ip6", Text(), 'IPv6 address (e.g., "2001:db8::33")'),
        Flag("--link", Texts(parse_network.link), "Add link to another container"),
        Flag("--link-local-ip", Texts(name="strings"), hidden=True),
        Flag("--mac-address", Text(), 'MAC address (e.g., "92:d0:c6:0a:29:33")'),
    ),
    least=2,
    most=2,
)
