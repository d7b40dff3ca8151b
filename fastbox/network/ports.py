"""Ports as people write and read them: the grammar of ``-p`` and ``--expose``, the PORTS of ``ps``.

A port of a container is ``80/tcp`` where it is a key or one entry of a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import InvalidArgument
from . import texts
from .types import BoundPort, Publish

PROTOCOLS = ("tcp", "udp", "sctp")
LAST = 65535
_MODES = ("", "host", "ingress")
_LONG = ("mode", "protocol", "published", "target")


def parse_publish(text: str) -> list[Publish]:
    """``[HOST_IP:][HOST[-END]:]CONTAINER[-END][/PROTOCOL]``, or
    ``published=8080,target=80,protocol=tcp,mode=host``.

    A range of the host's ports for one of the container's is a choice; for a range, which has to be
    as long, they are pairs.

    Raises:
        InvalidArgument: with Docker's text.
    """
    if "=" in text:
        text = _short_form(text)
    host_ip, host, container = _split(text)
    container, _, protocol = container.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}", hint="tcp, udp and sctp are known")
    host_ip = _host_ip(host_ip)
    if not container:
        raise InvalidArgument(f"no port specified: {text}<empty>")
    first, last = _range(container, 1, f"invalid containerPort: {container}")
    host_first, host_last = _range(host, 0, f"invalid hostPort: {host}") if host else (0, 0)
    if first == last:
        end = host_last if host_first and host_last != host_first else 0
        return [
            Publish(
                container=first, protocol=protocol, host_ip=host_ip, host=host_first, host_end=end
            )
        ]
    if host and last - first != host_last - host_first:
        raise InvalidArgument(
            f"invalid ranges specified for container and host Ports: {container} and {host}",
            hint="both ranges have to be of the same length",
        )
    return [
        Publish(
            container=first + place,
            protocol=protocol,
            host_ip=host_ip,
            host=host_first + place if host_first else 0,
        )
        for place in range(last - first + 1)
    ]


def _short_form(text: str) -> str:
    fields = {"protocol": "tcp"}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise InvalidArgument(
                f"invalid publish opts format (should be name=value but got '{part}')"
            )
        if key not in _LONG:
            raise InvalidArgument(
                f"invalid publish opts format: unknown option '{key}'",
                hint="known: " + ", ".join(_LONG),
            )
        fields[key] = value
    if fields.get("mode", "") not in _MODES:
        raise InvalidArgument(
            f"invalid publish opts format: unknown mode '{fields['mode']}'", hint="use mode=host"
        )
    return f"{fields.get('published', '')}:{fields.get('target', '')}/{fields['protocol']}"


def _split(text: str) -> tuple[str, str, str]:
    """An IPv6 address may be without its brackets: what is before the last two parts."""
    *rest, container = text.split(":")
    host = rest.pop() if rest else ""
    return ":".join(rest), host, container


def _host_ip(text: str) -> str:
    if not text:
        return ""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return texts.address(inner)
    except ValueError:
        raise InvalidArgument(f"invalid IP address: {text}") from None


def _range(text: str, least: int, problem: str) -> tuple[int, int]:
    """``80`` or ``80-90``.

    Raises:
        InvalidArgument: with the text ``problem``.
    """
    first, dash, last = text.partition("-")
    low, high = _number(first), _number(last if dash else first)
    if low is None or high is None or not least <= low <= high:
        raise InvalidArgument(problem, hint=f"ports are numbers from 1 to {LAST}")
    if low == 0 and high:
        raise InvalidArgument(problem, hint="0 is any free port, it begins no range")
    return low, high


def _number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        return None
    value = int(text)
    return value if value <= LAST else None


def parse_expose(text: str) -> list[str]:
    """``PORT[-END][/PROTOCOL]``, each as ``80/tcp``.

    Raises:
        InvalidArgument: with Docker's text.
    """
    if ":" in text:
        raise InvalidArgument(f"invalid port format for --expose: {text}")
    numbers, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise InvalidArgument(f"invalid proto: {protocol}", hint="tcp, udp and sctp are known")
    first, last = _range(numbers, 1, f"invalid range format for --expose: {text}")
    return [f"{number}/{protocol}" for number in range(first, last + 1)]


def exposed(image: Iterable[str], asked: Iterable[str], published: Iterable[Publish]) -> list[str]:
    """What a container exposes: the image's ports, those asked for, those published.

    Args:
        image: keys of the image config's ExposedPorts; what is no port there is left out.

    Raises:
        InvalidArgument: one that was asked for is none.
    """
    found = {f"{port.container}/{port.protocol}" for port in published}
    for text in image:
        try:
            found.update(parse_expose(text))
        except InvalidArgument:
            continue
    for text in asked:
        found.update(parse_expose(text))
    return sorted(found, key=sort_key)


def to_publish(
    asked: Iterable[Publish], exposed_ports: Iterable[str], *, everything: bool
) -> list[Publish]:
    """All that a container publishes: what ``-p`` asked for; with ``-P`` (everything) the exposed
    ports that it left out, on any port of the host.

    Args:
        exposed_ports: ``ContainerRecord.exposed_ports``.
    """
    result = list(asked)
    if everything:
        given = {(port.container, port.protocol) for port in result}
        result += [
            Publish(container=number, protocol=protocol)
            for number, protocol in map(sort_key, exposed_ports)
            if (number, protocol) not in given
        ]
    return result


def sort_key(port: str) -> tuple[int, str]:
    """Orders ports of a container by number, then protocol."""
    number, _, protocol = port.partition("/")
    return (int(number) if number.isascii() and number.isdigit() else LAST + 1, protocol)


def fits(port: str, wanted: str) -> bool:
    """Whether ``80/tcp`` is what a filter wants: ``PORT[-END][/PROTOCOL]``."""
    try:
        numbers, _, protocol = wanted.partition("/")
        first, last = _range(numbers, 1, "")
    except InvalidArgument:
        return False
    number, kind = sort_key(port)
    return first <= number <= last and (kind or "tcp") == (protocol.lower() or "tcp")


def joined(host: str, port: object) -> str:
    """``1.2.3.4:80``, ``[::]:80``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def by_container(
    exposed_ports: Iterable[str], bound: Iterable[BoundPort]
) -> dict[str, list[BoundPort]]:
    """``80/tcp`` -> the host's ports that lead there, none for one that is only exposed."""
    found: dict[str, list[BoundPort]] = {port: [] for port in exposed_ports}
    for port in bound:
        found.setdefault(f"{port.container}/{port.protocol}", []).append(port)
    return {
        key: sorted(found[key], key=lambda port: (port.host_ip, port.host))
        for key in sorted(found, key=sort_key)
    }


