"""commit: an image of what a container changed, and a container that does not notice."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable

import pytest

from fastbox import ContainerConfig, Engine, Mount
from fastbox.container import commit as module
from fastbox.container import graph
from fastbox.container.record import Container, Status
from fastbox.errors import Conflict, FastboxError, InvalidArgument, NotFound, StoreError
from fastbox.image import pending
from fastbox.image.layers import LayerInfo
from fastbox.image.seal import sealed
from fastbox.image.types import Image
from fastbox.oci import image as oci
from tests.image.build import die_at, put, tar
from tests.support.boxes import execute, run, start
from tests.support.wait import wait_for

SCRIPT = """
echo new > /new; ln /new /hard; ln -s /nowhere /link; mkfifo /pipe; mkdir -p /d/e; echo x > /d/e/f
rm /etc/group; rm -r /home; mkdir /home; echo changed >> /etc/passwd
chown 1000:7 /new; chmod 4750 /new; touch -d 2001-02-03 /d/e; truncate -s 10000000 /sparse
"""


def snapshot(engine: Engine, name: str) -> tuple[object, ...]:
    """What is told of a container's files."""
    changes = [f"{change.kind} {change.path}" for change in engine.changes(name)]
    box = engine.container(name, size=True)
    return changes, box.size_rw, box.size_root, box.state.status


def script(engine: Engine, name: str, text: str) -> None:
    done = execute(engine, engine.container(name), "sh", "-ec", text)
    assert done.code == 0, done.err


@pytest.fixture
def web(engine: Engine, busybox_image: str) -> Container:
    """Runs, and has changed something."""
    box = start(engine, busybox_image, name="web")
    script(engine, "web", SCRIPT)
    return box


def look(engine: Engine, image: str) -> str:
    """What a container of an image has of SCRIPT."""
    text = (
        "stat -c '%n %F %a %u:%g %h %s %Y' /new /hard /link /pipe /d/e /d/e/f /home /sparse;"
        "tail -n 1 /etc/passwd; ls -A /home; cat /etc/group"
    )
    done = run(engine, image, "sh", "-c", text)
    return done.out + done.err


# ---- what it makes ---------------------------------------------------------------------------


def test_stopped(engine: Engine, web: Container) -> None:
    engine.stop("web", timeout=0)
    before = snapshot(engine, "web")
    upper = os.stat(f"{web.directory}/upper").st_ino
    image = engine.commit("web", "snap", message="why", author="me")
    record = engine.container("web").record
    assert len(record.committed) == 1 and record.layers[0] == record.committed[0]
    assert os.stat(f"{engine.root}/layers/{record.committed[0]}").st_ino == upper  # not copied
    assert os.listdir(f"{web.directory}/upper") == []
    assert snapshot(engine, "web") == before
    assert engine.image("snap").id == image.id == engine.image(image.id[7:19]).id
    assert image.names == ["docker.io/library/snap:latest"]
    found = look(engine, "snap")
    assert "/new regular file 4750 1000:7 2 4" in found and "/pipe fifo" in found
    assert "/link symbolic link" in found and "/sparse regular file" in found
    assert "changed\n" in found and "can't open '/etc/group'" in found
    config = image.config
    assert (config["author"], config["comment"]) == ("me", "why")


def test_running(engine: Engine, web: Container) -> None:
    before = snapshot(engine, "web")
    image = engine.commit("web", "snap")
    assert snapshot(engine, "web") == before
    assert engine.container("web").record.committed == []
    actions = [e.action for e in engine.events(since=0, until=time.time()) if e.id == web.id]
    assert actions[-3:] == ["pause", "unpause", "commit"]
    engine.stop("web", timeout=0)
    engine.commit("web", "stopped")
    assert look(engine, "snap") == look(engine, "stopped")
    assert image.id != engine.image("stopped").id


