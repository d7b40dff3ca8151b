"""Snapshots and forks: what they have, that they are apart, and that nothing of them is left."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import fastbox
from fastbox.container import snapshots
from fastbox.errors import Conflict, InvalidArgument, NotRunning, Unsupported
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from fastbox.engine import Engine

Box = fastbox.Sandbox


def sh(box: Box, line: str) -> str:
    return box.run(["sh", "-c", line], check=True).text


def layers(engine: Engine) -> list[str]:
    return sorted(name for name in os.listdir(f"{engine.root}/layers") if name[0] != ".")


def is_clean(engine: Engine) -> bool:
    assert [problem for problem in engine.check() if not problem.harmless] == []
    return not os.listdir(f"{engine.root}/containers") and not os.listdir(f"{engine.root}/trash")


def holds(engine: Engine) -> list[str]:
    return os.listdir(f"{engine.root}/snapshots")


def test_forks_begin_with_the_same_files_and_go_their_own_ways(
    engine: Engine, busybox_image: str
) -> None:
    before = layers(engine)
    with Box(busybox_image, engine=engine) as box:
        sh(box, "echo 1 > /a; rm /etc/passwd; mkdir /d; ln -s a /l; chmod 700 /root")
        with box.fork() as one, box.fork(env={"X": "y"}) as two:
            sh(box, "echo box > /a")
            sh(one, "echo one > /b; rm /a; rmdir /d")
            assert (
                sh(two, "cat /a; ls -d /d /l; test ! -e /etc/passwd; echo $X") == "1\n/d\n/l\ny\n"
            )
            assert not two.exists("/b") and box.read("/a") == b"box\n"
            with one.fork() as third:
                assert sh(third, "cat /b; test ! -e /a -a ! -e /d") == "one\n"
                assert all(problem.harmless for problem in engine.check())
    assert layers(engine) == before and holds(engine) == [] and is_clean(engine)


def test_a_snapshot_outlives_its_box(engine: Engine, busybox_image: str) -> None:
    before = layers(engine)
    with Box(busybox_image, engine=engine, memory="64m") as box:
        box.write("/x", b"1")
        snapshot = box.snapshot()
        box.write("/x", b"2")
        again = box.snapshot()
    engine.prune_system(all=True)
    assert engine.images() == []
    assert len(layers(engine)) == len(before) + 2
    with Box(snapshot, cpus=0.5) as first, again.fork(memory=None) as second:
        assert (sh(first, "cat /x"), sh(second, "cat /x")) == ("1", "2")
        snapshot.close()
        assert sh(first, "cat /x") == "1"
        record = engine.container(first.id).record
        assert (record.config.memory, record.config.nano_cpus) == (0, 500_000_000)
    snapshot.close()
    again.close()
    with pytest.raises(NotRunning):
        again.fork()
    assert holds(engine) == [] and is_clean(engine)


def test_a_box_without_changes_shares_the_last_snapshot(engine: Engine, busybox_image: str) -> None:
    with Box(busybox_image, engine=engine) as box:
        with box.snapshot() as first:
            assert first.fork().start().run(["true"]).returncode == 0
        sh(box, "echo > /x; sleep 1000 >/dev/null 2>&1 &")
        with box.snapshot() as second, box.snapshot() as third:
            assert len(holds(engine)) == 1
            assert second.fork().exists("/x") and third.fork().exists("/x")
        assert box.run(["pidof", "sleep"]).returncode == 1  # as it is told
    assert is_clean(engine)


def test_processes_are_kept_if_wanted(engine: Engine, busybox_image: str) -> None:
    with Box(busybox_image, engine=engine) as box:
        sh(box, "echo 1 > /x; rm /etc/passwd; sleep 1000 >/dev/null 2>&1 &")
        with box.fork(keep_processes=True) as other:
            assert sh(box, "until pidof sleep; do :; done; echo 2 > /x")
            assert sh(other, "cat /x; test ! -e /etc/passwd") == "1\n"
    assert holds(engine) == [] and is_clean(engine)


def test_many_snapshots_become_one_layer(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MAX_LAYERS", 5)
    with Box(busybox_image, engine=engine) as box:
        for number in range(12):
            sh(box, f"echo {number} > /{number}; echo {number} > /last; rm -f /{number - 3}")
            box.snapshot(keep_processes=number % 5 == 4).close()
            assert len(engine.container(box.id).record.layers) <= 5
        with box.fork() as other:
            assert sh(other, "ls -d /[0-9]*; cat /last") == "/10\n/11\n/9\n11\n"
        monkeypatch.setattr(snapshots, "MAX_LAYERS", 1)
        box.write("/more", b"")
        with pytest.raises(Unsupported, match="layers"):
            box.snapshot()
        assert box.exists("/more")
    assert holds(engine) == [] and is_clean(engine)


def test_not_while_something_runs(engine: Engine, busybox_image: str, box: Box) -> None:
    import threading

    thread = threading.Thread(target=box.run, args=(["sleep", "0.5"],))
    thread.start()
    wait_for(lambda: box._runs)
    for verb in (box.snapshot, box.stop):
        with pytest.raises(Conflict):
            verb()
    thread.join()
    with box.snapshot() as snapshot:
        with pytest.raises(InvalidArgument):
            Box(snapshot, engine=fastbox.Engine(engine.root))
        with pytest.raises(InvalidArgument):
            snapshot.fork(memory="lots")


def test_a_commit_of_a_fork_keeps_its_layers(engine: Engine, busybox_image: str) -> None:
    with Box(busybox_image, engine=engine) as box:
        sh(box, "echo 1 > /x")
        with box.fork() as other:
            sh(other, "echo 2 > /y")
            other.stop()
            engine.commit(other.id, "made")
    with Box("made", engine=engine) as box:
        assert sh(box, "cat /x /y") == "1\n2\n"
    assert holds(engine) == [] and is_clean(engine)


def test_what_a_killed_process_leaves_goes(engine: Engine, busybox_image: str) -> None:
    before = layers(engine)
    script = (
        "import fastbox, os, sys; from fastbox.engine import Engine\n"
        "box = fastbox.Sandbox('busybox', engine=Engine(*sys.argv[1:]))\n"
        "box.run(['touch', '/x']); snapshot = box.snapshot(); other = snapshot.fork()\n"
        "other.run(['touch', '/y']); third = other.snapshot()\n"
        "other.stop()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    argv = [sys.executable, "-c", script, engine.root, engine.runtime_dir]
    assert subprocess.run(argv, cwd=os.getcwd()).returncode == -9
    assert len(holds(engine)) == 2
    wait_for(lambda: not engine.containers(all=True))
    wait_for(lambda: engine.containers(all=True) or not holds(engine))
    assert layers(engine) == before and is_clean(engine)


def test_killed_while_a_snapshot_is_given_up(
    engine: Engine, busybox_image: str, monkeypatch: Any
) -> None:
    before = layers(engine)
    with Box(busybox_image, engine=engine) as box:
        box.run(["touch", "/x"])
        snapshot = box.snapshot()

    def killed(names: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_release", killed)
    with pytest.raises(KeyboardInterrupt):
        snapshot.close()
    monkeypatch.undo()
    assert len(holds(engine)) == 1 and layers(engine) != before
    engine.containers(all=True)
    assert len(holds(engine)) == 1  # this process is at it
    monkeypatch.setattr("fastbox.container.process.is_alive", lambda *_: False)
    engine.containers(all=True)
    assert layers(engine) == before and holds(engine) == [] and is_clean(engine)


def test_the_copy_driver_has_none(root: str, busybox_image: str, monkeypatch: Any) -> None:
    record = fastbox.container.record.ContainerRecord(
        id="x", name="x", created="", driver="copy", config=fastbox.ContainerConfig(image="x")
    )
    with pytest.raises(Unsupported, match="copy"):
        snapshots.check(record)
