"""Restart policies as functions: Docker's rules, without a container or a clock."""

from __future__ import annotations

import os
import re
import time

import pytest

from fastbox import ContainerConfig, Engine, RestartPolicy, Status
from fastbox.container import restarts
from fastbox.container.restarts import Restarts, decide, decide_after_reboot, next_delay, wants
from fastbox.errors import Conflict, StoreError

ALWAYS, FAILURE = RestartPolicy(name="always"), RestartPolicy(name="on-failure")
UNLESS = RestartPolicy(name="unless-stopped")
LIMITED = RestartPolicy(name="on-failure", max_retries=2)


def end(before: Restarts, policy: RestartPolicy, **changes: object) -> Restarts:
    values = {
        "run": 1, "exit_code": 1, "ran_for": 0.0, "stopped": False, "now": 100.0, "epoch": "e"
    } | changes  # fmt: skip
    return decide(before, policy, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "code", "count", "again"),
    [
        (RestartPolicy(), 1, 0, False),
        (ALWAYS, 0, 0, True),
        (UNLESS, 0, 1000, True),
        (FAILURE, 0, 0, False),
        (FAILURE, 1, 1000, True),
        (LIMITED, 137, 1, True),
        (LIMITED, 1, 2, False),
    ],
)
def test_who_is_started_again(policy: RestartPolicy, code: int, count: int, again: bool) -> None:
    assert wants(policy, code, count) is again


def test_delays_double_up_to_a_minute_and_begin_anew_after_ten_seconds() -> None:
    delays, delay = [], 0.0
    for _ in range(12):
        delay = next_delay(delay, 9.99)
        delays.append(round(delay, 1))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60]
    assert next_delay(60, 10.0) == 0.1


def test_what_is_written_down() -> None:
    first = end(Restarts(), ALWAYS)
    assert (first.run, first.count, first.pending, first.due) == (1, 1, True, 100.1)
    second = end(first, ALWAYS, run=2, now=200.0)
    assert (second.run, second.count, second.delay, second.due) == (2, 2, 0.2, 200.2)
    stopped = end(second, ALWAYS, run=3, stopped=True)
    assert (stopped.run, stopped.count, stopped.pending) == (3, 2, False)
    limited = end(Restarts(count=2), LIMITED)
    assert (limited.count, limited.pending) == (2, False)


@pytest.mark.parametrize(
    ("policy", "stopped", "again"),
    [
        (ALWAYS, False, True), (ALWAYS, True, True), (UNLESS, False, True), (UNLESS, True, False),
        (FAILURE, False, False), (LIMITED, False, False),
    ],
)  # fmt: skip
def test_after_a_reboot(policy: RestartPolicy, stopped: bool, again: bool) -> None:
    found = decide_after_reboot(
        Restarts(run=3, epoch="old"), policy, run=3, stopped=stopped, now=5.0, epoch="new"
    )
    assert (found.pending, found.run, found.epoch) == (again, 3, "new")


def test_the_epoch_is_another_one_when_the_runtime_directory_was_emptied(tmp_path: object) -> None:
    runtime = str(tmp_path)
    first = restarts.epoch(runtime)
    assert restarts.epoch(runtime) == first
    os.unlink(f"{runtime}/epoch")
    second = restarts.epoch(runtime)
    assert second != first
    with open(f"{runtime}/epoch", "w") as file:  # of a boot before
        file.write("00000000-0000-0000-0000-000000000000 0123456789abcdef")
    assert restarts.epoch(runtime) not in (first, second)


# ---- with a store ----------------------------------------------------------------------------


@pytest.fixture
def ended(engine: Engine, busybox_image: str) -> str:
    """A container whose first run has ended with 3, and which nobody supervises."""
    engine.stop_supervisor()
    engine._lifecycle.supervise = None
    config = ContainerConfig(
        image=busybox_image, name="box", command=["sh", "-c", "exit 3"], restart=ALWAYS
    )
    box = engine.create(config)
    assert engine.run_attached(box.id) == 3
    return box.id


def test_a_decision_is_made_once(engine: Engine, ended: str) -> None:
    store = engine._containers
    assert restarts.is_unsettled(store, store.load_record(ended))
    first = restarts.settle(store, ended)
    assert first is not None
    assert (first.pending, first.run, first.count) == (True, 1, 1)
    assert restarts.settle(store, ended) == first
    assert not restarts.is_unsettled(store, store.load_record(ended))
    state = store.load(ended).state
    assert (state.status, state.restart_count, state.exit_code) == (Status.RESTARTING, 1, 3)


