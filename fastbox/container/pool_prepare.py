"""Making a prepared container: everything of a container but its command.

It has a directory, cgroup, namespaces, network, mounted root and monitor. Its init is the helper,
confined as the command will be, which waits for that (``_core/monitor/wait.c``). It does not exist
for anybody: in place of ``container.json`` there is ``prepared.json``, its monitor holds the lock
of its directory for as long as it waits. When whoever owns it goes, it goes as well.
"""

from __future__ import annotations

import _socket  # the module over it costs milliseconds at start
import contextlib
import os
import select
from typing import TYPE_CHECKING, Any

import msgspec

from .. import atomic
from .._core import launch as core
from ..errors import FastboxError, InvalidArgument, LaunchError
from ..locks import lock
from ..network.types import Networking
from . import etc_files, graph, launch
from .cgroups import Cgroup
from .create import create
from .flatten import Plan
from .record import ContainerRecord
from .store import ContainerStore, storing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..image.types import Image
    from .config import ContainerConfig
    from .lifecycle import Lifecycle

RECORD = "prepared.json"
_END = 10.0  # seconds that a monitor has to throw one away


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What prepared containers are made of: the same for all of a pool."""

    config: ContainerConfig
    image: Image
    image_name: str
    layers: list[str]
    cgroup_parent: str
    driver: str


class Prepared:
    """A prepared container, until it is taken or thrown away.

    Attributes:
        record: without the command's words. spec: its runtime configuration, likewise.
        directory, bundle: see ``ContainerStore``.
        owner: the connection to its monitor. order: the one to its init, which the monitor shares.
        has_volumes: anonymous ones, which are the engine's to remove. uid: of its command.

    Args:
        ends: both connections, of one that another process has made.
    """

    def __init__(
        self,
        record: ContainerRecord,
        directory: str,
        bundle: str,
        spec: dict[str, Any],
        plan: Plan,
        cgroup: Cgroup,
        *,
        ends: tuple[_socket.socket, _socket.socket] | None = None,
        pid: int = 0,
        monitor_pid: int = 0,
        uid: int = 0,
    ) -> None:
        self.record, self.directory, self.bundle = record, directory, bundle
        self.spec, self.plan, self.cgroup = spec, plan, cgroup
        self.pid, self.monitor_pid, self.uid = pid, monitor_pid, uid
        self.has_volumes = any(point.anonymous for point in record.mounts)
        if ends is not None:
            self.owner, self.order = ends
            return
        self.owner, self._monitors = _pair()
        self.order, self._inits = _pair()

    def close(self) -> None:
        """Leave it: its monitor throws it away, unless it has been taken."""
        self.owner.close()
        self.order.close()

    def close_theirs(self) -> None:
        """The others have their ends."""
        self._monitors.close()
        self._inits.close()

    @property
    def theirs(self) -> tuple[int, int]:
        """Descriptors of the monitor's end and of init's."""
        return self._monitors.fileno(), self._inits.fileno()


def _pair() -> tuple[_socket.socket, _socket.socket]:
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


class _Silent:
    """A journal to which nothing is told."""

    def container(self, action: str, record: ContainerRecord, **extra: str) -> None:
        pass


class _UnseenStore(ContainerStore):
    """The store, for ``create``: what that makes is not there for anybody else."""

    def __init__(self, store: ContainerStore) -> None:
        super().__init__(store.root, store.runtime)
        self.journal = _Silent()  # type: ignore[assignment]
        self.templates, self.nursery = store.templates, store.nursery

    def save_record(self, record: ContainerRecord, *, sync: bool = True) -> bytes:
        data = msgspec.json.encode(record)
        atomic.write(f"{self.directory(record.id)}/{RECORD}", data, sync=False)
        return data


def prepare(lifecycle: Lifecycle, recipe: Recipe) -> Prepared:
    """Make one; on any error nothing of it is left.

    Raises:
        FastboxError
    """
    store = lifecycle.store
    made = create(
        _UnseenStore(store),
        msgspec.structs.replace(recipe.config, command=["-"]),  # the image may have none
        recipe.image,
        recipe.image_name,
        recipe.layers,
        lifecycle.layers_dir,
        lifecycle.volumes,
        recipe.cgroup_parent,
        lifecycle.networks,
        driver=recipe.driver,
        transient=True,
    )
    record = made.record
    try:
        with storing("preparing a container"), lock(made.directory) as directory:
            return _launch(lifecycle, record, directory)
    except BaseException:
        forget(lifecycle, record)
        raise


def _launch(lifecycle: Lifecycle, record: ContainerRecord, directory: int) -> Prepared:
    store, networks = lifecycle.store, lifecycle.networks
    os.makedirs(store.runtime_directory(record.id), mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as held, contextlib.ExitStack() as undo:
        connection = networks.connect(record, undo, unseen=True)
        for item in connection.kept if connection is not None else []:
            held.callback(item.close)  # the monitor has its own
        network = lifecycle.hold_network(record, connection, None, held)
        networking = connection.networking if connection is not None else Networking()
        fresh = store.templates.take(record)
        if fresh is None or networking.endpoints or fresh.resolvers != etc_files.resolvers_stamp():
            etc_files.update(store.bundle(record), record, networking)
        cgroup = lifecycle.make_cgroup(record)
        undo.callback(cgroup.remove)
        lasting = not record.config.auto_remove
        root = graph.of(record).root(store, record, lifecycle.layers_dir, lasting=lasting)
        with lifecycle.using_config(record) as spec:
            seccomp = lifecycle.seccomp_of(spec)
            plan = launch.make_plan(spec, record, root, cgroup, seccomp, (0, 0), network, wait=True)
        prepared = Prepared(
            record, store.directory(record.id), store.bundle(record), spec, plan, cgroup
        )
        undo.callback(prepared.close)
        # To be written whole, with the command; over an old file, ext4 would flush it at once.
        os.unlink(f"{prepared.bundle}/config.json")
        ports = [item.fileno() for item in connection.sockets] if connection else []
        netfilter = connection.netfilter_fd if connection is not None else -1
        names = network is not None and network.names
        _start(lifecycle, prepared, directory, ports, names=names, netfilter=netfilter)
        undo.pop_all()
    return prepared


def _start(
    lifecycle: Lifecycle,
    prepared: Prepared,
    directory: int,
    ports: list[int],
    *,
    names: bool,
    netfilter: int,
) -> None:
    store, record, cgroup = lifecycle.store, prepared.record, prepared.cgroup
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with contextlib.ExitStack() as stack:
        stack.callback(prepared.close_theirs)

        def opened(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        out, stdout = map(opened, os.pipe2(os.O_CLOEXEC))
        err, stderr = map(opened, os.pipe2(os.O_CLOEXEC))
        name_pair = _pair() if names else ()
        for end in name_pair:
            stack.callback(end.close)
        run_directory = opened(os.open(store.runtime_directory(record.id), flags))
        cgroup_fd = opened(os.open(cgroup.v2_dir, flags)) if cgroup.v2_dir is not None else -1
        monitors, inits = prepared.theirs
        cleanup = launch.end_command(lifecycle.root, store.runtime, record)
        argv = launch.monitor_argv(store, record, cgroup, 1, cleanup, False, len(ports))
        argv[_FLAGS] = _flags(prepared)
        try:
            prepared.pid, prepared.monitor_pid = core.start(
                prepared.plan.data,
                stdio=[-1, stdout, stderr],
                monitor_path=os.fsencode(launch.HELPER),
                monitor_argv=argv,
                monitor_fds=launch.monitor_fds(
                    out=out,
                    err=err,
                    directory=directory,
                    run_directory=run_directory,
                    client=monitors,
                    names=name_pair[0].fileno() if name_pair else -1,
                    netfilter=netfilter,
                    wait=prepared.order.fileno(),
                ),
                cgroup_fd=cgroup_fd,
                helper_fd=launch.sealed_helper(),
                names_fd=name_pair[1].fileno() if name_pair else -1,
                wait_fd=inits,
                ports=ports,
            )
        except core.StepError as error:
            if error.step == core.STEP_MONITOR and error.where == core.WHERE_ENDED:
                raise FastboxError("preparing a container: its monitor ended at once") from error
            raise _described(error, prepared) from error
        prepared.close_theirs()  # else nobody would see init's end
        try:
            _await_ready(prepared)
        except FastboxError:
            throw_away(lifecycle, [prepared])
            raise
        if record.user not in ("", "0", "root"):
            prepared.uid = _uid_of(prepared.pid)


_FLAGS = 9  # in enum argument of monitor.c


def _flags(prepared: Prepared) -> bytes:
    if prepared.has_volumes:
        return b"wv"
    return b"wx" if prepared.record.config.auto_remove else b"w"


def _described(error: core.StepError, prepared: Prepared) -> LaunchError:
    record = prepared.record
    return launch.describe(
        error,
        prepared.plan,
        argv=[record.path, *record.args],
        user=record.user,
        cwd=record.workdir,
    )


def _await_ready(prepared: Prepared) -> None:
    """Until its init waits. Raises: it ended, which a seccomp profile may have done."""
    prepared.order.settimeout(_END)
    try:
        ready = prepared.order.recv(64) == b"W"
    except OSError:
        ready = False
    prepared.order.settimeout(None)
    if not ready:
        raise FastboxError(
            "a prepared container ended before anybody took it",
            hint="its seccomp profile has to allow recvmsg, write, fcntl, fstat, dup3, close_range"
            ", mmap and brk",
        )


def _uid_of(pid: int) -> int:
    """As its image's passwd file has it; who reads its files again may be told by the name only."""
    with open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    return 0


