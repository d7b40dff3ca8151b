"""export: what is in it and what is not, and that import brings it back."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import tarfile
import threading
from typing import Any, BinaryIO, cast

import pytest

from fastbox import ContainerConfig, Engine, Mount
from fastbox._core.pack import pack
from fastbox.errors import InvalidArgument, NotFound
from tests.core.pack_trees import acl
from tests.core.tar_archives import capability, tree
from tests.support.boxes import execute, web
from tests.support.wait import wait_for

STATES = ("created", "running", "paused", "stopped")


def make(engine: Engine, image: str, state: str = "created", **config: Any) -> str:
    """``web``, without a network."""
    return web(engine, image, state, **{"network": "none", **config})


def exported(engine: Engine, name: str = "web") -> bytes:
    file = io.BytesIO()
    engine.export(name, file)
    return file.getvalue()


def files(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def below(found: dict[str, tarfile.TarInfo], path: str) -> list[str]:
    return [name for name in found if name.startswith(path + "/")]


@pytest.mark.parametrize("state", STATES)
def test_without_what_is_mounted(engine: Engine, busybox_image: str, base: str, state: str) -> None:
    for name in ("bind", "other"):
        os.mkdir(f"{base}/{name}")
        with open(f"{base}/{name}/of-the-host", "w"):
            pass
    make(
        engine,
        busybox_image,
        state,
        mounts=[
            Mount(type="volume", source="data", target="/data"),
            Mount(type="bind", source=f"{base}/bind", target="/bind"),
            Mount(type="tmpfs", target="/scratch"),
            Mount(type="bind", source=f"{base}/other/of-the-host", target="/etc/file"),
        ],
        hostname="box",
    )
    if state == "running":
        execute(
            engine, engine.container("web"), "sh", "-c", "echo 1 > /data/x; echo 1 > /scratch/x"
        )
    found = files(exported(engine))
    assert found["bin/busybox"].isreg() and found["bin/sh"].issym()
    for name in ("proc", "sys", "data", "bind", "scratch"):
        if name in found or name in ("proc", "sys"):
            assert found[name].isdir()
        assert below(found, name) == []
    if state != "created":
        assert {"data", "bind", "scratch", "etc/file"} <= set(found)
    assert {name: found[name].type for name in below(found, "dev")} == {
        "dev/console": b"0", "dev/mqueue": b"5", "dev/pts": b"5", "dev/shm": b"5"
    }  # fmt: skip
    assert found["etc/hosts"].size == found["etc/hostname"].size == 0
    assert ".dockerenv" in found
    assert ("etc/file" not in found) or found["etc/file"].size == 0


def zoo(path: str) -> None:
    """Things that only some archives keep."""
    os.mkdir(path)
    for name, mode in (("f", 0o640), ("set-id", 0o4755), ("capable", 0o755)):
        with open(f"{path}/{name}", "w") as file:
            file.write(name)
        os.chown(f"{path}/{name}", 1000, 1001)
        os.chmod(f"{path}/{name}", mode)
    os.setxattr(f"{path}/capable", "security.capability", capability(1 << 13))
    os.setxattr(f"{path}/f", "user.note", b"hello")
    os.setxattr(f"{path}/f", "system.posix_acl_access", acl(1234))
    os.link(f"{path}/f", f"{path}/g")
    os.symlink("f", f"{path}/link")
    os.lchown(f"{path}/link", 5, 6)
    os.mkfifo(f"{path}/fifo")
    os.mknod(f"{path}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkdir(f"{path}/d")
    os.chmod(f"{path}/d", 0o1777)
    with open(f"{path}/hole", "w") as file:
        file.truncate(3 << 20)
    for number, name in enumerate(sorted(os.listdir(path))):
        os.utime(f"{path}/{name}", ns=(0, 10**18 + number + 1), follow_symlinks=False)
    os.utime(path, ns=(0, 10**18 + 99))


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_import_brings_it_back(engine: Engine, busybox_image: str, base: str, state: str) -> None:
    zoo(f"{base}/zoo")
    make(engine, busybox_image, "running", mounts=[])
    with engine._lifecycle.view(engine.container("web").id, write=True) as view:
        target = f"/proc/{os.getpid()}/fd/{view.root}/zoo"
        subprocess.run(["cp", "-a", f"{base}/zoo", target], check=True)
    execute(engine, engine.container("web"), "sh", "-c", "rm /bin/sh; mv /etc /moved; mkdir /etc")
    if state == "stopped":
        engine.stop("web")
    data = exported(engine)
    assert exported(engine) == data
    engine.import_image(io.BytesIO(data), "copy")
    engine.remove("web", force=True)
    box = engine.create(ContainerConfig(image="copy", command=["x"], name="again"))
    with engine._lifecycle.view(box.id, write=False, mounts=False) as view:
        assert tree(f"/proc/self/fd/{view.root}/zoo") == tree(f"{base}/zoo")
        assert not os.path.lexists(f"/proc/self/fd/{view.root}/bin/sh")
        assert os.path.isdir(f"/proc/self/fd/{view.root}/moved")
    again = exported(engine, "again")
    assert _without_new(files(again)) == _without_new(files(data))


def test_the_root_itself_comes_back(engine: Engine, base: str) -> None:
    """Owner, mode, time and attributes of /, although the container's own layer is on top."""
    os.mkdir(f"{base}/rootfs")
    os.setxattr(f"{base}/rootfs", "user.root", b"1")
    os.chown(f"{base}/rootfs", 5, 6)
    os.chmod(f"{base}/rootfs", 0o1770)
    os.utime(f"{base}/rootfs", ns=(1, 123_456_789_012))
    fd = os.memfd_create("archive")
    pack(f"{base}/rootfs", fd, whiteouts="none")
    os.lseek(fd, 0, os.SEEK_SET)
    with open(fd, "rb") as file:
        engine.import_image(file, "bare")
    engine.create(ContainerConfig(image="bare", command=["x"], name="web"))
    root = files(exported(engine))["."]
    assert (root.uid, root.gid, root.mode) == (5, 6, 0o1770)
    assert root.pax_headers["mtime"] == "123.456789012"
    assert root.pax_headers["SCHILY.xattr.user.root"] == "1"


