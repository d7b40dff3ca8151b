"""Containers on disk: directories, names, records, and the state that files and kernel tell.

root/containers/ID/   container.json upper/ work/ container.log exit; an flock on the directory is
                      the container's lock
                      config.json hosts hostname resolv.conf: the bundle
root/names/NAME       symlink to ID; making it reserves the name
runtime/ID/           state.json, written by the monitor; the bundle of an auto_remove container
root/trash/           directories renamed away, being deleted
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator

import msgspec

from .. import atomic
from ..errors import Ambiguous, Conflict, FastboxError, InvalidArgument, NotFound, StoreError
from ..events import Journal
from ..locks import lock, release
from . import names, process
from .files import MAX_SIZE, Remembered, check_version, read_file, version_of
from .nursery import Nursery
from .record import VERSION, Container, ContainerRecord, ContainerState, Status
from .templates import Templates

LOST_EXIT_CODE = 255


class _StateFile(msgspec.Struct):
    """state.json, as the monitor writes it."""

    run: int
    pid: int
    pid_starttime: int
    monitor_pid: int
    monitor_starttime: int
    started_at: str
    boot_id: str = ""
    version: int = 1


class _ExitFile(msgspec.Struct):
    """exit, as the monitor writes it."""

    run: int
    exit_code: int
    signal: int
    oom_killed: bool
    finished_at: str
    error: str = ""
    version: int = 1


def _parse_state(data: bytes, path: str) -> _StateFile | None:
    try:
        running = _state_decoder.decode(data)
    except msgspec.DecodeError:
        return None
    check_version(running.version, 1, path)
    if running.boot_id and running.boot_id != process.boot_id():
        running.pid = running.monitor_pid = 0
    return running


def _parse_exit(data: bytes, path: str) -> _ExitFile | None:
    try:
        ended = _exit_decoder.decode(data)
    except msgspec.DecodeError:
        return None
    check_version(ended.version, 1, path)
    return ended


class _Failure(msgspec.Struct, omit_defaults=True):
    """failure.json: the last start did not succeed."""

    exit_code: int
    error: str


# Made with the module: two threads must not be the first to use a type at the same time.
_failure_decoder: msgspec.json.Decoder[_Failure] = msgspec.json.Decoder(_Failure)


_record_decoder: msgspec.json.Decoder[ContainerRecord] = msgspec.json.Decoder(ContainerRecord)
_state_decoder: msgspec.json.Decoder[_StateFile] = msgspec.json.Decoder(_StateFile)
_exit_decoder: msgspec.json.Decoder[_ExitFile] = msgspec.json.Decoder(_ExitFile)


@contextlib.contextmanager
def storing(action: str) -> Iterator[None]:
    """Turn what the system says while doing ``action`` into one line; fastbox's own errors pass."""
    try:
        yield
    except FastboxError:
        raise
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        message = f"{action} failed{where and ':'}{where}: {(error.strerror or str(error)).lower()}"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(message, hint="free some space" if full else None) from error


