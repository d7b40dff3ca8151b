"""pause and unpause: frozen by the cgroup, told by ps and inspect, and no hindrance to an end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from fastbox import Engine, Status
from fastbox.container import cgroups
from fastbox.errors import Conflict, NotFound, NotRunning, Unsupported
from tests.support.boxes import start
from tests.support.command import Command
from tests.support.wait import wait_for

# Counts as fast as it can.
COUNT = ("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /count; done")
TRAP = (
    "sh",
    "-c",
    'trap "exit 7" TERM; trap "echo hup" HUP; echo up; while :; do sleep 0.01; done',
)


def count(directory: str) -> str:
    try:
        with open(f"{directory}/upper/count") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def test_processes_stand_still(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, *COUNT, name="box")
    wait_for(lambda: count(box.directory), "the first number")
    engine.pause("box")
    paused = engine.container("box")
    assert (paused.state.status, paused.state.pid) == (Status.PAUSED, box.state.pid)
    state = engine.inspect_container("box")["State"]
    assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
    assert [found.name for found in engine.containers(filters={"status": ["paused"]})] == ["box"]
    assert engine.info()["ContainersPaused"] == 1
    group = cgroups.open_existing(cgroups.detect(), box.record.cgroup_path)
    assert group.is_frozen()
    before = count(box.directory)
    engine.unpause("box")
    assert not group.is_frozen()
    assert engine.container("box").state.status is Status.RUNNING
    wait_for(lambda: count(box.directory) not in ("", before), "the next number")


def test_what_a_paused_container_refuses(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="box")
    engine.pause("box")
    for call, text in (
        (
            lambda: engine.exec("box", ["true"]),
            "Container box is paused, unpause the container before exec",
        ),
        (lambda: engine.start("box"), "cannot start a paused container, try unpause instead"),
        (
            lambda: engine.run_attached("box"),
            "cannot start a paused container, try unpause instead",
        ),
        (lambda: engine.pause("box"), f"container {box.id} is already paused"),
        (
            lambda: engine.remove("box"),
            'cannot remove container "box": container is paused and must be unpaused first',
        ),
    ):
        with pytest.raises(Conflict) as caught:
            call()
        assert str(caught.value) == text
    engine.unpause("box")
    with pytest.raises(Conflict, match=f"Container {box.id} is not paused"):
        engine.unpause("box")
    engine.kill("box")
    with pytest.raises(NotRunning, match=f"container {box.id} is not running"):
        engine.pause("box")
    with pytest.raises(Conflict, match=f"Container {box.id} is not paused"):
        engine.unpause("box")
    with pytest.raises(NotFound, match="No such container: nosuch"):
        engine.pause("nosuch")


def paused(engine: Engine, image: str) -> str:
    box = start(engine, image, *TRAP)
    wait_for(lambda: list(engine.logs(box.id)), "its first line")
    engine.pause(box.id)
    return box.id


def test_stop_kill_and_rm_end_it(engine: Engine, busybox_image: str) -> None:
    ends: list[tuple[Callable[[str], object], int]] = [
        (engine.stop, 7),
        (lambda box: engine.stop(box, timeout=0), 137),
        (engine.kill, 137),
    ]
    for end, code in ends:
        box = paused(engine, busybox_image)
        end(box)
        state = engine.container(box).state
        if state.exit_code != 7:  # with no time to end, either may come first
            assert (state.status, state.exit_code) == (Status.EXITED, code)
        engine.start(box)
        assert engine.container(box).state.status is Status.RUNNING
        engine.pause(box)
        engine.remove(box, force=True)
    assert engine.containers(all=True) == []


def test_signals_to_a_paused_one(engine: Engine, busybox_image: str) -> None:
    """Docker's rule: what ends it lets it go on, others wait until it is unpaused."""
    box = paused(engine, busybox_image)
    engine.kill(box, signal="HUP")
    assert engine.container(box).state.status is Status.PAUSED
    engine.unpause(box)
    wait_for(lambda: [line.data for line in engine.logs(box)] == [b"up", b"hup"], "the signal")
    engine.pause(box)
    engine.kill(box, signal="TERM")
    assert engine.wait(box) == 7


def test_one_whose_init_is_killed_by_others(engine: Engine, busybox_image: str) -> None:
    """And a mark without a frozen group (the engine was killed between the two) means nothing."""
    box = start(engine, busybox_image, name="box")
    engine.pause("box")
    os.kill(box.state.pid, signal.SIGKILL)
    group = cgroups.open_existing(cgroups.detect(), box.record.cgroup_path)
    if group.layout.mode == "v1":
        group.thaw()
    assert engine.wait("box") == 137
    assert os.path.exists(f"{engine.runtime_dir}/{box.id}/paused")
    assert engine.container("box").state.status is Status.EXITED
    engine.start("box")
    assert engine.container("box").state.status is Status.RUNNING
    open(f"{engine.runtime_dir}/{box.id}/paused", "w").close()
    assert engine.container("box").state.status is Status.RUNNING
    engine.pause("box")
    assert engine.container("box").state.status is Status.PAUSED
    engine.unpause("box")


def test_a_freeze_that_fails_leaves_it_running(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = start(engine, busybox_image, name="box")

    def refuse(self: object) -> None:
        raise Unsupported("freezing failed")

    monkeypatch.setattr(cgroups.Cgroup, "freeze", refuse)
    with pytest.raises(Unsupported, match="freezing failed"):
        engine.pause("box")
    assert engine.container("box").state.status is Status.RUNNING
    assert not os.path.exists(f"{engine.runtime_dir}/{box.id}/paused")


@pytest.mark.usefixtures("busybox_image")
def test_the_commands(cli: Command) -> None:
    for name in ("one", "two"):
        cli.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
    assert cli.ok("pause", "two", "one") == "two\none"
    assert cli.ok("ps", "--format", "{{.State}}", "-f", "name=one") == "paused"
    status = cli.ok("ps", "--format", "{{.Status}}", "-f", "name=one")
    assert status.startswith("Up ")
    assert status.endswith(" (Paused)")
    assert cli.fails(1, "exec", "one", "true") == (
        "Error: Container one is paused, unpause the container before exec\n"
    )
    for options in ((), ("-a",)):
        assert cli.fails(1, "start", *options, "one").startswith(
            "Error: cannot start a paused container, try unpause instead\n"
        )
    assert cli.ok("container", "unpause", "one") == "one"
    assert cli.ok("ps", "--format", "{{.State}}", "-f", "name=one") == "running"
    assert cli.ok("stop", "-t", "0", "two") == "two"
    assert cli.ok("rm", "-f", "one") == "one"