def is_dead(prepared: Prepared) -> bool:
    """Whether init or monitor of a prepared one has ended, or it was left."""
    if prepared.owner.fileno() < 0 or prepared.order.fileno() < 0:
        return True
    poller = select.poll()
    poller.register(prepared.owner, 0)
    poller.register(prepared.order, 0)
    return bool(poller.poll(0))


def throw_away(lifecycle: Lifecycle, several: Iterable[Prepared]) -> None:
    """Leave prepared ones, and wait until nothing of them is left. They end side by side."""
    several = list(several)
    for prepared in several:
        prepared.order.close()
        with contextlib.suppress(OSError):  # it is gone already
            prepared.owner.shutdown(_socket.SHUT_WR)
    for prepared in several:
        prepared.owner.settimeout(_END)
        with contextlib.suppress(OSError):
            while prepared.owner.recv(64):
                pass
        prepared.owner.close()
        with contextlib.suppress(FastboxError):
            forget(lifecycle, prepared.record)


def forget(lifecycle: Lifecycle, record: ContainerRecord) -> None:
    """Remove what is left of one whose monitor has ended: after a kill -9 that is all of it; of one
    with anonymous volumes it always is.

    Raises:
        StoreError
    """
    store = lifecycle.store
    if not os.path.isdir(store.directory(record.id)):
        return
    with contextlib.suppress(FastboxError, OSError):
        cgroup = lifecycle.cgroup_of(record)
        cgroup.kill()
        cgroup.remove()
    lifecycle.networks.finish(record.id)
    store.discard(record.id, record.name)
    for point in record.mounts:
        if point.anonymous:
            with contextlib.suppress(FastboxError):
                lifecycle.volumes.remove(point.name)