def test_a_copy_is_what_the_upper_directory_was(engine: Engine, web: Container) -> None:
    """Owners, modes, times, links, whiteouts, marks of overlayfs, attributes."""
    upper = f"{web.directory}/upper"
    os.setxattr(f"{upper}/d", "user.test", b"value")
    engine.commit("web", pause=False)
    (layer,) = {
        name
        for name in os.listdir(f"{engine.root}/layers")
        if (info := pending_info(engine, name)) is not None and info.pending
    }
    copy = f"{engine.root}/layers/{layer}"
    assert listing(copy) == listing(upper)
    sparse = os.stat(f"{copy}/sparse")
    assert sparse.st_size == 10_000_000 and sparse.st_blocks < 100
    assert os.listdir(f"{engine.root}/layers/.tmp") == []


def pending_info(engine: Engine, name: str) -> LayerInfo | None:
    return None if name.startswith(".") else engine._images.layers.read(name)


def listing(root: str) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for directory, folders, files in os.walk(root):
        for path in [directory, *(os.path.join(directory, name) for name in folders + files)]:
            info = os.lstat(path)
            first = inodes.setdefault(info.st_ino, os.path.relpath(path, root))
            marks = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
            size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
            # overlayfs has one whiteout for all.
            links = 0 if stat.S_ISCHR(info.st_mode) else info.st_nlink
            found[os.path.relpath(path, root)] = (
                info.st_mode, info.st_uid, info.st_gid, info.st_rdev, info.st_mtime_ns, size,
                links, first, sorted(marks.items()),
            )  # fmt: skip
    return found


def test_it_goes_on(engine: Engine, web: Container, base: str) -> None:
    """start, further changes, cp, a second and a third commit."""
    engine.stop("web", timeout=0)
    engine.commit("web", "one")
    engine.start("web")
    script(engine, "web", "cat /new; test ! -e /etc/group; rm /d/e/f /hard; echo 2 > /new")
    script(engine, "web", "rm -r /home; mkdir /home; echo h > /home/h; echo g > /etc/group")
    running = snapshot(engine, "web")
    assert {"A /d/e", "C /etc/group", "A /home/h", "D /home/app", "A /new"} <= set(running[0])  # type: ignore[call-overload]
    assert not {"A /d/e/f", "A /hard", "D /etc/group"} & set(running[0])  # type: ignore[call-overload]
    engine.commit("web", "running")
    engine.stop("web", timeout=0)
    before = snapshot(engine, "web")
    engine.commit("web", "two", changes=["ENV A=b"])
    assert len(engine.container("web").record.committed) == 2
    assert snapshot(engine, "web") == before
    engine.commit("web", "three")  # nothing new: an empty layer
    assert len(engine.container("web").record.committed) == 2
    assert [len(engine.image(name).layers) for name in ("one", "two", "three")] == [2, 3, 4]
    text = "cat /new /etc/group; ls /d/e /home; ls /hard"
    seen = [run(engine, name, "sh", "-c", text) for name in ("running", "two", "three")]
    assert seen[0] == seen[1] == seen[2] and seen[0].lines == ["2", "g", "/d/e:", "", "/home:", "h"]
    assert run(engine, "one", "cat", "/new", "/d/e/f").out == "new\nx\n"
    with open(f"{base}/f", "w") as file:
        file.write("from outside")
    engine.copy_in("web", f"{base}/f", "/d/e/f")
    assert f"A {'/d/e/f'}" in snapshot(engine, "web")[0]  # type: ignore[operator]
    with engine.copy_from("web", "/d") as archive:
        names = tarfile.open(fileobj=io.BytesIO(archive.read())).getnames()
    assert names == ["d", "d/e", "d/e/f"]


