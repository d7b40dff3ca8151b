"""kill -9 of the process that works on a store, at any moment; damaged files; what the next command
makes of them."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from fastbox.container.config import ContainerConfig
from fastbox.container.record import Container, Status
from fastbox.engine import Engine
from fastbox.errors import FastboxError, NotFound, StoreError
from tests.support.boxes import execute, run, start
from tests.support.leaks import cgroup_parent
from tests.support.wait import wait_for

# Works for ever; says before each round that it lives.
WORKER = """
import sys
from fastbox import ContainerConfig, Engine
from fastbox.container.config import Mount
engine = Engine(sys.argv[1], sys.argv[2])
for number in range(100000):
    print(number, flush=True)
    rm = number % 2 == 0
    volume = [Mount(type="volume", target="/v")] if number % 3 == 0 else []
    config = ContainerConfig(
        image="busybox", command=["sleep", "1000"], name="crash", auto_remove=rm, mounts=volume
    )
    box = engine.create(config, transient=rm)
    engine.start(box.id)
    engine.exec(box.id, ["true"])
    if number % 4 == 0:
        engine.stop(box.id, timeout=0)
    else:
        engine.remove(box.id, force=True, volumes=True)
    if number % 4 == 2:
        config = ContainerConfig(image="busybox", command=["true"], auto_remove=True)
        engine.run_attached(engine.create(config, transient=True).id)
