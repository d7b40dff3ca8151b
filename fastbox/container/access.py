"""Reaching into a container: attach, exec, its processes, files, figures. A part of Lifecycle."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import Conflict, Detached, Unsupported
from . import launch, restarts
from .flatten import Plan
from .record import Container, ContainerRecord, Status
from .store import storing

if TYPE_CHECKING:
    from .cgroups import Cgroup
    from .exec import ExecRequest
    from .plan import Filter
    from .stats import Stats
    from .store import ContainerStore
    from .view import View

ATTACH_SECONDS = 2.0  # how long a monitor may take to listen
_NOT_TO_BE_ATTACHED = {
    Status.PAUSED: "cannot attach to a paused container, unpause it first",
    Status.RESTARTING: "cannot attach to a restarting container, wait until it is running",
    **dict.fromkeys(
        (Status.CREATED, Status.EXITED, Status.DEAD, Status.REMOVING),
        "cannot attach to a stopped container, start it first",
    ),
}


class Access:
    """See ``Lifecycle``, which is one."""

    if TYPE_CHECKING:
        store: ContainerStore
        layers_dir: str

        def cgroup_of(self, record: ContainerRecord) -> Cgroup: ...

        def seccomp_of(self, config: dict[str, Any]) -> Filter | None: ...

        def using_config(
            self, record: ContainerRecord
        ) -> contextlib.AbstractContextManager[dict[str, Any]]: ...

    def attach(
        self, container: Container, streams: launch.Streams, cancel: int | None = None
    ) -> int:
        """Connect to a running container's streams and wait; the exit status.

        Raises:
            Conflict: it is not up, or paused. Detached: by the detach keys, or by ``cancel``.
            Unsupported: its monitor is of a version that cannot be attached to.
        """
        from .session import attach

        status = container.state.status
        if not status.is_up or status is Status.PAUSED:
            raise Conflict(_NOT_TO_BE_ATTACHED[status])
        directory = self.store.runtime_directory(container.id)
        deadline = time.monotonic() + ATTACH_SECONDS
        while True:
            try:
                session, has_input = attach(directory, streams, tty=container.record.config.tty)
                break
            except OSError as error:
                # It has just been started, or has ended since.
                if not self.store.state(container.record).status.is_up:
                    raise Conflict(_NOT_TO_BE_ATTACHED[Status.EXITED]) from error
                if time.monotonic() > deadline:
                    raise Unsupported(
                        f"attaching to container {container.name} failed: its monitor does not "
                        "answer",
                        hint="it may have been started by an older fastbox: restart the container",
                    ) from error
                time.sleep(0.005)
        journal, record = self.store.journal, container.record
        journal.container("attach", record)
        with contextlib.closing(session):
            try:
                return session.serve(streams, relay_input=has_input, redraw=True, cancel=cancel)
            except Detached:
                journal.container("detach", record)
                raise

    def pids(self, record: ContainerRecord) -> list[int]:
        """The container's processes, as the host numbers them."""
        return self.cgroup_of(record).pids()

    @contextlib.contextmanager
    def view(self, container_id: str, *, write: bool, mounts: bool = True) -> Iterator[View]:
        """The container's files; see ``view.View``. One that does not run cannot start meanwhile.

        Args:
            mounts: False leaves out what is mounted in it; not to be written to, then.

        Raises:
            NotFound; FastboxError: they could not be mounted.
        """
        from . import view

        found = view.of_running(self.store.load(container_id), mounts=mounts)
        if found is not None:
            with found:
                yield found
            return
        with contextlib.ExitStack() as held:
            held.enter_context(self.store.locked(container_id))
            container = self.store.load(container_id)
            found = view.of_running(container, mounts=mounts)
            if found is not None:  # somebody started it
                held.close()
            else:
                record = container.record
                with storing(f"opening the files of container {record.name}"):
                    with self.using_config(record) as config:
                        shown = config if mounts else {**config, "mounts": []}
                        found = view.of_stopped(
                            self.store, record, self.layers_dir, shown, write=write
                        )
            with found:
                yield found

    def exec(self, container: Container, request: ExecRequest, streams: launch.Streams) -> int:
        """Run another process in a running container; see ``exec.run``."""
        from . import exec as execs

        plan, cgroup = self.exec_parts(container, request)
        with (
            storing(f"exec in container {container.name}"),
            execs.told(self.store.journal, container.record, request) as ended,
        ):
            return ended(execs.run(container, request, cgroup, plan, streams))

    def exec_parts(self, container: Container, request: ExecRequest) -> tuple[Plan, Cgroup]:
        """What ``exec.run`` needs.

        Raises:
            NotRunning, Conflict, InvalidArgument
        """
        from . import exec as execs

        restarts.check_not_restarting(container)
        execs.check(container, request)
        path = f"{container.bundle}/config.json"
        signature = execs.BASES.signature(path)
        config, seccomp = execs.BASES.get(path, signature)
        if config:
            plan = execs.make_plan(container, request, config, seccomp)
        else:
            with self.using_config(container.record) as config:
                seccomp = self.seccomp_of(config)
                plan = execs.make_plan(container, request, config, seccomp)
                execs.BASES.keep(path, signature, config, seccomp)
        return plan, self.cgroup_of(container.record)

    def stats(self, container: Container) -> Stats:
        """What it uses; see ``stats.sample``."""
        from .stats import sample

        return sample(
            container,
            self.cgroup_of(container.record),
            joined_late=os.path.exists(self.store.more_cgroups(container.id)),
        )

    def see_oom_kills(self, container: Container) -> None:
        """Set ``state.oom_killed`` of one that is up, if the kernel killed any of its processes for
        want of memory. Its exit record tells it of one that has ended."""
        if container.state.status.is_up:
            container.state.oom_killed = self.cgroup_of(container.record).oom_kills() > 0
