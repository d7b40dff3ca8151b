"""Stop, restart, kill, wait, remove: the verbs that change what a container is doing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .. import atomic
from ..errors import (
    Conflict,
    FastboxError,
    InvalidArgument,
    NotFound,
    NotRunning,
    StoreError,
)
from ..events import container_attributes
from ..locks import lock
from . import cgroups, graph, launch, process, restarts
from .cgroups import Cgroup
from .connecting import Connecting
from .record import Container, ContainerRecord, Status
from .starting import Starting
from .store import LOST_EXIT_CODE, storing

if TYPE_CHECKING:
    from .update import Changes

DEFAULT_STOP_TIMEOUT = 10
KILL_TIMEOUT = 10.0
START_RACES = 5  # how often `rm -f` kills what others start


class Lifecycle(Connecting, Starting):
    """The verbs over one store.

    Args:
        root: the store's root, for the clean-up command.
        layers_dir: where unpacked layers are.
        supervise: told each container that was started, or changed, and wants the supervisor.
    """

    # stopping -----------------------------------------------------------------------------------
    def stop(self, container_id: str, timeout: int | None, signal: str | None) -> None:
        """Ask init to end, and kill it when it does not within the timeout (-1: wait for ever)."""
        container = self.store.load(container_id)
        number = process.signal_number(signal or container.record.stop_signal)
        if not container.state.status.is_up:
            container = self._cancel_restart(container)
            if not container.state.status.is_up:
                return
        self.mark_stopped(container_id)
        self._end(container, timeout, number)
        self._wait_recorded(container.record, KILL_TIMEOUT)
        self.note("stop", container.record)

    def _cancel_restart(self, container: Container) -> Container:
        """A container that is not up stays so: its policy does not start it again. Who was about to
        had its lock; the container as it is then."""
        if not container.record.config.restart.is_set:
            return container
        self.mark_stopped(container.id)
        with self.store.locked(container.id):
            return self.store.load(container.id)

    def _end(self, container: Container, timeout: int | None, number: int) -> None:
        state = container.state
        if timeout is None:
            configured = container.record.config.stop_timeout
            timeout = DEFAULT_STOP_TIMEOUT if configured is None else configured
        self.note("kill", container.record, signal=str(number))
        process.send(state.pid, state.pid_starttime, number)
        self._resume(container)
        limit = None if timeout < 0 else float(timeout)
        if not process.wait_gone(state.pid, state.pid_starttime, limit):
            self._kill_all(container)

    def restart(self, container_id: str, timeout: int | None, signal: str | None) -> None:
        """Stop it, if it is up, and start it; nobody else starts or removes it in between."""
        with self.store.locked(container_id) as directory:
            container = self.store.load(container_id)
            record = container.record
            number = process.signal_number(signal or record.stop_signal)
            if container.state.status.is_up:
                with self.kept_at_end(record):
                    self._end(container, timeout, number)
                    self.wait_down(record)
                self.note("stop", record)
                graph.of(record).started_before(container.directory)
            self._start_by_hand(record, directory, None, again=True)
            self.note("restart", record)
        self.tell_supervisor(record)

    @contextlib.contextmanager
    def kept_at_end(self, record: ContainerRecord) -> Iterator[None]:
        """An auto_remove container stays, although it ends: its monitor looks for this mark. Should
        this process be killed, the container goes with the next command that lists it."""
        if not record.config.auto_remove:
            yield
            return
        mark = f"{self.store.directory(record.id)}/restarting"
        with storing(f"restarting container {record.name}"):
            atomic.touch(mark)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(mark)

    def wait_down(self, record: ContainerRecord) -> None:
        """Until the exit record stands, and the monitor has seen the mark of ``kept_at_end``."""
        deadline = time.monotonic() + KILL_TIMEOUT
        while self.store.state(record).status.is_up:
            if time.monotonic() > deadline:
                raise FastboxError(
                    f"the end of container {record.name} was not recorded",
                    hint="its monitor may be stopped; `fastbox kill` and `start` it",
                )
            time.sleep(0.001)
        if record.config.auto_remove and launch.removal_flag(record, False) == "x":
            process.wait_gone(*self.store.monitor(record.id), KILL_TIMEOUT)

    def mark_stopped(self, container_id: str) -> None:
        """Remember that the user stopped it (restart policies look for that)."""
        with contextlib.suppress(OSError):
            atomic.touch(restarts.stopped_mark(self.store, container_id))

    def _kill_all(self, container: Container) -> None:
        state = container.state
        self.note("kill", container.record, signal="9")
        process.send(state.pid, state.pid_starttime, 9)
        self._resume(container)
        if not process.wait_gone(state.pid, state.pid_starttime, KILL_TIMEOUT):
            self.cgroup_of(container.record).kill()
            if not process.wait_gone(state.pid, state.pid_starttime, 2.0):
                raise FastboxError(
                    f"cannot stop container {container.name}: tried to kill container, but did "
                    "not receive an exit event",
                    hint="a process in it may be stuck in the kernel (state D); try again later",
                )

    def kill(self, container_id: str, signal: str) -> None:
        """Send a signal to init. A paused one goes on when it is asked to end; it gets any other
        signal once it is unpaused. Asked to end, it was stopped by hand: no policy starts it again.

        Raises:
            NotRunning
        """
        number = process.signal_number(signal)
        container = self.store.load(container_id)
        if container.state.status is Status.RESTARTING:
            container = self._cancel_restart(container)
            if not container.state.status.is_up:
                return
        state = container.state
        if not state.status.is_up:
            raise NotRunning(f"container {container.id} is not running")
        ends = number in (9, process.signal_number(container.record.stop_signal))
        if ends:
            self.mark_stopped(container.id)
        self.note("kill", container.record, signal=str(number))
        process.send(state.pid, state.pid_starttime, number)
        if ends:
            self._resume(container)
        if number == 9:
            process.wait_gone(state.pid, state.pid_starttime, KILL_TIMEOUT)
            self._wait_recorded(container.record, KILL_TIMEOUT)

    def _wait_recorded(self, record: ContainerRecord, timeout: float) -> None:
        """Until the exit record stands, a moment after init's end; of an auto_remove container,
        until its monitor has removed it: then its name is free when the user goes on."""
        deadline = time.monotonic() + timeout
        delay = 0.0001
        while time.monotonic() < deadline:
            try:
                if not os.path.isdir(self.store.directory(record.id)):
                    return
                if not self.store.state(record).status.is_up and not self._is_going(record):
                    return
            except FastboxError:
                return
            time.sleep(delay)
            delay = min(delay * 2, 0.02)

    def _is_going(self, record: ContainerRecord) -> bool:
        """Whether its monitor, or the command that it became, is yet to remove the container."""
        return record.config.auto_remove and process.is_alive(*self.store.monitor(record.id))

    def wait(self, container_id: str) -> int:
        """Block until the container is not running; its exit status."""
        was_up = False
        try:
            with self.store.exit_code_kept(container_id) as exit_code:
                with contextlib.suppress(NotFound):
                    container = self._settled(container_id)
                    state = container.state
                    was_up = state.status.is_up
                    if was_up:
                        process.wait_gone(state.pid, state.pid_starttime, None)
                        self._wait_recorded(container.record, KILL_TIMEOUT)
                    state = self.store.state(self.store.load_record(container_id))
                    if os.path.isdir(container.directory):
                        return state.exit_code
                code = exit_code()  # its monitor has removed it
                if code is None:
                    return LOST_EXIT_CODE if was_up else 0
                return code
        except FileNotFoundError as error:
            raise NotFound(f"No such container: {container_id}") from error

    def _settled(self, container_id: str) -> Container:
        """The container, once it is not about to be started again."""
        delay = 0.001
        while True:
            container = self.store.load(container_id)
            if container.state.status is not Status.RESTARTING:
                return container
            time.sleep(delay)
            delay = min(delay * 2, 0.05)

    def rename(self, container: str, name: str) -> None:
        """Give a container (its name or id) another name.

        Raises:
            InvalidArgument, NotFound, Conflict
        """
        if not container or not name:
            raise InvalidArgument("Neither old nor new names may be empty")
        container_id = self.store.resolve(container)
        with self.store.locked(container_id):
            try:
                old, record = self.store.rename(container_id, name)
            except Conflict as error:
                error.message = f"Error when allocating new name: {error.message}"
                raise
            self._tell_monitor(record)
            if self.store.state(record).status.is_up:
                self.networks.rename(record)
            self.note("rename", record, oldName=f"/{old}")

    def _tell_monitor(self, record: ContainerRecord) -> None:
        """Of a new name: what it frees and tells at the container's end."""
        directory = self.store.runtime_directory(record.id)
        if os.path.isdir(directory):
            with storing(f"renaming container {record.name}"):
                text = f"{record.name}\n{container_attributes(record)}\n"
                atomic.write(f"{directory}/renamed", text.encode(), sync=False)

    def update(self, container_id: str, changes: Changes) -> None:
        """Change limits and restart policy; see ``update.update``."""
        from .update import update

        with self.store.locked(container_id):
            container = self.store.load(container_id)
            up = container.state.status.is_up
            with self.using_config(container.record):  # a damaged one is told before
                update(
                    self.store, container, changes, self.cgroup_of(container.record) if up else None
                )
            self.note("update", container.record)
        if up and changes.restart is not None:
            self.tell_supervisor(container.record)

    # pausing ------------------------------------------------------------------------------------
    def pause(self, container_id: str) -> None:
        """Stop all processes of a container where they are.

        Raises:
            NotRunning; Conflict: it is paused. Unsupported: see ``Cgroup.freeze``.
        """
        with self.store.locked(container_id):
            container = self.store.load(container_id)
            restarts.check_not_restarting(container)
            if not container.state.status.is_up:
                raise NotRunning(f"container {container.id} is not running")
            if container.state.status is Status.PAUSED:
                raise Conflict(f"container {container.id} is already paused")
            mark = self.store.pause_mark(container.id)
            with storing(f"pausing container {container.name}"):
                atomic.touch(mark)
            try:
                self.cgroup_of(container.record).freeze()
            except BaseException:
                self._resume(container)
                raise
            self.note("pause", container.record)

    def unpause(self, container_id: str) -> None:
        """Let a paused container go on.

        Raises:
            Conflict: it is not paused.
        """
        with self.store.locked(container_id):
            container = self.store.load(container_id)
            if container.state.status is not Status.PAUSED:
                raise Conflict(f"Container {container.id} is not paused")
            self._thaw(container)
            self.note("unpause", container.record)

    @contextlib.contextmanager
    def frozen(self, container: Container, wanted: bool = True) -> Iterator[None]:
        """Keep a running container paused meanwhile; the caller holds its lock. One that does not
        run, or is paused, is left as it is.

        Args:
            wanted: False leaves it alone.
        """
        if not wanted or container.state.status is not Status.RUNNING:
            yield
            return
        # Should this process be killed, whoever finds the mark lets the container go on.
        owner = f"{os.getpid()} {process.start_time(os.getpid())}"
        mark = self.store.pause_mark(container.id)
        atomic.write(mark, owner.encode(), sync=False)
        try:
            with self._unless_ended(container):
                self.cgroup_of(container.record).freeze()
                self.note("pause", container.record)
            yield
        finally:
            with self._unless_ended(container):
                self._thaw(container)
                self.note("unpause", container.record)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(mark)

    @contextlib.contextmanager
    def _unless_ended(self, container: Container) -> Iterator[None]:
        """What fails because the container has ended meanwhile does not matter."""
        try:
            yield
        except (FastboxError, OSError):
            if process.is_alive(container.state.pid, container.state.pid_starttime):
                raise

    def thaw_abandoned(self, container: Container) -> None:
        """Let a container go on that a process which is dead by now had paused for a moment."""
        mark = self.store.pause_mark(container.id)
        with contextlib.suppress(OSError, ValueError, FastboxError):
            with lock(self.store.directory(container.id), blocking=False):
                with open(mark, "rb") as file:
                    pid, started = map(int, file.read(64).split())
                if not process.is_alive(pid, started):
                    self._thaw(container)
                    self.note("unpause", container.record)
                    container.state = self.store.state(container.record)

    def _thaw(self, container: Container) -> None:
        self.cgroup_of(container.record).thaw()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.store.pause_mark(container.id))

    def _resume(self, container: Container) -> None:
        """Thaw what is about to end: frozen, it would never see its signal."""
        if os.path.exists(self.store.pause_mark(container.id)):
            with contextlib.suppress(FastboxError):
                self._thaw(container)

    # removing -----------------------------------------------------------------------------------
    def remove(self, container_id: str, *, force: bool, volumes: bool) -> None:
        """Remove a container and its writable layer.

        Raises:
            Conflict: it is running and force is not given.
        """
        if container_id in self.prepared:
            from .pool_prepare import throw_away

            throw_away(self, [self.prepared.pop(container_id)])
            return
        try:
            container = self.store.load(container_id)
        except StoreError:
            if not force:
                raise
            # Its record is damaged, but it may run.
            process.send(*self.store.init(container_id), 9)
            process.wait_gone(*self.store.init(container_id), KILL_TIMEOUT)
            self.networks.finish(container_id)
            self.store.discard(container_id, None)
            self.store.journal.emit("container", "destroy", container_id, {})
            return
        record = container.record
        volumes = volumes or record.config.auto_remove
        for attempt in range(START_RACES):
            try:
                if force:
                    self.mark_stopped(container.id)
                if container.state.status.is_up and force:
                    self._kill_all(container)
                    self._wait_recorded(record, KILL_TIMEOUT)
                self.remove_ended(record, volumes=volumes)
                return
            except NotFound:
                if not record.config.auto_remove:
                    raise
                return  # its monitor was quicker
            except Conflict:
                # Somebody started it meanwhile; it may even be a process that is dead by now.
                if not force or attempt + 1 == START_RACES:
                    raise
                container = self.store.load(container_id)

    def remove_ended(self, record: ContainerRecord, *, volumes: bool = True) -> None:
        with self.store.locked(record.id):
            status = self.store.state(record).status
            if status.is_active:
                why = (
                    "paused and must be unpaused first"
                    if status is Status.PAUSED
                    else f"{status.value}: stop the container before removing or force remove"
                )
                raise Conflict(f'cannot remove container "{record.name}": container is {why}')
            self.cgroup_of(record).remove()
            self.networks.finish(record.id)
            self.store.discard(record.id, record.name)
            self.note("destroy", record)
        if volumes:
            for point in record.mounts:
                if point.anonymous:
                    with contextlib.suppress(NotFound, Conflict):
                        self.volumes.remove(point.name)

    def cleanup(self, container_id: str) -> None:
        """Remove an auto_remove container that has ended; what its monitor calls when nobody
        waited."""
        try:
            record = self.store.load_record(container_id)
        except NotFound:
            return
        if record.config.auto_remove and not self.store.state(record).status.is_up:
            with contextlib.suppress(NotFound, Conflict):
                self.remove_ended(record)

    def cleanup_abandoned(self, container: Container) -> None:
        """Remove an auto_remove container that is not up, when both its monitor and the process
        that was to start or remove it are gone."""
        record, (pid, started) = container.record, self.store.monitor(container.id)
        if not container.state.run and record.creator is None:
            return  # made by ``create``: it waits for its first start
        keepers = [(pid, started), record.creator or (0, 0)]
        if any(process.is_alive(*keeper) for keeper in keepers):
            return
        try:
            with lock(self.store.directory(container.id), blocking=False):
                pass
        except OSError:
            return
        self.cleanup(container.id)

    def end_abandoned(self, container: Container) -> bool:
        """Remove a box whose maker is gone, but not what tells it so: somebody forked has the pipe
        too. Whether it is removed."""
        creator = container.record.creator
        if creator is None or process.is_alive(*creator):
            return False
        with contextlib.suppress(FastboxError):
            self.remove(container.id, force=True, volumes=True)
        return not os.path.isdir(container.directory)

    def cgroup_of(self, record: ContainerRecord) -> Cgroup:
        return cgroups.open_existing(cgroups.detect(), record.cgroup_path)
