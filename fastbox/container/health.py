"""Health checks: what is asked, what was found. The supervisor runs the probes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .. import atomic
from ..errors import InvalidArgument
from ..oci.healthcheck import Healthcheck
from .files import check_version, read_file
from .record import ContainerRecord, ContainerState, Health, Probe

if TYPE_CHECKING:
    from .store import ContainerStore

VERSION = 1
MAX_LOG = 5  # probes remembered
MAX_OUTPUT = 4096  # bytes remembered of each

# What a zero stands for; nanoseconds.
_SECOND = 1_000_000_000
INTERVAL = 30 * _SECOND
TIMEOUT = 30 * _SECOND
START_INTERVAL = 5 * _SECOND
RETRIES = 3

_SHORTEST = 1_000_000  # a millisecond
_decoder: msgspec.json.Decoder[Health] = msgspec.json.Decoder(Health)


# what is asked --------------------------------------------------------------------------------
def merge(asked: Healthcheck | None, image: dict[str, Any] | None) -> Healthcheck | None:
    """The user's check over the image's (the JSON of its config), field by field; None if there is
    nothing to probe."""
    base = msgspec.convert(image, Healthcheck, strict=False) if image else Healthcheck()
    check = asked or Healthcheck()
    merged = Healthcheck(
        test=check.test or base.test,
        interval=check.interval or base.interval,
        timeout=check.timeout or base.timeout,
        start_period=check.start_period or base.start_period,
        start_interval=check.start_interval or base.start_interval,
        retries=check.retries or base.retries,
    )
    return merged if merged != Healthcheck() else None


def check_asked(check: Healthcheck) -> None:
    """Refuse what cannot be meant.

    Raises:
        InvalidArgument
    """
    names = {
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    for name, value in names.items():
        if value and value < _SHORTEST:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    if any("\0" in word for word in check.test or ()):
        raise InvalidArgument("an argument of the health check holds a NUL character")


def command(record: ContainerRecord) -> list[str]:
    """The probe's argv; empty if the container is not probed."""
    test = record.healthcheck.test if record.healthcheck is not None else None
    if not test or len(test) < 2 or not test[1]:
        return []
    if test[0] == "CMD":
        return test[1:]
    if test[0] == "CMD-SHELL":
        return [*(record.shell or ["/bin/sh", "-c"]), *test[1:]]
    return []


def is_probed(record: ContainerRecord) -> bool:
    """Whether the container has a health check that is not switched off."""
    return record.healthcheck is not None and bool(command(record))


def next_interval(check: Healthcheck, status: str, up_for: float) -> float:
    """Seconds until the next probe.

    Args:
        up_for: how long the container is up, in seconds.
    """
    interval = (check.interval or INTERVAL) / _SECOND
    left = check.start_period / _SECOND - up_for
    if left <= 0:
        return interval
    if status == "starting":
        # The first probe after the start period comes at its end.
        return min(left, (check.start_interval or START_INTERVAL) / _SECOND)
    return min(left, interval)


def note(health: Health, check: Healthcheck, probe: Probe, up_for: float) -> Health:
    """What is known after one more probe.

    Args:
        up_for: how long the container was up when the probe began, in seconds.
    """
    status, streak = health.status, health.failing_streak
    if probe.exit_code == 0:
        status, streak = "healthy", 0
    elif status != "starting" or up_for * _SECOND >= check.start_period:
        streak += 1
        if streak >= (check.retries if check.retries > 0 else RETRIES):
            status = "unhealthy"
    log = [*health.log, probe][-MAX_LOG:]
    return Health(run=health.run, status=status, failing_streak=streak, log=log)


# what was found -------------------------------------------------------------------------------
def path(store: ContainerStore, container_id: str) -> str:
    return f"{store.runtime_directory(container_id)}/health.json"


def load(store: ContainerStore, container_id: str, run: int) -> Health:
    """What is known of a run; of another run, or damaged: nothing yet.

    Raises:
        StoreError: a newer fastbox wrote it.
    """
    file = path(store, container_id)
    data = read_file(file)
    try:
        found = _decoder.decode(data) if data else Health()
    except msgspec.DecodeError:
        found = Health()
    check_version(found.version, VERSION, file)
    return found if found.run == run else Health(run=run)


def save(store: ContainerStore, container_id: str, health: Health) -> None:
    atomic.write(path(store, container_id), msgspec.json.encode(health), sync=False)


def add(store: ContainerStore, record: ContainerRecord, state: ContainerState) -> None:
    """Put a container's health into its state."""
    if state.run and is_probed(record):
        state.health = load(store, record.id, state.run)
