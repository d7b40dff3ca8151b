"""``Sandbox``: a box that runs commands of other people, one after another, and keeps their files.

A box is a container whose PID 1 is fastbox's own (``_core/monitor/idle.c``): nothing of the image
runs until somebody asks. What runs in it is started by a helper that waits beside it
(``container/runs``), so a run costs a fraction of a container's start.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .._core import launch as core
from ..container import exec as execs
from ..container import graph, launch, layered, process, runs, snapshots
from ..container.view import View
from ..errors import Conflict, FastboxError, InvalidArgument, NotFound, NotRunning
from . import limits
from .files import Files, numeric
from .result import SandboxResult, Usage
from .snapshot import Snapshot, drop_layers, take_layers

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..container.config import ContainerConfig
    from ..container.flatten import Plan
    from ..container.record import Container
    from ..engine import Engine

DEFAULT: Any = object()  # "the box's own", where None means something


class Sandbox(Files):
    """A box: made when it is entered or first used, gone when it is closed.

        with fastbox.Sandbox("python", memory="256m", cpus=0.5, timeout=5) as box:
            result = box.run(["python3", "-c", code], input=data)

    Files and background processes last from one run to the next. All that confines a container
    confines a box, and more: no network, no capabilities, ``no_new_privileges``, 512 processes at
    most, unless something else is asked for. It does not outlive the process that made it, and
    processes forked from that one cannot use it. Its methods may be called from several threads,
    and several runs may be going on.

    Args:
        image: name or id; or a ``Snapshot``, whose engine it is then.
        memory: bytes, or ``"256m"``; cpus: ``0.5`` is half of one. None: no limit.
        network: ``"none"``, ``"bridge"``, or the name of a network.
        timeout: seconds of each run; None: no limit.
        output_limit: bytes (or ``"1m"``) of each of stdout and stderr of a run; None: no limit.
        env, user, workdir: of all runs, over the image's.
        pull: ``"missing"``, ``"always"`` or ``"never"``.
        engine: whose store; None is the default one.
        config: further attributes of ``ContainerConfig``: ``pids_limit``, ``cap_add``,
            ``read_only``, ``mounts`` …

    Raises:
        InvalidArgument: a limit cannot be; nothing has been made.

    Attributes:
        id: the container's, "" before it is made.
    """

    def __init__(
        self,
        image: str | Snapshot,
        *,
        memory: int | str | None = None,
        cpus: float | None = None,
        network: str = "none",
        timeout: float | None = None,
        output_limit: int | str | None = limits.OUTPUT_LIMIT,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        workdir: str | None = None,
        pull: str = "missing",
        engine: Engine | None = None,
        **config: Any,
    ) -> None:
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._up: _Up | None = None
        self._container: Container | None = None
        self._is_closed = False
        self._runs = 0
        self._own: list[str] = []  # its layers that no image has
        self._ids: tuple[int, int] | None = None
        self._owner = os.getpid()
        if pull not in ("missing", "always", "never"):
            raise InvalidArgument(f"pull={pull!r}: must be one of 'always', 'missing' or 'never'")
        self._pull = pull
        self._options: dict[str, Any] = {
            "memory": memory,
            "cpus": cpus,
            "network": network,
            "timeout": timeout,
            "output_limit": output_limit,
            "env": env,
            "user": user,
            "workdir": workdir,
            **config,
        }
        self._source = image if isinstance(image, Snapshot) else None
        self._config: ContainerConfig = limits.configuration(
            image.image_name if isinstance(image, Snapshot) else image,
            memory=memory,
            cpus=cpus,
            network=network,
            env=env,
            user=user,
            workdir=workdir,
            config=config,
        )
        self._timeout = limits.seconds("timeout", timeout)
        self._output_limit = limits.output_limit(output_limit)
        self.engine = self._engine_of(engine)
        if self._source is not None:
            self._own = self._source.acquire()

    def _engine_of(self, given: Engine | None) -> Engine:
        if self._source is not None:
            if given not in (None, self._source.engine):
                raise InvalidArgument("a box of a snapshot has the snapshot's engine")
            return self._source.engine
        if given is not None:
            return given
        from ..runner import default_engine

        return default_engine()

    # ---- its life ----------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return "" if self._container is None else self._container.id

    def start(self) -> Self:
        """Make it, and start its PID 1. ``run`` does that by itself.

        Raises:
            FastboxError: nothing of it is left.
        """
        self._check_owner()
        with self._lock:
            self._started()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def close(self) -> None:
        """End all that runs in it, and remove it. A second time is fine."""
        if os.getpid() != self._owner:  # a fork's copy
            return
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            up, self._up = self._up, None
            if up is not None:
                up.disconnect()
                # Runs of other threads end with that, and need their descriptors until then.
                self._idle.wait_for(lambda: self._runs == 0, runs.KILL_SECONDS)
                up.end()
            if self._container is not None:
                self._remove(self._container)
            if self._own:
                drop_layers(self.engine, self._own)

    def _remove(self, container: Container) -> None:
        """Its monitor has, unless it has volumes to be removed with it, or was not up."""
        if os.path.isdir(container.directory):
            with contextlib.suppress(NotFound):
                self.engine._lifecycle.remove(container.id, force=True, volumes=True)

    def _check_owner(self) -> None:
        if os.getpid() != self._owner:
            raise FastboxError("the box belongs to the process that made it, not to its children")

    def _made(self) -> Container:
        if self._is_closed:
            raise NotRunning("the box is closed")
        if self._container is None:
            self._container = self._make()
        return self._container

    def _make(self) -> Container:
        if self._source is not None:
            return self._source.create(self._config)
        return self.engine.create(self._config, pull=self._pull, transient=True)

    def _started(self) -> _Up:
        """The caller has the lock."""
        is_new = self._container is None
        container = self._made()
        if self._up is None:
            try:
                self._up = _Up(self.engine, container)
            except BaseException:
                if is_new:
                    self.close()
                raise
        return self._up

    def stop(self) -> None:
        """End all that runs in it; its files stay, and the next run starts it again.

        Raises:
            Conflict: a run is going on.
        """
        self._check_owner()
        with self._lock:
            self._made()
            self._check_idle("stop")
            if self._up is not None:
                up, self._up = self._up, None
                up.stop()

    def _check_idle(self, verb: str) -> None:
        if self._runs:
            raise Conflict(f"cannot {verb} a box while a command runs in it")

    # ---- snapshots ---------------------------------------------------------------------------

    def snapshot(self, *, keep_processes: bool = False) -> Snapshot:
        """Its files as they are now, without what is mounted in it. That takes the same time
        however much there is, and needs the box to be down: processes that runs have left in the
        background end. The next run starts it again.

        Args:
            keep_processes: they are only paused, and what has changed since the last snapshot is
                copied.

        Raises:
            Conflict: a run is going on. Unsupported: the store's driver cannot do that.
        """
        self._check_owner()
        with self._lock:
            container = self._made()
            snapshots.check(container.record)
            self._check_idle("take a snapshot of")
            lifecycle, images = self.engine._lifecycle, self.engine._images
            if snapshots.is_unchanged(container):
                own = self._own
            elif keep_processes and self._up is not None:
                own = snapshots.copy(lifecycle, images, container)
            else:
                self.stop()
                own = snapshots.take(lifecycle, images, container)
                before, self._own = self._own, own
                take_layers(self.engine, own)
                drop_layers(self.engine, before)
            return self._snapshot_of(container, own)

    def _snapshot_of(self, container: Container, own: list[str]) -> Snapshot:
        record = container.record
        if self._source is not None:
            image = self._source.image
        else:
            image = self.engine.image(record.image_id)
        base = layered.image_layers(record)
        name = record.image_name or record.image_id
        return Snapshot(self.engine, image, name, own, base, type(self), self._options)

    def fork(self, *, keep_processes: bool = False, **changes: Any) -> Self:
        """Another box with the same files and settings; from now on each goes its own way. See
        ``snapshot`` for what that takes.

        Args:
            changes: other settings, see ``Sandbox``.
        """
        with self.snapshot(keep_processes=keep_processes) as snapshot:
            return type(self)(snapshot, **{**self._options, **changes})

    # ---- files (see ``Files``) ---------------------------------------------------------------

    @contextlib.contextmanager
    def _view(self, *, write: bool) -> Iterator[tuple[View, str]]:
        self._check_owner()
        with self._lock:
            container, up = self._made(), self._up
            found = None if up is None else up.view()
        if found is not None:
            with found:
                yield found, container.name
            return
        with self.engine._lifecycle.view(container.id, write=write) as stopped:
            yield stopped, container.name

    def _owner_of_files(self) -> tuple[int, int]:
        if self._ids is None:
            with self._lock:
                self._ids = numeric(self._made().record.user)
                if self._ids is None:  # a name, which PID 1 has looked up
                    self._ids = self._started().ids()
        return self._ids

    # ---- running -----------------------------------------------------------------------------

    def run(
        self,
        args: Iterable[str],
        *,
        input: bytes | str | None = None,
        timeout: float | None = DEFAULT,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        output_limit: int | str | None = DEFAULT,
        check: bool = False,
        cancel: int | None = None,
    ) -> SandboxResult:
        """Run a command and collect its output.

        It has ended when the command has: what that has left in the background goes on, but its
        stdout and stderr lead nowhere then. If the run is over its time or its output limit, or is
        interrupted, all that it has started is killed, and nothing else in the box.

        Args:
            input: what it reads from stdin; None is an empty stdin.
            timeout, output_limit: instead of the box's; None: no limit.
            env: over the box's. cwd, user: instead of them.
            check: raise CommandFailed when the exit status is not 0.
            cancel: a descriptor (an eventfd) that becomes readable when the run is to be killed.

        Raises:
            LaunchError: it could not be started. NotRunning: the box has ended, or was closed.
            CommandFailed: see ``check``. Conflict: by ``cancel``. FastboxError
        """
        request = execs.ExecRequest(
            args=limits.words(args),
            env=limits.environment(env),
            workdir=limits.directory(cwd),
            user=user,
        )
        data = limits.data(input)
        if timeout is not DEFAULT:
            timeout = limits.seconds("timeout", timeout)
        limit = self._output_limit
        if output_limit is not DEFAULT:
            limit = limits.output_limit(output_limit)
        with self._running() as up:
            result = up.run(
                request,
                b"" if data is None else data,
                timeout=self._timeout if timeout is DEFAULT else timeout,
                limit=limit,
                cancel=cancel,
                alone=lambda: self._runs == 1,
            )
        return result.check() if check else result

    @contextlib.contextmanager
    def _running(self) -> Iterator[_Up]:
        self._check_owner()
        with self._lock:
            up = self._started()
            self._runs += 1
        try:
            yield up
        finally:
            with self._lock:
                self._runs -= 1
                self._idle.notify_all()


class _Up:
    """What the engine has of a box that is up.

    Raises:
        FastboxError: it could not be started, and is down.
    """

    def __init__(self, engine: Engine, container: Container) -> None:
        self.lifecycle = engine._lifecycle
        self.record = container.record
        with contextlib.ExitStack() as undo:
            self._launch(undo)
            self.cgroup = self.lifecycle.cgroup_of(self.record)
            self._server = runs.Server(self.cgroup, self.init)
            undo.callback(self._server.close)
            self._groups = runs.Groups(self.cgroup)
            self._memory = runs.Memory(self.cgroup)
            self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            undo.callback(os.close, self._null)
            # As an exec sees it, which asks only whether it is up.
            self._container = container
            with self.lifecycle.using_config(self.record) as config:
                self._spec = config
                self._seccomp = self.lifecycle.seccomp_of(config)
            undo.pop_all()
        _register()
        _all_up.add(self)

    def _launch(self, undo: contextlib.ExitStack) -> None:
        reader, self._lifeline = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, self._lifeline)
        try:
            started = self.lifecycle.start_held(self.record.id, launch.Streams(stdin=reader))
        finally:
            os.close(reader)
        assert started.client is not None
        self._client = started.client
        undo.callback(self._client.close)
        self._pid, begun = self.lifecycle.store.init(self.record.id)
        init = process.open_pidfd(self._pid, begun)
        if init is None:
            raise NotRunning(f"box {self.record.id[:12]} has ended at once")
        self.init = init
        undo.callback(os.close, init)

    def view(self) -> View:
        """Its files.

        Raises:
            NotRunning
        """
        try:
            root = os.open(f"/proc/{self._pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._check_up()
            raise
        found = View(root)
        try:
            self._check_up()  # so that what was opened is this one's, and not of one with its pid
        except BaseException:
            os.close(root)
            raise
        return found

    def ids(self) -> tuple[int, int]:
        """uid and gid of its PID 1."""
        with open(f"/proc/{self._pid}/status", encoding="ascii", errors="replace") as file:
            found = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        self._check_up()
        return int(found["Uid"].split()[0]), int(found["Gid"].split()[0])

    def stop(self) -> None:
        """As ``end``, but the container stays."""
        with self.lifecycle.kept_at_end(self.record):
            self.end()
            self.lifecycle.wait_down(self.record)
        graph.of(self.record).started_before(self.lifecycle.store.directory(self.record.id))

    def disconnect(self) -> None:
        """No more commands; those that run end. A second time is fine."""
        self._server.close()

    def end(self) -> None:
        """Kill all that is in the box; returns when its monitor has seen to the rest."""
        from ..container.session import Session

        self.disconnect()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.init, signal.SIGKILL)
        with contextlib.suppress(FastboxError, OSError):  # its monitor was killed
            Session(self._client, tty=False).serve(launch.Streams(), relay_input=False)
        _all_up.discard(self)
        self._groups.close()
        self._memory.close()
        self._client.close()
        for fd in (self.init, self._lifeline, self._null):
            os.close(fd)

    def leave(self) -> None:
        """In a forked child: close what keeps it up, without a word to anybody."""
        self._server.leave()
        self._client.close()
        for fd in (self.init, self._lifeline):
            os.close(fd)

    def run(
        self,
        request: execs.ExecRequest,
        data: bytes | bytearray | memoryview,
        *,
        timeout: float | None,
        limit: int | None,
        cancel: int | None,
        alone: Any,
    ) -> SandboxResult:
        """See ``Sandbox.run``.

        Args:
            alone: whether no other run is going on.
        """
        plan = execs.make_plan(self._container, request, self._spec, self._seccomp)
        began = time.monotonic()
        deadline = None if timeout is None else began + timeout
        group = self._groups.take()
        try:
            was_alone, kills = alone(), self._memory.kills()
            if was_alone:
                self._memory.begin()
            cpu = group.cpu()
            ended = self._exchange(plan.data, group, data, limit, deadline, cancel).serve()
            if ended.failure is not None:
                self._raise(ended.failure, plan, request)
            if ended.status == 128 + signal.SIGKILL and not ended.stopped:
                self._check_up()
            is_oom = self._memory.kills() > kills
            if is_oom and not (was_alone and alone()):
                is_oom = ended.status == 128 + signal.SIGKILL and not ended.stopped
            usage = self._usage(ended, group, cpu, time.monotonic() - began)
        finally:
            self._groups.give_back(group)
        if ended.stopped == "cancel":
            raise Conflict(f"{request.args[0]} in a box was cancelled")
        return SandboxResult(
            args=request.args,
            stdout=ended.stdout,
            stderr=ended.stderr,
            returncode=ended.status,
            oom=is_oom,
            timed_out=ended.stopped == "timeout",
            truncated=ended.truncated,
            usage=usage,
        )

    def _exchange(
        self,
        plan: bytes,
        group: runs.Group,
        data: bytes | bytearray | memoryview,
        limit: int | None,
        deadline: float | None,
        cancel: int | None,
    ) -> runs.Exchange:
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:

            def pipe(ours: int) -> tuple[int, int]:
                ends = os.pipe2(os.O_CLOEXEC)
                undo.callback(os.close, ends[ours])
                theirs.callback(os.close, ends[1 - ours])
                os.set_blocking(ends[ours], False)
                return ends[ours], ends[1 - ours]

            feed, stdin = pipe(1) if data else (-1, self._null)
            (out, stdout), (err, stderr) = pipe(0), pipe(0)
            answers = self._server.request(plan, [stdin, stdout, stderr], group.fd)
            undo.pop_all()
        return runs.Exchange(
            answers,
            group,
            out,
            err,
            feed,
            memoryview(data),
            limit=limit,
            deadline=deadline,
            cancel=cancel,
        )

    def _check_up(self) -> None:
        """Raises NotRunning; also when its PID 1 is just ending, which takes all others along."""
        poller = select.poll()
        poller.register(self.init, select.POLLIN)
        if process.is_exiting(self._pid) or poller.poll(0):
            raise NotRunning(f"box {self.record.id[:12]} has ended")

    def _usage(
        self, ended: runs.Ended, group: runs.Group, before: tuple[int, int] | None, wall: float
    ) -> Usage:
        user, system, after = ended.user, ended.system, group.cpu()
        if before is not None and after is not None:
            user, system = ((b - a) / 1e6 for a, b in zip(before, after, strict=True))
        peak = self._memory.peak() if self.record.config.memory > 0 else 0
        return Usage(user=user, system=system, memory=peak or ended.max_rss, wall=wall)

    def _raise(self, failure: core.StepError, plan: Plan, request: execs.ExecRequest) -> None:
        if failure.step == core.STEP_SETNS:
            raise NotRunning(f"box {self.record.id[:12]} has ended") from failure
        raise launch.describe(
            failure,
            plan,
            argv=request.args,
            user=self.record.user if request.user is None else request.user,
            cwd=request.workdir or self.record.workdir,
        ) from failure


# Boxes end with the process that made them, not with the last of its children.
_all_up: weakref.WeakSet[_Up] = weakref.WeakSet()


@functools.cache
def _register() -> None:
    os.register_at_fork(after_in_child=_leave_all)


def _leave_all() -> None:
    while _all_up:
        with contextlib.suppress(OSError):  # it was just being closed
            _all_up.pop().leave()
