"""rename: names/NAME and container.json agree, whoever is killed, whoever else wants the name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from fastbox import ContainerConfig, Engine, Status
from fastbox.errors import Conflict, FastboxError, InvalidArgument, NotFound
from tests.support.boxes import execute, start
from tests.support.wait import wait_for


def create(engine: Engine, image: str, name: str) -> str:
    return engine.create(ContainerConfig(image=image, name=name, command=["true"])).id


def links(engine: Engine) -> dict[str, str]:
    names = os.listdir(f"{engine.root}/names")
    return {name: os.readlink(f"{engine.root}/names/{name}") for name in names}


def test_rename(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="old")
    engine.rename("old", "new")
    assert engine.container("new").id == box.id
    assert engine.inspect_container(box.id)["Name"] == "/new"
    with pytest.raises(NotFound):
        engine.container("old")
    assert links(engine) == {"new": box.id}
    assert execute(engine, engine.container("new"), "true").code == 0
    other = create(engine, busybox_image, "old")
    engine.rename(box.short_id, "/newer")
    assert links(engine) == {"newer": box.id, "old": other}
    engine.restart("newer", timeout=0)
    engine.remove("newer", force=True)
    assert links(engine) == {"old": other}


def test_names_that_it_cannot_get(engine: Engine, busybox_image: str) -> None:
    one, two = create(engine, busybox_image, "one"), create(engine, busybox_image, "two")
    cases: list[tuple[str, str, type[FastboxError], str]] = [
        (
            "one",
            "two",
            Conflict,
            'Error when allocating new name: Conflict. The container name "/two" is already in '
            f'use by container "{two}". You have to remove (or rename) that container to be able '
            "to reuse that name.",
        ),
        (
            "one",
            "one",
            InvalidArgument,
            "Renaming a container with the same name as its current name",
        ),
        (
            "one",
            "a b",
            InvalidArgument,
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        ("one", "", InvalidArgument, "Neither old nor new names may be empty"),
        ("", "new", InvalidArgument, "Neither old nor new names may be empty"),
        ("nosuch", "new", NotFound, "No such container: nosuch"),
    ]
    for old, new, kind, text in cases:
        with pytest.raises(kind) as caught:
            engine.rename(old, new)
        assert str(caught.value) == text
    assert links(engine) == {"one": one, "two": two}


def test_of_one_that_is_removed_when_it_ends(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="old", auto_remove=True)
    codes: list[int] = []
    waiter = threading.Thread(target=lambda: codes.append(engine.wait(box.id)))
    waiter.start()
    path = f"{box.directory}/work"
    wait_for(
        lambda: subprocess.run(["flock", "-n", "-x", path, "true"], check=False).returncode,
        "the waiter",
    )
    engine.rename("old", "new")
    engine.kill("new")
    waiter.join()
    assert codes == [137]
    wait_for(lambda: engine.containers(all=True) == [], "its removal")
    create(engine, busybox_image, "new")


def test_a_write_that_fails_changes_nothing(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastbox import atomic

    box = create(engine, busybox_image, "old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "write", full)
    with pytest.raises(FastboxError, match="renaming container old failed"):
        engine.rename("old", "new")
    assert links(engine) == {"old": box}


KILLED = """
import sys
from fastbox import Engine
from fastbox.container.store import ContainerStore
setattr(ContainerStore, sys.argv[3], lambda *_, **__: (print("here", flush=True), sys.stdin.read()))
Engine(sys.argv[1], sys.argv[2]).rename("old", "new")
"""


@pytest.mark.parametrize(("step", "name", "free"), [
    ("save_record", "old", "new"),
    ("release_name", "new", "old"),
])  # fmt: skip
def test_killed_half_way(
    engine: Engine, busybox_image: str, step: str, name: str, free: str
) -> None:
    box = create(engine, busybox_image, "old")
    command = [sys.executable, "-c", KILLED, engine.root, engine.runtime_dir, step]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd="/", **pipes) as worker:  # type: ignore[call-overload]
        assert worker.stdout.readline() == b"here\n"
        with pytest.raises(Conflict):  # it is under way: the name is not free
            create(engine, busybox_image, free)
        worker.kill()
        assert worker.wait() == -signal.SIGKILL
    assert [found.name for found in engine.containers(all=True)] == [name]
    other = create(engine, busybox_image, free)
    assert links(engine) == {name: box, free: other}
    engine.remove(free)
    engine.rename(name, free)
    assert links(engine) == {free: box}


def test_by_several_at_once(engine: Engine, busybox_image: str) -> None:
    boxes = [create(engine, busybox_image, f"box{number}") for number in range(4)]

    def work(box: str) -> None:
        for number in range(20):
            try:
                engine.rename(box, f"name{number % 3}")
            except (Conflict, InvalidArgument):
                continue

    threads = [threading.Thread(target=work, args=(box,)) for box in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {box.name: box.id for box in engine.containers(all=True)}
    assert links(engine) == found
    assert sorted(found.values()) == sorted(boxes)
    assert all(engine.container(box).state.status is Status.CREATED for box in boxes)
