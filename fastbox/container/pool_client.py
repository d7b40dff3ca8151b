"""Getting a prepared container from the supervisor, which keeps them for whoever starts one.

It listens at ``RUNTIME/pool.sock`` while it has pools. A packet asks: version, ``circumstances``
and ``match_key`` of the wanted configuration, a line each. The answer is ``N`` (there is none), or
the container as JSON, and by SCM_RIGHTS the connections to its monitor and its init, which are the
asker's from then on.
"""

from __future__ import annotations

import _socket  # the module over it costs milliseconds at start
import array
import os
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from .. import __version__
from ..errors import InvalidArgument
from ..sockets import is_neighbour, short_path
from .flatten import Plan
from .pool_prepare import Prepared
from .record import ContainerRecord

if TYPE_CHECKING:
    from .config import ContainerConfig
    from .lifecycle import Lifecycle

ANSWER = 1.0  # seconds that the supervisor has; an ordinary start is quicker than more
PACKET = 190_000  # less than a socket's buffer holds


class Offer(msgspec.Struct, kw_only=True):
    """A prepared container, as it is handed over."""

    record: ContainerRecord
    spec: dict[str, Any]
    descriptions: list[str]
    pid: int
    monitor_pid: int
    uid: int


def socket_path(runtime: str) -> str:
    return f"{runtime}/pool.sock"


def match_key(config: ContainerConfig) -> bytes:
    """Equal for configurations that a pool's containers serve: what is given at the take is left
    out. Empty: no pool's do."""
    from ..oci.reference import parse

    special = config.tty or config.name is not None or config.restart.is_set
    if special or (config.interactive and not config.attach):
        return b""
    if not all(entry.find("=") > 0 for entry in config.env):
        return b""
    try:
        image = parse(config.image).tagged().canonical
    except InvalidArgument:
        return b""
    plain = msgspec.structs.replace(
        config,
        image=image,
        command=None,
        env=[],
        interactive=False,
        stdin_once=False,
        attach=[],
    )
    return msgspec.json.encode(plain)


def circumstances(root: str) -> bytes:
    """The store, and what a container takes from the process that makes it: whoever differs from
    the supervisor in that makes its own."""
    with open("/proc/thread-self/status", "rb") as file:
        fields = (line.split(b":", 1) for line in file.read().splitlines())
    said = {name: value.strip().decode() for name, value in fields if name in _TRAITS}
    kinds = ("cgroup", "mnt", "net", "pid", "time", "user")
    top = os.stat("/")
    return msgspec.json.encode((
        root,
        said,
        [_inode(f"/proc/thread-self/ns/{kind}") for kind in kinds],
        (top.st_dev, top.st_ino),
        os.getpriority(os.PRIO_PROCESS, 0),
    ))  # fmt: skip


_TRAITS = (b"Uid", b"Gid", b"CapEff", b"CapBnd", b"NoNewPrivs", b"Seccomp", b"Cpus_allowed")


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:  # the kernel has no such namespaces
        return 0


def request(config: ContainerConfig, root: str) -> bytes:
    """What is asked; empty: there is no need to."""
    key = match_key(config)
    return b"%s\n%s\n%s" % (__version__.encode(), circumstances(root), key) if key else b""


def peer(connection: _socket.socket) -> tuple[int, bool]:
    """Process number of the other side, and whether it is root's or ours."""
    size = _CREDENTIALS.size
    data = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid in (0, os.geteuid())


_CREDENTIALS = struct.Struct("3i")


def offer(prepared: Prepared) -> bytes:
    """The answer's text."""
    return msgspec.json.encode(
        Offer(
            record=prepared.record,
            spec=prepared.spec,
            descriptions=prepared.plan.descriptions,
            pid=prepared.pid,
            monitor_pid=prepared.monitor_pid,
            uid=prepared.uid,
        )
    )


def take(lifecycle: Lifecycle, config: ContainerConfig) -> Prepared | None:
    """One from the supervisor, if it has what is wanted."""
    wanted = request(config, lifecycle.root)
    if not wanted:
        return None
    try:
        data, fds = _ask(lifecycle.store.runtime, wanted)
    except OSError:  # nobody is there, or busy
        return None
    if len(fds) != 2:
        for fd in fds:
            os.close(fd)
        return None
    owner, order = (_socket.socket(fileno=fd) for fd in fds)
    found = msgspec.json.decode(data, type=Offer)
    plan = Plan(b"", found.descriptions)
    return Prepared(
        found.record,
        lifecycle.store.directory(found.record.id),
        lifecycle.store.bundle(found.record),
        found.spec,
        plan,
        lifecycle.cgroup_of(found.record),
        ends=(owner, order),
        pid=found.pid,
        monitor_pid=found.monitor_pid,
        uid=found.uid,
    )


def _ask(runtime: str, wanted: bytes) -> tuple[bytes, list[int]]:
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(ANSWER)
        with short_path(socket_path(runtime)) as path:
            connection.connect(path)
        pid, allowed = peer(connection)
        if not allowed or not is_neighbour(pid):  # it would have the command, and its input
            raise PermissionError
        connection.send(wanted)
        rights = array.array("i")
        space = _socket.CMSG_SPACE(2 * rights.itemsize)
        data, control, flags, _ = connection.recvmsg(PACKET, space, _socket.MSG_CMSG_CLOEXEC)
        for level, kind, part in control:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                rights.frombytes(part[: len(part) - len(part) % rights.itemsize])
        if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):  # its monitor removes it
            for fd in rights:
                os.close(fd)
            return b"", []
        return data, list(rights)
    finally:
        connection.close()
