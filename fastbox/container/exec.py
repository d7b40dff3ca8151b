"""Another process in a running container, through a fresh tiny helper that joins it."""

from __future__ import annotations

import _socket  # the module over it costs milliseconds at start
import array
import contextlib
import errno
import os
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from .._core import launch as core
from ..errors import Conflict, Detached, FastboxError, InvalidArgument, NotRunning
from ..events.journal import command_line
from . import capabilities, launch, process
from .flatten import NAMESPACES, Plan, finish
from .networking import joined_container
from .plan import Filter, PlanBuilder
from .record import Container, Status

if TYPE_CHECKING:
    from ..events import Journal
    from .cgroups import Cgroup
    from .record import ContainerRecord

_ERROR = struct.Struct("=IiiI")
ERROR_SIZE = _ERROR.size


class ExecRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of ``exec``; None keeps the container's own."""

    args: list[str]
    env: Iterable[str] = ()
    workdir: str | None = None
    user: str | None = None
    privileged: bool = False
    detach: bool = False
    tty: bool = False


def check(container: Container, request: ExecRequest) -> None:
    """Raise what Docker raises before an exec is tried."""
    if container.state.status is Status.PAUSED:
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
    if not container.state.status.is_up:
        raise NotRunning(f"container {container.id} is not running")
    if not request.args or any("\0" in word for word in request.args):
        raise InvalidArgument("no exec command specified")
    if request.workdir is not None and not request.workdir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{request.workdir}' is invalid, it needs to be an absolute path"
        )


def run(
    container: Container,
    request: ExecRequest,
    cgroup: Cgroup,
    plan: Plan,
    streams: launch.Streams,
) -> int:
    """Run it; its exit status (0 when detached).

    Args:
        plan: what ``make_plan`` gave.

    Raises:
        LaunchError: it could not be started (``run_exit_code`` 126 or 127).
        NotRunning: the container has ended.
    """
    with contextlib.ExitStack() as stack:
        helper = _Helper(stack, container, request, cgroup, plan, streams)
        if request.tty and not request.detach:
            return helper.serve_terminal(streams)
        return helper.wait()


def spawn(
    container: Container, cgroup: Cgroup, plan: Plan, stdio: list[int], errors: int, console: int
) -> int:
    """Start the helper that joins a container (``_core/monitor/enter.c`` has its descriptors); its
    pid, for ``core.wait_helper``.

    Args:
        stdio: what the command gets. errors: where an error record goes. console: where the master
            of a terminal goes, or -1.

    Raises:
        NotRunning: the container has ended. OSError
    """
    with contextlib.ExitStack() as stack:
        init = process.open_pidfd(container.state.pid, container.state.pid_starttime)
        if init is None:
            raise NotRunning(f"container {container.id} is not running")
        stack.callback(os.close, init)
        plan_fd = os.memfd_create("fastbox-plan", os.MFD_CLOEXEC)
        stack.callback(os.close, plan_fd)
        os.write(plan_fd, plan.data)
        cgroup_fd = -1
        if cgroup.v2_dir is not None:
            cgroup_fd = os.open(cgroup.v2_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, cgroup_fd)
        procs = [os.fsencode(f"{path}/cgroup.procs") for path in cgroup.v1_dirs.values()]
        return core.spawn_helper(
            launch.sealed_helper(),
            [b"fastbox-enter", *procs],
            [*stdio, plan_fd, errors, init, cgroup_fd, console],
        )


def decode_error(record: bytes) -> core.StepError | None:
    """What a helper has reported; None if nothing went wrong."""
    return core.StepError(*_ERROR.unpack(record)) if len(record) == _ERROR.size else None


class _Helper:
    """The helper of one exec: what it gets, and what comes back."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        container: Container,
        request: ExecRequest,
        cgroup: Cgroup,
        plan: Plan,
        streams: launch.Streams,
    ) -> None:
        self._container, self._request, self._plan = container, request, plan
        self._stack = stack
        self._pid = 0
        stack.callback(self._abandon)
        self._error, error_write = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, self._error)
        with contextlib.ExitStack() as theirs:  # closed once the helper has its own
            theirs.callback(os.close, error_write)
            console = -1
            if request.tty and not request.detach:
                self._console, other = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
                stack.callback(self._console.close)
                theirs.callback(other.close)
                console = other.fileno()
            stdio = self._stdio(streams)
            self._pid = spawn(container, cgroup, plan, stdio, error_write, console)
        self._pumps.handed_over()

    def _abandon(self) -> None:
        """Interrupted before its end: the command dies with the helper."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._reap()

    def _reap(self) -> int:
        status = core.wait_helper(self._pid)
        self._pid = 0
        return status

    def _stdio(self, streams: launch.Streams) -> list[int]:
        from .pumps import Pumps

        self._pumps = pumps = self._stack.enter_context(Pumps())
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._stack.callback(os.close, null)
        if self._request.tty:
            return [null, null, null]
        return [
            null if streams.stdin is None else pumps.input(streams.stdin),
            null if streams.stdout is None else pumps.output(streams.stdout),
            null if streams.stderr is None else pumps.output(streams.stderr),
        ]

    def wait(self) -> int:
        """The command's exit status."""
        record = os.read(self._error, ERROR_SIZE)
        status = self._reap()
        self._raise(record)
        return status

    def serve_terminal(self, streams: launch.Streams) -> int:
        """Connect the client with the command's terminal until it ends; its exit status.

        Raises:
            Detached: the command goes on; the helper keeps its terminal.
        """
        from .session import relay_terminal

        master = self._receive_master()
        self._raise(os.read(self._error, ERROR_SIZE))
        try:
            relay_terminal(master, streams)
        except Detached:
            import threading

            threading.Thread(target=core.wait_helper, args=(self._pid,), daemon=True).start()
            self._pid = 0
            raise
        return self._reap()

    def _receive_master(self) -> int:
        """-1 when there is none: the error record says why."""
        size = _socket.CMSG_SPACE(array.array("i").itemsize)
        _, control, _, _ = self._console.recvmsg(1, size, _socket.MSG_CMSG_CLOEXEC)
        if not control:
            return -1
        master = array.array("i", control[0][2])[0]
        self._stack.callback(os.close, master)
        return master

    def _raise(self, record: bytes) -> None:
        """Raise what a helper's error record says."""
        error = decode_error(record)
        if error is None:
            return
        container, request, state = self._container, self._request, self._container.state
        dying = error.step == core.STEP_SETNS and error.errno == errno.ESRCH
        if dying or not process.is_alive(state.pid, state.pid_starttime):
            raise NotRunning(f"container {container.id} is not running") from error
        raise launch.describe(
            error,
            self._plan,
            argv=request.args,
            user=container.record.user if request.user is None else request.user,
            cwd=request.workdir or container.record.workdir,
        ) from error


