"""Data of networks: what is stored of a network, and what a running container has of it.

Addresses are text, without a prefix length unless a field says so.
"""

from __future__ import annotations

import msgspec

DEFAULT = "bridge"
BUILT_IN = ("bridge", "host", "none")
DRIVERS = ("bridge", "host", "macvlan", "none")


class Subnet(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One address range of a network.

    Attributes:
        subnet: ``172.18.0.0/16`` or ``fd12:3456::/64``.
        gateway: the bridge's address in it; ``""``: the first one.
        ip_range: dynamic addresses come from this part of it; ``""``: from all of it.
        reserved: addresses that are never given out, by a name (``--aux-address``).
    """

    subnet: str
    gateway: str = ""
    ip_range: str = ""
    reserved: dict[str, str] = {}


class Network(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A network (``networks/NAME.json``).

    Attributes:
        id: 64 hex digits.
        driver: one of ``DRIVERS``; ``none`` is shown as Docker's ``null``.
        device: the host's bridge, or the parent of a macvlan.
        options: of the driver, Docker's names (``com.docker.network.driver.mtu`` …).
        internal: no way out, and none in but through the host itself.
    """

    version: int = 1
    id: str
    name: str
    driver: str = "bridge"
    created: str = ""
    subnets: list[Subnet] = []
    internal: bool = False
    ipv6: bool = False
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    device: str = ""

    @property
    def is_user_defined(self) -> bool:
        """Whether its containers find one another by name."""
        return self.name not in BUILT_IN


class Attachment(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is asked of a container's place on one network: ``--network NAME,ip=…``.

    Attributes:
        network: its name (an id is resolved when the container is created).
        ip, ip6: fixed addresses, ``""``: any. mac: fixed, lower case with colons.
        aliases: further names there. links: ``CONTAINER[:ALIAS]``, names for this container only.
        priority: the gateway of the attachment with the highest is the container's.
    """

    network: str
    ip: str = ""
    ip6: str = ""
    mac: str = ""
    aliases: list[str] = []
    links: list[str] = []
    priority: int = 0


class Publish(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One published port: ``-p [HOST_IP:][HOST[-HOST_END]:]CONTAINER[/PROTOCOL]``.

    Attributes:
        host: 0: any free port of the host's ephemeral range.
        host_end: the last of a range to choose one from, 0: ``host`` alone. (A range to a range is
            one Publish for each container port.)
        host_ip: ``""``: all addresses, IPv4 and IPv6.
        protocol: ``tcp``, ``udp`` or ``sctp``.
    """

    container: int
    protocol: str = "tcp"
    host_ip: str = ""
    host: int = 0
    host_end: int = 0


class BoundPort(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A port of the host that is a container's: one for each address family.

    Attributes:
        host_ip: ``0.0.0.0`` or ``::`` for all addresses.
        twin: its socket is the one of the entry before it, which is of the other family.
    """

    host_ip: str
    host: int
    container: int
    protocol: str = "tcp"
    twin: bool = False


class Endpoint(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A running container's place on one network.

    Attributes:
        interface: in the container (``eth0``); host_interface: its other end on the host.
        prefix, prefix6: lengths of the subnets' prefixes. address6 … are ``""`` without IPv6.
        names: all names under which the network's DNS knows it.
    """

    id: str
    network: str
    network_id: str
    interface: str = ""
    host_interface: str = ""
    address: str = ""
    prefix: int = 0
    gateway: str = ""
    address6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    mac: str = ""
    aliases: list[str] = []
    names: list[str] = []

    @property
    def addresses(self) -> list[str]:
        """Those that it has."""
        return [address for address in (self.address, self.address6) if address]


class Networking(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a run of a container has of networks (``RUNTIME/ID/network.json``).

    Attributes:
        ports: published ones. publisher: id of the network over which they lead into the container.
        shared: another container has joined its network namespace.
    """

    version: int = 1
    run: int = 0
    endpoints: list[Endpoint] = []
    ports: list[BoundPort] = []
    publisher: str = ""
    shared: bool = False

    def endpoint(self, network_id: str) -> Endpoint | None:
        """Its place on a network."""
        return next((e for e in self.endpoints if e.network_id == network_id), None)


# msgspec analyses a type when it is first used, which two threads must not do at the same time.
msgspec.json.Decoder(Network)