def check_config(config: ContainerConfig, size: int) -> None:
    """Raise for what cannot be had of prepared containers.

    Raises:
        InvalidArgument
    """
    refused = {
        "tty": (config.tty, "a terminal belongs to whoever starts the container"),
        "name": (config.name is not None, "its containers get names of their own"),
        "command": (config.command is not None, "it is given when a container is taken"),
        "interactive": (config.interactive, "input is given when a container is taken"),
        "idle": (config.idle, "it would run no command"),
        "restart": (config.restart.is_set, "what restarts is no container for one command"),
    }
    for name, (given, why) in refused.items():
        if given:
            raise InvalidArgument(f"a pool takes no {name}: {why}")
    if config.network.startswith("container:"):
        raise InvalidArgument("a pool cannot join a container's network, which may end before it")
    fixed = (
        [port.host for port in config.publish if port.host and not port.host_end]
        if size > 1
        else []
    )
    if fixed:
        raise InvalidArgument(
            f"a pool of {size} cannot publish host port {fixed[0]}: one container has it",
            hint="publish without a host port, or make a pool of one",
        )
    ones = (
        [place for place in config.networks if place.ip or place.ip6 or place.mac]
        if size > 1
        else []
    )
    if ones:
        raise InvalidArgument(
            f"a pool of {size} cannot have the address "
            f"{ones[0].ip or ones[0].ip6 or ones[0].mac}: one container has it"
        )
