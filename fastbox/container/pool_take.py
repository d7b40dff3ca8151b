"""Taking a prepared container: it gets its command, and from then on it is a container as any.

What a take costs: its record, a packet to its init and one to its monitor, and the exec itself.
"""

from __future__ import annotations

import _socket  # the module over it costs milliseconds at start
import array
import contextlib
import os
import select
import stat
import struct
import time
from typing import TYPE_CHECKING, cast

import msgspec
import orjson

from .. import durable
from ..errors import Conflict, FastboxError, LaunchError, NotFound
from ..oci import times
from . import launch, process, session
from .exec import decode_error
from .merge import environment
from .record import Container, ContainerState, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .lifecycle import Lifecycle
    from .pool_prepare import Prepared
    from .starting import Starting

_ORDER = struct.Struct("=4I")  # struct order in _core/monitor/wait.c
_PACKET = 65536
_PIECE = 65536
_RIGHTS = _socket.SCM_RIGHTS


class Dead(Exception):
    """The prepared container has ended before it could be taken: another one will do."""


class Take(msgspec.Struct, kw_only=True):
    """What a prepared container is to run.

    Attributes:
        command: of the config; argv: with the image's entrypoint. env: added to the pool's.
        attached: a client waits for the end. stdin, out, err: its descriptors, or None.
    """

    command: list[str] | None
    argv: list[str]
    env: list[str] = []
    stdin: int | None = None
    out: int | None = None
    err: int | None = None
    attached: bool = False


def begin(lifecycle: Lifecycle, prepared: Prepared, take: Take) -> None:
    """Have it run its command. ``finish`` waits until it does.

    Raises:
        Dead. FastboxError: nothing of it is left.
    """
    _write_record(prepared, take)
    lifecycle.networks.tell_connected(prepared.record)
    try:
        _send_order(prepared, take, take.stdin)
        _send_flags(prepared, take)
    except OSError as error:
        raise Dead from error
    _write_spec(prepared)


def _send_flags(prepared: Prepared, take: Take) -> None:
    flags = "T"
    if prepared.record.config.auto_remove:
        flags += launch.removal_flag(prepared.record, take.attached)
    given = []
    if take.attached:
        flags += "a"
        for fd, letter in ((take.out, "O"), (take.err, "E")):
            if fd is not None:
                flags += letter
                given.append(fd)
    _send(prepared.owner, flags.encode(), given)


def _write_record(prepared: Prepared, take: Take) -> None:
    """container.json: from here on the container exists."""
    record = prepared.record
    record.created = times.now()
    record.path, record.args = take.argv[0], take.argv[1:]
    record.config.command = take.command
    record.config.interactive = take.stdin is not None or record.config.interactive
    record.creator = process.own()
    if take.env:
        record.config.env = [*record.config.env, *take.env]
        record.env = environment((), record.env, take.env)
    _put(f"{prepared.directory}/container.json", msgspec.json.encode(record))


def _write_spec(prepared: Prepared) -> None:
    """config.json, which is read by those that come later, while init goes its way."""
    record, process_ = prepared.record, prepared.spec["process"]
    process_["args"], process_["env"] = [record.path, *record.args], record.env
    with contextlib.suppress(FileNotFoundError):  # it has ended already
        _put(f"{prepared.bundle}/config.json", orjson.dumps(prepared.spec))


def _put(path: str, data: bytes) -> None:
    """A whole file; nobody else writes here, so its temporary name needs no luck."""
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    os.rename(temporary, path)


def _send_order(prepared: Prepared, take: Take, stdin: int | None) -> None:
    argv, env = take.argv, prepared.record.env
    strings = [*argv, *env]
    text = "\0".join(strings).encode("utf-8", "surrogateescape") + b"\0"
    if stdin is not None and prepared.uid:
        _give_pipe(stdin, prepared.uid)
    has_stdin = stdin is not None
    fds = [stdin] if stdin is not None else []
    if len(text) + _ORDER.size <= _PACKET:
        _send(prepared.order, _ORDER.pack(len(argv), len(env), has_stdin, 0) + text, fds)
        return
    memory = os.memfd_create("fastbox-order", os.MFD_CLOEXEC)
    try:
        header = _ORDER.pack(len(argv), len(env), has_stdin, 0)
        with open(memory, "wb", closefd=False) as file:
            file.write(header + text)
        _send(prepared.order, _ORDER.pack(len(argv), len(env), has_stdin, 1), [*fds, memory])
    finally:
        os.close(memory)


