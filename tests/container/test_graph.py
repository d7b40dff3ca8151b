"""The graph driver ``copy`` beside ``overlay``: the same things give the same results."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable

import pytest

from fastbox import ContainerConfig, Engine, Mount, graphdriver
from fastbox.check.trees import difference
from fastbox.container import create
from fastbox.container.record import Container
from fastbox.errors import StoreError
from fastbox.image.types import Image
from tests.container.test_diff import (  # run once more, with the other driver
    test_an_idle_container_has_none,
    test_mount_points_alone_are_seen,
)
from tests.image.build import put
from tests.support.boxes import execute, run, start
from tests.support.images import archive, changes
from tests.support.wait import wait_for
from tests.support.whole import check_whole

__all__ = ["test_an_idle_container_has_none", "test_mount_points_alone_are_seen"]

Enter = dict[str, "bytes | tarfile.TarInfo"]


@pytest.fixture
def root(root: str) -> str:
    """The store's driver is ``copy``. (The layer of the image busybox deletes nothing, so it is the
    same with both.)"""
    with open(f"{root}/driver", "w") as file:
        file.write("copy\n")
    return root


@pytest.fixture
def pair(engine: Engine, new_root: Callable[[str], str]) -> list[Engine]:
    """An engine with ``copy``, one with ``overlay``."""
    other = new_root("other")
    return [engine, Engine(other, other + ".run")]


@pytest.fixture
def twins(busybox_image: str, pair: list[Engine]) -> list[Engine]:
    """The same, with busybox."""
    pair[1].import_image(archive("busybox"), "busybox", changes=changes("busybox"))
    return pair


def layer(content: Enter) -> bytes:
    """The tar of a layer."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, what in content.items():
            info = what if isinstance(what, tarfile.TarInfo) else tarfile.TarInfo()
            info.name, info.mtime = name, 1_600_000_000
            data = what if isinstance(what, bytes) else b""
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return memory.getvalue()


