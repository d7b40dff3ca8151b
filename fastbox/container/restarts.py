"""Restart policies: what follows from the end of a run, and where that is written down.

``restarts.json`` in the container's directory says of which run the end was handled, and whether a
start is pending. Every decision is written before it is acted on, under the container's lock, and
names the run it is about: whoever reads it, a new supervisor after a kill -9 or two at once, comes
to the same and does nothing twice. Only containers with a policy have the file.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

import msgspec

from .. import atomic
from ..errors import Conflict
from ..locks import lock
from . import health, process
from .config import RestartPolicy
from .files import check_version, read_file
from .record import Container, ContainerRecord, ContainerState, Status

if TYPE_CHECKING:
    from .store import ContainerStore

VERSION = 1
FIRST_DELAY = 0.1  # seconds, doubled by each restart …
MAX_DELAY = 60.0
RESET_AFTER = 10.0  # … until a run took that long


class Restarts(msgspec.Struct, kw_only=True):
    """restarts.json.

    Attributes:
        run: the run whose end was handled; 0 before the first start.
        epoch: see ``epoch``; another one: the machine was restarted since.
        count: restarts by the policy since the last start by hand (``RestartCount``).
        delay: the last one's, in seconds.
        pending: run ``run + 1`` is to be started.
        due: when, in seconds of CLOCK_MONOTONIC (of this epoch).
    """

    version: int = VERSION
    run: int = 0
    epoch: str = ""
    count: int = 0
    delay: float = 0.0
    pending: bool = False
    due: float = 0.0


_decoder: msgspec.json.Decoder[Restarts] = msgspec.json.Decoder(Restarts)


def wants_supervisor(record: ContainerRecord) -> bool:
    """Whether the container, when it is up, is the supervisor's to look after."""
    return record.config.restart.is_set or health.is_probed(record)


def check_not_restarting(container: Container) -> None:
    """Raises:
    Conflict: its restart policy is about to start it.
    """
    if container.state.status is Status.RESTARTING:
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )


def wants(policy: RestartPolicy, exit_code: int, count: int) -> bool:
    """Whether a run that nobody stopped is to be followed by another.

    Args:
        exit_code: of the run; count: how many restarts there were.
    """
    if policy.name in ("always", "unless-stopped"):
        return True
    within = not policy.max_retries or count < policy.max_retries
    return policy.name == "on-failure" and exit_code != 0 and within


def wants_after_reboot(policy: RestartPolicy, stopped: bool) -> bool:
    """Whether the machine's restart is to be followed by another run."""
    return policy.name == "always" or (policy.name == "unless-stopped" and not stopped)


def next_delay(last: float, ran_for: float) -> float:
    """Seconds to wait before the next start.

    Args:
        last: what was waited before; ran_for: how long the container ran since.
    """
    if ran_for >= RESET_AFTER or last <= 0:
        return FIRST_DELAY
    return min(last * 2, MAX_DELAY)


def decide(
    before: Restarts, policy: RestartPolicy, *, run: int, exit_code: int, ran_for: float,
    stopped: bool, now: float, epoch: str,
) -> Restarts:  # fmt: skip
    """What follows from the end of a run, or of an attempt to start the next one.

    Args:
        stopped: the user stopped it. now: seconds of CLOCK_MONOTONIC.
    """
    again = not stopped and wants(policy, exit_code, before.count)
    delay = next_delay(before.delay, ran_for) if again else 0.0
    return Restarts(
        run=run,
        epoch=epoch,
        count=before.count + again,
        delay=delay,
        pending=again,
        due=now + delay if again else 0.0,
    )


def decide_after_reboot(
    before: Restarts, policy: RestartPolicy, *, run: int, stopped: bool, now: float, epoch: str
) -> Restarts:
    """What follows from the machine's restart: ``always`` starts what was stopped by hand too,
    ``on-failure`` starts nothing (as Docker does when its daemon starts)."""
    again = wants_after_reboot(policy, stopped)
    return Restarts(run=run, epoch=epoch, count=before.count, pending=again, due=now)


# on disk --------------------------------------------------------------------------------------
def path(store: ContainerStore, container_id: str) -> str:
    return f"{store.directory(container_id)}/restarts.json"


def load(store: ContainerStore, container_id: str) -> Restarts | None:
    """What is written down; None if there is nothing (an older fastbox started it, or nobody did).

    Raises:
        StoreError: a newer fastbox wrote it.
    """
    file = path(store, container_id)
    data = read_file(file)
    if not data:
        return None
    try:
        found = _decoder.decode(data)
    except msgspec.DecodeError:
        return None
    check_version(found.version, VERSION, file)
    return found


