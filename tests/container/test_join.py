"""update of running containers with limits that they did not start with: on cgroup v1 they get into
further hierarchies, with all their processes, or stay as they were."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fastbox import Engine
from fastbox.container import cgroups
from fastbox.container.cgroups import Cgroup, files, joining
from fastbox.container.record import Container
from fastbox.errors import FastboxError, StoreError, Unsupported
from tests.support.boxes import compile_static, execute, image, start
from tests.support.wait import wait_for

MIB = 1 << 20
LAYOUT = cgroups.detect()
V1 = LAYOUT.v1

pytestmark = [
    pytest.mark.hardware(reason="a host without v1 hierarchies has nothing to join"),
    pytest.mark.skipif(
        not {"memory", "cpu", "pids"} <= V1.keys(), reason="no v1 hierarchy with limits"
    ),
]


def group_of(box: Container) -> Cgroup:
    return cgroups.open_existing(cgroups.detect(), box.record.cgroup_path)


def procs(directory: str) -> list[int]:
    return sorted(map(int, files.read(directory, "cgroup.procs").split()))


def note(engine: Engine, box: Container) -> str:
    """What the monitor is to read at the end."""
    with open(f"{engine.runtime_dir}/{box.id}/cgroups") as file:
        return file.read()


def places(box: Container) -> dict[int, str]:
    """In which v1 and v2 groups each process is."""
    found = {}
    for pid in group_of(box).pids():
        with open(f"/proc/{pid}/cgroup") as file:
            found[pid] = file.read()
    return found


def test_limits_that_it_did_not_start_with(engine: Engine, busybox_image: str) -> None:
    script = "sleep 1000 & (sleep 1000; true) & exec sleep 1000"
    box = start(engine, busybox_image, "sh", "-c", script, name="box")
    wait_for(lambda: len(group_of(box).pids()) == 4)
    assert group_of(box).v1_dirs.keys().isdisjoint(("memory", "cpu", "pids"))
    engine.update("box", memory=64 * MIB, nano_cpus=500_000_000, pids_limit=20)
    group = group_of(box)
    for controller in ("memory", "cpu", "pids"):
        assert procs(group.v1_dirs[controller]) == group.pids()
    memory, cpu, pids = (group.v1_dirs[name] for name in ("memory", "cpu", "pids"))
    assert files.read(memory, "memory.limit_in_bytes") == str(64 * MIB)
    assert files.read(memory, "memory.memsw.limit_in_bytes") == str(128 * MIB)
    assert files.read(cpu, "cpu.cfs_quota_us") == "50000"
    assert files.read(pids, "pids.max") == "20"
    assert note(engine, box) == f"{memory}\n{cpu}\n{pids}\noom {memory}/memory.oom_control\n"
    config = engine.container("box").record.config
    assert (config.memory, config.nano_cpus, config.pids_limit) == (64 * MIB, 500_000_000, 20)
    # Whoever comes later is in, too.
    out = execute(engine, box, "sh", "-c", "cat /proc/self/cgroup").out
    assert out.count(box.id) == 3
    # What was taken before is shown, although the kernel counts it elsewhere.
    assert engine.stats("box").memory > 0
    engine.update("box", cpuset_cpus="0")
    cpuset = group_of(box).v1_dirs["cpuset"]
    assert note(engine, box).endswith(f"oom {memory}/memory.oom_control\n{cpuset}\n")
    assert procs(cpuset) == group.pids()
    # The next run starts with them; nothing is left to be told.
    engine.restart("box", timeout=0)
    assert not os.path.exists(f"{engine.runtime_dir}/{box.id}/cgroups")
    wait_for(lambda: len(group_of(box).pids()) == 4)
    assert procs(group_of(box).v1_dirs["memory"]) == group_of(box).pids()
    engine.remove("box", force=True)
    assert not group.exists()


def test_the_limits_hold(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="box")
    engine.update("box", memory=16 * MIB, memory_swap=16 * MIB)
    assert not engine.inspect_container("box")["State"]["OOMKilled"]
    eat = "dd if=/dev/zero of=/dev/null bs=64M count=1"
    assert execute(engine, box, "sh", "-c", eat).code == 137
    assert engine.inspect_container("box")["State"]["OOMKilled"]
    assert engine.container("box").state.status.is_up


def test_of_a_paused_one(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="box")
    engine.pause("box")
    engine.update("box", pids_limit=20)
    assert engine.container("box").state.status.value == "paused"
    group = group_of(box)
    assert procs(group.v1_dirs["pids"]) == group.pids() != []
    engine.unpause("box")
    assert execute(engine, box, "true").code == 0


COMET = """
#include <stdlib.h>
#include <unistd.h>
/* A process that is never found where it was seen: it forks and ends. */
int main(void) { for (;;) if (fork() > 0) _exit(0); }
"""


@pytest.fixture
def comet(engine: Engine, base: str, busybox_image: str) -> Iterator[Container]:
    image(engine, "comet", {"bin/comet": compile_static(COMET, base)})
    box = start(engine, "comet", "sh", "-c", "comet & comet & exec sleep 1000", name="box")
    wait_for(lambda: len(group_of(box).pids()) > 1)
    yield box
    engine.remove("box", force=True)


@pytest.mark.parametrize("passes", [0, joining.PASSES])
def test_processes_that_fork_and_end(
    engine: Engine, comet: Container, monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    monkeypatch.setattr(joining, "PASSES", passes)
    engine.update("box", pids_limit=1000)
    assert engine.container("box").state.status.value == "running"
    engine.pause("box")  # so that both lists are of one moment
    group = group_of(comet)
    assert procs(group.v1_dirs["pids"]) == group.pids()
    assert len(group.pids()) >= 2
    engine.unpause("box")


def test_back_to_as_it_was(
    engine: Engine, comet: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step fails: processes, groups, limits and notes are as they were."""
    from fastbox import atomic

    real = atomic.write

    def full(path: str, data: bytes, *, sync: bool) -> None:
        if path.endswith("config.json"):
            raise OSError(28, "No space left on device")
        real(path, data, sync=sync)

    sleeper = engine.container("box").state.pid
    path = f"{engine.runtime_dir}/{comet.id}/cgroups"
    for kept in (None, {"cpuset_cpus": "0"}):
        if kept:  # the second time, something is there that stays
            engine.update("box", **kept)  # type: ignore[arg-type]
        before = places(comet)[sleeper]
        noted = note(engine, comet) if kept else None
        with monkeypatch.context() as patch:
            patch.setattr(atomic, "write", full)
            with pytest.raises(StoreError, match="no space left on device"):
                engine.update("box", memory=64 * MIB, pids_limit=1000)
        group = group_of(comet)
        assert group.v1_dirs.keys().isdisjoint(("memory", "pids"))
        engine.pause("box")
        assert set(places(comet).values()) == {before}
        engine.unpause("box")
        assert (note(engine, comet) if os.path.exists(path) else None) == noted
    assert engine.container("box").record.config.memory == 0