def displayed(ports: Mapping[str, list[BoundPort]]) -> str:
    """``0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 6379/tcp``: the PORTS of ``ps``.

    Ports that follow one another and are the same on the host are one entry, as in Docker:
    ``0.0.0.0:100-102->100-102/tcp``.
    """
    groups: dict[tuple[str, str], tuple[int, int]] = {}
    result: list[str] = []
    others: list[str] = []
    for number, address, host, protocol in sorted(_rows(ports)):
        if address and host != number:
            others.append(f"{joined(address, host)}->{number}/{protocol}")
            continue
        key = (address, protocol)
        first, last = groups.get(key, (number, number - 1))
        if last + 1 != number:
            result.append(_group(address, protocol, first, last))
            first = number
        groups[key] = (first, number)
    result += [_group(*key, *group) for key, group in groups.items()]
    return ", ".join(result + others)


def _rows(ports: Mapping[str, list[BoundPort]]) -> Iterable[tuple[int, str, int, str]]:
    for key, bound in ports.items():
        number, protocol = sort_key(key)
        if not bound:
            yield number, "", 0, protocol
        for port in bound:
            yield number, port.host_ip, port.host, protocol


def _group(address: str, protocol: str, first: int, last: int) -> str:
    text = str(first) if first == last else f"{first}-{last}"
    return f"{joined(address, text)}->{text}/{protocol}" if address else f"{text}/{protocol}"