def _without_new(found: dict[str, tarfile.TarInfo]) -> dict[str, tuple[object, ...]]:
    """What the new container has of its own is newer."""
    return {
        name: (m.type, m.mode, m.uid, m.gid, m.size, m.linkname, m.pax_headers)
        for name, m in found.items()
        if name not in ("etc", "dev") and not name.startswith(("etc/", "dev/"))
    }


# ---- outputs -------------------------------------------------------------------------------------


def test_path_appears_when_it_is_whole(engine: Engine, busybox_image: str, base: str) -> None:
    make(engine, busybox_image)
    os.mkdir(f"{base}/out")
    path = f"{base}/out/{'n' * 250}"
    with open(path, "w") as file:
        file.write("old")
    os.chmod(path, 0o644)
    os.symlink(path, f"{base}/out/link")
    engine.export("web", f"{base}/out/link")
    assert os.path.islink(f"{base}/out/link")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path, "rb") as file:
        assert file.read() == exported(engine)
    assert sorted(os.listdir(f"{base}/out")) == ["link", "n" * 250]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nothing/x.tar", 'invalid output path: directory "{}/nothing" does not exist'),
        ("out", "cannot write {}/out: it is a directory"),
    ],
)
def test_paths_that_are_refused(
    engine: Engine, busybox_image: str, base: str, path: str, text: str
) -> None:
    make(engine, busybox_image)
    os.mkdir(f"{base}/out")
    with pytest.raises(InvalidArgument) as caught:
        engine.export("web", f"{base}/{path}")
    assert str(caught.value) == text.format(base)


def test_nothing_is_left_of_a_failure(engine: Engine, busybox_image: str, base: str) -> None:
    make(engine, busybox_image)
    os.mkdir(f"{base}/out")
    with pytest.raises(NotFound):
        engine.export("nobody", f"{base}/out/x.tar")
    assert os.listdir(f"{base}/out") == []


