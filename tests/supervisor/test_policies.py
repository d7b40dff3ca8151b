"""Restart policies with a supervisor and real containers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from fastbox import Container, ContainerConfig, Engine, RestartPolicy, Status, supervision
from fastbox.container import launch, restarts
from fastbox.container.lifecycle import Lifecycle
from fastbox.errors import LaunchError, NotFound
from tests.support.boxes import start
from tests.support.command import Command
from tests.support.wait import wait_for


def policy(text: str) -> RestartPolicy:
    name, _, count = text.partition(":")
    return RestartPolicy(name=name, max_retries=int(count or 0))


def box_with(engine: Engine, image: str, text: str, *command: str, name: str = "box") -> Container:
    return start(engine, image, *command, name=name, restart=policy(text))


def run_of(engine: Engine, name: str = "box") -> int:
    return engine.container(name).state.run


def is_up(engine: Engine, run: int, name: str = "box") -> Callable[[], bool]:
    def look() -> bool:
        state = engine.container(name).state
        return state.run == run and state.status is Status.RUNNING

    return look


def kill_init(engine: Engine, name: str = "box") -> None:
    """The container's process dies, by nobody's command."""
    os.kill(engine.container(name).state.pid, signal.SIGKILL)


def kill_supervisor(engine: Engine) -> None:
    pid = supervision.owner(engine.runtime_dir)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not supervision.is_running(engine.runtime_dir), "its end")


def reboot(engine: Engine) -> None:
    """What a power loss leaves: no process, an empty runtime directory, the store."""
    kill_supervisor(engine)
    engine.stop_supervisor()
    for box in engine.containers():
        state = engine._containers._state_file(box.id)
        assert state is not None
        os.kill(state.monitor_pid, signal.SIGKILL)  # init dies with it
        wait_for(lambda: not engine.container(box.id).state.status.is_up, "its end")  # noqa: B023
    for entry in os.listdir(engine.runtime_dir):
        path = f"{engine.runtime_dir}/{entry}"
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


# ---- which are started again -----------------------------------------------------------------


@pytest.mark.parametrize("text", ["always", "unless-stopped", "on-failure", "on-failure:3"])
def test_what_dies_is_started_again(engine: Engine, busybox_image: str, text: str) -> None:
    box_with(engine, busybox_image, text)
    for run in (2, 3):
        kill_init(engine)
        wait_for(is_up(engine, run), "its restart")
    state = engine.container("box").state
    assert state.restart_count == 2
    assert engine.inspect_container("box")["RestartCount"] == 2


def test_a_success_is_no_failure(engine: Engine, busybox_image: str) -> None:
    box_with(engine, busybox_image, "on-failure", "sh", "-c", "exit 0", name="done")
    box_with(engine, busybox_image, "always", "sh", "-c", "exit 0", name="again")
    wait_for(lambda: run_of(engine, "again") >= 3, "restarts of the other")
    done = engine.container("done").state
    assert (done.status, done.run, done.restart_count) == (Status.EXITED, 1, 0)


def test_the_number_of_retries(engine: Engine, busybox_image: str) -> None:
    box = box_with(engine, busybox_image, "on-failure:2", "sh", "-c", "echo x; exit 7")
    assert [line.data for line in engine.logs("box", follow=True)] == [b"x"] * 3
    wait_for(lambda: engine.container("box").state.status is Status.EXITED, "the last end")
    state = engine.container("box").state
    assert (state.run, state.restart_count, state.exit_code) == (3, 2, 7)
    engine.start("box")
    wait_for(lambda: run_of(engine) == 6, "as many again")
    assert restarts.load(engine._containers, box.id).count == 2  # type: ignore[union-attr]


def test_a_crash_loop_waits_longer_each_time_and_ends_with_a_stop(
    cli: Command, engine: Engine, busybox_image: str
) -> None:
    box = box_with(engine, busybox_image, "always", "sh", "-c", "exit 1")
    wait_for(lambda: run_of(engine) >= 3, "restarts")
    found = restarts.load(engine._containers, box.id)
    assert found is not None
    assert found.delay == pytest.approx(0.1 * 2 ** (found.count - 1))
    wait_for(lambda: engine.container("box").state.status is Status.RESTARTING, "a pause")
    status = cli.ok("ps", "--format", "{{.Status}}")
    assert status.startswith(("Restarting (1) ", "Up "))
    engine.stop("box")
    state = engine.container("box").state
    assert state.status is Status.EXITED
    assert cli.ok("ps", "-q") == ""
    time.sleep(found.delay * 4)  # longer than the pause that was cancelled
    assert engine.container("box").state.run == state.run


@pytest.mark.parametrize("verb", ["stop", "kill", "term"])
def test_stopped_by_hand_it_stays_so(engine: Engine, busybox_image: str, verb: str) -> None:
    command = ("sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.01; done")
    box = box_with(engine, busybox_image, "always", *command)
    if verb == "stop":
        engine.stop("box")
    else:
        engine.kill("box", signal="KILL" if verb == "kill" else "TERM")
    wait_for(lambda: engine.container("box").state.status is Status.EXITED, "its end")
    found = wait_for(lambda: _handled(engine, box.id, 1), "the decision")
    assert not found.pending
    engine.start("box")
    kill_init(engine)
    wait_for(is_up(engine, 3), "its restart")


def _handled(engine: Engine, container_id: str, run: int) -> restarts.Restarts | None:
    found = restarts.load(engine._containers, container_id)
    return found if found is not None and found.run == run else None


def test_another_signal_is_no_stop(engine: Engine, busybox_image: str) -> None:
    box_with(engine, busybox_image, "always", "sh", "-c", "trap 'exit 4' HUP; sleep 1000 & wait")
    wait_for(lambda: engine.top("box")[1][1:], "its child")
    engine.kill("box", signal="HUP")
    wait_for(is_up(engine, 2), "its restart")


def test_restart_by_hand_counts_anew(engine: Engine, busybox_image: str) -> None:
    box_with(engine, busybox_image, "always")
    kill_init(engine)
    wait_for(is_up(engine, 2), "its restart")
    engine.restart("box", timeout=0)
    state = engine.container("box").state
    assert (state.run, state.restart_count) == (3, 0)
    kill_init(engine)
    wait_for(is_up(engine, 4), "its restart")


def test_start_does_not_wait_for_the_pause(engine: Engine, busybox_image: str) -> None:
    box = box_with(engine, busybox_image, "always", "sh", "-c", "[ -e /on ] && sleep 1000; exit 1")
    wait_for(lambda: engine.container("box").state.restart_count >= 2, "restarts")
    with open(f"{box.directory}/upper/on", "w"):
        pass
    wait_for(lambda: engine.container("box").state.status.is_active, "")
    engine.start("box")
    assert engine.container("box").state.status is Status.RUNNING


def test_update_of_the_policy(engine: Engine, busybox_image: str) -> None:
    box_with(engine, busybox_image, "no")
    engine.update("box", restart=policy("always"))
    kill_init(engine)
    wait_for(is_up(engine, 2), "its restart")
    engine.update("box", restart=policy("no"))
    kill_init(engine)
    wait_for(lambda: engine.container("box").state.status is Status.EXITED, "its end")
    assert run_of(engine) == 2


def test_rm_by_force(engine: Engine, busybox_image: str) -> None:
    box_with(engine, busybox_image, "always", "sh", "-c", "exit 1")
    engine.remove("box", force=True)
    with pytest.raises(NotFound):
        engine.container("box")
    assert os.listdir(f"{engine.root}/containers") == []


def test_a_start_that_fails_is_tried_again(engine: Engine, busybox_image: str) -> None:
    box = box_with(engine, busybox_image, "always")
    config = f"{box.directory}/config.json"
    os.rename(config, f"{config}.away")
    kill_init(engine)
    wait_for(lambda: engine.container("box").state.restart_count >= 3, "attempts")
    os.rename(f"{config}.away", config)
    wait_for(is_up(engine, 2), "its restart")


def test_logs_are_followed_across_restarts(
    cli: Command, engine: Engine, busybox_image: str
) -> None:
    box_with(engine, busybox_image, "always", "sh", "-c", "echo $((++n)); sleep 1000")
    follower = cli.popen("logs", "-f", "box")
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"1\n"
    kill_init(engine)
    assert follower.stdout.readline() == b"1\n"
    engine.restart("box", timeout=0)
    assert follower.stdout.readline() == b"1\n"
    engine.stop("box", timeout=0)
    assert follower.communicate(timeout=30) == (b"", b"")
    assert follower.returncode == 0


def test_wait_for_one_that_is_restarting(engine: Engine, busybox_image: str) -> None:
    command = ("sh", "-c", "[ -e /second ] && exit 5; touch /second; exit 3")
    box_with(engine, busybox_image, "on-failure:1", *command)
    wait_for(lambda: engine.container("box").state.status is Status.RESTARTING, "a pause")
    assert engine.wait("box") == 5


# ---- the supervisor is killed ----------------------------------------------------------------


def test_an_end_while_it_is_away(engine: Engine, busybox_image: str) -> None:
    for number, text in enumerate(("always", "on-failure", "no")):
        box_with(engine, busybox_image, text, name=f"box{number}")
    pids = [engine.container(f"box{number}").state.pid for number in range(3)]
    kill_supervisor(engine)
    with open(supervision.stopped_path(engine.runtime_dir), "w"):
        pass  # nobody brings it back
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    ended = engine._containers.state
    wait_for(lambda: not any(ended(b.record).status.is_up for b in engine.containers()), "the ends")
    assert [box.state.run for box in engine.containers(all=True)] == [1, 1, 1]
    engine.start_supervisor()
    for number in (0, 1):
        wait_for(is_up(engine, 2, f"box{number}"), "a restart")
        assert engine.container(f"box{number}").state.restart_count == 1
    assert run_of(engine, "box2") == 1


def test_adoption(engine: Engine, busybox_image: str) -> None:
    box = box_with(engine, busybox_image, "always")
    kill_supervisor(engine)
    engine.start_supervisor()
    again = engine.container("box").state
    assert (again.run, again.pid) == (1, box.state.pid)
    kill_init(engine)
    wait_for(is_up(engine, 2), "its restart")


def test_ps_brings_it_back_where_it_is_needed(
    cli: Command, engine: Engine, busybox_image: str
) -> None:
    box_with(engine, busybox_image, "no", name="plain")
    assert not os.path.exists(supervision.lock_path(engine.runtime_dir))
    box_with(engine, busybox_image, "always")
    kill_supervisor(engine)
    cli.ok("ps")
    assert supervision.is_running(engine.runtime_dir)
    engine.stop_supervisor()
    cli.ok("ps")
    assert not supervision.is_running(engine.runtime_dir)
    engine.restart("box", timeout=0)
    assert supervision.is_running(engine.runtime_dir)
    assert not supervision.was_stopped(engine.runtime_dir)


def test_killed_in_the_pause_before_a_restart(engine: Engine, busybox_image: str) -> None:
    box = box_with(engine, busybox_image, "always", "sh", "-c", "exit 9")
    wait_for(lambda: engine.container("box").state.restart_count >= 3, "a longer pause")
    kill_supervisor(engine)
    before = restarts.load(engine._containers, box.id)
    engine.start_supervisor()
    wait_for(lambda: engine.container("box").state.restart_count > before.count, "one more")  # type: ignore[union-attr]
    state = engine.container("box").state
    assert state.run in (state.restart_count, state.restart_count + 1)


KILLED_HALF_WAY = """
import os, signal, sys
from fastbox.container.lifecycle import Lifecycle
from fastbox.engine import Engine
Lifecycle._launch = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Engine(sys.argv[1], sys.argv[2]).restart("box", timeout=0)
"""


@pytest.mark.parametrize("text", ["always", "unless-stopped", "on-failure"])
def test_a_restart_by_hand_that_is_killed_half_way(
    engine: Engine, busybox_image: str, text: str
) -> None:
    """After the stop, before the start: it was to run, so the supervisor starts it."""
    box = box_with(engine, busybox_image, text)
    argv = [sys.executable, "-c", KILLED_HALF_WAY, engine.root, engine.runtime_dir]
    assert subprocess.run(argv).returncode == -signal.SIGKILL
    wait_for(is_up(engine, 2), "the start")
    assert engine.container(box.id).state.restart_count == 0  # not by the policy


def test_a_restart_by_hand_that_fails_is_not_repeated(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = box_with(engine, busybox_image, "always")

    def fail(*_: object) -> None:
        raise LaunchError("no")

    monkeypatch.setattr(Lifecycle, "_launch", fail)
    with pytest.raises(LaunchError):
        engine.restart(box.id, timeout=0)
    found = restarts.load(engine._containers, box.id)
    assert found is not None and not found.pending
    assert engine.container(box.id).state.status is Status.EXITED


def test_supervisor_and_user_start_it_once(engine: Engine, busybox_image: str) -> None:
    box = box_with(engine, busybox_image, "always", "sh", "-c", "echo up; sleep 0.05; exit 1")

    def work() -> None:
        for _ in range(20):
            engine.start(box.id)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.stop("box", timeout=0)
    wait_for(lambda: not engine.container("box").state.status.is_active, "its end")
    lines = sum(1 for _ in engine.logs("box"))
    assert engine.container("box").state.run - lines in (0, 1)  # the last may have been killed


# ---- the machine restarts --------------------------------------------------------------------


def test_reboot_takes_the_bundle_of_an_auto_remove_container(
    cli: Command, engine: Engine, busybox_image: str
) -> None:
    name = cli.ok(
        "create", "--rm", "-h", "box", busybox_image, "sh", "-c", "hostname; cat /etc/hostname"
    )
    reboot(engine)
    assert not [problem for problem in engine.check() if not problem.harmless]
    assert cli.ok("start", "-a", name).split() == ["box", "box"]


def test_reboot(cli: Command, engine: Engine, busybox_image: str) -> None:
    for name in ("always", "unless-stopped", "on-failure", "no"):
        box_with(engine, busybox_image, name, name=name)
        box_with(engine, busybox_image, name, name=f"{name}-stopped")
        engine.create(
            ContainerConfig(image=busybox_image, name=f"{name}-created", restart=policy(name))
        )
    for name in ("always", "unless-stopped", "on-failure", "no"):
        engine.stop(f"{name}-stopped", timeout=0)
    reboot(engine)
    assert engine.container("no").state.status is Status.EXITED
    assert engine.container("no").state.exit_code == 255
    assert "restarted" in engine.container("no").state.error
    assert engine.container("no-created").state.status is Status.CREATED
    cli.ok("ps")  # the first command
    assert supervision.is_running(engine.runtime_dir)
    wanted = ["always", "always-stopped", "unless-stopped"]
    wait_for(lambda: sorted(box.name for box in engine.containers()) == wanted, "three")
    wait_for(lambda: all(box.state.status.is_up for box in engine.containers()), "three up")
    engine.stop("always-stopped", timeout=0)  # stays so, in this life of the machine
    kill_supervisor(engine)
    engine.start_supervisor()
    kill_init(engine, "always")
    wait_for(lambda: engine.container("always").state.restart_count == 1, "a restart")
    assert [box.name for box in engine.containers() if box.name != "always"] == ["unless-stopped"]


def test_stale_pids_get_no_signal(engine: Engine, busybox_image: str) -> None:
    """After a reboot the pids in a state.json that stayed belong to others."""
    box = box_with(engine, busybox_image, "unless-stopped")
    path = f"{engine.runtime_dir}/{box.id}/state.json"
    with open(path) as file:
        state = file.read()
    reboot(engine)
    canary = os.getpid()
    started = restarts.process.start_time(canary)
    os.makedirs(os.path.dirname(path))
    boot = restarts.process.boot_id()
    with open(path, "w") as file:
        values = state.replace(boot, "00000000-0000-0000-0000-000000000000")
        for pid, ticks in ((box.state.pid, box.state.pid_starttime),):
            values = values.replace(str(pid), str(canary)).replace(str(ticks), str(started))
        file.write(values)
    assert engine.container("box").state.exit_code == 255
    engine.start_supervisor()
    wait_for(is_up(engine, 2), "its restart")


# ---- the monitor's part ----------------------------------------------------------------------


def test_what_a_monitor_runs_when_nobody_is_there(engine: Engine, busybox_image: str) -> None:
    box = box_with(engine, busybox_image, "always")
    plain = box_with(engine, busybox_image, "no", name="plain")
    assert launch.end_command(engine.root, engine.runtime_dir, plain.record)[-2:] == [
        "cleanup",
        plain.id,
    ]
    kill_supervisor(engine)
    command = launch.end_command(engine.root, engine.runtime_dir, box.record)
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert supervision.is_running(engine.runtime_dir)
    flags = _monitor_flags(engine, box), _monitor_flags(engine, plain)
    assert ["s" in found for found in flags] == [True, False]


def _monitor_flags(engine: Engine, box: Container) -> str:
    with open(f"/proc/{box.state.monitor_pid}/cmdline", "rb") as file:
        words = file.read().decode().split("\0")
    return words[words.index(engine.root) - 1]


def test_a_monitor_brings_the_supervisor_back(engine: Engine, busybox_image: str) -> None:
    """Nobody types a command: what asks for the state does not look for a supervisor."""
    box = box_with(engine, busybox_image, "always")
    kill_supervisor(engine)
    os.kill(box.state.pid, signal.SIGKILL)
    wait_for(lambda: engine._containers.state(box.record).run == 2, "its restart")
    assert supervision.is_running(engine.runtime_dir)
    engine.stop_supervisor()
    os.kill(engine._containers.state(box.record).pid, signal.SIGKILL)
    wait_for(lambda: not engine._containers.state(box.record).status.is_up, "its end")
    # Told to stop, it stays away until somebody needs it.
    wait_for(lambda: not os.path.exists(f"/proc/{box.state.monitor_pid}"), "the monitor's end")
    assert not supervision.is_running(engine.runtime_dir)
