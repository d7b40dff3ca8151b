"""kill -9 of the supervisor at random points, again and again, while containers start, write, exit
and are restarted: no line is lost, nothing is started twice, every exit code is right.

``FASTBOX_CHAOS_KILLS`` says how often (20), ``FASTBOX_CHAOS_SEED`` with which seed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading

import pytest

from fastbox import Engine, RestartPolicy, Status, supervision
from fastbox.errors import FastboxError
from tests.support.boxes import start
from tests.support.command import Command
from tests.support.wait import wait_for

TIME_LIMIT = 600  # on a machine that has other work, or is to kill more often
KILLS = int(os.environ.get("FASTBOX_CHAOS_KILLS", "20"))
SEED = int(os.environ.get("FASTBOX_CHAOS_SEED", "20240607"))
ALWAYS = RestartPolicy(name="always")

COUNT = "i=0; while :; do echo $i; i=$((i+1)); usleep 10000; done"
# The number of the run is kept in the container; a second process at the same time would show.
LOOP = """
mkdir /busy || echo twice
n=$(($(cat /n 2>/dev/null || echo 0) + 1))
echo $n > /n
echo $n
usleep $((n * 7919 % 200000))
rmdir /busy
exit $((n % 7 + 1))
"""


class Chaos:
    """What is done to a store."""

    def __init__(self, engine: Engine, cli: Command, dice: random.Random) -> None:
        self.engine, self.cli, self.dice = engine, cli, dice
        self.failing: list[str] = []
        self.kills = 0

    def kill_supervisor(self) -> None:
        pid = supervision.owner(self.engine.runtime_dir)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.kills += 1

    def start_supervisors(self) -> None:
        racers = [self.cli.popen("supervisor", "start") for _ in range(self.dice.choice((1, 1, 3)))]
        threading.Event().wait(self.dice.random() * 0.4)
        if self.dice.random() < 0.3:  # in the middle of its start
            self.kill_supervisor()
        for racer in racers:
            racer.communicate()

    def start_by_hand(self) -> None:
        with contextlib.suppress(FastboxError):
            self.engine.start(f"loop{self.dice.randrange(4)}")

    def add_failing(self) -> None:
        name = f"fail{len(self.failing)}"
        policy = RestartPolicy(name="on-failure", max_retries=2)
        start(self.engine, "busybox", "sh", "-c", "echo x; exit 7", name=name, restart=policy)
        self.failing.append(name)

    def use_and_die(self) -> None:
        """A client is killed while it starts, or while it does what it was started for."""
        name = f"count{self.dice.randrange(3)}"
        words = self.dice.choice(
            [
                ["ps", "-a"],
                ["attach", name],
                ["logs", "-f", name],
                ["exec", name, "sleep", "0.1"],
                ["restart", "-t", "0", "again"],
            ]
        )
        client = self.cli.popen(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        threading.Event().wait(self.dice.random() * 0.3)
        client.kill()
        client.communicate()

    def step(self) -> None:
        actions = [self.kill_supervisor, self.start_supervisors, self.start_by_hand,
                   self.add_failing, self.use_and_die]  # fmt: skip
        weights = [10, 8, 4, 1 if len(self.failing) < 12 else 0, 4]
        self.dice.choices(actions, weights)[0]()
        threading.Event().wait(self.dice.random() * 0.2)


@pytest.mark.usefixtures("busybox_image")
def test_killed_at_any_point(engine: Engine, cli: Command) -> None:
    engine.warn = lambda text: None  # it may be killed while it starts
    counters = [
        start(engine, "busybox", "sh", "-c", COUNT, name=f"count{i}", restart=ALWAYS)
        for i in range(3)
    ]
    for i in range(4):
        start(engine, "busybox", "sh", "-c", LOOP, name=f"loop{i}", restart=ALWAYS)
    start(engine, "busybox", name="again", restart=ALWAYS)
    start(engine, "busybox", name="stopped", restart=ALWAYS)
    engine.stop("stopped", timeout=0)
    chaos = Chaos(engine, cli, random.Random(SEED))
    while chaos.kills < KILLS:
        chaos.step()
    engine.start_supervisor()
    for name in chaos.failing:
        wait_for(lambda: engine.container(name).state.run == 3, f"the last run of {name}")  # noqa: B023
    # However far a killed `restart` had come, it runs.
    wait_for(lambda: engine.container("again").state.status is Status.RUNNING, "what runs always")

    for box in counters:
        state = engine.container(box.id).state
        assert (state.run, state.pid, state.started_at) == (1, box.state.pid, box.state.started_at)
        assert state.status is Status.RUNNING
        engine.kill(box.id)
        lines = [int(line.data) for line in engine.logs(box.id)]
        assert lines == list(range(len(lines)))
        assert lines
        assert engine.container(box.id).state.exit_code == 137
    for name in chaos.failing:
        wait_for(lambda: not engine.container(name).state.status.is_active, "the end")  # noqa: B023
        state = engine.container(name).state
        assert (state.run, state.restart_count, state.exit_code) == (3, 2, 7)
        assert [line.data for line in engine.logs(name)] == [b"x"] * 3
    for i in range(4):
        check_loop(engine, f"loop{i}")
    stopped = engine.container("stopped").state
    assert (stopped.status, stopped.run) == (Status.EXITED, 1)


def check_loop(engine: Engine, name: str) -> None:
    # Between two runs, so that the last one ended by itself.
    wait_for(lambda: engine.container(name).state.status is Status.RESTARTING, "a pause")
    engine.stop(name, timeout=60)
    state = engine.container(name).state
    lines = [line.data for line in engine.logs(name)]
    assert lines == [b"%d" % number for number in range(1, len(lines) + 1)]
    assert state.run == len(lines)
    assert state.exit_code == state.run % 7 + 1 or state.exit_code == 137
