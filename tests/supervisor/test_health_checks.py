"""Health checks with real probes, also of the kind that do not want to end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from fastbox import Container, Engine, RestartPolicy, supervision
from fastbox.container import health
from fastbox.oci.healthcheck import Healthcheck
from fastbox.supervisor.checks import go_duration
from tests.support.boxes import execute, image, start
from tests.support.command import Command
from tests.support.wait import wait_for

MS = 1_000_000


def checked(engine: Engine, name: str, command: str, **options: Any) -> Container:
    options = {"interval": 50 * MS, "retries": 1} | options
    check = Healthcheck(test=["CMD-SHELL", command], **options)
    return start(engine, "busybox", name=name, healthcheck=check)


def state(engine: Engine, name: str = "box") -> dict[str, Any]:
    found: dict[str, Any] = engine.inspect_container(name)["State"]["Health"]
    return found


def has(engine: Engine, status: str, name: str = "box") -> Callable[[], bool]:
    return lambda: state(engine, name)["Status"] == status


@pytest.mark.usefixtures("busybox_image")
def test_from_starting_to_unhealthy_and_back(cli: Command, engine: Engine) -> None:
    options = ["--health-interval", "100ms", "--health-retries", "2", "--name", "box"]
    cli.ok("run", "-d", *options, "--health-cmd", "echo here; test -e /up", "busybox", "sleep", "9")
    status = ("ps", "--format", "{{.Status}} {{.HealthStatus}}")
    long = Healthcheck(test=["CMD", "true"])  # the first probe after 30 seconds
    start(engine, "busybox", name="long", healthcheck=long)
    assert cli.ok(*status, "-f", "name=long").endswith(" (health: starting) starting")
    assert state(engine, "long") == {"Status": "starting", "FailingStreak": 0, "Log": []}
    engine.remove("long", force=True)
    wait_for(has(engine, "unhealthy"), "failures")
    assert cli.ok(*status).endswith(" (unhealthy) unhealthy")
    execute(engine, engine.container("box"), "touch", "/up")
    wait_for(has(engine, "healthy"), "success")
    assert cli.ok(*status).endswith(" (healthy) healthy")
    found = state(engine)
    assert found["FailingStreak"] == 0
    wait_for(lambda: len(state(engine)["Log"]) == 5, "five probes")
    last = state(engine)["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (0, "here\n")
    assert last["Start"] < last["End"]
    assert cli.ok("ps", "-q", "-f", "health=healthy") != ""
    assert cli.ok("ps", "-q", "-f", "health=none") == ""
    shown = json.loads(cli.ok("inspect", "box", "-f", "{{json .Config.Healthcheck}}"))
    assert shown == {
        "Test": ["CMD-SHELL", "echo here; test -e /up"], "Interval": 100 * MS, "Retries": 2
    }  # fmt: skip


def test_the_images_check(cli: Command, engine: Engine, busybox_image: str) -> None:
    image(engine, "checked", {}, ["HEALTHCHECK --interval=50ms --retries=1 CMD echo a$((1+1))"])
    start(engine, "checked", name="box")
    wait_for(has(engine, "healthy"), "a probe")
    assert state(engine)["Log"][0]["Output"] == "a2\n"
    cli.ok("run", "-d", "--name", "off", "--no-healthcheck", "checked", "sleep", "1000")
    shown = engine.inspect_container("off")
    assert shown["Config"]["Healthcheck"]["Test"] == ["NONE"]
    assert "Health" not in shown["State"]
    assert "health" not in cli.ok("ps", "-f", "name=off", "--format", "{{.Status}}")


@pytest.mark.usefixtures("busybox_image")
def test_probes_that_cannot_be_run(engine: Engine) -> None:
    check = Healthcheck(test=["CMD", "nosuch"], interval=50 * MS, retries=1)
    start(engine, "busybox", name="box", healthcheck=check)
    wait_for(has(engine, "unhealthy"), "a failure")
    found = state(engine)["Log"][0]
    assert found["ExitCode"] == -1
    assert "no such file or directory" in found["Output"]


@pytest.mark.usefixtures("busybox_image")
def test_probes_that_do_not_want_to_end(engine: Engine) -> None:
    """They hang, fork, flood: each is killed with what it started, and none holds up another."""
    late = {"timeout": 200 * MS}
    for number in range(6):
        checked(engine, f"hang{number}", "sleep 1000", timeout=30_000 * MS)
    boxes = [
        checked(engine, "box", "echo begun; trap '' TERM; sleep 1000 & sleep 1000 & wait", **late),
        checked(engine, "flood", "yes", **late),
        checked(engine, "spill", "head -c 8000000 /dev/zero | tr '\\0' x; exit 0", retries=3),
        checked(engine, "orphan", "sleep 1000 & exit 0"),
    ]
    for name in ("box", "flood"):
        wait_for(has(engine, "unhealthy", name), "a time-out")
    for name in ("spill", "orphan"):
        wait_for(has(engine, "healthy", name), "a success")
    first = state(engine, "box")["Log"][0]
    assert first["ExitCode"] == -1
    assert first["Output"] == "Health check exceeded timeout (200ms): begun\n"
    spilt = state(engine, "spill")["Log"][-1]["Output"]
    assert spilt == "x" * health.MAX_OUTPUT + "..."
    assert len(state(engine, "flood")["Log"][0]["Output"]) < health.MAX_OUTPUT + 100
    for box in boxes[:2]:  # what was killed leaves nothing: init, and at most one probe under way
        wait_for(lambda: len(_pids(engine, box)) <= 4, "the ends of old probes")  # noqa: B023
    assert engine.supervisor_status() is not None
    helpers = [line for line in _children(supervision.owner(engine.runtime_dir)) if "Z" in line]
    assert helpers == []


def _pids(engine: Engine, box: Container) -> list[int]:
    return engine._lifecycle.pids(box.record)


def _children(pid: int) -> list[str]:
    """Their states."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            children = file.read().split()
        for child in children:
            try:
                with open(f"/proc/{child}/stat") as file:
                    found.append(file.read().rpartition(") ")[2][:1])
            except OSError:
                continue
    return found


