"""What is asked of a container's networks: whether it makes sense, before anything is looked up.

Used by the command line and by ``Engine.create``: a Python program is told what a user is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import InvalidArgument
from . import ports, texts
from .types import BUILT_IN, DEFAULT, Attachment, Publish

if TYPE_CHECKING:
    from ..container.config import ContainerConfig

CONTAINER = "container:"
_CONFLICT = "conflicting options: "
_OWN_ADDRESS = "user specified IP address is supported on user defined networks only"


def joined(config: ContainerConfig) -> str:
    """The container whose network a container shares (``container:NAME``), ``""``: none."""
    return config.network.removeprefix(CONTAINER) if config.network.startswith(CONTAINER) else ""


def attachments(config: ContainerConfig) -> list[Attachment]:
    """The networks that a container is asked to be on, in their order; none where it shares
    another container's. ``network`` need not be repeated in ``networks``, nor the other way round.

    Raises:
        InvalidArgument: ``network`` is none of ``networks``.
    """
    if config.network.startswith(CONTAINER):
        return []
    name = canonical(config.network)
    if not config.networks:
        return [Attachment(network=name)]
    names = [canonical(place.network) for place in config.networks]
    # Who names networks need not touch the field whose default is the default network.
    if name not in names and name != DEFAULT:
        raise InvalidArgument(_CONFLICT + f"network {name} is not one of networks")
    return config.networks


def mode(config: ContainerConfig) -> str:
    """Docker's ``NetworkMode``: ``container:NAME``, or the network that was named first.

    Raises:
        InvalidArgument: as ``attachments``.
    """
    wanted = [canonical(place.network) for place in attachments(config)]
    name = canonical(config.network)
    return name if not wanted or name in wanted else wanted[0]


def canonical(name: str) -> str:
    """Docker's ``default`` is the default network."""
    return DEFAULT if name == "default" else name


def is_user_defined(name: str) -> bool:
    """Whether a network of this name is one that somebody made."""
    return name not in BUILT_IN and name != "default" and not name.startswith(CONTAINER)


def check(config: ContainerConfig) -> None:
    """Refuse what no network could fulfil, and wishes that contradict one another.

    Raises:
        InvalidArgument: with Docker's text, where Docker refuses it.
    """
    if config.network == CONTAINER:
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    if config.network.startswith(CONTAINER):
        _check_joined(config)
    elif not config.network:
        raise InvalidArgument("no name set for network")
    wanted = attachments(config)
    _check_together([canonical(place.network) for place in wanted])
    for place in wanted:
        _check_attachment(place)
    _check_dns(config)
    _check_names(config)
    _check_ports(config.publish)
    for text in config.expose:
        ports.parse_expose(text)


def _check_joined(config: ContainerConfig) -> None:
    """What a container cannot have of its own when it shares another's network."""
    if any(place.ip or place.ip6 for place in config.networks):
        raise InvalidArgument(_OWN_ADDRESS)
    for given, what in (
        (config.hostname, "hostname and the network mode"),
        (
            any(place.links for place in config.networks),
            "container type network can't be used with links. This would result in undefined "
            "behavior",
        ),
        (config.dns or config.dns_search or config.dns_options, "dns and the network mode"),
        (config.add_hosts, "custom host-to-IP mapping and the network mode"),
        (any(place.mac for place in config.networks), "mac-address and the network mode"),
        (
            config.publish or config.publish_all,
            "port publishing and the container type network mode",
        ),
        (config.expose, "port exposing and the container type network mode"),
        (config.networks, "cannot attach both user-defined and non-user-defined network-modes"),
    ):
        if given:
            raise InvalidArgument(
                _CONFLICT + what, hint=f"this is the other container's ({joined(config)})"
            )


def _check_together(names: list[str]) -> None:
    for place, name in enumerate(names):
        if not name:
            raise InvalidArgument("no name set for network")
        if name in names[:place]:
            raise InvalidArgument(f'network "{name}" is specified multiple times')
        if name.startswith(CONTAINER):
            raise InvalidArgument(
                _CONFLICT + "container:NAME is no network that others can be added to"
            )
        if not texts.is_plain(name):
            raise InvalidArgument(f"invalid network name: {name!r}")
    own = [name for name in names if name in BUILT_IN]
    if own and len(own) < len(names):
        raise InvalidArgument(
            _CONFLICT + "cannot attach both user-defined and non-user-defined network-modes",
            hint="`fastbox network connect` adds a network to a container on bridge",
        )
    if len(own) > 1:
        raise InvalidArgument(_CONFLICT + f"cannot attach both {own[0]} and {own[1]}")