def folder(mode: int = 0o755, uid: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.mode, info.uid = tarfile.DIRTYPE, mode, uid
    return info


def hard(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = tarfile.LNKTYPE, target
    return info


def busybox() -> bytes:
    with open(archive("busybox"), "rb") as file:
        return file.read()


def new(engine: Engine, image: str) -> Container:
    """A container that is not started."""
    return engine.create(ContainerConfig(image=image, command=["x"], network="none"))


LAYERS: list[list[Enter]] = [
    [{"t/a": b"1", "t/b": b"2"}, {"t/.wh.a": b""}],
    [{"t/a": b"1"}, {"t/.wh.a": b""}, {"t/a": b"new"}],
    [{"t/a": b"1"}, {"t/.wh.a": b"", "t/a": b"same layer"}],
    [{"t/d/x": b"1", "t/d/y": b"2"}, {"t/d/.wh..wh..opq": b"", "t/d/z": b"3"}],
    [{"t/d/x": b"1"}, {"t/.wh.d": b""}, {"t/d": folder(0o700, 5), "t/d/y": b"2"}],
    [{"t/d/x": b"1"}, {"t/d": b"a file"}, {"t/d": folder(), "t/d/z": b"3"}],
    [{"t/d/x": b"1"}, {"t/d": folder(0o711, 7)}],
    [{"t/d/e/x": b"1"}, {"t/d/e/.wh.x": b""}, {"t/d/e/y": b"2"}],
    [{"t/a": b"1", "t/same": hard("t/a")}, {"u/b": b"2", "u/b2": hard("u/b")}],
    [{"t/a": b"1"}, {".wh.t": b"", "u/x": b"2"}, {"t": folder(0o755)}],
]


@pytest.mark.parametrize("layers", LAYERS, ids=[" ".join(layers[-1]) for layers in LAYERS])
def test_layers_merge_as_they_are_mounted(pair: list[Engine], layers: list[Enter]) -> None:
    compare(pair, [layer({"u": folder(), "t": folder(), "u/base": b""}), *map(layer, layers)])


def test_a_layer_that_hides_everything(pair: list[Engine]) -> None:
    upper = compare(
        pair, [layer({"u/x": b"gone", "t/x": b""}), layer({".wh..wh..opq": b"", "t/y": b"1"})]
    )
    assert os.listdir(f"{upper}/t") == ["y"]
    assert not os.path.exists(f"{upper}/u")


def compare(pair: list[Engine], layers: list[bytes]) -> str:
    """Compare what containers of an image get with both drivers; the copy."""
    since = time.time_ns() - 10**9
    boxes = []
    for engine in pair:
        put(engine._images, "layers:1", layers)
        boxes.append(new(engine, "layers:1"))
        check_whole(engine.root, engine.runtime_dir)
    overlay = pair[1]
    root = create.view(overlay._containers, boxes[1].record, f"{overlay.root}/layers")
    try:
        upper = f"{boxes[0].directory}/upper"
        assert difference(f"/proc/self/fd/{root}/.", upper, since) == ""
    finally:
        os.close(root)
    return upper


SCRIPT = """
set -e
mkdir -p /new/deep; echo 1 > /new/deep/file; ln /new/deep/file /new/link; ln -s x /new/sym
mknod /new/pipe p; chmod 4755 /new/deep/file
rm /bin/cat; rm -r /home; mkdir /home; echo h > /home/h
echo more >> /etc/passwd; chmod 700 /root; chown 3:4 /etc/os-release
touch /tmp/x; rm /tmp/x
"""


def facts(engine: Engine, box: Container) -> tuple[list[str], int | None]:
    found = engine.container(box.id, size=True)
    return [f"{change.kind} {change.path}" for change in engine.changes(box.id)], found.size_rw


def test_what_a_container_changes(twins: list[Engine]) -> None:
    seen = []
    for engine in twins:
        box = start(engine, "busybox", name="web")
        assert execute(engine, box, "sh", "-c", SCRIPT).code == 0
        running = facts(engine, box)
        engine.stop(box.id, timeout=0)
        assert facts(engine, box) == running
        engine.start(box.id)
        assert execute(engine, box, "tail", "-n1", "/etc/passwd").out == "more\n"
        engine.restart(box.id, timeout=0)
        assert facts(engine, box) == running
        seen.append(running)
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] == seen[1][1]


def committed(engine: Engine, box: Container, name: str) -> Image:
    return engine.commit(box.id, name)


@pytest.mark.parametrize("running", [True, False])
def test_an_image_of_a_container(twins: list[Engine], running: bool) -> None:
    look = "find / -xdev | grep -v '^/\\(proc\\|sys\\|dev\\)' | sort | while read f; do"
    look += " stat -c '%n %F %a %u:%g %h' $f; done; tail -n1 /etc/passwd; stat -c %i /new/*"
    seen = []
    for engine in twins:
        box = start(engine, "busybox", name="web")
        assert execute(engine, box, "sh", "-c", SCRIPT).code == 0
        if not running:
            engine.stop(box.id, timeout=0)
        before = facts(engine, box)
        image = committed(engine, box, "made:1")
        assert facts(engine, box) == before
        made = start(engine, image.id)
        assert facts(engine, made) == ([], 0)
        lines = execute(engine, made, "sh", "-c", look).lines
        assert len([line for line in lines if "/new/link regular file 4755" in line]) == 1
        # (Directories have other numbers of links in an overlay.)
        seen.append([" ".join(line.split()[:-1]) for line in lines if "inode" not in line])
        check_whole(engine.root, engine.runtime_dir)
    left, right = ([line for line in lines if line] for lines in seen)
    assert left == right


def test_one_image_after_another(engine: Engine, busybox_image: str) -> None:
    box = start(engine, "busybox")
    for number in range(2):
        assert execute(engine, box, "sh", "-c", f"echo {number} > /n{number}; rm -f /n0").code == 0
        committed(engine, box, f"made:{number}")
    out = run(engine, "made:1", "sh", "-c", "ls -d /n*; cat /n1")
    assert out.lines == ["/n1", "1"]
    again = start(engine, "made:1")
    assert execute(engine, again, "rm", "/n1").code == 0
    committed(engine, again, "made:2")
    assert run(engine, "made:2", "sh", "-c", "ls -d /n*").code != 0


def test_a_name_that_would_delete(engine: Engine, busybox_image: str) -> None:
    box = start(engine, "busybox", "sh", "-c", "mkdir /d; touch /d/.wh.x; sleep 1000")
    wait_for(lambda: engine.changes(box.id) != [] and len(engine.changes(box.id)) == 2, "its files")
    with pytest.raises(StoreError, match=r"/d/\.wh\.x: its name would delete another file"):
        engine.commit(box.id, "made:1")


def test_archives(
    engine: Engine, busybox_image: str, base: str, new_root: Callable[[str], str]
) -> None:
    box = start(engine, "busybox", name="web")
    script = "echo one > /file; rm -r /home; mkdir /home; touch /home/new; rm /bin/ls"
    assert execute(engine, box, "sh", "-c", script).code == 0
    made = engine.commit("web", "made:1")
    engine.save(["made:1"], f"{base}/made.tar")
    check_whole(engine.root, engine.runtime_dir)
    assert facts(engine, start(engine, made.id)) == ([], 0)
    third = new_root("third")
    other = Engine(third, third + ".run")
    other.load(f"{base}/made.tar")
    assert graphdriver.read(other.root) == "overlay"
    out = run(other, "made:1", "sh", "-c", "cat /file; echo /home/*; test -e /bin/ls || echo gone")
    assert out.lines == ["one", "/home/new", "gone"]
    check_whole(other.root, other.runtime_dir)


def test_the_daily_verbs(engine: Engine, busybox_image: str, base: str) -> None:
    with open(f"{base}/in", "w") as file:
        file.write("in")
    box = start(engine, "busybox", workdir="/made/here", name="web")
    assert execute(engine, box, "pwd").out == "/made/here\n"
    for number in range(2):
        engine.copy_in(box.id, f"{base}/in", f"/in{number}")
        engine.copy_out(box.id, f"/in{number}", f"{base}/out{number}")
        engine.stop(box.id, timeout=0)  # then once more, of one that does not run
    with open(f"{base}/out1") as file:
        assert file.read() == "in"
    inspected = engine.inspect_container(box.id)
    assert inspected["Driver"] == inspected["GraphDriver"]["Name"] == "copy"
    assert engine.info()["Driver"] == "copy"
    engine.remove(box.id)
    assert os.listdir(f"{engine.root}/containers") == []


def test_a_root_that_is_read_only(engine: Engine, busybox_image: str) -> None:
    out = run(engine, "busybox", "sh", "-c", "touch /x; touch /tmp/x", read_only=True)
    assert out.code != 0
    assert "Read-only" in out.err


def test_programs_and_devices_of_the_image(engine: Engine, busybox_image: str) -> None:
    """Whatever the mount of the store's directory forbids."""
    node = tarfile.TarInfo()
    node.type, node.devmajor, node.devminor, node.mode = tarfile.CHRTYPE, 1, 3, 0o666
    put(engine._images, "node:1", [busybox(), layer({"t/null": node})])
    done = subprocess.run(["mount", "--bind", engine.root, engine.root])
    assert done.returncode == 0
    try:
        options = "remount,bind,nosuid,nodev,noexec"
        subprocess.run(["mount", "-o", options, engine.root], check=True)
        out = run(
            engine, "node:1", "sh", "-c", "echo x > /t/null; cat /t/null; grep ' / ' /proc/mounts"
        )
    finally:
        subprocess.run(["umount", "-l", engine.root], check=True)
    assert out.code == 0, out
    assert not {"nosuid", "nodev", "noexec"} & set(out.lines[-1].split()[3].split(","))


def test_nothing_leads_out(engine: Engine, busybox_image: str) -> None:
    out = run(engine, "busybox", "sh", "-c", "cd /../../..; pwd; ls -d ../../etc; stat -c %i / /..")
    assert out.lines[:2] == ["/", "../../etc"]
    assert out.lines[2] == out.lines[3]


def test_the_volumes_of_an_image(engine: Engine, busybox_image: str) -> None:
    mounts = [Mount(type="volume", source="data", target="/home")]
    assert run(engine, "busybox", "ls", "/home", mounts=mounts).out == "app\n"
    assert stat.S_ISDIR(os.stat(f"{engine.root}/volumes/data/_data/app").st_mode)


def test_two_containers_have_nothing_in_common(engine: Engine, busybox_image: str) -> None:
    first, second = start(engine, "busybox"), start(engine, "busybox")
    assert execute(engine, first, "sh", "-c", "echo x > /bin/cat; echo x > /etc/passwd").code == 0
    assert execute(engine, second, "cat", "/etc/passwd").lines[0].startswith("root:")
    assert engine.check() == []
