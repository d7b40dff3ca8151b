"""Starting a container: cgroup, plan, descriptors, and what went wrong in words."""

from __future__ import annotations

import _socket  # the module over it costs milliseconds at start
import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from .. import _core, tracing
from .._core import launch as core
from ..errors import FastboxError, LaunchError
from ..events import container_attributes
from .flatten import CgroupView, Network, Plan, Root, flatten
from .plan import Filter
from .record import ContainerRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .cgroups import Cgroup
    from .store import ContainerStore

HELPER = os.path.join(os.path.dirname(os.path.abspath(_core.__file__)), "fastbox-monitor")

_STEPS = {
    core.OP_CGROUP_JOIN: "joining cgroup",
    core.OP_UNSHARE: "unsharing the cgroup namespace",
    core.OP_PROPAGATION: "changing mount propagation",
    core.OP_OVERLAY: "mounting the root filesystem",
    core.OP_TREE: "opening mount source",
    core.OP_PIVOT: "pivot_root",
    core.OP_FSMOUNT: "mounting",
    core.OP_ATTACH: "mounting",
    core.OP_MKNOD: "making device",
    core.OP_SYMLINK: "making symlink",
    core.OP_MASK: "masking",
    core.OP_READONLY: "making read-only",
    core.OP_SYSCTL: "setting sysctl",
    core.OP_LOOPBACK: "bringing up the loopback interface",
    core.OP_HOSTNAME: "setting the hostname",
    core.OP_DOMAINNAME: "setting the domain name",
    core.OP_MKDIR: "making the working directory",
    core.OP_ROOT_READONLY: "making the root filesystem read-only",
    core.OP_PROC_WRITE: "writing below /proc:",
    core.OP_RLIMIT: "setting resource limit",
    core.OP_NETLINK: "setting up the network:",
    core.OP_NAMES: "opening the name server's sockets",
    core.OP_JOIN: "joining the other container's network",
    core.OP_CONSOLE: "opening a terminal in the container's /dev/pts",
    core.STEP_CLONE: "creating namespaces",
    core.STEP_STDIO: "setting up standard streams",
    core.STEP_KEYRING: "joining a session keyring",
    core.STEP_CAPS: "setting capabilities",
    core.STEP_SETID: "changing user",
    core.STEP_SECCOMP: "loading the seccomp filter",
    core.STEP_MONITOR: "starting the monitor",
    core.STEP_SETNS: "joining the container's namespaces",
    core.STEP_PLAN: "reading the launch plan",
    core.STEP_TTY: "opening a terminal in the container's /dev/pts",
}


_NETWORK_HINTS = {
    errno.EOPNOTSUPP: "the kernel lacks veth, macvlan or nf_tables; --network host needs none",
    errno.EPERM: "that needs CAP_NET_ADMIN; run fastbox as root",
    errno.ENODEV: "the network's device went away; try again",
    errno.EINVAL: "the kernel does not take an address or a device of that network",
}


class Streams(msgspec.Struct, frozen=True):
    """Descriptors of an attached client; None is nothing (stdin: end of file).

    Attributes:
        detach_keys: the bytes that leave the container's terminal; empty: none do.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    detach_keys: bytes = b""


class Started(msgspec.Struct):
    """A started container. ``client`` (attached only) is the connection to its monitor, see
    ``session.Session``; the caller closes it."""

    pid: int
    monitor_pid: int
    client: _socket.socket | None = None


def sealed_helper() -> int:
    """Descriptor of a sealed copy of the helper: what a container sees of it as /proc/PID/exe can
    not be written to, and is not the engine's file (CVE-2019-5736). One per process."""
    global _sealed
    if _sealed < 0:
        import fcntl

        with open(HELPER, "rb") as file:
            data = file.read()
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        try:
            fd = os.memfd_create("fastbox-helper", flags | 0x10)  # MFD_EXEC, Linux 6.3
        except OSError:
            fd = os.memfd_create("fastbox-helper", flags)
        os.write(fd, data)
        # F_ADD_SEALS: seal, shrink, grow, write
        fcntl.fcntl(fd, 1033, 0x1 | 0x2 | 0x4 | 0x8)
        _sealed = fd
    return _sealed


_sealed = -1