def _give_pipe(fd: int, uid: int) -> None:
    """Who isn't root may want to reopen /dev/stdin (as set_stdio in _core/launch/finish.c)."""
    found = os.fstat(fd)
    if stat.S_ISFIFO(found.st_mode) and found.st_uid == 0:
        with contextlib.suppress(OSError):
            os.fchown(fd, uid, -1)


def _send(connection: _socket.socket, packet: bytes, fds: Sequence[int]) -> None:
    if fds:
        rights = array.array("i", fds)
        connection.sendmsg([packet], [(_socket.SOL_SOCKET, _RIGHTS, rights)])
    else:
        connection.send(packet)


def finish(lifecycle: Lifecycle, prepared: Prepared) -> None:
    """Wait until the command runs.

    Raises:
        LaunchError: it could not be run; the container is gone. FastboxError: likewise.
    """
    try:
        packet = prepared.owner.recv(_PACKET)
    except ConnectionResetError:
        packet = b""
    prepared.order.close()
    if packet == b"S":
        return
    raise failure(lifecycle, prepared, packet)


def failure(lifecycle: Lifecycle, prepared: Prepared, packet: bytes) -> FastboxError:
    """The error that the monitor's last packet is; waits until nothing of the container is left."""
    from .pool_prepare import throw_away

    throw_away(lifecycle, [prepared])
    step = decode_error(packet[1:]) if packet[:1] == b"F" else None
    record = prepared.record
    if step is None:
        return LaunchError(
            f"starting container {record.name}: it was killed before its command ran"
        )
    argv = [record.path, *record.args]
    return launch.describe(step, prepared.plan, argv=argv, user=record.user, cwd=record.workdir)


def settle(lifecycle: Lifecycle, prepared: Prepared) -> None:
    """What of a start need not come before its command runs."""
    record = prepared.record
    if not record.config.auto_remove:
        durable.later(prepared.directory, ["config.json", "container.json"])
    lifecycle.tell_supervisor(record)


def start(starting: Starting, prepared: Prepared) -> None:
    """Start one that ``Engine.create`` got from the supervisor, detached.

    Raises:
        FastboxError
    """
    lifecycle = cast("Lifecycle", starting)
    try:
        _begin_as_created(lifecycle, prepared, Take(command=None, argv=[]))
        finish(lifecycle, prepared)
    finally:
        prepared.close()
    settle(lifecycle, prepared)


def run_attached(starting: Starting, prepared: Prepared, streams: launch.Streams) -> int:
    """The same with a client's streams, and wait; the exit status.

    Raises:
        FastboxError
    """
    from .pumps import Pumps

    lifecycle = cast("Lifecycle", starting)
    with Pumps() as pumps:
        stdin = pumps.input(streams.stdin) if streams.stdin is not None else None
        take = Take(
            command=None, argv=[], stdin=stdin, out=streams.stdout, err=streams.stderr,
            attached=True,
        )  # fmt: skip
        try:
            _begin_as_created(lifecycle, prepared, take)
            pumps.handed_over()
            finish(lifecycle, prepared)
            settle(lifecycle, prepared)
            status = _attend(lifecycle, prepared, streams)
        finally:
            prepared.close()
    remove_after(lifecycle, prepared)
    return status


def _begin_as_created(lifecycle: Lifecycle, prepared: Prepared, take: Take) -> None:
    """Its record tells the command already."""
    record = prepared.record
    take = msgspec.structs.replace(
        take, command=record.config.command, argv=[record.path, *record.args]
    )
    try:
        begin(lifecycle, prepared, take)
    except Dead as error:
        raise LaunchError(
            f"starting container {record.name}: it was killed before its command ran"
        ) from error


def _attend(lifecycle: Lifecycle, prepared: Prepared, streams: launch.Streams) -> int:
    client = session.Session(prepared.owner, tty=False)
    try:
        return client.serve(streams, relay_input=False)
    except BaseException:  # interrupted: nobody will look after it any more
        if prepared.record.config.auto_remove:
            kill(lifecycle, prepared)
        raise


class Collected(msgspec.Struct):
    """What came of a command that was waited for."""

    returncode: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False