class ContainerStore:
    """The containers below one root.

    Args:
        root, runtime: absolute paths; made when missing.
    """

    def __init__(self, root: str, runtime: str) -> None:
        self.root = root
        self.containers = f"{root}/containers"
        self.names = f"{root}/names"
        self.trash = f"{root}/trash"
        self.runtime = runtime
        self.journal = Journal(root)
        self.templates = Templates()
        self.nursery = Nursery(root)
        # By bytes: a record is its reader's to change.
        self._records: Remembered[bytes] = Remembered(lambda data, path: data)
        self._states: Remembered[_StateFile | None] = Remembered(_parse_state)
        self._exits: Remembered[_ExitFile | None] = Remembered(_parse_exit)

    def prepare(self) -> None:
        """Make the directories that hold containers; empty the trash that a killed process left."""
        with storing("opening the container store"):
            for path in (self.containers, self.names, self.trash, self.runtime):
                os.makedirs(path, mode=0o700, exist_ok=True)
            self.nursery.sweep()
            if os.listdir(self.trash):
                self._empty_trash()

    # paths --------------------------------------------------------------------------------------
    def directory(self, container_id: str) -> str:
        """The container's directory."""
        return f"{self.containers}/{container_id}"

    def runtime_directory(self, container_id: str) -> str:
        """Where state.json is."""
        return f"{self.runtime}/{container_id}"

    def bundle(self, record: ContainerRecord) -> str:
        """Where config.json and the files of /etc are. One that does not outlive its run, and so
        not the machine's, has them where making files costs next to nothing."""
        if record.config.auto_remove and record.version > 2:
            return self.runtime_directory(record.id)
        return self.directory(record.id)

    @contextlib.contextmanager
    def locked(self, container_id: str) -> Iterator[int]:
        """Hold the container's lock; gives the locked descriptor of its directory.

        Raises:
            NotFound: it was removed meanwhile.
        """
        try:
            with lock(self.directory(container_id)) as directory:
                yield directory
        except FileNotFoundError as error:
            if error.filename == self.directory(container_id):
                raise NotFound(f"No such container: {container_id}") from error
            raise

    # names --------------------------------------------------------------------------------------
    def reserve_name(self, name: str | None, container_id: str) -> str:
        """Take a name for an id, atomically; a free random one when None.

        Raises:
            Conflict: it is taken. InvalidArgument: it is no name.
        """
        if name is not None:
            names.check(name)
            name = name.removeprefix("/")
            if not self._take(name, container_id):
                self._free_if_stale(name)
                holder = self.id_of_name(name)
                if holder is None and self._take(name, container_id):
                    return name
                raise Conflict(
                    f'Conflict. The container name "/{name}" is already in use by container '
                    f'"{holder}". You have to remove (or rename) that container to be able to '
                    "reuse that name."
                )
            return name
        attempt = 0
        while True:
            candidate = names.random_name(attempt)
            if self._take(candidate, container_id):
                return candidate
            attempt += 1

    def _take(self, name: str, container_id: str) -> bool:
        try:
            os.symlink(container_id, f"{self.names}/{name}")
        except FileExistsError:
            return False
        return True

    def release_name(self, name: str, container_id: str) -> None:
        """Give a name back, if this container holds it.

        Under a lock: between looking and unlinking, another process could free the name and a third
        take it.
        """
        path = f"{self.names}/{name}"
        with contextlib.suppress(OSError), lock(self.names):
            if os.readlink(path) == container_id:
                os.unlink(path)

    def rename(self, container_id: str, new: str) -> tuple[str, ContainerRecord]:
        """Give a container another name; the caller holds its lock.

        The record tells the name. The new link is made before, the old one removed after it: when
        the process is killed between, the container has two, and the one that its record does not
        tell is free for who asks for it.

        Returns:
            (the old name, the record with the new one)

        Raises:
            Conflict: the name is taken, or is its own. InvalidArgument: it is no name.
        """
        record = self.load_record(container_id)
        old = record.name
        if new.removeprefix("/") == old:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        with contextlib.ExitStack() as undo:
            record.name = self._reserve_for(container_id, new)
            undo.callback(self.release_name, record.name, container_id)
            with storing(f"renaming container {old}"):
                self.save_record(record, sync=not record.config.auto_remove)
            undo.pop_all()
        self.release_name(old, container_id)
        return old, record

    def _reserve_for(self, container_id: str, name: str) -> str:
        """``reserve_name`` for a container that may hold the name already, by a rename that was
        killed."""
        if self.id_of_name(name.removeprefix("/")) == container_id:
            return name.removeprefix("/")
        return self.reserve_name(name, container_id)

    def _free_if_stale(self, name: str) -> None:
        """Take a name from a container whose record tells another one, unless somebody has it
        locked (and is about to write that)."""
        holder = self.id_of_name(name)
        if holder is None:
            return
        with (
            contextlib.suppress(OSError, FastboxError),
            lock(self.directory(holder), blocking=False),
        ):
            if self.load_record(holder).name != name:
                self.release_name(name, holder)

    def id_of_name(self, name: str) -> str | None:
        """The id that holds a name; a name whose container is gone is freed."""
        try:
            container_id = os.readlink(f"{self.names}/{name}")
        except OSError:
            return None
        if not os.path.isdir(self.directory(container_id)):
            self.release_name(name, container_id)
            return None
        return container_id

    # looking up ---------------------------------------------------------------------------------
    def resolve(self, name_or_id: str) -> str:
        """Full id of a name, an id or a unique prefix of one; a name wins over a prefix.

        Raises:
            NotFound, Ambiguous
        """
        wanted = name_or_id.removeprefix("/")
        if not wanted or "/" in wanted or "\0" in wanted:
            raise NotFound(f"No such container: {name_or_id}")
        if names.is_id(wanted) and os.path.isdir(self.directory(wanted)):
            return wanted
        by_name = self.id_of_name(wanted) if wanted not in (".", "..") else None
        if by_name is not None:
            return by_name
        matches = [entry for entry in self.ids() if entry.startswith(wanted)]
        if len(matches) > 1:
            raise Ambiguous(f"multiple IDs found with provided prefix: {name_or_id}")
        if not matches:
            raise NotFound(f"No such container: {name_or_id}")
        return matches[0]

    def ids(self) -> list[str]:
        """All ids, in no order."""
        try:
            return list(filter(names.is_id, os.listdir(self.containers)))
        except FileNotFoundError:
            return []

    def load(self, container_id: str) -> Container:
        """Record and state of a container.

        Raises:
            NotFound: it does not exist (or was never finished). StoreError: it is damaged.
        """
        record = self.load_record(container_id)
        return Container(
            record=record,
            state=self.state(record),
            directory=self.directory(container_id),
            bundle=self.bundle(record),
        )

    def load_record(self, container_id: str) -> ContainerRecord:
        """The fixed part; see ``load``."""
        path = f"{self.containers}/{container_id}/container.json"
        data = self._records.get(path)
        if data is None:
            raise NotFound(f"No such container: {container_id}")
        try:
            record = _record_decoder.decode(data)
        except msgspec.DecodeError as error:
            check_version(version_of(data), VERSION, path)
            raise StoreError(
                f"reading {path} failed: {error}",
                hint="`fastbox rm -f` removes a damaged container",
            ) from error
        check_version(record.version, VERSION, path)
        if record.version < 2:  # no network of its own was what a container had by default
            record.config.network = "host" if record.config.network == "host" else "none"
        return record

    def save_record(self, record: ContainerRecord, *, sync: bool = True) -> bytes:
        """Write container.json; its presence makes the container exist. What was written."""
        data = msgspec.json.encode(record)
        if len(data) >= MAX_SIZE:
            raise InvalidArgument(f"the container's configuration is too large: {len(data)} bytes")
        atomic.write(f"{self.directory(record.id)}/container.json", data, sync=sync)
        return data

    # state --------------------------------------------------------------------------------------
    def state(self, record: ContainerRecord) -> ContainerState:
        """What the container is doing, from state.json, exit, restarts.json and /proc.

        Raises:
            StoreError: a newer fastbox wrote one of these files.
        """
        state = self._state(record)
        if record.config.restart.is_set:
            self._add_restarts(record, state)
        if record.healthcheck is not None:
            from . import health

            health.add(self, record, state)
        return state

    def _add_restarts(self, record: ContainerRecord, state: ContainerState) -> None:
        from . import restarts

        found = restarts.load(self, record.id)
        if found is not None:
            state.restart_count = found.count
        if state.status.is_up or restarts.is_stopped(self, record.id):
            return
        if found is not None and found.pending and found.run == state.run:
            state.status = Status.RESTARTING

    def _state(self, record: ContainerRecord) -> ContainerState:
        running = self._state_file(record.id)
        if running is not None and process.is_alive(running.pid, running.pid_starttime):
            return self._up(record, running)
        ended = self._exit_file(record.id)
        if running is not None and (ended is None or ended.run < running.run):
            # Init has ended. Whether its monitor has, and only then whether it left a record.
            monitored = process.is_alive(running.monitor_pid, running.monitor_starttime)
            ended = self._exit_file(record.id)  # it may have been written since we looked
            if ended is None or ended.run < running.run:
                # While the monitor lives, its record is about to come.
                return self._up(record, running) if monitored else self._lost(running)
        lost = self._lost_run(record.id, ended) if running is None else None
        if lost is not None:
            return self._lost(lost)
        if ended is None:
            return self._never_ended(record.id)
        return ContainerState(
            status=Status.EXITED,
            exit_code=ended.exit_code,
            oom_killed=ended.oom_killed,
            error=ended.error,
            started_at=running.started_at if running is not None else "",
            finished_at=ended.finished_at,
            run=ended.run,
        )

    def is_going_on(self, record: ContainerRecord, expected: bool) -> bool:
        """Whether a container that was found not to be up is being started, by a command or, if it
        is ``expected`` that somebody acts on it, by its policy."""
        from . import restarts

        if expected and restarts.is_unsettled(self, record):
            return True
        try:
            with lock(self.directory(record.id), shared=True, blocking=False):
                return self.state(record).status.is_active
        except BlockingIOError:
            return True  # restart, or start, holds it; so does rm, after which it is gone
        except FileNotFoundError:
            return False

    def _up(self, record: ContainerRecord, running: _StateFile) -> ContainerState:
        return ContainerState(
            status=Status.PAUSED if self._is_frozen(record) else Status.RUNNING,
            pid=running.pid,
            pid_starttime=running.pid_starttime,
            monitor_pid=running.monitor_pid,
            started_at=running.started_at,
            run=running.run,
        )

    def more_cgroups(self, container_id: str) -> str:
        """A file, written by ``update``: what the monitor was not told when it started. One cgroup
        directory per line, to be removed at the end; ``oom PATH``: where OOM kills are counted."""
        return f"{self.runtime_directory(container_id)}/cgroups"

    def pause_mark(self, container_id: str) -> str:
        """The file that is there while a container may be paused: made before it is frozen,
        removed after it is thawed. Without it nobody needs to ask the cgroup."""
        return f"{self.runtime_directory(container_id)}/paused"

    def _is_frozen(self, record: ContainerRecord) -> bool:
        if not os.access(self.pause_mark(record.id), os.F_OK):
            return False
        from . import cgroups

        return cgroups.open_existing(cgroups.detect(), record.cgroup_path).is_frozen()

    def _lost(self, running: _StateFile) -> ContainerState:
        why = "the monitor was killed" if running.pid else "the machine was restarted"
        return ContainerState(
            status=Status.EXITED,
            exit_code=LOST_EXIT_CODE,
            error=f"exit status lost: {why}",
            started_at=running.started_at,
            run=running.run,
        )

    def _lost_run(self, container_id: str, ended: _ExitFile | None) -> _StateFile | None:
        """The run that a power loss ended: there is no state.json, but the room which the monitor
        has taken for the exit record when it started (``_core/monitor/record.c``)."""
        if not os.path.exists(f"{self.directory(container_id)}/.exit.new"):
            return None
        return _StateFile(
            run=(ended.run if ended is not None else 0) + 1,
            pid=0,
            pid_starttime=0,
            monitor_pid=0,
            monitor_starttime=0,
            started_at="",
        )

    def _never_ended(self, container_id: str) -> ContainerState:
        data = read_file(f"{self.directory(container_id)}/failure.json")
        if data is None:
            return ContainerState()
        try:
            failure = _failure_decoder.decode(data)
        except msgspec.DecodeError:
            return ContainerState()
        return ContainerState(exit_code=failure.exit_code, error=failure.error)

    def _state_file(self, container_id: str) -> _StateFile | None:
        return self._states.get(f"{self.runtime}/{container_id}/state.json")

    def _exit_file(self, container_id: str) -> _ExitFile | None:
        return self._exits.get(f"{self.containers}/{container_id}/exit")

    @contextlib.contextmanager
    def exit_code_kept(self, container_id: str) -> Iterator[Callable[[], int | None]]:
        """While this is held, the exit record of the container can be read, also when its monitor
        has removed it (``--rm``). Yields the reader: the code of the last run, None if there is
        none."""
        directory = os.open(
            self.directory(container_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
        try:
            # Not a file that is replaced when it changes; nor the upper directory, which a commit
            # makes a layer, and which a container may lock itself where it is its root.
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            work = os.open("work", flags, dir_fd=directory)
            try:
                fcntl.flock(work, fcntl.LOCK_SH)

                def read() -> int | None:
                    try:
                        fd = os.open("exit", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
                    except FileNotFoundError:
                        return None
                    try:
                        return _exit_decoder.decode(os.read(fd, 65536)).exit_code
                    except msgspec.DecodeError:
                        return None
                    finally:
                        os.close(fd)

                yield read
            finally:
                release(work)
        finally:
            os.close(directory)

    def last_run(self, container_id: str) -> int:
        """Number of the last start, 0 if there was none."""
        running, ended = self._state_file(container_id), self._exit_file(container_id)
        if running is None:
            running = self._lost_run(container_id, ended)
        return max(running.run if running else 0, ended.run if ended else 0)

    def ran_since_boot(self, container_id: str) -> bool:
        """Whether the last run was in this life of the machine."""
        running = self._state_file(container_id)
        return running is not None and running.pid > 0

    def monitor(self, container_id: str) -> tuple[int, int]:
        """(pid, start time) of the monitor of the current or last run; zeros if unknown."""
        running = self._state_file(container_id)
        return (running.monitor_pid, running.monitor_starttime) if running else (0, 0)

    def init(self, container_id: str) -> tuple[int, int]:
        """(pid, start time) of init of the current or last run; zeros if unknown."""
        running = self._state_file(container_id)
        return (running.pid, running.pid_starttime) if running else (0, 0)

    def save_failure(self, container_id: str, exit_code: int, error: str) -> None:
        """Remember why a start failed (State.Error and ExitCode of ``inspect``)."""
        atomic.write(
            f"{self.directory(container_id)}/failure.json",
            msgspec.json.encode(_Failure(exit_code=exit_code, error=error)),
            sync=False,
        )

    # removing -----------------------------------------------------------------------------------
    def discard(self, container_id: str, name: str | None) -> None:
        """Rename the directory away (from here on it does not exist), then delete it.

        Raises:
            StoreError
        """
        with storing(f"removing container {container_id[:12]}"):
            try:
                os.rename(self.directory(container_id), f"{self.trash}/{container_id}")
            except FileNotFoundError:
                return
            from .. import durable

            durable.forget(self.directory(container_id))
            if name is not None:
                self.release_name(name, container_id)
            self._delete(container_id)

    def _delete(self, entry: str) -> None:
        """Delete an entry of the trash; it goes last, so that what it stands for is not lost."""
        from .._core.tree import remove_tree

        if names.is_id(entry) and not os.path.exists(self.directory(entry)):
            remove_tree(self.runtime_directory(entry))
        remove_tree(f"{self.trash}/{entry}")

    def _empty_trash(self) -> None:
        """Delete what nobody is deleting: whoever deletes a container has its directory locked; the
        rest (the image store's) may be deleted by several at once."""
        from .._core.tree import remove_tree

        for entry in os.listdir(self.trash):
            path = f"{self.trash}/{entry}"
            with contextlib.suppress(OSError):
                if not names.is_id(entry):
                    remove_tree(path)
                    continue
                with lock(path, blocking=False):
                    self._free_names()
                    _remove_cgroup(path)
                    self._delete(entry)

    def _free_names(self) -> None:
        """Free the names of containers that are gone or have another."""
        for name in os.listdir(self.names):
            self._free_if_stale(name)

    def sweep(self) -> None:
        """Remove what a killed process left behind: trash, containers never finished, names
        without a container. Whatever somebody holds the lock of is being worked on."""
        self.nursery.sweep()
        self._empty_trash()
        for container_id in self.ids():
            directory = self.directory(container_id)
            if os.path.exists(f"{directory}/container.json"):
                continue
            if os.path.exists(f"{directory}/prepared.json"):
                continue  # a pool's, see ``pool_sweep``
            try:
                with lock(self.directory(container_id), blocking=False):
                    if not os.path.exists(f"{self.directory(container_id)}/container.json"):
                        self.discard(container_id, None)
            except (OSError, StoreError):
                continue
        self._free_names()


def _remove_cgroup(path: str) -> None:
    """Remove what a monitor that was killed at its end has not: it does so last of all."""
    from . import cgroups

    with contextlib.suppress(FastboxError, msgspec.DecodeError):
        data = read_file(f"{path}/container.json")
        if data is not None:
            record = _record_decoder.decode(data)
            cgroups.open_existing(cgroups.detect(), record.cgroup_path).remove()