def describe(
    error: core.StepError, plan: Plan, *, argv: list[str], user: str, cwd: str
) -> LaunchError:
    """The error that a failed step is, with Docker's wording where Docker has one."""
    text = os.strerror(error.errno).lower()
    about = plan.about(error.index)
    command = argv[0]
    code, hint = 125, None
    if error.step == core.STEP_EXEC:
        code = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
        if error.errno == errno.ENOENT and "/" not in command:
            text = "executable file not found in $PATH"
        elif error.errno == errno.ENOENT:
            text = f"stat {command}: no such file or directory"
            hint = "if the file is there, its interpreter is not"
        message = f'exec: "{command}": {text}'
    elif error.step == core.STEP_USER:
        message = f"unable to find user {user.partition(':')[0]}: "
        message += (
            "no matching entries in passwd file"
            if error.errno == errno.ENOENT
            else f"reading /etc/passwd of the image: {_unreadable(error)}"
        )
    elif error.step == core.STEP_GROUP:
        message = f"unable to find group {user.partition(':')[2] or 'of --group-add'}: "
        message += (
            "no matching entries in group file"
            if error.errno == errno.ENOENT
            else f"reading /etc/group of the image: {_unreadable(error)}"
        )
    elif error.step in (core.STEP_CWD, core.OP_MKDIR):
        code = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
        message = f'chdir to working directory "{cwd}": {text}'
    elif error.errno == errno.EPERM and error.where == 9:
        message = f"mounting {about}: it is inside /proc, where nothing may be mounted"
    else:
        message = f"{_STEPS.get(error.step, 'launching')}{' ' + about if about else ''}: {text}"
        if error.step == core.OP_NETLINK:
            hint = _NETWORK_HINTS.get(error.errno)
        elif error.step == core.OP_PROC_WRITE:
            hint = "lowering oom_score_adj needs CAP_SYS_RESOURCE, which the engine does not have"
        elif error.errno == errno.EPERM:
            hint = "the engine lacks a privilege for that; run it as root"
        elif error.errno in (errno.ENOTDIR, errno.EISDIR) and error.step == core.OP_ATTACH:
            code = 127
            hint = (
                "Are you trying to mount a directory onto a file (or vice-versa)? Check if the "
                "specified host path exists and is the expected type"
            )
    return LaunchError(
        f"unable to start container process: {message}",
        errno=error.errno,
        step=_STEPS.get(error.step, "exec" if error.step == core.STEP_EXEC else "user"),
        path=about or None,
        hint=hint,
        run_exit_code=code,
    )


def _unreadable(error: core.StepError) -> str:
    return "not a regular file" if error.errno == errno.EINVAL else os.strerror(error.errno).lower()


def window_of(streams: Streams | None) -> tuple[int, int]:
    """(rows, columns) of the client's terminal; zeros if it has none."""
    from . import terminal

    shown = None if streams is None else terminal.first(streams.stdin, streams.stdout)
    return (0, 0) if shown is None else terminal.size(shown)


@tracing.traced("plan")
def make_plan(
    spec: dict[str, Any],
    record: ContainerRecord,
    root: Root,
    cgroup: Cgroup,
    seccomp: Filter | None,
    window: tuple[int, int] = (0, 0),
    network: Network | None = None,
    *,
    wait: bool = False,
) -> Plan:
    """The launch plan of a container that is to start in ``cgroup``.

    Args:
        window: (rows, columns) of its terminal, if it has one; zeros: not known.
        wait: see ``flatten``.
    """
    # What runs in a box is not of its init's making, which has no need of limits: see ``runs``.
    joins = not record.config.idle or cgroup.v2_dir is None
    view = CgroupView(
        procs=[f"{path}/cgroup.procs" for path in cgroup.v1_dirs.values() if joins],
        v1_mounts=list(cgroup.v1_dirs.items()),
        v2=cgroup.v2_dir is not None,
    )
    return flatten(
        spec,
        root,
        view,
        seccomp=seccomp,
        group_add=record.config.group_add,
        init=record.config.init,
        idle=record.config.idle,
        window=window,
        network=network,
        wait=wait,
    )


