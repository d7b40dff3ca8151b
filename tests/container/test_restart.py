"""restart: stop and start in one, also of what is stopped, paused, or removed when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from fastbox import ContainerConfig, Engine, Mount, Status
from fastbox.errors import FastboxError, InvalidArgument, LaunchError, NotFound
from tests.support.boxes import execute, start
from tests.support.command import Command
from tests.support.wait import wait_for

TRAP = ("sh", "-c", 'trap "echo TERM; exit 7" TERM; trap "echo INT; exit 8" INT; echo up; '
        "while :; do sleep 0.01; done")  # fmt: skip


def lines(engine: Engine, box: str) -> list[bytes]:
    return [line.data for line in engine.logs(box)]


def test_of_a_running_one(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, *TRAP, name="box")
    wait_for(lambda: lines(engine, "box") == [b"up"], "the first line")
    execute(engine, box, "touch", "/kept")
    engine.restart("box")
    again = engine.container("box")
    assert (again.state.status, again.state.run) == (Status.RUNNING, 2)
    assert again.state.pid != box.state.pid
    assert execute(engine, again, "ls", "/kept").code == 0
    wait_for(lambda: lines(engine, "box") == [b"up", b"TERM", b"up"], "the third line")
    engine.restart("box", signal="INT")
    wait_for(lambda: lines(engine, "box")[3:] == [b"INT", b"up"], "the fifth line")


def test_what_does_not_listen_is_killed(engine: Engine, busybox_image: str) -> None:
    start(engine, busybox_image, name="box")  # sleep as pid 1 ignores SIGTERM
    engine.restart("box", timeout=0)
    assert engine.container("box").state.run == 2
    assert engine.container("box").state.status is Status.RUNNING


def test_of_others(engine: Engine, busybox_image: str) -> None:
    config = ContainerConfig(image=busybox_image, name="box", command=["sleep", "1000"])
    engine.create(config)
    engine.restart("box")
    assert engine.container("box").state.status is Status.RUNNING
    engine.kill("box")
    engine.restart("box")
    assert engine.container("box").state.status is Status.RUNNING
    engine.pause("box")
    engine.restart("box", timeout=0)
    state = engine.container("box").state
    assert (state.status, state.run) == (Status.RUNNING, 3)


def test_errors(engine: Engine, busybox_image: str) -> None:
    with pytest.raises(NotFound) as missing:
        engine.restart("nosuch")
    assert str(missing.value) == "No such container: nosuch"
    start(engine, busybox_image, name="box")
    with pytest.raises(InvalidArgument) as bad:
        engine.restart("box", signal="FOO")
    assert str(bad.value) == "Cannot restart container box: invalid signal: FOO"
    assert engine.container("box").state.run == 1
    engine.create(ContainerConfig(image=busybox_image, name="bad", command=["nosuch"]))
    with pytest.raises(LaunchError, match=r"^Cannot restart container bad: .*executable file not"):
        engine.restart("bad")


@pytest.mark.parametrize("anonymous", [False, True])
def test_of_one_that_is_removed_when_it_ends(
    engine: Engine, busybox_image: str, anonymous: bool
) -> None:
    mounts = [Mount(type="volume", target="/v")] if anonymous else []
    box = start(engine, busybox_image, *TRAP, name="box", auto_remove=True, mounts=mounts)
    wait_for(lambda: lines(engine, "box") == [b"up"], "the first line")
    for run in (2, 3):
        engine.restart("box", timeout=0)
        assert engine.container("box").state.run == run
        assert [found.id for found in engine.containers()] == [box.id]
    assert len(engine.volumes()) == anonymous
    engine.stop("box", timeout=0)
    wait_for(lambda: engine.containers(all=True) == [], "its removal")
    assert os.listdir(f"{engine.root}/names") == []
    wait_for(lambda: engine.volumes() == [], "the removal of its volume")


def test_of_one_that_is_removed_when_it_ends_and_has_a_client(
    engine: Engine, busybox_image: str
) -> None:
    for mounts in ([], [Mount(type="volume", target="/v")]):
        config = ContainerConfig(
            image=busybox_image, command=list(TRAP), auto_remove=True, mounts=mounts
        )
        box = engine.create(config)
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(engine.run_attached(box.id)))  # noqa: B023
        thread.start()
        wait_for(lambda: b"up" in lines(engine, box.id), "the first line")  # noqa: B023
        engine.restart(box.id)
        thread.join()
        assert codes == [7]
        assert engine.container(box.id).state.status is Status.RUNNING
        engine.remove(box.id, force=True)


def test_by_several_at_once(engine: Engine, busybox_image: str) -> None:
    start(engine, busybox_image, name="box")
    errors: list[FastboxError] = []

    def work() -> None:
        for _ in range(5):
            try:
                engine.restart("box", timeout=0)
            except FastboxError as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    state = engine.container("box").state
    assert (state.status, state.run) == (Status.RUNNING, 21)


KILLED = """
import sys
from fastbox import Engine
from fastbox.container.lifecycle import Lifecycle
Lifecycle.wait_down = lambda *_: (print("down", flush=True), sys.stdin.read())
Engine(sys.argv[1], sys.argv[2]).restart("box", timeout=0)
"""


def test_killed_between_the_end_and_the_start(engine: Engine, busybox_image: str) -> None:
    start(engine, busybox_image, name="box", auto_remove=True)
    command = [sys.executable, "-c", KILLED, engine.root, engine.runtime_dir]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd="/", **pipes) as worker:  # type: ignore[call-overload]
        assert worker.stdout.readline() == b"down\n"
        worker.kill()
        assert worker.wait() == -signal.SIGKILL
    wait_for(lambda: engine.containers(all=True) == [], "its removal")


@pytest.mark.usefixtures("busybox_image")
def test_the_command(cli: Command) -> None:
    for name in ("one", "two"):
        cli.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
    result = cli("restart", "-t", "0", "two", "nosuch", "one")
    assert (result.code, result.out) == (1, "two\none\n")
    assert result.err == "Error: No such container: nosuch\n"
    assert cli.fails(1, "container", "restart", "-s", "FOO", "one") == (
        "Error: Cannot restart container one: invalid signal: FOO\n"
    )