"""


def check(engine: Engine, root: str) -> None:
    """What a killed process left, a new engine shows only where it is whole, and can remove."""
    for box in engine.containers(all=True):
        assert box.state.status in (Status.CREATED, Status.RUNNING, Status.EXITED)
        try:
            use_and_remove(engine, box.id)
        except NotFound:  # its monitor was faster
            assert box.record.config.auto_remove
    # Monitors of auto_remove containers may still be at work.
    wait_for(lambda: engine.containers(all=True) == [], "an empty store")
    wait_for(lambda: not _left(engine), f"nothing to be left: {_left(engine)}")


def use_and_remove(engine: Engine, container_id: str) -> None:
    loaded = engine.container(container_id)
    engine.inspect_container(container_id)
    list(engine.logs(container_id))
    if loaded.state.status is Status.RUNNING:
        try:
            assert execute(engine, loaded, "true").code in (0, 137)
        except FastboxError:  # the killed process had just killed it
            wait_for(functools.partial(_has_ended, engine, container_id), "its end")
    engine.remove(container_id, force=True, volumes=True)


def _has_ended(engine: Engine, container_id: str) -> bool:
    try:
        return not engine.container(container_id).state.status.is_up
    except NotFound:
        return True


def _left(engine: Engine) -> list[str]:
    Engine(engine.root, engine.runtime_dir).containers(all=True)  # the next command
    left = []
    for place in ("containers", "names", "trash"):
        left += [f"{place}/{entry}" for entry in os.listdir(f"{engine.root}/{place}")]
    left += [entry for entry in os.listdir(engine.runtime_dir) if len(entry) == 64]
    parent = cgroup_parent(engine.root)
    for hierarchy in ("unified", "devices", "memory", "."):
        directory = f"/sys/fs/cgroup/{hierarchy}/{parent}"
        if os.path.isdir(directory):
            left += [entry.path for entry in os.scandir(directory) if entry.is_dir()]
    return left


def _is_past(deadline: float) -> bool:
    return time.monotonic() > deadline


def test_killed_at_any_moment(engine: Engine, busybox_image: str, runtime_dir: str) -> None:
    choose = random.Random(20260911)
    command = [sys.executable, "-c", WORKER, engine.root, runtime_dir]
    for _ in range(40):
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/")
        assert worker.stdout is not None
        with worker.stdout:
            lines = [worker.stdout.readline() for _ in range(choose.randrange(1, 5))]
            deadline = time.monotonic() + choose.random() * 0.03
            wait_for(functools.partial(_is_past, deadline), "the moment")
            worker.kill()
            assert worker.wait() == -signal.SIGKILL
            assert all(lines)
        check(Engine(engine.root, runtime_dir), engine.root)
    assert run(engine, busybox_image, "echo", "well", name="crash").out == "well\n"
    for volume in engine.volumes():
        engine.remove_volume(volume.name)


def test_two_at_once_one_killed(engine: Engine, busybox_image: str, runtime_dir: str) -> None:
    """What another process is working on is left alone by those who sweep."""
    command = [sys.executable, "-c", WORKER, engine.root, runtime_dir]
    for _ in range(5):
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")
        assert worker.stdout is not None and worker.stderr is not None
        with worker.stdout, worker.stderr:
            worker.stdout.readline()
            for number in range(10):
                assert run(engine, busybox_image, "echo", str(number)).out == f"{number}\n"
                engine.containers(all=True)
            failed = worker.poll()
            worker.kill()
            worker.wait()
            assert failed is None, worker.stderr.read()
        check(Engine(engine.root, runtime_dir), engine.root)
    for volume in engine.volumes():
        engine.remove_volume(volume.name)


# ---- what a killed process may leave, made by hand -------------------------------------------


def test_half_made_containers_are_swept(engine: Engine, busybox_image: str) -> None:
    whole = engine.create(ContainerConfig(image=busybox_image, name="whole"))
    half, trash = "ab" * 32, "cd" * 32
    os.makedirs(f"{engine.root}/containers/{half}/upper/deep")
    os.symlink(half, f"{engine.root}/names/half")
    os.symlink("ef" * 32, f"{engine.root}/names/dangling")
    os.makedirs(f"{engine.root}/trash/{trash}/upper/deep")
    os.makedirs(f"{engine.runtime_dir}/{trash}")
    fresh = Engine(engine.root, engine.runtime_dir)
    assert [box.id for box in fresh.containers(all=True)] == [whole.id]
    assert os.listdir(f"{engine.root}/containers") == [whole.id]
    assert os.listdir(f"{engine.root}/names") == ["whole"]
    assert os.listdir(f"{engine.root}/trash") == []
    assert not os.path.exists(f"{engine.runtime_dir}/{trash}")
    for name in ("half", "dangling"):
        fresh.create(ContainerConfig(image=busybox_image, name=name))


def test_a_monitor_killed_at_its_very_end(engine: Engine, root: str, busybox_image: str) -> None:
    """It removes the cgroup of an auto_remove container last but for the trash."""
    box = start(engine, busybox_image, auto_remove=True)
    monitor = box.state.monitor_pid
    os.kill(monitor, signal.SIGSTOP)
    os.kill(box.state.pid, signal.SIGKILL)
    group = cgroup_of(box)
    os.rename(box.directory, f"{root}/trash/{box.id}")
    os.kill(monitor, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{monitor}"), "the monitor's end")
    assert os.path.isdir(group)
    assert Engine(engine.root, engine.runtime_dir).containers(all=True) == []
    assert not os.path.exists(group) and not os.listdir(f"{root}/trash")


def cgroup_of(box: Container) -> str:
    """Its directory in the v2 hierarchy, or the first one of v1."""
    from fastbox.container import cgroups

    return cgroups.open_existing(cgroups.detect(), box.record.cgroup_path).all_dirs[0]


def test_a_container_in_the_making_is_not_swept(engine: Engine, busybox_image: str) -> None:
    from fastbox.locks import lock

    engine.containers(all=True)
    half = f"{engine.root}/containers/{'ab' * 32}"
    os.makedirs(half)
    with lock(half):
        engine.containers(all=True)
        assert os.path.isdir(half)
    engine.containers(all=True)
    assert not os.path.isdir(half)


GARBAGE = [b"", b"\0" * 100, b"{", b"[]", b"null", b'{"version":1}', b"\xff\xfe", b"[" * 100_000]


@pytest.mark.parametrize("name", ["container.json", "config.json", "exit", "failure.json"])
@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
def test_damaged_files(engine: Engine, busybox_image: str, name: str, content: bytes) -> None:
    """Each is one container's trouble: one line, and `rm -f` removes it."""
    other = start(engine, busybox_image, name="other")
    box = engine.create(ContainerConfig(image=busybox_image, command=["true"], name="box"))
    engine.start(box.id)
    engine.wait(box.id)
    with open(f"{box.directory}/{name}", "wb") as file:
        file.write(content)
    assert other.id in [found.id for found in engine.containers(all=True)]

    def quietly(verb: str) -> None:
        try:
            getattr(engine, verb)("box")
        except FastboxError as error:
            assert "\n" not in str(error)

    for verb in ("container", "inspect_container", "start", "wait", "stop", "cleanup"):
        quietly(verb)
    if name in ("container.json", "config.json"):
        with pytest.raises(StoreError):
            engine.start("box")
    assert execute(engine, other, "true").code == 0
    engine.remove("box", force=True)
    assert [found.id for found in engine.containers(all=True)] == [other.id]
    engine.create(ContainerConfig(image=busybox_image, name="box"))


