"""Another process in a running container, through a fresh tiny helper that joins it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from .._core import launch as core
from ..errors import Conflict, FastboxError, InvalidArgument, NotRunning
from ..events.journal import command_line
from . import capabilities, launch, process
from .flatten import NAMESPACES, Plan, finish
from .plan import Filter, PlanBuilder
from .record import Container, Status

if TYPE_CHECKING:
    from ..events import Journal
    from .cgroups import Cgroup
    from .record import ContainerRecord

_ERROR = struct.Struct("=IiiI")


class ExecRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of ``exec``; None keeps the container's own."""

    args: list[str]
    env: Iterable[str] = ()
    workdir: str | None = None
    user: str | None = None
    privileged: bool = False
    detach: bool = False


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
    state = container.state
    pidfd = process.open_pidfd(state.pid, state.pid_starttime)
    if pidfd is None:
        raise NotRunning(f"container {container.id} is not running")
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, pidfd)
        plan_fd = os.memfd_create("fastbox-plan", os.MFD_CLOEXEC)
        stack.callback(os.close, plan_fd)
        os.write(plan_fd, plan.data)
        cgroup_fd = -1
        if cgroup.v2_dir is not None:
            cgroup_fd = os.open(cgroup.v2_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, cgroup_fd)
        error_read, error_write = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, error_read)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, null)
        wanted = [streams.stdin, streams.stdout, streams.stderr]
        try:
            pid = core.spawn_helper(
                launch.sealed_helper(),
                [b"fastbox-enter", *_procs(cgroup)],
                [
                    *(null if fd is None else fd for fd in wanted),
                    plan_fd,
                    error_write,
                    pidfd,
                    cgroup_fd,
                ],
            )
        finally:
            os.close(error_write)
        try:
            record = os.read(error_read, _ERROR.size)
            status: int = core.wait_helper(pid)
        except BaseException:  # interrupted: the command dies with the helper
            os.kill(pid, signal.SIGKILL)
            core.wait_helper(pid)
            raise
        if len(record) == _ERROR.size:
            error = core.StepError(*_ERROR.unpack(record))
            dying = error.step == core.STEP_SETNS and error.errno == errno.ESRCH
            if dying or not process.is_alive(state.pid, state.pid_starttime):
                raise NotRunning(f"container {container.id} is not running") from error
            user = container.record.user if request.user is None else request.user
            raise launch.describe(
                error,
                plan,
                argv=request.args,
                user=user,
                cwd=request.workdir or container.record.workdir,
            ) from error
        return status


@contextlib.contextmanager
def told(
    journal: Journal, record: ContainerRecord, request: ExecRequest
) -> Iterator[Callable[[int], int]]:
    """Tell who follows ``events`` of an exec. Yields what to call with its exit status; without
    that it was killed, or could not be started.

    Of one that is detached nobody here sees the end.
    """
    exec_id = os.urandom(32).hex()
    code = 137

    def ended(status: int) -> int:
        nonlocal code
        code = status
        return status

    for action in ("exec_create", "exec_start"):
        journal.container(command_line(action, request.args), record, execID=exec_id)
    try:
        yield ended
    except FastboxError as error:
        code = error.run_exit_code
        raise
    finally:
        if not request.detach or code:
            journal.container("exec_die", record, execID=exec_id, exitCode=str(code))


def _procs(cgroup: Cgroup) -> list[bytes]:
    return [os.fsencode(f"{path}/cgroup.procs") for path in cgroup.v1_dirs.values()]


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
    process_spec["env"] = _environment(record.env, request.env)
    process_spec["cwd"] = request.workdir or record.workdir
    flags = core.P_DETACH if request.detach else 0
    if request.privileged:
        caps = capabilities.resolve(privileged=True)
        process_spec["capabilities"] = {"bounding": caps, "effective": caps, "permitted": caps}
        seccomp = None
    kinds = [entry["type"] for entry in spec["linux"]["namespaces"]]
    builder = PlanBuilder()
    if spec["process"].get("oomScoreAdj") is not None:
        builder.op(core.OP_PROC_WRITE, "self/oom_score_adj", str(spec["process"]["oomScoreAdj"]))
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