@pytest.mark.usefixtures("busybox_image")
def test_no_probes_while_it_is_paused(engine: Engine) -> None:
    box = checked(engine, "box", "echo x >> /probes", timeout=100 * MS)
    wait_for(has(engine, "healthy"), "a probe")
    engine.pause("box")
    size = os.path.getsize(f"{box.directory}/upper/probes")
    seen = state(engine)["Log"]
    checked(engine, "clock", "echo x >> /probes")
    clock = f"{engine.container('clock').directory}/upper/probes"
    wait_for(lambda: os.path.exists(clock) and os.path.getsize(clock) >= 20, "ten probes of it")
    assert os.path.getsize(f"{box.directory}/upper/probes") <= size + 2
    assert state(engine)["Status"] == "healthy"
    assert [entry["ExitCode"] for entry in state(engine)["Log"]] == [0] * len(state(engine)["Log"])
    engine.unpause("box")
    wait_for(lambda: state(engine)["Log"][-1] not in seen, "a probe")
    assert state(engine)["Status"] == "healthy"


@pytest.mark.usefixtures("busybox_image")
def test_another_run_begins_anew(engine: Engine) -> None:
    check = Healthcheck(test=["CMD-SHELL", "exit 1"], interval=50 * MS, retries=1)
    always = RestartPolicy(name="always")
    box = start(engine, "busybox", name="box", healthcheck=check, restart=always)
    wait_for(has(engine, "unhealthy"), "a failure")
    os.kill(box.state.pid, signal.SIGKILL)
    wait_for(lambda: engine.container("box").state.run == 2, "a restart")
    first = engine.container("box").state.health
    assert first is not None
    assert first.run == 2
    assert first.log == [] or first.log[0].start > engine.container("box").state.started_at
    wait_for(has(engine, "unhealthy"), "a failure")
    engine.stop("box", timeout=0)
    assert state(engine)["Status"] == "unhealthy"  # as it was at the end


@pytest.mark.usefixtures("busybox_image")
def test_a_new_supervisor_goes_on(engine: Engine) -> None:
    checked(engine, "box", "exit 0")
    wait_for(has(engine, "healthy"), "a probe")
    os.kill(supervision.owner(engine.runtime_dir), signal.SIGKILL)
    wait_for(lambda: not supervision.is_running(engine.runtime_dir), "its end")
    last = state(engine)["Log"][-1]
    engine.start_supervisor()
    wait_for(lambda: last not in state(engine)["Log"], "new probes")
    assert state(engine)["Status"] == "healthy"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--no-healthcheck", "--health-cmd", "x"],
         "--no-healthcheck conflicts with --health-* options"),
        (["--health-interval", "-1s"], "--health-interval cannot be negative"),
        (["--health-timeout=-1s"], "--health-timeout cannot be negative"),
        (["--health-retries", "-1"], "--health-retries cannot be negative"),
        (["--health-start-period", "-1s"], "--health-start-period cannot be negative"),
        (["--health-start-interval", "-1s"], "--health-start-interval cannot be negative"),
        (["--health-interval", "5"], 'invalid argument "5" for "--health-interval" flag: time: '
         'missing unit in duration "5"'),
        (["--health-interval", "10us"], "Interval in Healthcheck cannot be less than 1ms"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("busybox_image")
def test_bad_flags(cli: Command, options: list[str], text: str) -> None:
    assert text in cli.fails(125, "run", *options, "busybox", "true")
    assert cli.ok("ps", "-aq") == ""


def test_durations_as_go_prints_them() -> None:
    found = [go_duration(seconds) for seconds in (0.2, 0.0015, 1, 1.5, 30, 90, 3600, 3661.5)]
    assert found == ["200ms", "1.5ms", "1s", "1.5s", "30s", "1m30s", "1h0m0s", "1h1m1.5s"]