def save(store: ContainerStore, container_id: str, restarts: Restarts) -> None:
    """Write it down. The caller holds the container's lock."""
    file = path(store, container_id)
    atomic.write(file, msgspec.json.encode(restarts), sync=False)


def begin(store: ContainerStore, container_id: str, *, pending: bool = False) -> None:
    """A start by hand is about to happen: what was stopped is not any more, and should the start
    fail, no policy repeats it. The caller holds the lock.

    Args:
        pending: should the caller be killed before the start, it is the supervisor's.
    """
    run = store.last_run(container_id)
    fresh = Restarts(run=run, epoch=epoch(store.runtime), pending=pending)
    save(store, container_id, fresh)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(stopped_mark(store, container_id))


def stopped_mark(store: ContainerStore, container_id: str) -> str:
    """The file that is there when the user stopped the container."""
    return f"{store.directory(container_id)}/stopped"


def is_stopped(store: ContainerStore, container_id: str) -> bool:
    return os.path.exists(stopped_mark(store, container_id))


def rebooted(store: ContainerStore, container_id: str, restarts: Restarts | None) -> bool:
    """Whether the container was started in another epoch than this one."""
    if restarts is not None and restarts.epoch:
        return restarts.epoch != epoch(store.runtime)
    return store.last_run(container_id) > 0 and not store.ran_since_boot(container_id)


def epoch(runtime: str) -> str:
    """Identity of this life of the machine: it is another one after a reboot, and when the runtime
    directory was emptied."""
    file = f"{runtime}/epoch"
    found = _current_epoch(file)
    if not found:
        os.makedirs(runtime, mode=0o700, exist_ok=True)
        with lock(runtime):  # one process makes it, the others read what that one made
            found = _current_epoch(file)
            if not found:
                found = f"{process.boot_id()} {os.urandom(8).hex()}"
                atomic.write(file, found.encode(), sync=False)
    return found


def _current_epoch(file: str) -> str:
    text = (read_file(file) or b"").decode("ascii", "replace")
    return text if text.partition(" ")[0] == process.boot_id() else ""


# deciding -------------------------------------------------------------------------------------
def settle(
    store: ContainerStore, container_id: str, *, ended: float | None = None, failed: bool = False
) -> Restarts | None:
    """Decide, once, what follows from the end of the last run, and write it down.

    Args:
        ended: when the end was seen, in seconds of CLOCK_BOOTTIME; None: by the exit record.
        failed: the start of the next run did not succeed.

    Returns:
        The decision, by whomever it was made; None if the container is up or has no policy.

    Raises:
        BlockingIOError: somebody has the container's lock. FileNotFoundError, NotFound: it is gone.
        StoreError
    """
    with lock(store.directory(container_id), blocking=False):
        record = store.load_record(container_id)
        policy, state = record.config.restart, store.state(record)
        if state.status.is_up or not policy.is_set:
            return None
        known = load(store, container_id)
        before, run = known or Restarts(), store.last_run(container_id)
        stopped, now = is_stopped(store, container_id), time.monotonic()
        if rebooted(store, container_id, known):
            after = decide_after_reboot(
                before, policy, run=run, stopped=stopped, now=now, epoch=epoch(store.runtime)
            )
            if after.pending and stopped:
                os.unlink(stopped_mark(store, container_id))
        elif failed or before.run < run:
            after = decide(
                before,
                policy,
                run=run,
                exit_code=state.exit_code or int(failed),
                ran_for=0.0 if failed else _ran_for(store, container_id, state, ended),
                stopped=stopped,
                now=now,
                epoch=epoch(store.runtime),
            )
        else:
            return before
        save(store, container_id, after)
        return after


def is_unsettled(store: ContainerStore, record: ContainerRecord) -> bool:
    """Whether the container is not up, its policy will start it, and nobody has decided so yet."""
    policy = record.config.restart
    if not policy.is_set:
        return False
    state = store.state(record)
    if state.status.is_up:
        return False
    known, stopped = load(store, record.id), is_stopped(store, record.id)
    if rebooted(store, record.id, known):
        return wants_after_reboot(policy, stopped)
    before = known or Restarts()
    ended = not stopped and before.run < state.run
    return ended and wants(policy, state.exit_code, before.count)


def _ran_for(
    store: ContainerStore, container_id: str, state: ContainerState, ended: float | None
) -> float:
    """Seconds that the last run took. The wall clock may have jumped: init's age bounds it."""
    from .logs import parse_time

    _, ticks = store.init(container_id)
    if not ticks:
        return 0.0
    started = ticks / os.sysconf("SC_CLK_TCK")
    if ended is not None:
        return max(ended - started, 0.0)
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    wall = (parse_time(state.finished_at) - parse_time(state.started_at)) / 1e9
    return min(max(wall, 0.0), max(age, 0.0))
