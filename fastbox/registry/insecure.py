"""The registries that the user excepts from verified TLS (``insecure-registries``)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import dial as dialing
from . import hosts

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network


class Insecure:
    """Decides for which hosts certificates do not count and plain HTTP will do.

    Docker's rules: a name with its port has to be listed as it is written in references; a network
    (CIDR) holds for every host with an address in it. Docker Hub is never among them.

    Args:
        entries: as ``Configuration.insecure_registries`` has them.
        check: called while a name is looked up; what it raises ends that.
    """

    def __init__(self, entries: list[str], check: Callable[[], None] = lambda: None) -> None:
        self._names = {entry for entry in entries if "/" not in entry}
        self._cidrs = [entry for entry in entries if "/" in entry]
        self._check = check
        self._parsed: list[IPv4Network | IPv6Network] | None = None
        self._inside: dict[str, bool] = {}

    def has_name(self, origin: hosts.Origin) -> bool:
        """Whether the host is listed itself."""
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        if not self._names or hosts.is_docker_hub(origin.host):
            return False
        return str(origin) in self._names or f"{host}:{origin.port}" in self._names

    def has_address(self, origin: hosts.Origin) -> bool:
        """Whether an address of the host is in a listed network. May look the name up."""
        if not self._cidrs or hosts.is_docker_hub(origin.host):
            return False
        found = self._inside.get(origin.host)
        if found is None:
            found = self._inside[origin.host] = self._look_up(origin)
        return found

    def covers(self, origin: hosts.Origin) -> bool:
        """Whether the host is excepted for one reason or the other."""
        return self.has_name(origin) or self.has_address(origin)

    def holds(self, address: str) -> bool:
        """Whether an address (textual) is in a listed network."""
        import ipaddress

        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(found in network for network in self._networks())

    def _look_up(self, origin: hosts.Origin) -> bool:
        try:
            addresses = dialing.resolve(origin.host, origin.port, self._check)
        except socket.gaierror:
            return False
        return any(self.holds(address[0]) for _, address in addresses)

    def _networks(self) -> list[IPv4Network | IPv6Network]:
        import ipaddress

        if self._parsed is None:
            self._parsed = [ipaddress.ip_network(cidr) for cidr in self._cidrs]
        return self._parsed