def cleanup_command(root: str, runtime: str, container_id: str) -> list[str]:
    """What the monitor runs to remove a container that nobody waits for."""
    return own_command(root, runtime, "container", "cleanup", container_id)


def end_command(root: str, runtime: str, record: ContainerRecord) -> list[str]:
    """What the monitor runs when the container has ended: what removes it, or, where a restart
    policy may start it again and no supervisor is there, what starts one."""
    if record.config.restart.is_set:
        return own_command(root, runtime, "supervisor", "run", "--detach", "--unasked")
    return cleanup_command(root, runtime, record.id)


def own_command(root: str, runtime: str, *words: str) -> list[str]:
    """A command line of fastbox's own on a store; empty where the interpreter is unknown."""
    if not sys.executable:
        return []
    options = ["--root", root, "--runtime-dir", runtime]
    return [sys.executable, "-I", "-m", "fastbox", *options, *words]


@tracing.traced("launch")
def start(
    store: ContainerStore,
    record: ContainerRecord,
    plan: Plan,
    cgroup: Cgroup,
    *,
    directory: int,
    run: int,
    cleanup: list[str],
    streams: Streams | None,
    ports: Sequence[int] = (),
    names: bool = False,
    netfilter: int = -1,
) -> Started:
    """Launch init and monitor; returns when both run.

    Args:
        directory: the container's, locked. The monitor shares the lock until its state stands, so
            that nobody starts or removes the container should this process be killed meanwhile.
        run: number of this start.
        streams: an attached client's, or None when detached.
        ports: sockets of published ports. names: the plan opens those of a name server.
        netfilter: the monitor keeps this nfnetlink socket.

    Raises:
        LaunchError
    """
    with contextlib.ExitStack() as stack:
        wires = _Wires(stack, record, streams, names)
        start_both = core.start if tracing.active is None else _traced_start(plan)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        run_directory = os.open(store.runtime_directory(record.id), flags)
        stack.callback(os.close, run_directory)
        cgroup_fd = -1
        if cgroup.v2_dir is not None:
            cgroup_fd = os.open(cgroup.v2_dir, flags)
            stack.callback(os.close, cgroup_fd)
        try:
            pid, monitor = start_both(
                plan.data,
                stdio=wires.stdio,
                monitor_path=os.fsencode(HELPER),
                monitor_argv=monitor_argv(
                    store, record, cgroup, run, cleanup, streams is not None, len(ports)
                ),
                monitor_fds=monitor_fds(
                    out=wires.out,
                    err=wires.err,
                    directory=directory,
                    run_directory=run_directory,
                    client=wires.monitor_end,
                    client_out=_number(streams.stdout if streams else None),
                    client_err=_number(streams.stderr if streams else None),
                    stdin=wires.stdin_writer,
                    console=wires.console[0],
                    names=wires.names[0],
                    netfilter=netfilter,
                ),
                cgroup_fd=cgroup_fd,
                helper_fd=sealed_helper(),
                console_fd=wires.console[1],
                names_fd=wires.names[1],
                ports=ports,
            )
        except core.StepError as error:
            if error.step == core.STEP_MONITOR and error.where == core.WHERE_ENDED:
                raise FastboxError("starting the container: its monitor ended at once") from error
            if error.step == core.STEP_MONITOR and error.where == core.WHERE_STATE:
                path = f"{store.runtime_directory(record.id)}/state.json"
                raise OSError(error.errno, os.strerror(error.errno), path) from error
            raise describe(
                error,
                plan,
                argv=[record.path, *record.args],
                user=record.user,
                cwd=record.workdir,
            ) from error
        return Started(pid, monitor, wires.keep_client())


def monitor_fds(
    *,
    out: int,
    err: int,
    directory: int,
    run_directory: int,
    client: int = -1,
    client_out: int = -1,
    client_err: int = -1,
    stdin: int = -1,
    console: int = -1,
    names: int = -1,
    netfilter: int = -1,
    wait: int = -1,
) -> list[int]:
    """The monitor's descriptors in the order of ``enum fb_monitor_fd`` (_core/launch/start.h)."""
    made_there = -1
    return [
        out, err, directory, run_directory, made_there, client, client_out, client_err, stdin,
        console, names, netfilter, wait,
    ]  # fmt: skip