class Collector:
    """The client's side of a container whose output is collected: one thread, no other's help.

    Args:
        data: what it reads from its standard input; None: nothing.
    """

    def __init__(self, data: bytes | None) -> None:
        self._open: list[int] = []
        self._readers = {}
        out, self.out = self._pipe()
        err, self.err = self._pipe()
        self._parts: dict[int, list[bytes]] = {out: [], err: []}
        self._readers = {out: "out", err: "err"}
        self._order = (out, err)
        self.stdin: int | None = None
        self._writer = -1
        self._data = memoryview(data or b"")
        if data is not None:
            self.stdin, self._writer = self._pipe()
            os.set_blocking(self._writer, False)

    def _pipe(self) -> tuple[int, int]:
        pair = os.pipe2(os.O_CLOEXEC)
        self._open += pair
        return pair

    def _close(self, fd: int) -> None:
        self._open.remove(fd)
        os.close(fd)

    def close(self) -> None:
        """Close all that is open."""
        while self._open:
            os.close(self._open.pop())

    def handed_over(self) -> None:
        """The container has its ends."""
        for fd in (self.out, self.err, self.stdin):
            if fd is not None:
                self._close(fd)

    def collect(
        self,
        lifecycle: Lifecycle,
        prepared: Prepared,
        timeout: float | None,
        running: Running,
        cancel: int | None = None,
    ) -> Collected:
        """Until the container has ended.

        Args:
            timeout: seconds, after which it is killed.
            running: told when the command runs.
            cancel: a descriptor that becomes readable when it shall be killed.

        Raises:
            LaunchError: it does not run. FastboxError: its exit status is lost.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        status, timed_out = None, False
        poller = self._poller(prepared)
        if cancel is not None:
            poller.register(cancel, select.POLLIN)
        while status is None or self._readers:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = poller.poll(None if left is None else left * 1000)
            if not ready and deadline is not None:
                kill(lifecycle, prepared)
                deadline, timed_out = None, True
            for fd, _ in ready:
                if fd in self._readers:
                    self._read(fd, poller)
                elif fd == self._writer:
                    self._write(poller)
                elif fd == cancel:
                    poller.unregister(fd)
                    kill(lifecycle, prepared)
                elif (found := self._hear(lifecycle, prepared, running)) is not None:
                    status = found
                    poller.unregister(fd)
        out, err = (b"".join(self._parts[fd]) for fd in self._order)
        return Collected(status, out, err, timed_out)

    def _poller(self, prepared: Prepared) -> select.poll:
        poller = select.poll()
        poller.register(prepared.owner, select.POLLIN)
        for fd in self._readers:
            poller.register(fd, select.POLLIN)
        if self._writer >= 0:
            poller.register(self._writer, select.POLLOUT)
        return poller

    def _read(self, fd: int, poller: select.poll) -> None:
        data = os.read(fd, _PIECE)
        if data:
            self._parts[fd].append(data)
            return
        poller.unregister(fd)
        del self._readers[fd]
        self._close(fd)

    def _write(self, poller: select.poll) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                self._data = self._data[os.write(self._writer, self._data[:_PIECE]) :]
            except BrokenPipeError:  # the command does not read all
                self._data = self._data[:0]
        if not self._data:
            poller.unregister(self._writer)
            self._close(self._writer)
            self._writer = -1

    def _hear(self, lifecycle: Lifecycle, prepared: Prepared, running: Running) -> int | None:
        try:
            packet = prepared.owner.recv(_PACKET)
        except ConnectionResetError:
            packet = b""
        kind = packet[:1]
        if kind == b"S":
            prepared.order.close()
            running()
            return None
        if kind == b"X":
            return session.exit_status(packet[1:])
        if kind == b"F" or not running.is_so:
            raise failure(lifecycle, prepared, packet)
        raise FastboxError(
            "the container's exit status is lost: its monitor was killed",
            hint="`fastbox ps -a` shows what is left of it",
        )


class Running:
    """Called once, when the command runs."""

    def __init__(self) -> None:
        self.is_so = False

    def __call__(self) -> None:
        self.is_so = True


def kill(lifecycle: Lifecycle, prepared: Prepared) -> None:
    """End a taken container at once."""
    try:
        lifecycle.kill(prepared.record.id, "KILL")
    except FastboxError:  # it has just ended, or it is about to run
        with contextlib.suppress(FastboxError):
            prepared.cgroup.kill()


def remove_after(lifecycle: Lifecycle, prepared: Prepared) -> None:
    """Remove a waited-for container that has ended, where its monitor does not."""
    record = prepared.record
    if record.config.auto_remove and launch.removal_flag(record, True) == "x":
        return
    with contextlib.suppress(NotFound, Conflict):
        lifecycle.remove_ended(record)


def container(lifecycle: Lifecycle, prepared: Prepared) -> Container:
    """A taken one as ``Engine.container`` tells of it; also when it has ended already."""
    record, store = prepared.record, lifecycle.store
    state = store.state(record)
    if not state.run:  # it is gone
        state = ContainerState(status=Status.EXITED, run=1)
    found = Container(
        record=record, state=state, directory=prepared.directory, bundle=prepared.bundle
    )
    found.networking = lifecycle.networks.shown(found)
    return found