def test_object_that_fails(engine: Engine, busybox_image: str) -> None:
    """What it raises comes out, and the container is let go of."""
    make(engine, busybox_image)

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        engine.export("web", cast(BinaryIO, Full()))
    engine.start("web")


def test_stopped_container_cannot_start_meanwhile(engine: Engine, busybox_image: str) -> None:
    make(engine, busybox_image)
    inside, go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def write(self, data: Any) -> int:
            inside.set()
            go_on.wait()
            return super().write(data)

    file = Slow()
    thread = threading.Thread(target=engine.export, args=("web", file))
    thread.start()
    inside.wait()
    starting = threading.Thread(target=engine.start, args=("web",))
    starting.start()
    assert engine.container("web").state.status.value == "created"
    go_on.set()
    thread.join()
    starting.join()
    assert engine.container("web").state.status.value == "running"
    assert "bin/busybox" in files(file.getvalue())


def test_event(engine: Engine, busybox_image: str) -> None:
    box = make(engine, busybox_image)
    exported(engine)
    with open(f"{engine.root}/events/journal") as file:
        [line] = [line for line in file if '"Action":"export"' in line]
    assert box in line and '"name":"web"' in line


# ---- the command ---------------------------------------------------------------------------------


def test_command(cli: Any, engine: Engine, busybox_image: str, base: str) -> None:
    make(engine, busybox_image, "running")
    piped = cli("export", "web")
    assert (piped.code, piped.err) == (0, "")
    assert "bin/busybox" in files(piped.raw)
    for words in (("export", "-o"), ("container", "export", "--output")):
        assert cli.ok(*words, f"{base}/x.tar", "web") == ""
        with open(f"{base}/x.tar", "rb") as file:
            assert file.read() == piped.raw
        os.unlink(f"{base}/x.tar")
    assert cli.ok("import", "-", "copy", input=piped.raw).startswith("sha256:")
    assert cli.ok("run", "--rm", "--network", "none", "copy", "/bin/sh", "-c", "echo hi") == "hi"


def test_command_whose_reader_goes(cli: Any, engine: Engine, busybox_image: str) -> None:
    """It ends as a program in C would, by SIGPIPE, and says nothing."""
    make(engine, busybox_image)
    script = '"$@" | head -c 1000 | wc -c; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *cli.argv, "export", "web"], capture_output=True, text=True
    )
    assert (done.stdout.split(), done.stderr) == (["1000", "141"], "")


def test_command_is_interrupted(cli: Any, engine: Engine, busybox_image: str) -> None:
    """Ctrl-C, while nobody reads."""
    make(engine, busybox_image)
    with subprocess.Popen([*cli.argv, "export", "web"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert len(process.stdout.read(1000)) == 1000
        process.send_signal(signal.SIGINT)
        wait_for(lambda: process.poll() is not None)
        assert process.returncode == 130


def test_command_on_a_terminal(cli: Any, engine: Engine, busybox_image: str) -> None:
    make(engine, busybox_image)
    master, slave = os.openpty()
    try:
        done = subprocess.run(
            [*cli.argv, "export", "web"], stdout=slave, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(master)
        os.close(slave)
    text = "cowardly refusing to save to a terminal. Use the -o flag or redirect\n"
    assert (done.returncode, done.stderr) == (1, text)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nobody",), "Error: No such container: nobody"),
        (
            ("-o", "/nowhere/x", "web"),
            'failed to export container: invalid output path: directory "/nowhere" does not exist',
        ),
        (
            ("-o", "/dev/null", "web"),
            'failed to export container: invalid output path: "/dev/null" must be a directory or a '
            "regular file: got a device",
        ),
    ],
)
def test_command_that_fails(cli: Any, busybox_image: str, words: list[str], text: str) -> None:
    result = cli("export", *words)
    assert (result.code, result.out, result.err) == (1, "", text + "\n")
