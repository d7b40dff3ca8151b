"""A container's networks, as its life cycle sees them; the parts are ``fastbox.network``'s."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from .. import tracing
from ..errors import Conflict, FastboxError, InvalidArgument, NotFound, StoreError
from ..locks import lock
from ..network import wishes
from ..network.types import Attachment, Networking
from . import names, process
from .files import Remembered, is_settled, stamp

if TYPE_CHECKING:
    from ..network.attach import Connection, Host, Wanted
    from ..network.store import NetworkStore
    from ..network.types import Network
    from .config import ContainerConfig
    from .record import Container, ContainerRecord
    from .store import ContainerStore

_SERVICE = "com.docker.compose.service"


def is_own(mode: str) -> bool:
    """Whether a container of that network mode has a network namespace of its own."""
    return mode != "host" and not mode.startswith(wishes.CONTAINER)


def joined_container(mode: str) -> str | None:
    """The container whose namespace a container of that mode joins."""
    return mode.removeprefix(wishes.CONTAINER) if mode.startswith(wishes.CONTAINER) else None


class ContainerNetworks:
    """The networks of one store's containers."""

    def __init__(self, store: ContainerStore, networks: NetworkStore) -> None:
        self.store = store
        self.networks = networks
        self._host: Host | None = None
        self._files: Remembered[bytes] = Remembered(lambda data, path: data)
        self._leases: dict[str, tuple[tuple[int, ...], set[str]]] = {}  # network -> stamp, ids

    @property
    def host(self) -> Host:
        """The host's side."""
        if self._host is None:
            from ..network import firewall
            from ..network.attach import Host

            self._host = Host(
                self.networks,
                firewall.table_name(self.store.root),
                stale=self._is_stale,
                running=self._running,
                holder_of=self._holder_of,
                settle=self._settle,
            )
        return self._host

    # creating -----------------------------------------------------------------------------------
    def resolve(self, config: ContainerConfig) -> list[Attachment]:
        """The networks that a container is to be on; ``config.network`` is made definite.

        Raises:
            NotFound: a network, or the container whose network it joins. InvalidArgument
        """
        mode = config.network
        other = joined_container(mode)
        if other is not None:
            config.network = wishes.CONTAINER + self.store.resolve(other)
            return []
        if mode in ("none", "host"):
            return []
        attachments = [self.resolve_one(attachment) for attachment in wishes.attachments(config)]
        chosen = [attachment.network for attachment in attachments]
        for name in chosen:
            if chosen.count(name) > 1:
                raise InvalidArgument(f'network "{name}" is specified multiple times')
        config.network = chosen[0]
        return attachments

    def resolve_one(self, attachment: Attachment) -> Attachment:
        """A wish with names in place of ids.

        Raises:
            NotFound, InvalidArgument
        """
        attachment = wishes.settled(attachment)  # a program's, too
        network = self.networks.resolve(attachment.network)
        if network.driver not in ("bridge", "macvlan"):
            raise InvalidArgument(
                "conflicting options: cannot attach both user-defined and non-user-defined "
                "network-modes"
            )
        links = [self._resolved_link(link) for link in attachment.links]
        return msgspec.structs.replace(attachment, network=network.name, links=links)

    def _resolved_link(self, link: str) -> str:
        """``CONTAINER[:ALIAS]`` with the container's name."""
        target, _, alias = link.partition(":")
        try:
            record = self.store.load_record(self.store.resolve(target))
        except NotFound as error:
            raise NotFound(f"could not get container for {target}: {error.message}") from error
        return f"{record.name}:{alias or target.removeprefix('/')}"

    # starting -----------------------------------------------------------------------------------
    @tracing.traced("network")
    def connect(
        self, record: ContainerRecord, undo: contextlib.ExitStack, *, unseen: bool = False
    ) -> Connection | None:
        """Take what a start needs of its networks; None: it has none of its own.

        Args:
            unseen: nobody is told yet, see ``tell_connected``.

        Raises:
            FastboxError
        """
        if not record.networks:
            return None
        try:
            wanted = self.wanted(record)
            if unseen:
                wanted = msgspec.structs.replace(wanted, unseen=True)
            return self.host.attach(wanted, undo)
        except FastboxError as error:
            error.message = f"failed to set up container networking: {error.message}"
            raise

    def tell_connected(self, record: ContainerRecord) -> None:
        """The events that an unseen ``connect`` has left out."""
        if not record.networks:
            return
        from ..network import attach

        networking = attach.load(self.store.runtime_directory(record.id))
        for place in networking.endpoints:
            about = self.host.about(record.id, place)
            self.store.journal.emit("network", "connect", place.network_id, about)

    def wanted(self, record: ContainerRecord) -> Wanted:
        """What is asked of the next run's networks."""
        from ..network.attach import Wanted

        config = record.config
        more = [config.hostname] if config.hostname else []
        if service := config.labels.get(_SERVICE):  # the user's, never an image's
            more.append(service)
        return Wanted(
            id=record.id,
            name=record.name,
            run=self.store.last_run(record.id) + 1,
            names=[record.name, record.id[:12], *more],
            attachments=record.networks,
            publish=config.publish,
            publish_all=config.publish_all,
            exposed=record.exposed_ports,
            dns=config.dns,
            directory=self.store.runtime_directory(record.id),
        )

    def joined_namespace(self, record: ContainerRecord, undo: contextlib.ExitStack) -> int | None:
        """Descriptor of the network namespace that a container joins; None: it does not.

        Raises:
            Conflict: the other one does not run.
        """
        other = joined_container(record.config.network)
        if other is None:
            return None
        try:
            target = self.store.load(other)
        except NotFound as error:
            raise NotFound(
                f"joining network of {wishes.CONTAINER}{other[:12]}: {error.message}"
            ) from error
        state = target.state
        refusal = Conflict(
            f"cannot join network of a non running container: {other}",
            hint=f"`fastbox start {target.name}` first",
        )
        if not state.status.is_up:
            raise refusal
        try:
            fd = os.open(f"/proc/{state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise refusal from error
        undo.callback(os.close, fd)
        # First told, then looked: its monitor reads what we told after init's end.
        if not self._share(other) or not process.is_alive(state.pid, state.pid_starttime):
            raise refusal
        return fd

    def _share(self, container_id: str) -> bool:
        """A namespace that others are in does not go with its container: its links must. False: it
        has just ended."""
        from ..network import attach, release

        directory = self.store.runtime_directory(container_id)
        networking = attach.load(directory)
        if networking.shared or not networking.endpoints:
            return True
        networking.shared = True
        links = [
            release.link(place.host_interface)
            for place in networking.endpoints
            if place.host_interface
        ]
        try:
            release.append(directory, links)
        except FileNotFoundError:
            return False
        attach.save(directory, networking)
        return True

    # looking ------------------------------------------------------------------------------------
    def of(self, container: Container) -> Networking:
        """What its current run has; empty when it does not run."""
        if not container.state.status.is_up:
            return Networking()
        data = self._files.get(f"{self.store.runtime}/{container.id}/network.json")
        if data is None:
            return Networking()
        from ..network import attach

        networking = attach.parse(data)
        return networking if networking.run == container.state.run else Networking()

    def shown(self, container: Container) -> Networking | None:
        """The same for ``Container.networking``: None while it does not run."""
        return self.of(container) if container.state.status.is_up else None

    def _all_running(self) -> Iterator[tuple[Container, Networking]]:
        for container_id in self.store.ids():
            if not os.path.exists(f"{self.store.runtime_directory(container_id)}/network.json"):
                continue
            with contextlib.suppress(FastboxError):
                container = self.store.load(container_id)
                if container.state.status.is_up:
                    yield container, self.of(container)

    def up(self) -> set[str]:
        """Ids of the running containers that have networks."""
        return {container.id for container, _ in self._all_running()}

    def on_network(self, network_id: str) -> Iterator[tuple[Container, Networking]]:
        """The running containers on a network."""
        for container, networking in self._all_running():
            if networking.endpoint(network_id) is not None:
                yield container, networking

    def _running(self) -> Iterator[Networking]:
        for _, networking in self._all_running():
            yield networking

    def _holder_of(self, protocol: str, port: int) -> str | None:
        for container, networking in self._all_running():
            if any(p.protocol == protocol and p.host == port for p in networking.ports):
                return container.name
        return None

    # changing -----------------------------------------------------------------------------------
    def users(self, network: Network) -> list[str]:
        """Ids of the running containers on a network."""
        return [container.id for container, _ in self.on_network(network.id)]

    def _holders(self, network: Network) -> list[str]:
        """Those that have an address of it, in Docker's words: also one that is being started."""
        from ..network import leases

        found = set()
        for address, holder in leases.holders(self.store.runtime, network.id).items():
            container_id, _, name = holder.partition("/")
            if not self._is_stray(container_id, network, address):
                found.add((container_id, name))
        return [f'name:"{name}" id:"{container_id[:12]}"' for container_id, name in sorted(found)]

    def _is_stray(self, container_id: str, network: Network, address: str) -> bool:
        """Whether an address is one that a killed ``connect`` took; it is given back then."""
        with contextlib.suppress(BlockingIOError, FileNotFoundError, NotFound, StoreError):
            with lock(self.store.directory(container_id), blocking=False):
                container = self.store.load(container_id)
                if container.state.status.is_up:
                    return address in self.free_strays(container, network)
        return False

    def free_strays(self, container: Container, network: Network) -> list[str]:
        """Give back what a killed ``connect`` of a running container took of a network: addresses,
        and the names that it gave them.

        Args:
            container: its lock is held.

        Returns:
            The addresses.
        """
        from ..network import leases
        from ..network import names as network_names

        place = self.of(container).endpoint(network.id)
        kept = place.addresses if place is not None else []
        strays = []
        for address, holder in leases.holders(self.store.runtime, network.id).items():
            if holder.startswith(f"{container.id}/") and address not in kept:
                network_names.forget(f"{self.store.runtime}/networks", network.id, address)
                leases.free(self.store.runtime, network.id, address, holder)
                strays.append(address)
        return strays

    def remove(self, name_or_id: str) -> Network:
        """Remove a network; see ``NetworkStore.remove``."""
        return self.networks.remove(name_or_id, in_use=self._holders, undo=self._take_down)

    def prune(self, filters: dict[str, list[str]] | None) -> list[str]:
        """Remove unused networks; see ``NetworkStore.prune``."""
        return self.networks.prune(filters=filters, in_use=self._holders, undo=self._take_down)

    def _take_down(self, network: Network) -> None:
        from ..network import ground

        ground.take_down(self.host.table, network)

    def guard(self) -> bool:
        """Load the packet filter's rules again if somebody flushed them; whether that was so.

        Raises:
            FastboxError
        """
        from ..network import ground

        return ground.guard(self.networks, self.host.table, self._running)

    def obstacles(self) -> list[str]:
        """What of the host keeps containers' packets from being forwarded, a line each."""
        from ..network import device, obstacles

        devices = [network.device for network in self.networks.list() if network.driver == "bridge"]
        there = [name for name in devices if device.bridge_index(name) is not None]
        return obstacles.find(there, self.host.table)

    # cleaning -----------------------------------------------------------------------------------
    def _is_stale(self, holder: str) -> bool:
        """Whether a lease's holder is gone; what else it had is given back then."""
        container_id = holder.partition("/")[0]
        return names.is_id(container_id) and self.give_back(container_id)

    def give_back(self, container_id: str) -> bool:
        """Do what a killed monitor did not; False: the container runs, or is being started."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(lock(self.store.directory(container_id), blocking=False))
            except FileNotFoundError:
                pass  # there is no such container any more
            except BlockingIOError:
                return False
            if self._runs(container_id):
                return False
            self.host.finish(self.store.runtime_directory(container_id))
        return True

    def _runs(self, container_id: str) -> bool:
        try:
            return self.store.state(self.store.load_record(container_id)).status.is_up
        except NotFound:
            return False
        except StoreError:  # it is damaged: its addresses are its own while its init lives
            try:
                return process.is_alive(*self.store.init(container_id))
            except StoreError:
                return True  # a newer fastbox's

    def owes(self, container_id: str) -> bool:
        """Whether something of a run is still to be given back."""
        return os.path.exists(f"{self.store.runtime_directory(container_id)}/release")

    def finish(self, container_id: str) -> None:
        """``give_back``, by who holds the container's lock and knows that it does not run."""
        if self.owes(container_id):
            self.host.finish(self.store.runtime_directory(container_id))

    def _settle(self) -> None:
        for container_id in self.store.ids():
            if self.owes(container_id):
                self.give_back(container_id)

    def look_at(self, boxes: list[Container]) -> None:
        """Set ``networking`` of every container that there is, and ``sweep``."""
        links = self._links()
        up = {box.id for box in boxes if box.state.status.is_up}
        for box in boxes:
            box.networking = self.shown(box)
            if box.networking is not None and links:
                links.difference_update(place.host_interface for place in box.networking.endpoints)
        self._sweep_addresses(up)
        if links:
            self._sweep_links(links)

    def sweep(self, up: set[str]) -> None:
        """Give back what killed processes have left: addresses whose holder is gone, links whose
        namespace somebody keeps.

        Args:
            up: ids of containers that run.
        """
        self._sweep_addresses(up)
        self._sweep_links(self._links())

    def _sweep_addresses(self, up: set[str]) -> None:
        base = f"{self.store.runtime}/networks"
        for network_id in _ids_in(base):
            with contextlib.suppress(OSError):
                if not self._lease_holders(network_id) <= up:
                    from ..network import leases

                    leases.free_stale(self.store.runtime, network_id, up, self._is_stale)
        with contextlib.suppress(FileNotFoundError):
            for container_id in os.listdir(f"{base}/boxes"):
                if container_id not in up and names.is_id(container_id):
                    self.give_back(container_id)

    def _lease_holders(self, network_id: str) -> set[str]:
        """Ids of the containers that have an address of a network. Each change of a lease is one
        of its directory, whose stamp tells whether they are the same as before.

        Raises:
            FileNotFoundError: nobody ever had one.
        """
        from ..network import leases

        found = os.stat(leases.directory(self.store.runtime, network_id))
        known = self._leases.get(network_id)
        if known is not None and known[0] == stamp(found):
            return known[1]
        holders = leases.holders(self.store.runtime, network_id).values()
        ids = {holder.partition("/")[0] for holder in holders}
        if is_settled(found):
            if len(self._leases) >= Remembered.MOST:
                self._leases = {}
            self._leases[network_id] = stamp(found), ids
        return ids

    def _links(self) -> set[str]:
        """The host's ends of this store's links. To be asked before those are read that tell them:
        what is made meanwhile is not found, and what is found has been told before."""
        from ..network import options

        prefix = options.link_prefix(self.store.root)
        return {name for name in _interfaces() if name.startswith(prefix)}

    def _sweep_links(self, found: set[str]) -> None:
        """Delete those of ``_links`` that no container has."""
        if not found:
            return
        from ..network import attach, messages

        for container_id in self.store.ids():
            networking = attach.load(self.store.runtime_directory(container_id))
            found -= {place.host_interface for place in networking.endpoints}
        for name in found:
            with contextlib.suppress(OSError):
                with messages.open_socket(messages.NETLINK_ROUTE) as netlink:
                    messages.send(netlink, messages.delete_link(name))

    def rename(self, record: ContainerRecord) -> None:
        """A running container has another name: its networks know it by that from now on."""
        from ..network import attach, leases, release
        from ..network import names as network_names

        directory = self.store.runtime_directory(record.id)
        networking = attach.load(directory)
        if not networking.endpoints:
            return
        host = self.host

        def tell() -> list[str]:
            lines = host.lines_of(record.id, networking)
            with contextlib.suppress(FileNotFoundError):  # --rm: it is gone
                release.write(directory, lines)
                attach.save(directory, networking)
            return lines

        known = self.wanted(record).names
        new = [network_names.usable([*known, *place.aliases]) for place in networking.endpoints]
        # First what undoes all of them: this process may be killed.
        for place, its in zip(networking.endpoints, new, strict=True):
            place.names = network_names.usable([*place.names, *its])
        every = tell()
        for place, its in zip(networking.endpoints, new, strict=True):
            gone = network_names.lines_of(place, record.id)
            place.names = its
            network_names.add(host.networks, place, record.id)
            kept = set(network_names.lines_of(place, record.id))
            release.run(host.networks, [line for line in gone if line not in kept])
            for address in place.addresses:
                leases.rename(
                    self.store.runtime, place.network_id, address, f"{record.id}/{record.name}"
                )
        tell()
        if not process.is_alive(*self.store.init(record.id)):  # and its monitor has seen the old
            host.finish(directory, every)


def _interfaces() -> Iterator[str]:
    """Names of the interfaces. A dump by netlink, which if_nameindex is, costs five times as
    much."""
    try:
        with open("/proc/thread-self/net/dev", encoding="ascii", errors="replace") as file:
            for line in file:
                yield line.partition(":")[0].lstrip(" ")
    except OSError:
        import _socket as socket

        yield from (name for _, name in socket.if_nameindex())


def _ids_in(base: str) -> list[str]:
    try:
        return [name for name in os.listdir(base) if names.is_id(name)]
    except FileNotFoundError:
        return []