@contextlib.contextmanager
def told(
    journal: Journal, record: ContainerRecord, request: ExecRequest
) -> Iterator[Callable[[int], int]]:
    """Tell who follows ``events`` of an exec. Yields what to call with its exit status; without
    that it was killed, or could not be started.

    Of one that is detached nobody here sees the end.
    """
    exec_id = os.urandom(32).hex()
    code, left = 137, request.detach

    def ended(status: int) -> int:
        nonlocal code
        code = status
        return status

    actions = (
        command_line("exec_create", request.args),
        command_line("exec_start", request.args),
    )
    journal.containers(actions, record, execID=exec_id)
    try:
        yield ended
    except Detached:
        code, left = 0, True
        journal.container("exec_detach", record, execID=exec_id)
        raise
    except FastboxError as error:
        code = error.run_exit_code
        raise
    finally:
        if not left or code:
            journal.container("exec_die", record, execID=exec_id, exitCode=str(code))


class Bases:
    """What of a container's ``config.json`` each exec in it needs, of those used last: reading and
    decoding it takes as long as all else that the engine does for an exec."""

    LIMIT = 64

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], dict[str, Any], Filter | None]] = {}

    @staticmethod
    def signature(path: str) -> tuple[int, ...]:
        """Changes with the file, which is only ever replaced as a whole; empty: there is none."""
        try:
            found = os.stat(path)
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def get(self, path: str, signature: tuple[int, ...]) -> tuple[dict[str, Any], Filter | None]:
        """(configuration, filter) as they were kept; an empty one if they are not, or not any
        more."""
        known = self._known.get(path)
        if known is None or known[0] != signature:
            return {}, None
        return known[1], known[2]

    def keep(
        self, path: str, signature: tuple[int, ...], spec: dict[str, Any], seccomp: Filter | None
    ) -> None:
        """
        Args:
            signature: from before the file was read.
        """
        if len(self._known) >= self.LIMIT:
            self._known.clear()
        needed = {
            "process": spec["process"],
            "linux": {"namespaces": spec["linux"]["namespaces"]},
        }
        self._known[path] = signature, needed, seccomp


BASES = Bases()


def make_plan(
    container: Container, request: ExecRequest, spec: dict[str, Any], seccomp: Filter | None
) -> Plan:
    """The launch plan of a process that joins the container.

    Args:
        spec: the container's OCI runtime configuration; seccomp: its compiled filter.
    """
    record = container.record
    process_spec: dict[str, Any] = dict(spec["process"])
    process_spec["args"] = request.args
    own = [*record.env, *(["TERM=xterm"] if request.tty and not record.config.tty else [])]
    process_spec["env"] = _environment(own, request.env)
    process_spec["cwd"] = request.workdir or record.workdir
    flags = (core.P_DETACH if request.detach else 0) | (core.P_TTY if request.tty else 0)
    if request.privileged:
        caps = capabilities.resolve(privileged=True)
        process_spec["capabilities"] = {"bounding": caps, "effective": caps, "permitted": caps}
        seccomp = None
    kinds = {entry["type"] for entry in spec["linux"]["namespaces"]}
    if joined_container(record.config.network) is not None:
        kinds.add("network")  # not its own, but not ours either
    builder = PlanBuilder()
    score = spec["process"].get("oomScoreAdj", process.oom_score_of_others())
    if score is not None:
        builder.op(core.OP_PROC_WRITE, "self/oom_score_adj", str(score))
    data = finish(
        builder,
        process_spec,
        user=record.user if request.user is None else request.user,
        group_add=record.config.group_add,
        namespaces=sum(NAMESPACES[kind] for kind in kinds),
        seccomp=seccomp,
        flags=flags,
        launcher=[],
    )
    return Plan(data, builder.descriptions)


def _environment(own: list[str], asked: Iterable[str]) -> list[str]:
    merged: dict[str, str] = {entry.partition("=")[0]: entry for entry in own}
    for entry in asked:
        key, equals, _ = entry.partition("=")
        if not key or "\0" in entry:
            raise InvalidArgument(f"invalid environment variable: {entry!r}")
        if equals:
            merged[key] = entry
        else:
            merged.pop(key, None)
    return list(merged.values())