@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
def test_damaged_state(
    engine: Engine, busybox_image: str, runtime_dir: str, content: bytes
) -> None:
    box = start(engine, busybox_image)
    path = f"{runtime_dir}/{box.id}/state.json"
    with open(path, "rb") as file:
        good = file.read()
    with open(path, "wb") as file:
        file.write(content)
    for verb in (engine.container, engine.inspect_container, engine.top, engine.kill):
        try:
            verb(box.id)
        except FastboxError as error:
            assert "\n" not in str(error)
    with open(path, "wb") as file:
        file.write(good)
    assert engine.container(box.id).state.status is Status.RUNNING


def test_a_damaged_record_of_a_running_container(engine: Engine, busybox_image: str) -> None:
    """`rm -f` leaves no process without a container."""
    box = start(engine, busybox_image, name="box")
    with open(f"{box.directory}/container.json", "wb") as file:
        file.write(b"{")
    with pytest.raises(StoreError, match=r"container\.json"):
        engine.remove("box")
    engine.remove("box", force=True)
    wait_for(lambda: not os.path.exists(f"/proc/{box.state.monitor_pid}"), "the monitor's end")
    assert engine.containers(all=True) == []


def test_a_missing_layer_is_named(engine: Engine, busybox_image: str) -> None:
    box = engine.create(ContainerConfig(image=busybox_image, command=["true"]))
    (layer,) = box.record.layers
    os.rename(f"{engine.root}/layers/{layer}", f"{engine.root}/layers/away")
    try:
        with pytest.raises(FastboxError, match="root filesystem") as caught:
            engine.start(box.id)
        assert "\n" not in str(caught.value)
        engine.inspect_container(box.id)
    finally:
        os.rename(f"{engine.root}/layers/away", f"{engine.root}/layers/{layer}")
    assert _missing_upper(engine, box)
    engine.remove(box.id)


def _missing_upper(engine: Engine, box: Container) -> bool:
    os.rename(f"{box.directory}/upper", f"{box.directory}/away")
    with pytest.raises(FastboxError, match="root filesystem"):
        engine.start(box.id)
    return True


def test_a_start_while_the_record_is_written(engine: Engine, busybox_image: str) -> None:
    """Files are written whole: no reader ever sees half of one."""
    box = engine.create(ContainerConfig(image=busybox_image, command=["true"]))
    for _ in range(20):
        engine.start(box.id)
        seen = set()
        while (state := engine.container(box.id).state).status is Status.RUNNING:
            seen.add(state.run)
        assert len(seen) <= 1
        assert state.status is Status.EXITED and state.exit_code == 0
        with open(f"{box.directory}/exit") as file:
            assert json.load(file)["run"] == state.run