def _check_attachment(place: Attachment) -> None:
    name = canonical(place.network)
    if is_user_defined(name):
        check_place(place)
        return
    if place.ip or place.ip6:
        raise InvalidArgument(
            _OWN_ADDRESS,
            hint="make one with `fastbox network create --subnet`",
        )
    if place.aliases:
        raise InvalidArgument(
            "network-scoped alias is supported only for containers in user defined networks",
            hint="make one with `fastbox network create`",
        )
    if name != DEFAULT and place.mac:
        raise InvalidArgument(_CONFLICT + "mac-address and the network mode")
    if name != DEFAULT and place.links:
        raise InvalidArgument(
            _CONFLICT + f"{name} type networking can't be used with links. This would result in "
            "undefined behavior"
        )
    check_place(place)


def check_place(place: Attachment) -> None:
    """The values of one attachment, whatever its network.

    Raises:
        InvalidArgument
    """
    settled(place)


def settled(place: Attachment) -> Attachment:
    """An attachment with its values checked, and in the forms in which they are stored.

    Aliases become names of files (``networks/ID/names``), so nothing else passes here.

    Raises:
        InvalidArgument
    """
    for alias in place.aliases:
        if not texts.is_name(alias):
            raise InvalidArgument(
                f"invalid network alias: {alias!r}",
                hint="letters, digits, '_', '-' and '.', at most 63 between two dots",
            )
    try:
        for text in place.links:
            texts.link(text)
        return Attachment(
            network=canonical(place.network),
            ip=texts.host_address(place.ip, 4) if place.ip else "",
            ip6=texts.host_address(place.ip6, 6) if place.ip6 else "",
            mac=texts.mac(place.mac) if place.mac else "",
            aliases=list(place.aliases),
            links=list(place.links),
            priority=place.priority,
        )
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


def _check_dns(config: ContainerConfig) -> None:
    for server in config.dns:
        try:
            texts.address(server)
        except ValueError:
            raise InvalidArgument(f"IP address is not correctly formatted: {server!r}") from None
    for domain in config.dns_search:
        if not texts.is_domain(domain):
            raise InvalidArgument(f"{domain!r} is not a valid domain")
    _check_words(config.dns_options, "dns-option")


def _check_names(config: ContainerConfig) -> None:
    _check_words((text for text in (config.hostname,) if text is not None), "hostname")
    _check_words((text for text in (config.domainname,) if text is not None), "domainname")
    for entry in config.add_hosts:
        name, _, address = entry.partition(":")
        if not texts.is_line(name) or (address != "host-gateway" and not _is_address(address)):
            raise InvalidArgument(f"bad format for add-host: {entry!r}")


def _is_address(text: str) -> bool:
    try:
        texts.address(text)
    except ValueError:
        return False
    return True


def _check_words(values: Iterable[str], what: str) -> None:
    """Each goes onto a line of a file in /etc (CVE-2022-4318: a newline adds another)."""
    for value in values:
        if not texts.is_line(value):
            raise InvalidArgument(f"invalid {what} format: {value!r}")


def _check_ports(published: list[Publish]) -> None:
    taken: set[tuple[str, int, str]] = set()
    for port in published:
        if not 0 < port.container <= ports.LAST:
            raise InvalidArgument(f"invalid containerPort: {port.container}")
        if not 0 <= port.host <= ports.LAST:
            raise InvalidArgument(f"invalid hostPort: {port.host}")
        if port.host_end and not 0 < port.host <= port.host_end <= ports.LAST:
            raise InvalidArgument(f"invalid hostPort: {port.host}-{port.host_end}")
        if port.protocol not in ports.PROTOCOLS:
            raise InvalidArgument(f"invalid proto: {port.protocol}")
        if port.host_ip and not _is_address(port.host_ip):
            raise InvalidArgument(f"invalid IP address: {port.host_ip}")
        if not port.host or port.host_end:
            continue
        key = (port.host_ip, port.host, port.protocol)
        if key in taken:
            where = ports.joined(port.host_ip or "0.0.0.0", port.host)
            raise InvalidArgument(
                f"Bind for {where} failed: port is already allocated",
                hint=f"{port.host}/{port.protocol} is published twice by this container",
            )
        taken.add(key)
