"""The flags of ``run`` and ``create`` that are about networks, ports and names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InvalidArgument
from ..network import ports, texts, wishes
from ..network.types import Attachment
from . import gotext, output
from .errors import CliError
from .flags import Flag, Switch, Text, Texts, Values

if TYPE_CHECKING:
    from ..container.config import ContainerConfig

_UNHELPFUL = {
    "link-local-ip": "the kernel gives each interface one itself",
    "driver-opt": "the driver has none for a single container",
}


def attachment(text: str) -> Attachment:
    """``NAME``, or ``name=NAME`` with further fields.

    Raises:
        ValueError: malformed, or a field that fastbox does not have.
    """
    if "=" not in text:
        return Attachment(network=text)
    from .parse_mount import csv_fields

    place = Attachment(network="")
    named = False
    for field in csv_fields(text):
        key, equals, value = field.partition("=")
        key, value = key.lower().strip(), value.strip()
        if not equals:
            raise ValueError(f"invalid field {field}")
        if key == "name":
            place.network, named = value, True
        elif key == "alias":
            place.aliases = [*place.aliases, value]
        elif key in ("ip", "ip6"):
            setattr(place, key, value)
        elif key == "mac-address":
            place.mac = value
        elif key == "gw-priority":
            place.priority = _priority(value)
        elif key in _UNHELPFUL:
            raise ValueError(f"{key} is not supported: {_UNHELPFUL[key]}")
        else:
            raise ValueError(f"invalid field key {key}")
    if not named:
        raise ValueError("network name/id is not specified")
    return place


def _priority(text: str) -> int:
    try:
        return gotext.parse_int(text, base=10, function="Atoi")
    except ValueError as error:
        reason = str(error).rpartition(": ")[2]
        raise ValueError(f"invalid gw-priority ({text}): {reason}") from None


def link(text: str) -> str:
    """``CONTAINER[:ALIAS]`` of ``--link``.

    Raises:
        ValueError
    """
    texts.link(text)
    return text


def server(text: str) -> str:
    """The address of ``--dns``.

    Raises:
        ValueError
    """
    try:
        return texts.address(text.strip())
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {text}") from None


def domain(text: str) -> str:
    """``--dns-search``.

    Raises:
        ValueError
    """
    if not texts.is_domain(text.strip()):
        raise ValueError(f"{text if texts.is_line(text) else repr(text)} is not a valid domain")
    return text.strip()


def option(text: str) -> str:
    """``--dns-option``: one word of resolv.conf's ``options``.

    Raises:
        ValueError
    """
    if not texts.is_line(text):
        raise ValueError(f"{text!r} is no option of resolv.conf")
    return text


def extra_host(text: str) -> str:
    """``HOST:IP`` or ``HOST=IP`` as ``HOST:IP``; the address may be ``host-gateway``.

    Raises:
        ValueError
    """
    cut = text.find("=") if "=" in text else text.find(":")
    if cut <= 0:
        raise ValueError(f"bad format for add-host: {gotext.quote(text)}")
    host, address = text[:cut], text[cut + 1 :]
    if address == "host-gateway":
        return f"{_host(host, text)}:{address}"
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        texts.address(address)
    except ValueError:
        raise ValueError(
            f"invalid IP address in add-host: {gotext.quote(text[cut + 1 :])}"
        ) from None
    return f"{_host(host, text)}:{address}"


def _host(name: str, text: str) -> str:
    if not texts.is_line(name):
        raise ValueError(f"bad format for add-host: {gotext.quote(text)}")
    return name


FLAGS = (
    Flag("--add-host", Texts(extra_host), "Add a custom host-to-IP mapping (host:ip)"),
    Flag("--dns", Texts(server), "Set custom DNS servers"),
    Flag("--dns-opt", Texts(option), "Set DNS options", hidden=True, dest="dns_option"),
    Flag("--dns-option", Texts(option), "Set DNS options"),
    Flag("--dns-search", Texts(domain), "Set custom DNS search domains"),
    Flag("--domainname", Text(), "Container NIS domain name"),
    Flag("--expose", Texts(), "Expose a port or a range of ports"),
    Flag("-h --hostname", Text(), "Container host name"),
    Flag("--ip", Text(), "IPv4 address (e.g., 172.30.100.104)"),
    Flag("--ip6", Text(), "IPv6 address (e.g., 2001:db8::33)"),
    Flag("--link", Texts(link), "Add link to another container"),
    Flag("--link-local-ip", Texts(), hidden=True),
    Flag("--mac-address", Text(), "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    Flag("--network", Texts(attachment, "network"), "Connect a container to a network"),
    Flag("--net", Texts(attachment, "network"), hidden=True, dest="network"),
    Flag("--network-alias", Texts(), "Add network-scoped alias for the container"),
    Flag("--net-alias", Texts(), hidden=True, dest="network_alias"),
    Flag("-p --publish", Texts(), "Publish a container's port(s) to the host"),
    Flag("-P --publish-all", Switch(), "Publish all exposed ports to random ports"),
)


def fill(config: ContainerConfig, values: Values) -> None:
    """Put what the flags say into the config, and see that it fits together.

    Raises:
        CliError: Docker's client refuses it. InvalidArgument: its engine does.
    """
    if values.link_local_ip:
        raise CliError(f"--link-local-ip is not supported: {_UNHELPFUL['link-local-ip']}")
    if "hostname" in values.given:
        config.hostname = values.hostname or None
    config.domainname = values.domainname or None
    config.add_hosts = values.add_host or []
    config.dns = values.dns or []
    config.dns_options = values.dns_option or []
    config.dns_search = values.dns_search or []
    config.publish_all = values.publish_all
    _ports(config, values)
    _networks(config, values)
    wishes.check(config)


def _ports(config: ContainerConfig, values: Values) -> None:
    try:
        for text in values.publish or ():
            config.publish += ports.parse_publish(text)
        for text in values.expose or ():
            config.expose += ports.parse_expose(text)
    except InvalidArgument as error:
        raise CliError(str(error), hint=error.hint) from None


def _networks(config: ContainerConfig, values: Values) -> None:
    places: list[Attachment] = values.network or [Attachment(network="bridge")]
    _short_flags(places[0], values)
    places = [_settled(place) for place in places]
    seen = set()
    for place in places:
        if place.network in seen:
            quoted = gotext.quote(place.network)
            raise CliError(f"network {quoted} is specified multiple times")
        seen.add(place.network)
    if len({wishes.is_user_defined(name) for name in seen}) > 1:
        raise CliError(
            "conflicting options: cannot attach both user-defined and non-user-defined "
            "network-modes"
        )
    config.network = places[0].network
    if len(places) > 1 or places[0] != Attachment(network=config.network):
        config.networks = places


def _short_flags(place: Attachment, values: Values) -> None:
    """``--ip``, ``--network-alias`` … are about the first network.

    Raises:
        CliError: ``--network name=…,ip=…`` said it too.
    """
    for given, field, flag, what in (
        (values.network_alias, "aliases", "--network-alias", "alias"),
        (values.link, "links", "--link", "links"),
        (values.ip, "ip", "--ip", "IPv4 address"),
        (values.ip6, "ip6", "--ip6", "IPv6 address"),
        (values.mac_address, "mac", "--mac-address", "MAC address"),
    ):
        if not given:
            continue
        if getattr(place, field):
            raise CliError(
                f"conflicting options: cannot specify both {flag} and per-network {what}"
            )
        setattr(place, field, given)


def _settled(place: Attachment) -> Attachment:
    """The stored form, after what Docker's client finds itself.

    Raises:
        CliError, InvalidArgument
    """
    place.network = wishes.canonical(place.network.strip())
    if not place.network:
        raise CliError("no name set for network")
    if place.aliases and not wishes.is_user_defined(place.network):
        raise CliError("network-scoped aliases are only supported for user-defined networks")
    try:
        if place.mac:
            texts.mac(place.mac)
    except ValueError as error:
        raise CliError(str(error)) from None
    return wishes.settled(place)


def warn(config: ContainerConfig) -> None:
    """Tell of ports that cannot be published, as Docker does, and go on."""
    if config.publish and config.network in ("host", "none"):
        output.error(
            f"WARNING: Published ports are discarded when using {config.network} network mode"
        )