def test_what_it_was_in_before_is_put_back(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old limits of groups that stay, next to groups that go."""
    from fastbox import atomic

    box = start(engine, busybox_image, name="box", pids_limit=50)
    real = atomic.write

    def full(path: str, data: bytes, *, sync: bool) -> None:
        if path.endswith(("config.json", "container.json")):
            raise OSError(28, "No space left on device")
        real(path, data, sync=sync)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", full)
        with pytest.raises(StoreError):
            engine.update("box", memory=64 * MIB, pids_limit=20, nano_cpus=10**8)
    group = group_of(box)
    assert files.read(group.v1_dirs["pids"], "pids.max") == "50"
    assert group.v1_dirs.keys().isdisjoint(("memory", "cpu"))


def test_who_cannot_be_moved(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = start(engine, busybox_image, "sh", "-c", "sleep 1000 & exec sleep 1000", name="box")
    wait_for(lambda: len(group_of(box).pids()) == 2)
    before = places(box)
    real, moved = files.write_raw, []

    def refuse(directory: str, name: str, value: str) -> None:
        if name == "cgroup.procs" and box.id in directory:
            moved.append(value)
            if len(moved) > 1:
                raise OSError(22, "Invalid argument")
        real(directory, name, value)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_raw", refuse)
        with pytest.raises(Unsupported, match=r"moving process [0-9]+ to cgroup .*: Invalid"):
            engine.update("box", pids_limit=20)
    assert len(moved) == 2
    assert places(box) == before
    assert "pids" not in group_of(box).v1_dirs


def test_who_never_comes(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that the kernel lists but does not move."""
    box = start(engine, busybox_image, name="box")
    real = files.write_raw

    def ignore(directory: str, name: str, value: str) -> None:
        if name != "cgroup.procs" or box.id not in directory:
            real(directory, name, value)

    monkeypatch.setattr(joining, "SECONDS", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_raw", ignore)
        with pytest.raises(Unsupported, match="processes cannot be moved in the pids") as caught:
            engine.update("box", pids_limit=20)
    assert caught.value.hint == "stop the container, update it, start it"
    assert "pids" not in group_of(box).v1_dirs
    assert engine.container("box").state.status.value == "running"
    assert execute(engine, box, "true").code == 0


KILLED_AT_A_MOVE = """
import os, sys
from fastbox import Engine
from fastbox.container.cgroups import files
real, moved = files.write_raw, []
def write(directory, name, value):
    if name == "cgroup.procs":
        moved.append(value)
        if len(moved) == 2:
            os.kill(os.getpid(), 9)
    real(directory, name, value)
files.write_raw = write
Engine(sys.argv[1], sys.argv[2]).update("box", pids_limit=20)
"""


def test_killed_half_way(engine: Engine, busybox_image: str) -> None:
    """What was begun is known to the monitor, and the next update completes it."""
    script = "sleep 1000 & sleep 1000 & exec sleep 1000"
    box = start(engine, busybox_image, "sh", "-c", script, name="box")
    wait_for(lambda: len(group_of(box).pids()) == 3)
    argv = [sys.executable, "-c", KILLED_AT_A_MOVE, engine.root, engine.runtime_dir]
    assert subprocess.run(argv).returncode == -signal.SIGKILL
    group = group_of(box)
    assert len(procs(group.v1_dirs["pids"])) == 1
    assert note(engine, box) == f"{group.v1_dirs['pids']}\n"
    assert engine.container("box").record.config.pids_limit == 0
    engine.update("box", pids_limit=20)
    assert procs(group.v1_dirs["pids"]) == group.pids()


@pytest.mark.parametrize("auto_remove", [False, True])
def test_one_that_ends_meanwhile(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch, auto_remove: bool
) -> None:
    """Its monitor has removed the groups that it knew before there were others."""
    from fastbox.container import update

    box = start(engine, busybox_image, name="box", pids_limit=50, auto_remove=auto_remove)
    group = group_of(box)
    real = update._note

    def end_before(path: str, new: dict[str, str], undo: contextlib.ExitStack) -> None:
        os.kill(engine.container("box").state.pid, signal.SIGKILL)
        wait_for(lambda: not os.path.exists(group.v1_dirs["pids"]))
        if auto_remove:
            wait_for(lambda: not os.path.exists(f"{engine.runtime_dir}/{box.id}"))
        real(path, new, undo)

    with monkeypatch.context() as patch:
        patch.setattr(update, "_note", end_before)
        with contextlib.suppress(FastboxError) if auto_remove else contextlib.nullcontext():
            engine.update("box", memory=64 * MIB, pids_limit=20)
    assert not group_of(box).exists()
    if not auto_remove:
        config = engine.container("box").record.config
        assert (config.memory, config.pids_limit) == (64 * MIB, 20)


def test_each_goes_back_to_its_own_group(engine: Engine, busybox_image: str) -> None:
    """In a hierarchy that the container is not in, its processes are wherever they came from."""
    box = start(engine, busybox_image, name="box")
    group = group_of(box)
    top = V1["pids"]
    elsewhere = f"{top}/{os.path.dirname(box.record.cgroup_path)}/elsewhere"
    os.makedirs(elsewhere)
    try:
        sleeper = engine.container("box").state.pid
        files.write_raw(elsewhere, "cgroup.procs", str(sleeper))
        with contextlib.ExitStack() as undo:
            cgroups.join(
                group,
                cgroups.Resources(pids_limit=9),
                undo,
                note=lambda new: None,
                standing_still=contextlib.nullcontext,
            )
            assert procs(group.v1_dirs["pids"]) == [sleeper]
            assert procs(elsewhere) == []
        assert procs(elsewhere) == [sleeper]
        assert "pids" not in group_of(box).v1_dirs
        assert "pids" not in group.v1_dirs
    finally:
        engine.remove("box", force=True)
        os.rmdir(elsewhere)


def test_a_limit_that_the_kernel_refuses(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="box")
    group = group_of(box)
    with contextlib.ExitStack() as undo, pytest.raises(FastboxError):
        cgroups.join(
            group,
            cgroups.Resources(cpuset_cpus="4000"),
            undo,
            note=lambda new: None,
            standing_still=contextlib.nullcontext,
        )
    assert "cpuset" not in group_of(box).v1_dirs