def test_it_is_started_once(engine: Engine, ended: str) -> None:
    restarts.settle(engine._containers, ended)
    with engine._containers.locked(ended), pytest.raises(BlockingIOError):
        engine._lifecycle.start_again(ended, 1)
    assert not engine._lifecycle.start_again(ended, 2)
    assert engine._lifecycle.start_again(ended, 1)
    engine.wait(ended)
    assert not engine._lifecycle.start_again(ended, 1)
    assert engine.container(ended).state.run == 2
    assert not engine._lifecycle.start_again("0" * 64, 1)


def test_stopped_by_hand_it_is_not_started(engine: Engine, ended: str) -> None:
    restarts.settle(engine._containers, ended)
    engine.stop(ended)
    assert not engine._lifecycle.start_again(ended, 1)
    assert engine.container(ended).state.status is Status.EXITED
    engine.start(ended)
    assert not restarts.is_stopped(engine._containers, ended)


def test_a_failed_start_by_hand_is_not_repeated(engine: Engine, busybox_image: str) -> None:
    engine.stop_supervisor()
    engine.create(
        ContainerConfig(image=busybox_image, name="bad", command=["nosuch"], restart=ALWAYS)
    )
    with pytest.raises(OSError, match="executable file not found"):
        engine.start("bad")
    box = engine.container("bad")
    assert not restarts.is_unsettled(engine._containers, box.record)
    found = restarts.settle(engine._containers, box.id)
    assert found is not None
    assert not found.pending


def test_verbs_on_one_that_is_restarting(engine: Engine, ended: str) -> None:
    restarts.settle(engine._containers, ended)
    wait = f"Container {ended} is restarting, wait until the container is running"
    with pytest.raises(Conflict, match=wait):
        engine.exec("box", ["true"])
    with pytest.raises(Conflict, match=wait):
        engine.pause("box")
    with pytest.raises(Conflict, match=wait):
        engine.top("box")
    with pytest.raises(Conflict) as refused:
        engine.remove("box")
    assert str(refused.value) == (
        'cannot remove container "box": container is restarting: stop the container before '
        "removing or force remove"
    )
    assert engine.prune_containers() == ([], 0)
    assert [box.name for box in engine.containers()] == ["box"]
    assert [box.name for box in engine.containers(filters={"status": ["restarting"]})] == ["box"]
    assert engine.inspect_container("box")["State"]["Restarting"] is True
    engine.kill("box", signal="HUP")
    assert engine.container("box").state.status is Status.EXITED
    engine.remove("box")


def test_remove_by_force_of_one_that_is_restarting(engine: Engine, ended: str) -> None:
    restarts.settle(engine._containers, ended)
    engine.remove("box", force=True)
    assert engine.containers(all=True) == []


def test_the_wall_clock_may_jump(
    engine: Engine, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = engine._containers
    real = store.state

    def jumped(record: object) -> object:
        state = real(record)  # type: ignore[arg-type]
        state.finished_at = finished
        return state

    monkeypatch.setattr(store, "state", jumped)
    for finished in ("2100-01-01T00:00:00Z", "1980-01-01T00:00:00Z"):
        state = store.state(store.load_record(ended))
        ran_for = restarts._ran_for(store, ended, state, None)
        assert 0 <= ran_for <= time.clock_gettime(time.CLOCK_BOOTTIME)
        assert ran_for < restarts.RESET_AFTER or finished < "2000"


def test_a_newer_fastbox_wrote_it(engine: Engine, ended: str) -> None:
    store = engine._containers
    for name in ("restarts.json", "exit", "container.json"):
        path = f"{store.directory(ended)}/{name}"
        with open(path, "rb") as file:
            data = file.read()
        with open(path, "wb") as file:
            file.write(re.sub(rb'"version":\d+', b'"version":9', data))
        with pytest.raises(StoreError, match=f"{path} failed: it is of version 9") as newer:
            store.load(ended)
        assert newer.value.hint == "a newer fastbox wrote it; use that one"
        with open(path, "wb") as file:
            file.write(data)
    store.load(ended)
