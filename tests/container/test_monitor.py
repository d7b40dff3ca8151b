"""The monitor: its own death, its starter's, full disks, reused pids, and how little it needs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastbox.container import process
from fastbox.container.config import ContainerConfig
from fastbox.container.logs import parse_line
from fastbox.container.record import Container, Status
from fastbox.engine import Engine
from fastbox.errors import FastboxError, NotFound
from tests.support.boxes import execute, start
from tests.support.images import Templates
from tests.support.leaks import cgroup_parent
from tests.support.wait import wait_for


def ended(engine: Engine, box: Container) -> Container:
    """The container once it is not up."""
    wait_for(lambda: not engine.container(box.id).state.status.is_up, "the container's end")
    return engine.container(box.id)


def log_text(engine: Engine, box: Container) -> bytes:
    return b"".join(line.data + (b"" if line.partial else b"\n") for line in engine.logs(box.id))


# ---- kill -9 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [{}, {"init": True}, {"user": "1000"}], ids=str)
def test_a_killed_monitor_takes_init_with_it(
    engine: Engine, busybox_image: str, config: dict[str, Any]
) -> None:
    box = start(engine, busybox_image, "sh", "-c", "sleep 1000 & sleep 1000", **config)
    os.kill(box.state.monitor_pid, signal.SIGKILL)
    gone = ended(engine, box)
    assert (gone.state.status, gone.state.exit_code) == (Status.EXITED, 255)
    assert "monitor was killed" in gone.state.error
    wait_for(lambda: not os.path.exists(f"/proc/{box.state.pid}"), "init to go")
    assert engine.wait(box.id) == 255
    # It can be started again, as another run.
    again = engine.start(box.id)
    assert again.state.status is Status.RUNNING and again.state.run == 2
    engine.kill(box.id)
    assert engine.container(box.id).state.exit_code == 137
    engine.remove(box.id)


def test_a_killed_monitor_of_an_auto_remove_container(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, auto_remove=True, name="gone")
    os.kill(box.state.monitor_pid, signal.SIGKILL)
    wait_for(lambda: engine.containers(all=True) == [], "the next command to sweep it")
    with pytest.raises(NotFound):
        engine.container("gone")


def test_an_init_that_outlives_its_monitor_can_be_stopped(
    engine: Engine, busybox_image: str
) -> None:
    """A process may clear its parent-death signal; then it is still found, and still ends."""
    box = start(engine, busybox_image)
    os.kill(box.state.monitor_pid, signal.SIGSTOP)
    assert engine.container(box.id).state.status is Status.RUNNING
    other = start(engine, busybox_image)
    engine.stop(other.id, timeout=0)
    os.kill(box.state.monitor_pid, signal.SIGCONT)
    engine.kill(box.id)
    assert engine.container(box.id).state.exit_code == 137


def test_a_stopped_monitor_hides_nothing(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image)
    os.kill(box.state.monitor_pid, signal.SIGSTOP)
    os.kill(box.state.pid, signal.SIGKILL)
    # Until its record is there, the container is up: never an invented status.
    wait_for(lambda: process.start_time(box.state.pid) == 0, "init's end")
    assert engine.container(box.id).state.status is Status.RUNNING
    os.kill(box.state.monitor_pid, signal.SIGCONT)
    assert ended(engine, box).state.exit_code == 137


STARTER = """
import os, signal, sys
from fastbox import ContainerConfig, Engine
engine = Engine(sys.argv[1], sys.argv[2])
config = ContainerConfig(image="busybox", command=["sh", "-c", sys.argv[4]], name="box")
if sys.argv[3] == "detached":
    engine.start(engine.create(config).id)
    os.kill(os.getpid(), signal.SIGKILL)
