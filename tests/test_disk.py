"""Disk space: what the engine says is used, what it gives back, and that nothing breaks when it
does so while others pull, create and remove."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from fastbox import ContainerConfig, Engine, Mount
from fastbox.errors import Conflict, InvalidArgument, NotFound
from fastbox.image.types import Removed
from fastbox.locks import lock
from tests.image.build import leftovers, make, open_store, tar
from tests.support.boxes import run, start
from tests.support.command import Command
from tests.support.images import archive
from tests.support.registry import Registry

BUSYBOX = {"Cmd": ["sh"], "Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"]}


def create(engine: Engine, image: str, *command: str, **config: object) -> str:
    values = ContainerConfig(image=image, command=list(command) or ["true"], **config)  # type: ignore[arg-type]
    return engine.create(values).id


def names(engine: Engine) -> list[str]:
    return sorted(name for image in engine.images() for name in image.names)


# ---- system prune --------------------------------------------------------------------------------


@pytest.mark.usefixtures("busybox_image")
def test_system_prune(engine: Engine) -> None:
    volume = Mount(type="volume", target="/v")
    start(engine, "busybox", name="running")
    ended = start(engine, "busybox", "sh", "-c", "head -c 5000 /dev/zero > /f", mounts=[volume]).id
    engine.wait(ended)
    engine.create_volume("named")
    engine.create_network("net")
    old = make(engine._images, "other", "old")
    make(engine._images, "other", "new")
    since = time.time()
    done = engine.prune_system()
    assert (done.containers, done.networks, done.volumes) == ([ended], ["net"], [])
    assert done.images == [Removed(kind="deleted", what=old.id)]
    assert done.freed > 5000
    assert len(engine.volumes()) == 2

    kinds: list[str] = []
    done = engine.prune_system(all=True, volumes=True, told=lambda kind, what: kinds.append(kind))
    assert kinds == ["Containers", "Networks", "Volumes", "Images"]
    assert len(done.volumes) == 1 and [volume.name for volume in engine.volumes()] == ["named"]
    assert names(engine) == ["docker.io/library/busybox:latest"]
    assert run(engine, "busybox", "true").code == 0
    with engine.events(since, time.time(), {"event": ["prune"]}) as events:
        told = [(event.type, event.id, sorted(event.attributes)) for event in events]
    kinds = ["container", "network", "image", "container", "network", "volume", "image"]
    assert told == [(kind, "", ["reclaimed"]) for kind in kinds]


def test_system_prune_checks_first(engine: Engine, busybox_image: str) -> None:
    create(engine, busybox_image)
    for filters, volumes in (
        ({"until": ["soon"]}, False), ({"dangling": ["1"]}, False), ({"until": ["1h"]}, True),
    ):  # fmt: skip
        with pytest.raises(InvalidArgument):
            engine.prune_system(volumes=volumes, filters=filters)
    assert len(engine.containers(all=True)) == 1


@pytest.mark.parametrize("kind", ["container", "image", "network", "volume"])
def test_one_prune_at_a_time(engine: Engine, cli: Command, kind: str) -> None:
    engine.prune_system(volumes=True)
    with lock(f"{engine.runtime_dir}/prune-{kind}.lock"):
        with pytest.raises(Conflict, match=r"^a prune operation is already running$"):
            getattr(engine, f"prune_{kind}s")()
        assert cli.fails(1, kind, "prune", "-f") == "Error: a prune operation is already running\n"
    getattr(engine, f"prune_{kind}s")()


# ---- system df -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("busybox_image")
def test_df(engine: Engine, cli: Command) -> None:
    volume = Mount(type="volume", target="/v", source="data")
    write = ("sh", "-c", "head -c 5000 /dev/zero > /f; head -c 300 /dev/zero > /v/f; sleep 1000")
    box = start(engine, "busybox", *write, name="box", mounts=[volume])
    make(engine._images, "other", "x" * 1000)
    engine.create_volume("unused")
    engine.stop(box.id, timeout=0)
    found = engine.system_df()
    images = {image.image.names[0]: image for image in found.images.images}
    assert [image.containers for image in found.images.images].count(1) == 1
    other = images["docker.io/library/other:latest"]
    assert other.size == other.unique == found.images.reclaimable > 1000
    assert found.images.size == sum(image.size for image in images.values())
    assert [one.size_rw for one in found.containers] == [5000]
    assert [(v.volume.name, v.links, v.size) for v in found.volumes] == [
        ("data", 1, 300), ("unused", 0, 0),
    ]  # fmt: skip
    lines = cli.ok("system", "df").splitlines()
    assert lines[2].split() == ["Containers", "1", "0", "5kB", "5kB", "(100%)"]
    assert lines[3].split() == ["Local", "Volumes", "2", "1", "300B", "0B", "(0%)"]
    assert "SHARED SIZE" in cli.ok("system", "df", "-v")
    _, freed = engine.prune_images(all=True)
    assert freed == found.images.reclaimable


@pytest.mark.usefixtures("busybox_image")
def test_what_a_commit_took(engine: Engine, cli: Command) -> None:
    box = create(engine, "busybox", "sh", "-c", "head -c 5000 /dev/zero > /f", network="none")
    assert engine.run_attached(box) == 0
    before = engine.system_df()
    parent = engine.image("busybox")
    made = engine.commit(box, "busybox")
    after = engine.system_df()
    assert [one.size_rw for one in (*before.containers, *after.containers)] == [5000, 0]
    grown = after.images.size - before.images.size
    assert 5000 < grown < 10000  # with a config and a manifest
    sizes = {one.image.id: one for one in after.images.images}
    assert sizes[parent.id].shared == sizes[made.id].shared > 1_000_000
    assert sizes[made.id].unique == grown
    assert after.images.reclaimable == grown - 5000  # the container needs the layers
    # The image that lost its name to it goes with it, as soon as no container has it.
    assert cli.ok("rmi", "busybox").splitlines()[1:] == [f"Deleted: {made.id}"]
    engine.commit(box, "busybox")
    engine.remove(box)
    lines = cli.ok("rmi", "busybox").splitlines()
    assert lines[0] == "Untagged: busybox:latest" and lines[2:] == [f"Deleted: {parent.id}"]
    assert engine.system_df().images.size == 0


# ---- everybody at once ---------------------------------------------------------------------------

SECONDS = 1.5
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def work(kind: str, root: str, runtime: str, *images: str) -> None:
    """What one of the processes does, again and again."""
    engine = Engine(root, runtime)
    turns = itertools.count()

    def pull() -> None:
        name = images[next(turns) % len(images)]
        engine.pull(name)
        with engine._images.lease():  # nobody takes away what it needs from here on
            engine._images.ensure_layers(engine.image(name))

    actions: dict[str, tuple[Callable[[], object], tuple[type[Exception], ...]]] = {
        "pull": (pull, (NotFound,)),
        "run": (lambda: run_true(engine, images[next(turns) % len(images)]), ()),
        # An rmi that came between finding the image and making the container.
        "commit": (lambda: commit(engine, images[next(turns) % len(images)]), (NotFound,)),
        "rmi": (
            lambda: engine.remove_image(images[next(turns) % len(images)], force=True), (NotFound,),
        ),
        "prune": (lambda: engine.prune_images(all=next(turns) % 2 == 0), ()),
        "df": (engine.system_df, ()),
    }  # fmt: skip
    action, expected = actions[kind]
    end, count = time.time() + SECONDS, 0
    while time.time() < end or count < 2:
        with contextlib.suppress(*expected):
            action()
        count += 1
    print(count)


def commit(engine: Engine, image: str) -> None:
    """A container that adds a file, and the image of it."""
    box = create(engine, image, "sh", "-c", "echo made > /made", network="none")
    try:
        assert engine.run_attached(box) == 0
        engine.commit(box, "made:1")
    finally:
        engine.remove(box)


def run_true(engine: Engine, image: str) -> None:
    assert run(engine, image, "test", "-f", "/top").code == 0


def workers(engine: Engine, *jobs: tuple[str, ...]) -> list[int]:
    """Do the jobs at once, each in two threads of a process of its own; how often each was done."""
    code = "import sys; from tests.test_disk import in_threads; in_threads(*sys.argv[1:])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, kind, engine.root, engine.runtime_dir, *images],
            cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for kind, *images in jobs
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    for job, process, output in zip(jobs, processes, outputs, strict=True):
        assert process.returncode == 0, f"{job}: {output}"
    return [sum(int(line) for line in output.split()) for output in outputs]


def in_threads(kind: str, *arguments: str) -> None:
    """``work`` in two threads, of which one prunes and one looks where only one can prune."""
    from concurrent.futures import ThreadPoolExecutor

    kinds = (kind, "df" if kind == "prune" else kind)
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work, one, *arguments) for one in kinds]:
            future.result()


def test_everybody_at_once(engine: Engine, registry: Registry) -> None:
    with open(archive("busybox"), "rb") as file:
        base = file.read()
    for tag in ("1", "2"):
        registry.push(f"app:{tag}", [base, tar({"top": tag.encode()})], config=BUSYBOX)
    images = [f"{registry.host}/app:{tag}" for tag in ("1", "2")]
    counts = workers(
        engine, ("pull", *images), ("run", *images), ("rmi", *images, "made:1"),
        ("prune", *images), ("commit", *images),
    )  # fmt: skip
    assert all(count >= 2 for count in counts)
    assert engine.containers(all=True) == []
    for name in images:
        engine.pull(name)
        run_true(engine, name)
    store = open_store(engine.root)
    for image in store.images():
        store.ensure_layers(image)
        for digest in filter(store.has_blob, image.layer_blobs):  # a commit's comes later
            store.blobs.verify(digest)
    engine.prune_images(all=True)
    assert store.images() == [] and store.blobs.digests() == [] and store.layers.names() == []
    assert leftovers(engine.root) == []
    assert not os.path.exists(f"{engine.root}/images/unswept")


def test_a_volume_is_measured_while_it_changes(engine: Engine, busybox_image: str) -> None:
    volume = Mount(type="volume", target="/v", source="busy")
    script = "while :; do mkdir -p /v/a/b; echo x > /v/a/b/c; mv /v/a /v/z; rm -rf /v/z; done"
    start(engine, busybox_image, "sh", "-c", script, mounts=[volume])
    for _ in range(20):
        assert len(engine.system_df().volumes) == 1