def _traced_start(plan: Plan) -> Callable[..., tuple[int, int]]:
    from .traced import starter

    return starter(plan, _STEPS)


class _Wires:
    """The descriptors between a container, its monitor and the client; -1 is none.

    Attributes:
        stdio: what the container gets. out, err, stdin_writer: the other ends, for the monitor.
        console: socket pair on which init hands its terminal's master to the monitor; names: one
            for the sockets of its name server.
        monitor_end: the monitor's end of the client's connection.
    """

    def __init__(
        self,
        stack: contextlib.ExitStack,
        record: ContainerRecord,
        streams: Streams | None,
        names: bool,
    ) -> None:
        self._stack = stack
        self.stdio = [-1, -1, -1]
        self.out = self.err = self.stdin_writer = self.monitor_end = -1
        self.console = self.names = (-1, -1)
        self._client: _socket.socket | None = None
        if names:
            first, second = self._pair()
            self.names = first.fileno(), second.fileno()
        if record.config.tty:
            first, second = self._pair()
            self.console = first.fileno(), second.fileno()
        else:
            self.out, self.stdio[1] = self._pipe()
            self.err, self.stdio[2] = self._pipe()
            if streams is not None and streams.stdin is not None:
                self.stdio[0] = streams.stdin
            elif record.config.interactive:
                self.stdio[0], self.stdin_writer = self._pipe()
        if streams is not None:
            self._client, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            self.monitor_end = theirs.fileno()
            stack.callback(theirs.close)
            stack.callback(self._close_client)

    def _pipe(self) -> tuple[int, int]:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._stack.callback(os.close, reader)
        self._stack.callback(os.close, writer)
        return reader, writer

    def _pair(self) -> tuple[_socket.socket, _socket.socket]:
        pair = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        for end in pair:
            self._stack.callback(end.close)
        return pair

    def _close_client(self) -> None:
        if self._client is not None:
            self._client.close()

    def keep_client(self) -> _socket.socket | None:
        """The client's end, which is the caller's from now on."""
        client, self._client = self._client, None
        return client


def _number(fd: int | None) -> int:
    return -1 if fd is None else fd


def monitor_argv(
    store: ContainerStore,
    record: ContainerRecord,
    cgroup: Cgroup,
    run: int,
    cleanup: list[str],
    attached: bool,
    ports: int,
) -> list[bytes]:
    """See enum argument in monitor.c."""
    config = record.config
    flags = "t" if config.tty else ""
    flags += "i" if config.interactive else ""
    flags += "o" if config.stdin_once else ""
    if config.auto_remove:
        flags += removal_flag(record, attached)
    if config.restart.is_set:
        flags += "s"  # see end_command
    words = [
        "fastbox-monitor",
        "",
        str(run),
        *_log_words(record),
        _oom_file(cgroup),
        flags,
        store.root,
        store.runtime,
        record.id,
        record.name,
        store.journal.path,
        container_attributes(record),
        str(ports),
        *cgroup.all_dirs,
        "--",
        *cleanup,
    ]
    # One call for all; none holds a NUL, which would end it.
    return "\0".join(words).encode("utf-8", "surrogateescape").split(b"\0")


def _log_words(record: ContainerRecord) -> list[str]:
    config = record.config
    limits = [str(config.log_max_size), str(config.log_max_file)]
    if config.log_driver in ("cri", "none"):
        return [config.log_driver, *limits, "", ""]
    from .logging import sink

    daemon = sink(record)
    return [daemon.driver, *limits, daemon.socket, daemon.header]


def removal_flag(record: ContainerRecord, attached: bool) -> str:
    """Who removes an auto_remove container: ``x`` the monitor itself; but what has anonymous
    volumes is the engine's, by whoever waits (``r``) or by a command of the monitor's (``d``)."""
    if not any(point.anonymous for point in record.mounts):
        return "x"
    return "r" if attached else "d"


def _oom_file(cgroup: Cgroup) -> str:
    """Where the kernel counts the group's OOM kills, or ""."""
    if "memory" in cgroup.v1_dirs:
        return f"{cgroup.v1_dirs['memory']}/memory.oom_control"
    return f"{cgroup.v2_dir}/memory.events" if cgroup.v2_dir is not None else ""