print("starting", flush=True)
engine.run_attached(engine.create(config).id, stdout=1, stderr=2)
"""


@pytest.mark.parametrize("how", ["detached", "attached"])
def test_log_and_status_are_complete_without_the_starter(
    engine: Engine, busybox_image: str, runtime_dir: str, how: str
) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo end >&2; exit 42"
    with open(os.devnull, "wb") as null:
        starter = subprocess.Popen(
            [sys.executable, "-c", STARTER, engine.root, runtime_dir, how, "sleep 0.3;" + script],
            stdout=null,
            cwd="/",
        )
        if how == "attached":
            wait_for(lambda: [b for b in engine.containers() if b.state.pid], "the container")
            starter.kill()
        assert starter.wait(30) == -signal.SIGKILL
    box = engine.container("box")
    assert engine.wait(box.id) == 42
    lines = [line.data for line in engine.logs(box.id) if line.stream == "stdout"]
    assert lines == [b"line %d" % number for number in range(3000)]
    assert engine.container(box.id).state.exit_code == 42


def test_what_init_left_behind_does_not_hold_the_end(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, "sh", "-c", "(sleep 1000; echo late) & echo early; exit 3")
    assert engine.wait(box.id) == 3
    assert log_text(engine, box) == b"early\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT])
@pytest.mark.parametrize("init", [True, False], ids=["init", "plain"])
def test_status_of_a_signal(
    engine: Engine, busybox_image: str, number: signal.Signals, init: bool
) -> None:
    box = start(engine, busybox_image, init=init)
    if init:

        def command() -> list[str]:
            titles, rows = engine.top(box.id)
            return [row[titles.index("PID")] for row in rows if row[-1] == "sleep 1000"]

        (pid,) = wait_for(command, "the command")
        os.kill(int(pid), number)
        assert engine.wait(box.id) == 128 + number
    else:  # PID 1 has no default actions: all but SIGKILL is ignored
        os.kill(box.state.pid, number)
        if number != signal.SIGKILL:
            assert execute(engine, box, "true").code == 0
            engine.kill(box.id)
        assert engine.wait(box.id) == 137
        assert engine.container(box.id).state.exit_code == 137


def test_out_of_memory_is_known(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, "sh", "-c", "tail /dev/zero", memory=16 << 20)
    code = engine.wait(box.id)
    state = engine.container(box.id).state
    assert code == 137 and state.oom_killed
    plain = start(engine, busybox_image, memory=16 << 20)
    engine.kill(plain.id)
    assert not engine.container(plain.id).state.oom_killed


# ---- pids ------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["pid_starttime", "boot_id"])
def test_a_reused_pid_gets_no_signal(
    engine: Engine, busybox_image: str, runtime_dir: str, field: str
) -> None:
    """The state file names a process that is not the one of the container."""
    box = start(engine, busybox_image)
    path = f"{runtime_dir}/{box.id}/state.json"
    engine.kill(box.id)
    victim = subprocess.Popen(["sleep", "1000"])
    try:
        with open(path) as file:
            state = json.load(file)
        state |= {"pid": victim.pid, "pid_starttime": process.start_time(victim.pid), "run": 2}
        if field == "pid_starttime":
            state["pid_starttime"] += 1
        else:
            state["boot_id"] = "0" * 36
        state |= {"monitor_pid": victim.pid, "monitor_starttime": state["pid_starttime"]}
        with open(path, "w") as file:
            json.dump(state, file)
        now = engine.container(box.id).state
        assert (now.status, now.exit_code) == (Status.EXITED, 255)
        assert ("restarted" in now.error) == (field == "boot_id")
        engine.stop(box.id, timeout=0)
        with pytest.raises(FastboxError):
            engine.kill(box.id)
        with pytest.raises(FastboxError):
            engine.exec(box.id, ["true"])
        engine.remove(box.id, force=True)
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


# ---- full disks ------------------------------------------------------------------------------


@pytest.fixture
def small(
    base: str, templates: Templates, new_root: Callable[[str], str]
) -> Iterator[Callable[[str, int], str]]:
    """``small(path, bytes)``: a tmpfs of that size."""
    mounted: list[str] = []

    def make(path: str, size: int) -> str:
        os.makedirs(path, exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "small", path], check=True
        )
        mounted.append(path)
        return path

    yield make
    for path in reversed(mounted):
        subprocess.run(["umount", "-l", path], check=True)


def fill(directory: str) -> str:
    """A file that takes all the room there is."""
    path = os.path.join(directory, "filler")
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


@pytest.fixture
def full_store(
    small: Callable[[str, int], str], templates: Templates, leak_check: object, base: str
) -> Iterator[Engine]:
    """An engine on a small tmpfs that holds the busybox image."""
    root = os.path.join(base, "small")
    leak_check.watch(root)  # type: ignore[attr-defined]
    small(root, 16 << 20)
    from tests.support.images import archive, changes

    engine = Engine(root, root + ".run")
    engine.import_image(archive("busybox"), "busybox", changes=changes("busybox"))
    yield engine
    with contextlib.suppress(OSError):
        os.unlink(f"{root}/filler")
    for box in engine.containers(all=True):
        engine.remove(box.id, force=True)


def test_create_on_a_full_disk(full_store: Engine) -> None:
    engine = full_store
    engine.remove(engine.create(ContainerConfig(image="busybox")).id)
    filler = fill(engine.root)
    for _ in range(3):
        with pytest.raises(FastboxError, match="no space left on device") as caught:
            engine.create(ContainerConfig(image="busybox", name="box"))
        assert caught.value.hint == "free some space"
    os.unlink(filler)
    assert os.listdir(f"{engine.root}/containers") == os.listdir(f"{engine.root}/names") == []
    engine.create(ContainerConfig(image="busybox", name="box"))


def test_log_and_status_on_a_full_disk(full_store: Engine) -> None:
    """Output is dropped by whole lines and counted, the container goes on, its status is kept."""
    engine = full_store
    script = "echo first; read go; i=0; while [ $i -lt 400 ]; do"
    script += " printf 'line %0500d\\n' $i; i=$((i+1)); done; echo done > /dev/shm/x; read go;"
    script += " echo last; exit 7"
    box = start(engine, "busybox", "sh", "-c", script, interactive=True, log_max_size=-1)
    wait_for(lambda: log_text(engine, box) == b"first\n", "the first line")

    def go() -> None:
        with open(f"/proc/{box.state.monitor_pid}/fd/12", "wb", buffering=0) as stdin:
            stdin.write(b"go\n")

    filler = fill(engine.root)
    os.truncate(filler, os.path.getsize(filler) - 65536)
    go()
    wait_for(lambda: execute(engine, box, "cat", "/dev/shm/x").out == "done\n", "the writer")
    os.unlink(filler)
    go()
    assert engine.wait(box.id) == 7
    with open(box.log_path, "rb") as file:
        raw = file.read()
    lines = [parse_line(line) for line in raw.splitlines()]
    assert all(lines) and raw.endswith(b"\n")
    texts = [line.data for line in lines if line is not None]
    assert texts[0] == b"first" and texts[-1] == b"last"
    kept = [int(text.split()[1]) for text in texts[1:-1]]
    assert kept == sorted(set(kept)) and 0 < len(kept) < 400
    assert all(len(text) == 505 for text in texts[1:-1])
    with open(f"{box.directory}/exit") as record:
        assert json.load(record)["log_bytes_dropped"] > 0


def test_the_status_is_kept_when_the_disk_stays_full(full_store: Engine) -> None:
    engine = full_store
    box = start(engine, "busybox", "sh", "-c", "while [ ! -e /dev/shm/go ]; do :; done; exit 9")
    filler = fill(engine.root)
    assert execute(engine, box, "touch", "/dev/shm/go").code == 0
    assert engine.wait(box.id) == 9
    state = engine.container(box.id).state
    assert (state.status, state.exit_code, state.error) == (Status.EXITED, 9, "")
    os.unlink(filler)


def test_start_with_a_full_runtime_directory(
    engine: Engine, busybox_image: str, runtime_dir: str, small: Callable[[str, int], str]
) -> None:
    running = start(engine, busybox_image)
    made = engine.create(
        ContainerConfig(image=busybox_image, command=["sleep", "1000"], network="none")
    )
    small(f"{runtime_dir}/{made.id}", 4096 * 4)
    filler = fill(f"{runtime_dir}/{made.id}")
    with pytest.raises(FastboxError, match="no space left on device") as caught:
        engine.start(made.id)
    assert "state.json" in str(caught.value)
    parent = cgroup_parent(engine.root)
    with open("/proc/self/mounts") as file:
        hierarchies = [line.split()[1] for line in file if " cgroup" in line]
    assert not [h for h in hierarchies if os.path.exists(f"{h}/{parent}/{made.id}")]
    assert engine.container(made.id).state.status is Status.CREATED
    os.unlink(filler)
    assert engine.start(made.id).state.status is Status.RUNNING
    engine.stop(running.id, timeout=0)
    engine.stop(made.id, timeout=0)


# ---- cost ------------------------------------------------------------------------------------


def test_an_idle_container_costs_little(engine: Engine, busybox_image: str) -> None:
    """At most 300 KiB (proportional set size) beside its own processes."""
    boxes = [start(engine, busybox_image) for _ in range(3)]
    for box in boxes:
        assert engine.exec(box.id, ["true"]) == 0
    for box in boxes:
        with open(f"/proc/{box.state.monitor_pid}/smaps_rollup") as file:
            sizes = {
                line.split(":")[0]: int(line.split()[1]) for line in file if line.endswith("kB\n")
            }
        assert 0 < sizes["Pss"] <= 300, sizes
        assert os.listdir(f"/proc/{box.state.monitor_pid}/task") == [str(box.state.monitor_pid)]


def test_an_idle_monitor_sleeps(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image)

    def switches() -> int:
        with open(f"/proc/{box.state.monitor_pid}/status") as file:
            return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)

    def asleep() -> bool:
        with open(f"/proc/{box.state.monitor_pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "S"

    wait_for(asleep, "the monitor to sleep")
    before = switches()
    deadline = time.monotonic() + 0.5
    wait_for(lambda: time.monotonic() > deadline, "half a second")
    assert switches() - before <= 1
