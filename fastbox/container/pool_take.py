"""Taking a prepared container: it gets its command, and from then on it is a container as any.

What a take costs: its record, a packet to its init and one to its monitor, and the exec itself.
"""

from __future__ import annotations

import _socket  # the module over it costs milliseconds at start
import array
import contextlib
import os
import stat
import struct
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
PACKET = 65536  # bytes
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
    if len(text) + _ORDER.size <= PACKET:
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
        packet = prepared.owner.recv(PACKET)
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
