"""The verbs of networks: a part of Engine, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .container.lifecycle import Lifecycle
    from .container.networking import ContainerNetworks
    from .container.record import Container
    from .network.store import NetworkStore
    from .network.types import Endpoint, Network, Networking, Subnet


class NetworkVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:
        runtime_dir: str
        warn: Callable[[str], None] | None

        @property
        def _networks(self) -> NetworkStore: ...
        @property
        def _container_networks(self) -> ContainerNetworks: ...
        @property
        def _lifecycle(self) -> Lifecycle: ...

        def container(self, name_or_id: str, *, size: bool = False) -> Container: ...

    def networks(self, *, filters: dict[str, list[str]] | None = None) -> list[Network]:
        """The networks by name, the built-in ones among them. Of damaged ones ``warn`` is told.

        Args:
            filters: ``dangling``, ``driver``, ``id``, ``label``, ``name``, ``scope``, ``type``.

        Raises:
            InvalidArgument: an unknown filter.
        """
        self._container_networks.sweep(self._container_networks.up())
        if self.warn is not None:
            for text in self._networks.damaged():
                self.warn(text)
        return self._networks.list(filters=filters, in_use=self._container_networks.users)

    def network(self, name_or_id: str) -> Network:
        """One network by name, id or unique id prefix.

        Raises:
            NotFound, Ambiguous, StoreError
        """
        return self._networks.resolve(name_or_id)

    def create_network(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnets: Sequence[Subnet] = (),
        internal: bool = False,
        ipv6: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a network; its device appears when the first container is on it.

        Args:
            driver: ``"bridge"`` or ``"macvlan"``.
            subnets: at most one of each family; an IPv4 one is chosen where none is given.
            ipv6: choose an IPv6 one too (RFC 4193), where none is given.
            options: of the driver, by Docker's names (``com.docker.network.driver.mtu`` …).

        Raises:
            InvalidArgument, Conflict, Unsupported, StoreError
        """
        return self._networks.create(
            name,
            driver=driver,
            subnets=subnets,
            internal=internal,
            ipv6=ipv6,
            labels=labels,
            driver_options=options,
            made=_check_ground,
        )

    def remove_network(self, name_or_id: str) -> Network:
        """Remove a network, and its bridge.

        Raises:
            NotFound, Ambiguous; Conflict: a container is on it, or it is a built-in one.
        """
        self._container_networks.sweep(self._container_networks.up())
        return self._container_networks.remove(name_or_id)

    def prune_networks(self, *, filters: dict[str, list[str]] | None = None) -> list[str]:
        """Remove all networks that no running container is on; their names.

        Args:
            filters: ``label``, ``label!``, ``until``.
        """
        from .pruning import pruning

        self._container_networks.sweep(self._container_networks.up())
        with pruning(self.runtime_dir, self._networks.journal, "network"):
            return self._container_networks.prune(filters)

    def connect_network(
        self,
        network: str,
        container: str,
        *,
        ip: str = "",
        ip6: str = "",
        mac: str = "",
        aliases: Sequence[str] = (),
        links: Sequence[str] = (),
        priority: int = 0,
    ) -> None:
        """Put a container on a network, at once when it runs.

        Args:
            See ``fastbox.network.types.Attachment``.

        Raises:
            NotFound, Ambiguous, InvalidArgument; Conflict: it is on it already, or an address is in
            use.
        """
        from .network.types import Attachment

        wish = Attachment(
            network=self.network(network).name,
            ip=ip,
            ip6=ip6,
            mac=mac,
            aliases=list(aliases),
            links=list(links),
            priority=priority,
        )
        self._lifecycle.connect_network(self.container(container).id, wish)

    def disconnect_network(self, network: str, container: str, *, force: bool = False) -> None:
        """Take a container off a network.

        Args:
            force: also a network that does not exist any more.

        Raises:
            NotFound, Ambiguous; Conflict: it is not on it.
        """
        from .errors import NotFound

        box = self.container(container)
        try:
            name = self.network(network).name
        except NotFound:
            if not force:
                raise
            name = network
        self._lifecycle.disconnect_network(box.id, name)

    def network_containers(self, network: Network) -> list[tuple[Container, Endpoint]]:
        """The running containers on a network, and where they are there."""
        found = []
        for container, networking in self._container_networks.on_network(network.id):
            endpoint = networking.endpoint(network.id)
            if endpoint is not None:
                found.append((container, endpoint))
        return found

    def inspect_network(self, name_or_id: str) -> dict[str, Any]:
        """Docker's JSON of a network."""
        from .network.inspect import inspect_network

        network = self.network(name_or_id)
        return inspect_network(
            network,
            [(box.id, box.name, place) for box, place in self.network_containers(network)],
        )

    def network_obstacles(self) -> list[str]:
        """What of the host keeps containers' packets from being forwarded, and how to allow it; a
        line each."""
        return self._container_networks.obstacles()

    def networking(self, container: Container) -> Networking:
        """What the current run of a container has of networks; empty when it does not run."""
        return self._container_networks.of(container)


def _check_ground(network: Network) -> None:
    """Raise InvalidArgument for the parent of a macvlan that the host does not have."""
    if network.driver == "macvlan":
        from .network import device

        device.check_parent(network)
