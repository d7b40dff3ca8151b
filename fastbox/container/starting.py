"""Starting a container: what it needs is taken, the plan is made, init and monitor are launched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from .. import durable, tracing
from ..errors import Conflict, Detached, FastboxError, LaunchError, NotFound, StoreError
from ..locks import lock
from ..network.types import Networking
from . import cgroups, etc_files, graph, launch, restarts, seccomp, spec
from .access import Access
from .cgroups import Cgroup
from .flatten import Network, Plan
from .plan import Filter
from .record import ContainerRecord, Status
from .store import storing

if TYPE_CHECKING:
    from ..network.attach import Connection
    from ..volume.store import VolumeStore
    from .networking import ContainerNetworks
    from .pool_prepare import Prepared
    from .store import ContainerStore


class Starting(Access):
    """The verbs that start a container, over one store.

    Args:
        root: the store's root, for the clean-up command.
        layers_dir: where unpacked layers are.
        networks: the store's.
        supervise: told each container that was started, or changed, and wants the supervisor.
    """

    def __init__(
        self,
        store: ContainerStore,
        volumes: VolumeStore,
        root: str,
        layers_dir: str,
        networks: ContainerNetworks,
        supervise: Callable[[str], None] | None = None,
    ) -> None:
        self.store = store
        self.volumes = volumes
        self.root = root
        self.layers_dir = layers_dir
        self.networks = networks
        self.supervise = supervise
        self.prepared: dict[str, Prepared] = {}  # got by ``create``, to be started now

    if TYPE_CHECKING:

        def kill(self, container_id: str, signal: str) -> None: ...

        def remove_ended(self, record: ContainerRecord, *, volumes: bool = True) -> None: ...

    def note(self, action: str, record: ContainerRecord, **attributes: str) -> None:
        """Tell who follows ``events`` what happened to a container."""
        self.store.journal.container(action, record, **attributes)

    # starting -----------------------------------------------------------------------------------
    def start(self, container_id: str) -> ContainerRecord:
        """Start detached; a running container is left as it is. Its record.

        Raises:
            FastboxError
        """
        if container_id in self.prepared:
            from . import pool_take

            prepared = self.prepared.pop(container_id)
            pool_take.start(self, prepared)
            return prepared.record
        with self.store.locked(container_id) as directory:
            record = self.store.load_record(container_id)
            if self._check_startable(record).is_up:
                return record
            self._start_by_hand(record, directory, None)
        self.tell_supervisor(record)
        return record

    def _start_by_hand(
        self,
        record: ContainerRecord,
        directory: int,
        streams: launch.Streams | None,
        *,
        again: bool = False,
    ) -> launch.Started:
        """
        Args:
            again: it was up, or was to be: should this process be killed before it has started it,
                the supervisor does.
        """
        if record.config.restart.is_set:
            with storing(f"starting container {record.name}"):
                restarts.begin(self.store, record.id, pending=again)
            if not record.config.auto_remove:
                durable.later(
                    self.store.directory(record.id),
                    ["config.json", "container.json", "restarts.json"],
                )
        try:
            return self._launch(record, directory, streams)
        except FastboxError:
            if again and record.config.restart.is_set:
                restarts.begin(self.store, record.id)
            raise

    def start_held(self, container_id: str, streams: launch.Streams) -> launch.Started:
        """Start with a client's streams, and leave the client's connection to the caller."""
        with self.store.locked(container_id) as directory:
            record = self.store.load_record(container_id)
            return self._start_by_hand(record, directory, streams)

    def start_again(self, container_id: str, after_run: int) -> bool:
        """Start what its restart policy is to start, once: only when run ``after_run`` was the
        last, and nobody started, stopped or removed it since.

        Returns:
            Whether it was started.

        Raises:
            FastboxError: it could not be. BlockingIOError: somebody else has its lock.
        """
        try:
            with lock(self.store.directory(container_id), blocking=False) as directory:
                record = self.store.load_record(container_id)
                state = self.store.state(record)
                if state.status is not Status.RESTARTING:
                    return False
                if self.store.last_run(container_id) != after_run:
                    return False
                self._launch(record, directory, None)
                return True
        except (FileNotFoundError, NotFound):
            return False

    def tell_supervisor(self, record: ContainerRecord) -> None:
        """The caller does not hold the lock."""
        if self.supervise is not None and restarts.wants_supervisor(record):
            self.supervise(record.id)

    def _check_startable(self, record: ContainerRecord) -> Status:
        """Raises:
        Conflict: it is paused.
        """
        status = self.store.state(record).status
        if status is Status.PAUSED:
            raise Conflict("cannot start a paused container, try unpause instead")
        return status

    def run_attached(self, container_id: str, streams: launch.Streams) -> int:
        """Start with a client's streams and wait; the exit status. Removes an auto_remove one, and
        kills it first when the wait is interrupted (KeyboardInterrupt).

        Raises:
            Detached: by the detach keys.
        """
        from .pumps import Pumps
        from .session import Session

        if container_id in self.prepared:
            from . import pool_take

            return pool_take.run_attached(self, self.prepared.pop(container_id), streams)
        with Pumps() as pumps, contextlib.ExitStack() as stack:
            with self.store.locked(container_id) as directory:
                record = self.store.load_record(container_id)
                if self._check_startable(record).is_up:
                    raise Conflict(f"container {container_id} is already running")
                tty, given = record.config.tty, streams
                if not tty and streams.stdin is not None:
                    given = msgspec.structs.replace(streams, stdin=pumps.input(streams.stdin))
                started = self._start_by_hand(record, directory, given)
            pumps.handed_over()
            assert started.client is not None
            session = Session(started.client, tty=tty)
            stack.callback(session.close)
            try:
                self.tell_supervisor(record)
                relay = tty and record.config.interactive
                with tracing.span("attached run"):
                    status = session.serve(streams, relay_input=relay)
            except Detached:
                raise
            except BaseException:  # interrupted: nobody will look after it any more
                if record.config.auto_remove:
                    with contextlib.suppress(FastboxError):
                        self.kill(record.id, "KILL")
                raise
        if record.config.auto_remove and launch.removal_flag(record, True) == "r":
            with contextlib.suppress(NotFound, Conflict):  # Conflict: it was restarted
                with tracing.span("removal"):
                    self.remove_ended(record)
        elif record.config.auto_remove and tracing.active is not None:
            from .traced import await_removal

            await_removal(started.monitor_pid)
        return status

    def _config(self, record: ContainerRecord) -> dict[str, Any]:
        """The container's config.json; what does not hold what it must is found when it is used."""
        path = f"{self.store.bundle(record)}/config.json"
        try:
            with open(path, "rb") as file:
                config = orjson.loads(file.read())
        except FileNotFoundError as error:
            if self.store.bundle(record) == self.store.directory(record.id):
                raise StoreError(f"reading {path} failed: {error}") from error
            raise StoreError(
                f"starting {record.name} failed: it was made with --rm, so its files went with "
                f"the last boot, or with the runtime directory",
                hint="create it again",
            ) from error
        except (OSError, ValueError) as error:
            raise StoreError(f"reading {path} failed: {error}") from error
        return config if isinstance(config, dict) else {}

    @contextlib.contextmanager
    def using_config(self, record: ContainerRecord) -> Iterator[dict[str, Any]]:
        try:
            yield self._config(record)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(
                f"{self.store.bundle(record)}/config.json is damaged: {error!r}",
                hint="remove the container and create it again",
            ) from error

    def _launch(
        self, record: ContainerRecord, directory: int, streams: launch.Streams | None
    ) -> launch.Started:
        with storing(f"starting container {record.name}"):
            return self._launch_now(record, directory, streams)

    def _launch_now(
        self, record: ContainerRecord, directory: int, streams: launch.Streams | None
    ) -> launch.Started:
        run = self._next_run(record)
        with contextlib.ExitStack() as held, contextlib.ExitStack() as undo:
            try:
                joined = self.networks.joined_namespace(record, held)
                connection = self.networks.connect(record, undo)
                for item in connection.kept if connection is not None else []:
                    held.callback(item.close)  # the monitor has its own
                network = self.hold_network(record, connection, joined, held)
                started = self._launch_on(record, directory, run, streams, network, connection)
            except FastboxError as error:
                self._remember_failure(record, error)
                raise
            undo.pop_all()
        return started

    def _next_run(self, record: ContainerRecord) -> int:
        """The number of a new run; what is left of the last one in the runtime directory, and does
        not hold for this one, is removed."""
        runtime, run = self.store.runtime_directory(record.id), self.store.last_run(record.id) + 1
        if run > 1 or not os.path.isdir(runtime):
            os.makedirs(runtime, mode=0o700, exist_ok=True)
            if self.store.bundle(record) == runtime:
                self._see_to_bundle(record)
            marks = self.store.pause_mark(record.id), self.store.more_cgroups(record.id)
            for path in (*marks, f"{runtime}/renamed"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        return run

    def _see_to_bundle(self, record: ContainerRecord) -> None:
        """A reboot takes the bundle of an auto_remove container with it."""
        from .create import write_bundle

        if not os.path.exists(f"{self.store.bundle(record)}/config.json"):
            write_bundle(self.store, record)

    def hold_network(
        self,
        record: ContainerRecord,
        connection: Connection | None,
        joined: int | None,
        held: contextlib.ExitStack,
    ) -> Network | None:
        """What the plan needs of the container's network; ``held`` closes it when init has it."""
        if joined is not None:
            return Network(join=joined)
        if connection is None:
            if record.config.network in ("none", "host"):
                return None
            from ..network.names import make_directories

            make_directories(f"{self.store.runtime}/networks")
            return Network(names=True)  # on no network now; `network connect` may come
        from ..network import messages

        socket = held.enter_context(messages.open_socket(messages.NETLINK_ROUTE))
        places = connection.networking.endpoints
        ipv6 = any(place.address6 for place in places)
        return Network(
            messages=connection.messages,
            socket=socket.fileno(),
            ipv6=ipv6,
            announced=connection.announced,
            names=True,
        )

    def _remember_failure(self, record: ContainerRecord, error: FastboxError) -> None:
        code = error.run_exit_code if error.run_exit_code != 125 else 128
        with contextlib.suppress(OSError):
            self.store.save_failure(record.id, code, error.message)

    def _launch_on(
        self,
        record: ContainerRecord,
        directory: int,
        run: int,
        streams: launch.Streams | None,
        network: Network | None,
        connection: Connection | None,
    ) -> launch.Started:
        networking = connection.networking if connection is not None else Networking()
        fresh = self.store.templates.take(record)
        if fresh is None or networking.endpoints or fresh.resolvers != etc_files.resolvers_stamp():
            etc_files.update(self.store.bundle(record), record, networking)
        cgroup = self.make_cgroup(record)
        try:
            template = fresh.template if fresh is not None and network is None else None
            plan = template.plan(record, cgroup) if template is not None else None
            if plan is None:
                plan = self._plan(record, cgroup, streams, network)
                if template is not None and not record.config.tty:
                    template.keep_plan(record, cgroup, plan)
            else:  # the store may have been made anew since the plan was
                graph.mount_point(self.store, self.layers_dir)
            return launch.start(
                self.store,
                record,
                plan,
                cgroup,
                directory=directory,
                run=run,
                cleanup=launch.end_command(self.root, self.store.runtime, record),
                streams=streams,
                ports=[item.fileno() for item in connection.sockets] if connection else (),
                names=network is not None and network.names,
                netfilter=connection.netfilter_fd if connection is not None else -1,
            )
        except BaseException as error:
            if not isinstance(error, LaunchError):
                cgroup.kill()  # interrupted: it may have started
            cgroup.remove()
            raise

    def _plan(
        self,
        record: ContainerRecord,
        cgroup: Cgroup,
        streams: launch.Streams | None,
        network: Network | None,
    ) -> Plan:
        root = graph.of(record).root(
            self.store, record, self.layers_dir, lasting=not record.config.auto_remove
        )
        with self.using_config(record) as config:
            window = launch.window_of(streams) if record.config.tty else (0, 0)
            return launch.make_plan(
                config, record, root, cgroup, self.seccomp_of(config), window, network
            )

    def seccomp_of(self, config: dict[str, Any]) -> Filter | None:
        """The compiled filter of a runtime configuration, cached below the runtime directory."""
        section = config["linux"].get("seccomp")
        if not section:
            return None
        program = seccomp.compile(section, f"{self.store.runtime}/cache/seccomp")
        return Filter(program, seccomp.filter_flags(section))

    @tracing.traced("cgroup")
    def make_cgroup(self, record: ContainerRecord) -> Cgroup:
        nodes = spec.asked_devices(record)
        return cgroups.create(
            cgroups.detect(), record.cgroup_path, spec.resources(record.config, nodes)
        )
