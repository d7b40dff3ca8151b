"""``network connect`` and ``disconnect``: a container's networks change, also while it runs. A part
of Lifecycle."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import Conflict, FastboxError, LaunchError, NotRunning
from ..network.types import Attachment, Endpoint, Network, Networking
from . import etc_files, networking, process
from .record import Container, ContainerRecord
from .store import storing

if TYPE_CHECKING:
    from ..network.attach import Joined
    from ..network.endpoint import Messages
    from .networking import ContainerNetworks
    from .store import ContainerStore

_CLONE_NEWNET = 0x40000000
_DISABLE_IPV6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6"  # of the thread's own namespace
_ARP_NOTIFY = "/proc/sys/net/ipv4/conf/default/arp_notify"


class Connecting:
    """See ``Lifecycle``, which is one."""

    if TYPE_CHECKING:
        store: ContainerStore
        networks: ContainerNetworks

    def connect_network(self, container_id: str, wish: Attachment) -> None:
        """Put a container on a network.

        Raises:
            NotFound; Conflict: it is on it, or cannot be. InvalidArgument
        """
        with self.store.locked(container_id):
            container = self.store.load(container_id)
            record = container.record
            self._check_connectable(record)
            attachment = self.networks.resolve_one(wish)
            if any(a.network == attachment.network for a in record.networks):
                raise Conflict(
                    f"endpoint with name {record.name} already exists in network "
                    f"{attachment.network}"
                )
            network = self.networks.networks.get(attachment.network)
            with storing(f"connecting container {record.name} to network {network.name}"):
                with contextlib.ExitStack() as undo:
                    if container.state.status.is_up:
                        self._connect_running(container, attachment, undo)
                    record.networks.append(attachment)
                    self.store.save_record(record, sync=not record.config.auto_remove)
                    undo.pop_all()
            self._note_network("connect", network, record)

    def _check_connectable(self, record: ContainerRecord) -> None:
        mode = record.config.network
        if not networking.is_own(mode):
            raise Conflict(
                "container sharing network namespace with another container or host cannot be "
                "connected to any other network"
            )
        if mode == "none":
            raise Conflict(
                "container cannot be connected to multiple networks with one of the networks in "
                "private (none) mode",
                hint="create it with --network and the network's name",
            )

    def _note_network(self, action: str, network: Network, record: ContainerRecord) -> None:
        about = {"container": record.id, "name": network.name, "type": network.driver}
        self.store.journal.emit("network", action, network.id, about)

    def _connect_running(
        self, container: Container, attachment: Attachment, undo: contextlib.ExitStack
    ) -> None:
        from ..network import attach, endpoint

        host, record = self.networks.host, container.record
        now = self.networks.of(container)
        # Of a connect or disconnect that was killed.
        half = next((e for e in now.endpoints if e.network == attachment.network), None)
        if half is not None:
            with self._while_up(container, now):
                self._disconnect_running(container, half)
            now = self.networks.of(container)
        self.networks.free_strays(container, self.networks.networks.get(attachment.network))
        wanted = self.networks.wanted(record)
        interface = _free_interface(now)
        network, _, place = host.join(wanted, attachment, interface, undo)
        netfilter = host.prepare([network])
        if netfilter is not None:
            netfilter.close()
        after = Networking(
            run=container.state.run,
            endpoints=[*now.endpoints, place],
            ports=now.ports,
            publisher=now.publisher,
            shared=now.shared,
        )
        joined = self._joined(record, after, attachment)
        gateway = endpoint.gateway_of(joined)
        if after.ports and not after.publisher:
            publisher = attach.publisher_of(joined, gateway)
            after.publisher = publisher[0].id if publisher is not None else ""
        with self._while_up(container, after):
            self._join(container, network, place, after, joined)
        undo.callback(self._disconnect_running, container, place)

    def _join(
        self,
        container: Container,
        network: Network,
        place: Endpoint,
        after: Networking,
        joined: list[Joined],
    ) -> None:
        """Make the link to a network, and let everybody know."""
        from ..network import endpoint, names

        # What undoes it is written first, and what tells of it: this process may be killed at any
        # time, and others sweep links that nobody tells of.
        self._tell(container, after)
        is_gateway = endpoint.gateway_of(joined) is place
        try:
            with _Namespace(container) as namespace:
                parts = endpoint.messages_of(
                    network, place, is_gateway=is_gateway, namespace=namespace.fd
                )
                namespace.send(parts, ipv6=bool(place.address6))
            names.add(self.networks.host.networks, place, container.id)
            self._settle(container, after, joined)
        except BaseException:
            self._disconnect_running(container, place)
            raise

    def disconnect_network(self, container_id: str, name: str) -> None:
        """Take a container off a network.

        Raises:
            Conflict: it is not on it.
        """
        with self.store.locked(container_id):
            container = self.store.load(container_id)
            record = container.record
            left = [a for a in record.networks if a.network != name]
            now = self.networks.of(container)
            place = next((place for place in now.endpoints if place.network == name), None)
            # (A place without the record's word: somebody who was just doing this was killed.)
            if len(left) == len(record.networks) and place is None:
                self._free_strays(container, name)
                raise Conflict(f"container {record.id} is not connected to network {name}")
            record.networks = left
            with storing(f"disconnecting container {record.name} from network {name}"):
                self.store.save_record(record, sync=not record.config.auto_remove)
                if place is not None:
                    # (NotRunning: it has just ended, and has nothing of a network any more.)
                    with contextlib.suppress(NotRunning), self._while_up(container, now):
                        self._disconnect_running(container, place)
            with contextlib.suppress(FastboxError):
                self._note_network("disconnect", self.networks.networks.get(name), record)

    def _free_strays(self, container: Container, name: str) -> None:
        """Give back what a killed disconnect did not."""
        with contextlib.suppress(FastboxError):
            if container.state.status.is_up:
                self.networks.free_strays(container, self.networks.networks.get(name))

    def _disconnect_running(self, container: Container, place: Endpoint) -> None:
        from ..network import attach, binding, endpoint, names, release

        host, record = self.networks.host, container.record
        now = self.networks.of(container)
        after = Networking(
            run=now.run,
            endpoints=[e for e in now.endpoints if e.network_id != place.network_id],
            ports=now.ports,
            publisher=now.publisher,
            shared=now.shared,
        )
        joined = self._joined(record, after)
        gateway = endpoint.gateway_of(joined)
        if now.publisher == place.network_id:
            host.delete_elements(binding.entries_of(now))
            publisher = attach.publisher_of(joined, gateway)
            after.publisher = publisher[0].id if publisher is not None else ""
        with _Namespace(container) as namespace:
            namespace.delete(place)
            if gateway is not None:
                namespace.route(gateway)
        # First what undoes the rest: then nobody gives back in its name what is another's by then.
        self._settle(container, after, joined)
        lines = names.lines_of(place, record.id), endpoint.lease_lines(place, record.id)
        release.run(host.networks, [line for part in lines for line in part])

    @contextlib.contextmanager
    def _while_up(self, container: Container, whole: Networking) -> Iterator[None]:
        """A change of a running container. Should that end meanwhile, its monitor has not seen all
        of it: then everything is given back here.

        Args:
            whole: what it had at most.

        Raises:
            NotRunning: it has ended.
        """

        def is_alive() -> bool:
            return process.is_alive(container.state.pid, container.state.pid_starttime)

        try:
            yield
        except Exception:
            if is_alive():
                raise
        if not is_alive():
            host = self.networks.host
            directory = self.store.runtime_directory(container.id)
            host.finish(directory, host.lines_of(container.id, whole))
            raise NotRunning(f"container {container.id} is not running")

    def _joined(
        self, record: ContainerRecord, now: Networking, new: Attachment | None = None
    ) -> list[Joined]:
        wishes = {a.network: a for a in [*record.networks, *([new] if new else [])]}
        return [
            (self.networks.networks.get(place.network), wishes[place.network], place)
            for place in now.endpoints
            if place.network in wishes
        ]

    def _settle(self, container: Container, now: Networking, joined: list[Joined]) -> None:
        """Let everybody know what a running container has: who undoes it, its name server, its
        files."""
        from ..network import binding, names

        host, record = self.networks.host, container.record
        self._tell(container, now)
        host.configure_names(self.networks.wanted(record), joined)
        if now.ports:
            with contextlib.suppress(FileExistsError):
                host.add_elements(binding.entries_of(now))
            place = now.endpoint(now.publisher)
            names.write_ports(host.networks, record.id, binding.relay_lines(now.ports, place))
        etc_files.update(self.store.bundle(record), record, now)

    def _tell(self, container: Container, now: Networking) -> None:
        """Write what a running container has, and what undoes it."""
        from ..network import attach, release

        directory = self.store.runtime_directory(container.id)
        release.write(directory, self.networks.host.lines_of(container.id, now))
        attach.save(directory, now)


def _free_interface(now: Networking) -> str:
    taken = {place.interface for place in now.endpoints}
    return next(f"eth{number}" for number in range(1000) if f"eth{number}" not in taken)


class _Namespace:
    """The network namespace of a running container, for the engine to change."""

    def __init__(self, container: Container) -> None:
        pid, started = container.state.pid, container.state.pid_starttime
        self.fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if not process.is_alive(pid, started):  # it may be another process's by now
            os.close(self.fd)
            raise NotRunning(f"container {container.id} is not running")

    def __enter__(self) -> _Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def inside(self, call: Callable[[], None]) -> None:
        """Run ``call`` in a thread of the namespace's."""
        import ctypes
        import threading

        failure: list[BaseException] = []

        def work() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(self.fd, _CLONE_NEWNET) < 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
                call()
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, name="fastbox-netns")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]

    def send(self, parts: list[Messages], *, ipv6: bool) -> None:
        """Make a link."""
        from ..network import messages

        about = ""

        def inside() -> None:
            nonlocal about
            # What the container was started with may be the opposite.
            for path, value in ((_ARP_NOTIFY, "1"), (_DISABLE_IPV6, "0" if ipv6 else "1")):
                with contextlib.suppress(OSError), open(path, "w") as file:
                    file.write(value)
            with messages.open_socket(messages.NETLINK_ROUTE) as own:
                for part in parts:
                    about = part.about
                    if part.host:
                        messages.send(host, part.data, part.answers)
                    else:
                        data = messages.numbered(part.data, part.interface)
                        messages.send(own, data, part.answers)

        with messages.open_socket(messages.NETLINK_ROUTE) as host:
            try:
                self.inside(inside)
            except OSError as error:
                raise LaunchError(
                    f"{about}: {(error.strerror or '').lower()}", errno=error.errno or 0
                ) from error

    def route(self, gateway: Endpoint) -> None:
        """The way out is another one."""
        from ..network import endpoint, messages

        data = b"".join(endpoint.routes(gateway))

        def inside() -> None:
            with messages.open_socket(messages.NETLINK_ROUTE) as own:
                messages.send(own, data, len(endpoint.routes(gateway)))

        self.inside(inside)

    def delete(self, place: Endpoint) -> None:
        """The link goes, whatever the container calls its end; it may be gone.

        Raises:
            OSError: it stays: its address is not free.
        """
        from ..network import messages

        def delete() -> None:
            with messages.open_socket(messages.NETLINK_ROUTE) as netlink:
                messages.send(
                    netlink, messages.delete_link(place.host_interface or place.interface)
                )

        try:
            if place.host_interface:
                delete()
            else:
                self.inside(delete)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
