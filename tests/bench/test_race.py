"""Contestants in turns: order, failures, time limits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from bench import race as races
from bench.commands import CommandFailed, output, seconds
from bench.race import Out, median, race, unless_out
from tests.support.wait import wait_for


@pytest.fixture(autouse=True)
def failures() -> Iterator[dict[str, str]]:
    """The run's list of failures, empty before and after."""
    races.failures.clear()
    yield races.failures
    races.failures.clear()


def fake_peer(directory: str, script: str) -> str:
    """A program that is a shell script; its path."""
    path = os.path.join(directory, "crun")
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\n{script}\n")
    os.chmod(path, 0o755)
    return path


def test_everyone_goes_first_in_turn() -> None:
    order: list[str] = []

    def of(name: str) -> float:
        order.append(name)
        return 1.0

    found = race({name: lambda name=name: of(name) for name in "abc"}, 3, warmup=0)  # type: ignore[misc]
    assert order == [*"abc", *"bca", *"cab"]
    assert found["a"] == [1.0] * 3


def test_a_race_of_nobody_has_no_winner() -> None:
    assert race({}, 3) == {}


def test_warm_ups_are_not_counted() -> None:
    readings = iter([9.0, 9.0, 1.0, 2.0])
    assert race({"a": lambda: next(readings)}, 2, warmup=2)["a"] == [1.0, 2.0]


def test_who_fails_is_out_and_the_rest_goes_on(tmp_path: object, failures: dict[str, str]) -> None:
    peer = fake_peer(str(tmp_path), "echo first >&2; echo 'no such hierarchy' >&2; exit 3")
    found = race({"crun": lambda: seconds([peer, "run"]), "library": lambda: 1.0}, 4)
    assert found["library"] == [1.0] * 4
    assert isinstance(found["crun"], Out)
    assert failures == {"crun": "crun run: exit status 3: no such hierarchy"}


def test_who_hangs_is_out_and_nothing_of_it_is_left(
    tmp_path: object, failures: dict[str, str]
) -> None:
    noted = os.path.join(str(tmp_path), "pid")
    peer = fake_peer(
        str(tmp_path), f"sleep 1000 & echo $! >{noted}.tmp; mv {noted}.tmp {noted}; wait"
    )
    found = race({"crun": lambda: seconds([peer]), "library": lambda: 1.0}, 2, call=0.5)
    assert found["library"] == [1.0] * 2
    assert failures == {"crun": "crun: not done within 0.5 seconds"}
    with open(noted) as file:
        pid = int(file.read())
    wait_for(lambda: not runs(pid), "the child to be killed too")


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_work_of_our_own_process_has_a_limit_too(failures: dict[str, str]) -> None:
    def spin() -> float:
        while True:
            pass

    race({"library": spin}, 1, call=0.1)
    assert failures == {"library": "library: not done within 0.1 seconds"}


def test_a_command_has_a_limit_outside_of_a_race() -> None:
    with pytest.raises(CommandFailed, match=r"^sleep 1000: not done within 0\.1 seconds$"):
        seconds(["sleep", "1000"], timeout=0.1)
    with pytest.raises(CommandFailed, match=r"^sleep 1000: not done within 0\.1 seconds$"):
        output(["sleep", "1000"], timeout=0.1)


def test_output_and_errors_of_a_command() -> None:
    assert output(["echo", "one"]) == "one"
    with pytest.raises(CommandFailed, match=r"^sh: exit status 4: why$"):
        output(["sh", "-c", "echo why >&2; exit 4"])
    with pytest.raises(CommandFailed, match=r"signal 9"):
        seconds([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])


def test_who_never_ran_is_out_for_its_peers_reason(failures: dict[str, str]) -> None:
    races.out("docker", RuntimeError("no daemon"))
    found = race({"library": lambda: 1.0}, 1)
    with pytest.raises(Out, match=r"^docker, bridge: no daemon$"):
        median(found["docker, bridge"])
    with pytest.raises(Out, match="did not take part"):
        median(found["podman"])


def test_figures_of_a_peer_that_is_out_are_left_out_and_ours_are_not() -> None:
    with unless_out():
        raise Out("docker, port", "gone")
    with pytest.raises(Out), unless_out():
        raise Out("library", "gone")
