"""A start's networks: everything that must be taken and prepared before the container is launched.

Nothing here enters the container: the messages that make its links are part of its launch plan.
Whatever is taken is given back by ``undo`` when the start fails, by the monitor at the end of the
run, or, where that was killed, by the next command (``release``).
"""

from __future__ import annotations

import _socket as socket  # the module over it costs milliseconds
import contextlib
import errno
import functools
import io
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from .. import atomic
from ..errors import Conflict
from . import binding, conntrack, endpoint, ground, messages, names, options, ports, release
from .types import Attachment, Endpoint, Network, Networking, Publish

if TYPE_CHECKING:
    from .store import NetworkStore

STATE = "network.json"


class Wanted(msgspec.Struct, kw_only=True):
    """A container that is to be started.

    Attributes:
        names: under which it is known on each of its networks, besides the aliases there.
        exposed: ``PORT/PROTOCOL``, published too when publish_all.
        dns: name servers, instead of the host's.
        directory: its runtime directory. unseen: no event is told of it yet.
    """

    id: str
    name: str
    run: int
    names: list[str]
    attachments: list[Attachment]
    publish: list[Publish] = []
    publish_all: bool = False
    exposed: list[str] = []
    dns: list[str] = []
    directory: str
    unseen: bool = False


class Connection(msgspec.Struct):
    """What a start has got.

    Attributes:
        sockets: of published ports, for the monitor.
        netfilter: an nfnetlink socket, likewise: the close of its last descriptor waits for an RCU
            grace period (10 ms) while anybody's elements are being deleted.
        announced: its neighbours are to learn its MAC.
    """

    networking: Networking
    messages: list[endpoint.Messages]
    sockets: list[socket.socket | io.FileIO]
    netfilter: socket.socket | None = None
    announced: bool = False

    @property
    def kept(self) -> list[socket.socket | io.FileIO]:
        """Descriptors to close once the monitor has its own."""
        return [*self.sockets, *([self.netfilter] if self.netfilter is not None else [])]

    @property
    def netfilter_fd(self) -> int:
        """-1: none."""
        return -1 if self.netfilter is None else self.netfilter.fileno()


Joined = tuple[Network, Attachment, Endpoint]


