"""Containers of which commits have made layers, and those layers."""

from __future__ import annotations

import threading

import pytest

from fastbox import Engine
from fastbox.container.commit import commit
from fastbox.container.record import Container, ContainerRecord
from fastbox.image import pending
from fastbox.image.seal import sealed
from fastbox.oci import image as oci
from tests.support.boxes import execute, run, start


@pytest.fixture
def web(engine: Engine, busybox_image: str) -> Container:
    """Runs."""
    return start(engine, busybox_image, name="web")


def script(engine: Engine, text: str) -> None:
    done = execute(engine, engine.container("web"), "sh", "-ec", text)
    assert done.code == 0, done.err


def changes(engine: Engine) -> list[str]:
    return [f"{change.kind} {change.path}" for change in engine.changes("web")]


def test_a_directory_deleted_by_one_commit_and_made_anew_for_the_next(
    engine: Engine, web: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel need not mark it as opaque: there is a whiteout in a layer below it."""
    script(engine, "rm -r /home")
    engine.stop("web", timeout=0)
    engine.commit("web", "one")
    engine.start("web")
    script(engine, "mkdir -p /home/new")
    engine.stop("web", timeout=0)
    assert changes(engine) == ["C /home", "D /home/app", "A /home/new"]
    engine.commit("web", "two")
    monkeypatch.setattr(oci, "MAX_LAYERS", 2)
    engine.commit("web", "flat")
    assert [run(engine, name, "ls", "/home").out for name in ("two", "flat")] == ["new\n"] * 2


def test_somebody_waits_for_the_container(engine: Engine, web: Container) -> None:
    """What holds a lock on the container's files holds nobody up who packs the layer."""
    with engine._containers.exit_code_kept(web.id):
        engine.stop("web", timeout=0)
        engine.commit("web", "snap")
        done = threading.Thread(target=lambda: sealed(engine._images, "snap"), daemon=True)
        done.start()
        done.join(30)
        assert not done.is_alive()


def test_what_a_prune_frees(engine: Engine, web: Container) -> None:
    script(engine, "dd if=/dev/urandom of=/new bs=1M count=3")
    engine.stop("web", timeout=0)
    engine.commit("web", "one")
    engine.remove_image("one")
    size = engine.container("web", size=True).size_rw
    assert size is not None and size > 3_000_000
    freed = engine.prune_containers()[1]
    assert size <= freed < size + 100_000  # directories count too


def test_settled_by_somebody_meanwhile(
    engine: Engine, web: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that has not got its files yet is not noted as being on the disk."""
    engine.stop("web", timeout=0)
    with open(f"{web.directory}/upper/file", "w") as file:
        file.write("content")
    layers, store = engine._images.layers, engine._containers
    save = store.save_record
    threads = []

    def slow(record: ContainerRecord) -> None:
        """Another process does what follows its own commit."""
        names = pending.unsettled(layers)
        threads.append(threading.Thread(target=lambda: pending.settle(layers, names)))
        threads[-1].start()
        threads[-1].join(0.3)
        save(record)

    monkeypatch.setattr(store, "save_record", slow)
    commit(engine._lifecycle, engine._images, web.id, "snap")
    (thread,) = threads
    thread.join()
    (name,) = engine.container("web").record.committed
    info = layers.read(name)
    assert info is not None and info.boot and info.size < 0
    pending.settle(layers, [name])
    info = layers.read(name)
    assert info is not None and (info.boot, info.size, info.entries) == ("", 7, 1)