def test_layers_in_one(engine: Engine, web: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the image may not have more layers, all that the container changed is one."""
    engine.stop("web", timeout=0)
    engine.commit("web", "one")
    engine.start("web")
    script(engine, "web", "rm -r /d; mkdir /d; echo d > /d/new; rm /new; echo g > /etc/group")
    engine.stop("web", timeout=0)
    monkeypatch.setattr(oci, "MAX_LAYERS", 2)
    before = snapshot(engine, "web")
    engine.commit("web", "two")
    assert snapshot(engine, "web") == before
    monkeypatch.undo()
    assert len(engine.image("two").layers) == 2
    engine.commit("web", "three")
    assert len(engine.image("three").layers) == 3
    text = "ls /d /home /new; cat /d/new /etc/group /hard"
    assert run(engine, "two", "sh", "-c", text) == run(engine, "three", "sh", "-c", text)
    start(engine, "two", name="again")
    assert engine.changes("again") == []
    monkeypatch.setattr(oci, "MAX_LAYERS", 1)
    with pytest.raises(InvalidArgument, match="max depth exceeded"):
        engine.commit("web")


def test_where_directories_cannot_be_swapped(
    engine: Engine, web: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(one: str, other: str) -> None:
        raise OSError(22, "Invalid argument")

    engine.stop("web", timeout=0)
    before = snapshot(engine, "web")
    monkeypatch.setattr("fastbox._core.tree.exchange", refuse)
    engine.commit("web", "copied")
    assert snapshot(engine, "web") == before
    assert engine.container("web").record.committed == []
    monkeypatch.undo()
    engine.commit("web", "swapped")
    assert look(engine, "copied") == look(engine, "swapped")


def test_volumes_are_not_in_it(engine: Engine, busybox_image: str) -> None:
    mounts = [
        Mount(type="volume", source="vol", target="/named/deep"),
        Mount(type="volume", target="/anonymous"),
        Mount(type="tmpfs", target="/scratch"),
    ]
    start(engine, busybox_image, name="web", mounts=mounts)
    script(engine, "web", "for d in /named/deep /anonymous /scratch; do echo x > $d/file; done")
    image = engine.commit("web", "snap")
    out = run(engine, "snap", "sh", "-c", "ls -d /named/deep /scratch; find / -name file -xdev")
    assert out.out == "/named/deep\n/scratch\n"
    assert image.config["config"]["Volumes"] == {"/anonymous": {}}  # type: ignore[index]


def test_config(engine: Engine, busybox_image: str) -> None:
    """What the container was run with, the image's where nothing was said; then the changes."""
    engine.create(
        ContainerConfig(
            image=busybox_image, name="web", command=["echo", "two words"], env=["A=1", "B=2"],
            workdir="/tmp", user="app", labels={"a": "1"}, expose=["80"], stop_signal="SIGUSR1",
            stop_timeout=3, tty=True,
        )
    )  # fmt: skip
    image = engine.commit("web", changes=["LABEL b=2", "ENV A=3", "EXPOSE 81/udp"], message="中文")
    config = image.config["config"]
    assert config == {
        "User": "app",
        "ExposedPorts": {"80/tcp": {}, "81/udp": {}},
        "Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin", "A=3", "B=2"],
        "Cmd": ["echo", "two words"],
        "WorkingDir": "/tmp",
        "Labels": {"a": "1", "b": "2"},
        "StopSignal": "SIGUSR1",
        "StopTimeout": 3,
    }
    assert image.names == [] and image.parent == engine.image(busybox_image).id
    history = engine.history(image.id)
    assert (history[0].created_by, history[0].comment) == ("echo two words", "中文")
    engine.create(ContainerConfig(image=image.id, name="child", entrypoint=["/bin/echo"]))
    child = engine.commit("child", changes=['CMD ["x"]'])
    assert (child.config["config"]["Entrypoint"], child.config["config"]["Cmd"]) == (  # type: ignore[index]
        ["/bin/echo"],
        ["x"],
    )
    assert run(engine, child.id).out == "x\n"