class Host:
    """The host's side of a store's networks.

    Args:
        store: the networks. table: of the firewall.
        stale: whether a lease's holder (``ID/NAME``) is gone.
        running: the networks of all containers that run, to restore rules that were flushed.
        holder_of: name of the container that has a port (protocol, number), or None.
        settle: gives back what all containers owe that do not run.
    """

    def __init__(
        self,
        store: NetworkStore,
        table: str,
        *,
        stale: Callable[[str], bool],
        running: Callable[[], Iterable[Networking]],
        holder_of: Callable[[str, int], str | None],
        settle: Callable[[], None],
    ) -> None:
        self.store = store
        self.table = table
        self.networks = store.runtime
        self.runtime = os.path.dirname(store.runtime)
        self.prefix = options.link_prefix(store.root)
        self.stale = stale
        self.running = running
        self.holder_of = holder_of
        self.settle = settle

    # starting -----------------------------------------------------------------------------------
    def attach(self, wanted: Wanted, undo: contextlib.ExitStack) -> Connection:
        """Take what a start needs.

        Raises:
            NotFound: a network. Conflict: an address or a port is in use. Unsupported, FastboxError
        """
        names.make_directories(self.networks)
        self.finish(wanted.directory)  # of a run whose monitor was killed
        joined = [
            self.join(wanted, attachment, f"eth{number}", undo)
            for number, attachment in enumerate(wanted.attachments)
        ]
        gateway = endpoint.gateway_of(joined)
        publisher = publisher_of(joined, gateway)
        netfilter = self.prepare([network for network, _, _ in joined])
        if netfilter is not None:
            undo.callback(netfilter.close)
        networking = Networking(run=wanted.run, endpoints=[place for _, _, place in joined])
        reserved = self._reserve(wanted, publisher, undo)
        networking.ports = [port for item in reserved for port in item.bound]
        networking.publisher = publisher[0].id if publisher is not None else ""
        # What undoes it is written first: this process may be killed at any time.
        lines = self.lines_of(wanted.id, networking)
        release.write(wanted.directory, lines)
        undo.callback(_forget, wanted.directory)
        undo.callback(release.run, self.networks, lines)
        for place in networking.endpoints:
            names.add(self.networks, place, wanted.id)
        self.configure_names(wanted, joined)
        to = publisher[2] if publisher is not None else None
        names.write_ports(self.networks, wanted.id, binding.relay_lines(networking.ports, to))
        self._open_ports(wanted, networking, netfilter)
        save(wanted.directory, networking)
        for place in networking.endpoints if not wanted.unseen else []:
            about = self.about(wanted.id, place)
            self.store.journal.emit("network", "connect", place.network_id, about)
            undo.callback(self.store.journal.emit, "network", "disconnect", place.network_id, about)
        made = [
            message
            for network, _, place in joined
            for message in endpoint.messages_of(network, place, is_gateway=place is gateway)
        ]
        sockets = [s for item in reserved for s in item.sockets]
        announced = [
            endpoint.is_announced(self.networks, network, attachment, place)
            for network, attachment, place in joined
        ]
        return Connection(networking, made, sockets, netfilter, any(announced))

    def finish(self, directory: str, more: Sequence[str] = ()) -> None:
        """Give back what a killed monitor, or a killed start, has left in a runtime directory.

        Args:
            more: lines to undo besides, that the monitor may not have read before it ended.
        """
        deleted = release.finish(self.networks, directory)
        release.run(self.networks, more)
        names.remove_files(self.networks, os.path.basename(directory))
        if deleted or any(line.startswith("n ") for line in more):
            entries = [
                entry for networking in self.running() for entry in binding.entries_of(networking)
            ]
            with contextlib.suppress(OSError):
                self.add_elements(entries)

    def join(
        self, wanted: Wanted, attachment: Attachment, interface: str, undo: contextlib.ExitStack
    ) -> Joined:
        """Take a place on a network."""

        def is_stale(holder: str) -> bool:
            return holder.startswith(wanted.id) or self.stale(holder)

        with self.store.lock(shared=True):  # no removal between finding it and the lease
            network = self.store.get(attachment.network)
            endpoint.check_driver(network)
            holder = f"{wanted.id}/{wanted.name}"
            place = endpoint.lease(
                self.runtime, network, attachment, holder, interface, self.prefix, undo, is_stale
            )
        place.names = names.usable([*wanted.names, *place.aliases])
        return network, attachment, place

    def lines_of(self, container_id: str, networking: Networking) -> list[str]:
        """What gives back all that a run has, see ``release``: ports before addresses, which are
        somebody else's from then on."""
        lines = [
            release.batch(data)
            for data in self._batches(binding.entries_of(networking), delete=True)
        ]
        for place in networking.endpoints:
            if networking.shared and place.host_interface:
                lines.append(release.link(place.host_interface))
            lines += names.lines_of(place, container_id)
            lines += endpoint.lease_lines(place, container_id)
            lines.append(f"e {self._event('disconnect', container_id, place)}")
        return [*lines, *names.files_of(container_id)]

    def _event(self, action: str, container_id: str, place: Endpoint) -> str:
        """An event as the journal has it, without its time."""
        event = {
            "Type": "network",
            "Action": action,
            "Actor": {"ID": place.network_id, "Attributes": self.about(container_id, place)},
        }
        return msgspec.json.encode(event).decode()[:-1]

    def about(self, container_id: str, place: Endpoint) -> dict[str, str]:
        """The attributes of events about an endpoint."""
        kind = "bridge" if place.host_interface else "macvlan"
        return {"container": container_id, "name": place.network, "type": kind}

    def prepare(self, networks: Sequence[Network]) -> socket.socket | None:
        """See that bridges and rules are there; the nfnetlink socket that has asked, if any."""
        return ground.prepare(self.store, self.table, networks, self.running)

    # ports --------------------------------------------------------------------------------------
    def _reserve(
        self, wanted: Wanted, publisher: Joined | None, undo: contextlib.ExitStack
    ) -> list[binding.Reserved]:
        asked = ports.to_publish(wanted.publish, wanted.exposed, everything=wanted.publish_all)
        if not asked or publisher is None:
            return []
        network, _, place = publisher
        try:
            return binding.reserve(
                asked, undo, f"{self.networks}/claims", options.host_binding(network)
            )
        except Conflict as error:
            raise self._explained(error, asked, wanted, place) from error

    def _explained(
        self, error: Conflict, asked: list[Publish], wanted: Wanted, place: Endpoint
    ) -> Conflict:
        """Whose the port is, if it is a container's; Docker's words."""
        message, hint = error.message, error.hint
        for item in asked:
            where = f"{item.host_ip or '0.0.0.0'}:{item.host}"
            if item.host and where in message.replace("[", "").replace("]", ""):
                holder = self.holder_of(item.protocol, item.host)
                if holder is not None:
                    message = f"Bind for {where} failed: port is already allocated"
                    hint = f"container {holder} has it"
                    break
        return Conflict(_failed_ports(wanted.name, place, message), hint=hint)

    def _open_ports(
        self, wanted: Wanted, networking: Networking, netfilter: socket.socket | None
    ) -> None:
        entries = binding.entries_of(networking)
        if not entries:
            return
        try:
            self.add_elements(entries, netfilter)
            conntrack.forget({port.host for port in networking.ports if port.protocol == "udp"})
        except OSError as error:
            why = f"publishing its ports: {(error.strerror or '').lower()}"
            if error.errno in (errno.EBUSY, errno.EEXIST):
                why = "port is already allocated"
            place = networking.endpoint(networking.publisher)
            raise Conflict(_failed_ports(wanted.name, place, why)) from error

    def _batches(self, entries: Sequence[tuple[str, bytes, bytes]], *, delete: bool) -> list[bytes]:
        return messages.elements(self.table, entries, delete=delete)

    def add_elements(
        self, entries: Sequence[tuple[str, bytes, bytes]], netfilter: socket.socket | None = None
    ) -> None:
        """Let published ports lead to a container. An element that is in the way is of a container
        whose monitor was killed: the host's port is ours. What that one owes is given back then,
        so that nobody deletes ours in its name.

        Args:
            netfilter: an nfnetlink socket to use; after a failure it may hold unread answers.

        Raises:
            OSError
        """
        for attempt in range(2):
            try:
                with contextlib.ExitStack() as own:
                    if netfilter is None or attempt:
                        netfilter = own.enter_context(
                            messages.open_socket(messages.NETLINK_NETFILTER)
                        )
                    for data in self._batches(entries, delete=False):
                        messages.send(netfilter, data)
                return
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EEXIST) or attempt:
                    raise
            self.settle()
            for entry in entries:
                self.delete_elements([entry])

    def delete_elements(self, entries: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Take them back; what is gone is passed over."""
        release.run(self.networks, map(release.batch, self._batches(entries, delete=True)))

    # names --------------------------------------------------------------------------------------
    def configure_names(self, wanted: Wanted, joined: Sequence[Joined]) -> None:
        """Tell its name server what it may answer."""
        aliases = []
        for network, attachment, _ in joined:
            for link in attachment.links:
                target, _, alias = link.partition(":")
                for name in names.usable([alias or target]):
                    aliases.append((name, target.lower(), network.id))
        known = [(network.id, network.name) for network, _, _ in joined if network.is_user_defined]
        names.write_configuration(
            self.networks,
            wanted.id,
            known=known,
            aliases=aliases,
            internal=all(network.internal for network, _, _ in joined),
            servers=wanted.dns,
        )


def publisher_of(joined: Sequence[Joined], gateway: Endpoint | None) -> Joined | None:
    """The place on a bridge to which published ports lead."""
    bridges = [item for item in joined if item[0].driver == "bridge" and not item[0].internal]
    return next((item for item in bridges if item[2] is gateway), bridges[0] if bridges else None)


def _failed_ports(name: str, place: Endpoint | None, why: str) -> str:
    endpoint_id = f" ({place.id})" if place is not None else ""
    return f"driver failed programming external connectivity on endpoint {name}{endpoint_id}: {why}"


def _forget(directory: str) -> None:
    for name in (STATE, "release"):
        with contextlib.suppress(OSError):
            os.unlink(f"{directory}/{name}")


def save(directory: str, networking: Networking) -> None:
    """Store what a run has of networks."""
    atomic.write(f"{directory}/{STATE}", msgspec.json.encode(networking), sync=False)


@functools.cache
def _decoder() -> msgspec.json.Decoder[Networking]:
    """Made when it is needed: not by a start."""
    return msgspec.json.Decoder(Networking)


def load(directory: str) -> Networking:
    """What the last run has, or had, of networks; empty: nothing."""
    try:
        with open(f"{directory}/{STATE}", "rb") as file:
            return parse(file.read())
    except FileNotFoundError:
        return Networking()


def parse(data: bytes) -> Networking:
    """The content of a ``network.json``; a damaged one is empty."""
    try:
        return _decoder().decode(data)
    except msgspec.DecodeError:
        return Networking()