def test_bad_requests(engine: Engine, web: Container, busybox_image: str) -> None:
    images = [image.id for image in engine.images()]
    for reference, message in (
        ("Foo", "invalid reference format: repository name \\(library/Foo\\) must be lowercase"),
        ("a b", "invalid reference format"),
        (f"a@sha256:{'1' * 64}", "refusing to create a tag with a digest reference"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            engine.commit("web", reference)
    with pytest.raises(InvalidArgument, match="RUN is not a valid change command"):
        engine.commit("web", changes=["RUN x"])
    for options in ({"message": "a\udcffb"}, {"author": "a\udcffb"}):
        with pytest.raises(InvalidArgument, match="is not UTF-8 text"):
            engine.commit("web", **options)  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="No such container: nosuch"):
        engine.commit("nosuch")
    assert [image.id for image in engine.images()] == images
    assert engine.container("web").state.status is Status.RUNNING
    engine.stop("web", timeout=0)
    engine.remove_image(engine.image(busybox_image).id, force=True)
    with pytest.raises(NotFound, match="the image of container web is gone") as caught:
        engine.commit("web")
    assert caught.value.hint


def test_events(engine: Engine, web: Container) -> None:
    image = engine.commit("web", "snap:1", message="why")
    last = list(engine.events(since=0, until=time.time()))[-2:]
    assert [(e.type, e.action) for e in last] == [("container", "commit"), ("image", "tag")]
    assert last[0].attributes["imageID"] == image.id
    assert (last[0].attributes["imageRef"], last[0].attributes["comment"]) == ("snap:1", "why")


def test_kernels_with_other_defaults(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    """An upper directory holds all of what was renamed or only got another owner."""
    for name in ("redirect_dir", "metacopy"):
        with open(f"{base}/{name}", "w") as file:
            file.write("Y")
    monkeypatch.setattr(graph, "_PARAMETERS", base)
    graph._plain.cache_clear()
    assert graph._plain() == ",redirect_dir=off,metacopy=off"
    start(engine, busybox_image, name="web")
    script(engine, "web", "mv /home /moved; chown 5 /etc/passwd")
    engine.commit("web", "snap")
    engine.stop("web", timeout=0)
    engine.commit("web", "snap2")
    graph._plain.cache_clear()
    for image in ("snap", "snap2"):
        out = run(engine, image, "sh", "-c", "ls /moved; ls /home; stat -c %u /etc/passwd; id -un")
        assert out.out == "app\n5\nroot\n" and "No such file" in out.err


# ---- pausing ---------------------------------------------------------------------------------


def test_a_paused_container_stays_so(engine: Engine, web: Container) -> None:
    engine.pause("web")
    engine.commit("web")
    assert engine.container("web").state.status is Status.PAUSED
    engine.unpause("web")


def test_it_goes_on_after_an_error(
    engine: Engine, web: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert engine.container("web").state.status is Status.PAUSED
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "copy_uppers", fail)
    with pytest.raises(StoreError, match="committing container web failed: no space left"):
        engine.commit("web")
    assert engine.container("web").state.status is Status.RUNNING
    assert os.listdir(f"{engine.root}/layers/.tmp") == []


def test_a_killed_commit_leaves_nobody_paused(engine: Engine, web: Container) -> None:
    """The next command lets the container go on."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), 9)

    pid = os.fork()
    if pid == 0:
        module.copy_uppers = die  # type: ignore[assignment]
        engine.commit("web")
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 9
    assert engine.container("web").state.status is Status.PAUSED
    assert [box.state.status for box in engine.containers()] == [Status.RUNNING]
    script(engine, "web", "true")


def test_while_directories_move(engine: Engine, busybox_image: str) -> None:
    """Not paused, files may vanish while they are copied: an image, or a clear error."""
    text = "mkdir -p /a/b/c /x; while :; do mv /a/b /x/b; mv /x/b /a/b; done"
    start(engine, busybox_image, "sh", "-c", text, name="web")
    for _ in range(10):
        try:
            engine.commit("web", "snap", pause=False)
        except Conflict as error:
            assert "moved or removed" in error.message and error.hint
    engine.commit("web", "snap")
    assert run(engine, "snap", "ls", "/a", "/x").code == 0


# ---- many layers -----------------------------------------------------------------------------


def test_125_layers(engine: Engine, busybox_image: str, busybox_tar: str) -> None:
    """They run, can be committed, and what is made of them runs."""
    with open(busybox_tar, "rb") as file:
        layers = [file.read()]
    layers += [tar({f"layer{number}": b"x", "same": b"%d" % number}) for number in range(1, 125)]
    put(engine._images, "deep", layers)
    assert run(engine, "deep", "sh", "-c", "ls /layer* | wc -l; cat /same").lines == ["124", "124"]
    run(engine, "deep", "touch", "/mine", name="web", auto_remove=False)
    for count in (126, 127, 126):  # no more than 127: then all that it changed is one layer
        with open(f"{engine.container('web').directory}/upper/more", "w") as file:
            file.write("more")
        engine.commit("web", "deeper")
        assert len(engine.image("deeper").layers) == count
        assert run(engine, "deeper", "ls", "/mine", "/layer1").code == 0
    with pytest.raises(InvalidArgument, match="max depth exceeded"):
        put(engine._images, "full", [*layers, *layers[1:3]])
        engine.create(ContainerConfig(image="full", name="full", command=["/bin/true"]))
        engine.commit("full")
    engine.start("web")
    wait_for(lambda: not engine.container("web").state.status.is_up, "its end")


# ---- others at work --------------------------------------------------------------------------


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What calls return, or raise, that are made at the same time."""
    results: list[object] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def work(number: int) -> None:
        gate.wait()
        try:
            results[number] = calls[number]()
        except FastboxError as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_others_meanwhile(engine: Engine, busybox_image: str) -> None:
    """A removal of the image or the container, a start, another commit: each as if it had come
    before or after."""
    parent = engine.image(busybox_image).id
    for number in range(4):
        engine.tag(parent, "mine")
        start(engine, "mine", "true", name="web")
        wait_for(lambda: not engine.container("web").state.status.is_up, "its end")
        with open(f"{engine.container('web').directory}/upper/f", "w") as file:
            file.write(str(number))
        others: list[Callable[[], object]] = [
            lambda: Engine(engine.root, engine.runtime_dir).remove("web", force=True),
            lambda: Engine(engine.root, engine.runtime_dir).start("web"),
            lambda: Engine(engine.root, engine.runtime_dir).remove_image("mine", force=True),
            lambda: Engine(engine.root, engine.runtime_dir).commit("web", "other"),
        ]
        made, other = at_once(lambda: engine.commit("web", "snap"), others[number])
        if isinstance(made, Image):
            assert run(engine, "snap", "cat", "/f").out == str(number)
            engine.remove_image("snap")
        else:
            assert number == 0 and isinstance(made, NotFound), made
        assert number in (0, 2) or not isinstance(other, FastboxError), other
        if number == 3:
            assert run(engine, "other", "cat", "/f").out == str(number)
        if number:
            wait_for(lambda: not engine.container("web").state.status.is_up, "its end")
            engine.remove("web")


def test_layers_go_with_their_last_user(engine: Engine, web: Container) -> None:
    engine.stop("web", timeout=0)
    engine.commit("web", "one")
    (layer,) = engine.container("web").record.committed
    path = f"{engine.root}/layers/{layer}"
    engine.remove_image("one")
    assert os.path.isdir(path) and run_diff(engine)
    engine.remove("web")
    assert not os.path.exists(path)


def test_a_layer_stays_for_its_image(engine: Engine, web: Container) -> None:
    engine.stop("web", timeout=0)
    engine.commit("web", "one")
    engine.commit("web", "two")
    assert engine.prune_containers()[1] == 0
    assert run(engine, "one", "cat", "/new").out == "new\n"
    engine.remove_image("one")
    assert run(engine, "two", "cat", "/new").out == "new\n"
    sealed(engine._images, "two")
    assert run(engine, "two", "cat", "/new").out == "new\n"
    engine.remove_image("two")
    assert len([n for n in os.listdir(f"{engine.root}/layers") if n[0] != "."]) == 1


def run_diff(engine: Engine) -> list[object]:
    return list(engine.changes("web"))


def test_ancestor(engine: Engine, web: Container) -> None:
    engine.stop("web", timeout=0)
    engine.commit("web", "one")
    engine.commit("web", "also")
    engine.create(ContainerConfig(image="one", name="child"))
    engine.commit("child", "two")
    engine.create(ContainerConfig(image="two", name="grandchild"))

    def found(name: str) -> list[str]:
        return sorted(b.name for b in engine.containers(all=True, filters={"ancestor": [name]}))

    for _ in range(2):
        assert found("one") == ["child", "grandchild"]
        assert found("two") == ["grandchild"]
        assert found("busybox") == ["child", "grandchild", "web"]
        sealed(engine._images, "one")


# ---- killed, or without power ----------------------------------------------------------------


def test_killed_at_any_step(in_memory: str) -> None:
    """No change of the container is lost, and the image is there or not."""
    from tests.image.build import make, open_store

    base = in_memory
    template = base + "/template"
    make(open_store(template), "old", "old")
    engine = Engine(template, base + "/run")
    box = engine.create(ContainerConfig(image="old", name="web", command=["x"]))
    for name in ("new", "file"):
        with open(f"{box.directory}/upper/{name}", "w") as file:
            file.write("changed")
    before = snapshot(engine, "web")
    made, seen = set(), 0
    for point in range(1, 400):
        root = f"{base}/at{point}"
        subprocess.run(["cp", "-a", "--", template, root], check=True)

        def action(root: str = root) -> None:
            commit(Engine(root, base + "/run"), "web", "snap")

        lived = die_at(point, action)
        engine = Engine(root, base + "/run")
        assert snapshot(engine, "web") == before, point
        there = bool(engine.images("snap"))
        made.add(there)
        check_committed(engine, "snap" if there else None)
        commit(engine, "web", "again")
        check_committed(engine, "again")
        assert snapshot(engine, "web") == before, point
        subprocess.run(["rm", "-rf", root], check=True)
        if lived:
            break
        seen = point
    assert made == {True, False} and seen > 20


def commit(engine: Engine, name: str, reference: str) -> Image:
    """Without the process that settles the layer afterwards."""
    container_id = engine.container(name).id
    return module.commit(engine._lifecycle, engine._images, container_id, reference)


def check_committed(engine: Engine, image: str | None) -> None:
    """An image of the container of test_killed_at_any_step is whole."""
    if image is None:
        return
    names = engine._images.ensure_layers(engine.image(image))
    content = [path for name in names if os.path.exists(path := f"{engine.root}/layers/{name}/new")]
    assert len(content) == 1
    with open(content[0]) as file:
        assert file.read() == "changed"


def test_power_failure(engine: Engine, web: Container) -> None:
    """A layer that was not known to be on the disk: the image is refused, the container is not, and
    another commit of it mends the image."""
    engine.stop("web", timeout=0)
    commit(engine, "web", "one")
    (layer,) = engine.container("web").record.committed
    layers = engine._images.layers
    info = layers.read(layer)
    assert info is not None and info.boot and info.size == -1
    info.boot = "another"
    layers.write(layer, info)
    again = Engine(engine.root, engine.runtime_dir)
    with pytest.raises(StoreError, match="may be damaged: the machine was restarted") as caught:
        run(again, "one", "true")
    assert caught.value.hint and "commit" in caught.value.hint
    with pytest.raises(StoreError, match="may be damaged"):
        sealed(again._images, "one")
    assert "A /new" in snapshot(again, "web")[0]  # type: ignore[operator]
    again.start("web")
    script(again, "web", "cat /new")
    again.commit("web", "two")
    assert run(again, "one", "cat", "/new").out == run(again, "two", "cat", "/new").out == "new\n"


def test_settling(engine: Engine, web: Container) -> None:
    """Synced and measured by a process of its own."""
    engine.stop("web", timeout=0)
    assert engine.commit("web", "one").size == engine.image("busybox").size
    (layer,) = engine.container("web").record.committed
    layers = engine._images.layers

    def is_settled() -> bool:
        info = layers.read(layer)
        return info is not None and not info.boot and info.size > 10_000_000

    wait_for(is_settled, "the layer to be settled")
    assert pending.unsettled(layers) == []
    assert engine.image("one").size > 10_000_000
