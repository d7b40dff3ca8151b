"""cp: Docker's rules for names, what is kept, streams; with running and with stopped containers."""

from __future__ import annotations

import asyncio
import bz2
import contextlib
import gzip
import io
import lzma
import os
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastbox import AsyncEngine, ContainerConfig, Engine, Mount
from fastbox.container import view as views
from fastbox.container.pack import Packer
from fastbox.errors import ArchiveError, FastboxError, InvalidArgument, NotFound
from fastbox.locks import lock
from tests.core.tar_archives import Tar, capability, tree
from tests.support.boxes import execute, start, web
from tests.support.wait import wait_for

STATES = ("created", "running", "paused", "stopped")


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(params=["openat2", "walk"])
def resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With openat2(2), and as on kernels that do not have it."""
    if request.param == "walk":
        monkeypatch.setattr(views, "_has_openat2", lambda root: False)
    name: str = request.param
    return name


def ls(engine: Engine, path: str) -> dict[str, tarfile.TarInfo]:
    """What is at a path of web: name in the archive -> member."""
    with engine.copy_from("web", path) as archive:
        with tarfile.open(fileobj=io.BytesIO(archive.read())) as tar:
            return {member.name: member for member in tar}


def content(engine: Engine, path: str) -> bytes:
    with engine.copy_from("web", path) as archive:
        with tarfile.open(fileobj=io.BytesIO(archive.read())) as tar:
            file = tar.extractfile(tar.getmembers()[0])
            assert file is not None
            return file.read()


def write(path: str, data: bytes | str = b"", mode: int = 0o644) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    os.chmod(path, mode)
    return path


@pytest.fixture
def here(base: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The working directory: a/, with a/x and a/sub/y, and the file f."""
    path = os.path.join(base, "here")
    write(f"{path}/a/x", "x")
    write(f"{path}/a/sub/y", "y")
    write(f"{path}/f", "f")
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def zoo(base: str) -> str:
    """A tree of everything that a file system can hold."""
    path = os.path.join(base, "zoo")
    write(f"{path}/empty")
    write(f"{path}/small", "s", 0o600)
    write(f"{path}/large", os.urandom(3 << 20))
    write(f"{path}/program", "#!", 0o6755)
    os.link(f"{path}/small", f"{path}/also-small")
    os.symlink("small", f"{path}/link")
    os.symlink("/nowhere/" + "long" * 50, f"{path}/dangling")
    os.mkfifo(f"{path}/fifo", 0o640)
    os.mknod(f"{path}/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mkdir(f"{path}/sticky", 0o700)
    os.chmod(f"{path}/sticky", 0o1777)
    write(f"{path}/{'d' * 200}/{'e' * 200}/deep", "deep")
    write(os.fsdecode(os.fsencode(path) + b"/not-\xff-utf8"), "?")
    write(f"{path}/größe", "ü")
    for name, ids in (("small", (1, 2)), ("link", (3, 4)), ("sticky", (5, 3_000_000))):
        os.chown(f"{path}/{name}", *ids, follow_symlinks=False)
    os.setxattr(f"{path}/program", "security.capability", capability(1))
    for number, name in enumerate(sorted(os.listdir(path))):
        times = (10**9, 10**18 + number * 1_000_000_007)
        os.utime(f"{path}/{name}", ns=times, follow_symlinks=False)
    os.utime(f"{path}/empty", ns=(0, -1_500_000_000))
    os.utime(path, ns=(10**9, 10**18))
    return path


# ---- what is kept ------------------------------------------------------------------------------


def test_there_and_back(
    engine: Engine, busybox_image: str, state: str, zoo: str, base: str
) -> None:
    web(engine, busybox_image, state)
    copied = engine.copy_in("web", zoo, "/zoo", archive=True)
    assert copied.path == "web:/zoo"
    assert copied.size > 3 << 20
    back = engine.copy_out("web", "/zoo", f"{base}/back", archive=True)
    assert back.path == f"{base}/back"
    assert back.skipped == []
    assert tree(f"{base}/back") == tree(zoo)
    assert os.stat(f"{base}/back/small").st_nlink == 2


def test_without_archive_it_belongs_to_the_receiver(
    engine: Engine, busybox_image: str, zoo: str, base: str
) -> None:
    os.chown(f"{zoo}/program", 1000, 1000)
    os.chmod(f"{zoo}/program", 0o6755)
    web(engine, busybox_image, "running")
    engine.copy_in("web", zoo, "/zoo")
    inside = ls(engine, "/zoo")
    assert {(member.uid, member.gid) for member in inside.values()} == {(0, 0)}
    # 1000's right to be run as 1000 is no right to be run as root.
    assert inside["zoo/program"].mode == 0o755
    assert inside["zoo/sticky"].mode == 0o1777
    assert inside["zoo/device"].ischr()
    execute(engine, engine.container("web"), "chown", "-R", "1000:1000", "/zoo")
    execute(engine, engine.container("web"), "chmod", "6755", "/zoo/small")
    copied = engine.copy_out("web", "/zoo", f"{base}/back")
    assert copied.skipped == ["back/device"]
    for path, _, names in os.walk(f"{base}/back"):
        for name in names:
            found = os.lstat(os.path.join(path, name))
            assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
            assert not found.st_mode & 0o6000 or stat.S_ISLNK(found.st_mode)
            assert not stat.S_ISCHR(found.st_mode)
    assert os.listxattr(f"{base}/back/program") == []


def test_what_is_there_keeps_its_owner(engine: Engine, busybox_image: str, here: str) -> None:
    web(engine, busybox_image, "running")
    execute(engine, engine.container("web"), "sh", "-c", "mkdir -p /d/sub; chown -R 1000 /d")
    engine.copy_in("web", "a/.", "/d")
    inside = ls(engine, "/d")
    assert {name: member.uid for name, member in inside.items()} == {
        "d": 1000, "d/sub": 1000, "d/x": 0, "d/sub/y": 0,
    }  # fmt: skip


# ---- Docker's rules for names ------------------------------------------------------------------

# (source, target, where its file or directory is then, or the error)
NAMES = [
    ("f", "/new", "/new"),
    ("f", "/dir", "/dir/f"),
    ("f", "/dir/", "/dir/f"),
    ("f", "/dir/.", "/dir/f"),
    ("f", "/file", "/file"),
    ("f", "dir/../new", "/new"),
    ("f", "/tofile", "/file"),
    ("f", "/todir", "/dir/f"),
    ("f", "/dangling", "/made"),
    ("f", "/around", "/dir/f"),
    ("f", "/new/", "!no such directory"),
    ("f", "/file/", "!no such directory"),
    ("f", "/no/new", "!Could not find the file /no in container web"),
    ("f", "/file/new", "!extraction point is not a directory"),
    ("f", "/loop", "!Could not find the file /loop in container web"),
    ("f", "/full", "!cannot overwrite directory \"/full/f\" with non-directory \"/full\""),
    ("a", "/new", "/new/sub/y"),
    ("a", "/new/", "/new/sub/y"),
    ("a/", "/dir", "/dir/a/sub/y"),
    ("a", "/dir", "/dir/a/sub/y"),
    ("a/.", "/new", "/new/sub/y"),
    ("a/.", "/dir", "/dir/sub/y"),
    ("a/.", "/dir/", "/dir/sub/y"),
    ("a/..", "/new", "/new/a/sub/y"),
    ("a", "/todir", "/dir/a/sub/y"),
    ("a", "/file", "!cannot copy directory"),
    ("a", "/tofile", "!cannot copy directory"),
    ("a", "/no/new", "!Could not find the file /no in container web"),
    ("a", "/filled", "!cannot overwrite non-directory \"/filled/a\" with directory \"/filled\""),
    ("nosuch", "/new", "!lstat {here}/nosuch: no such file or directory"),
    ("f/", "/new", "!lstat {here}/f/: not a directory"),
    ("f", "/dev/null", '!destination "web:/dev/null" must be a directory or a regular file: got a'
     " device"),
]  # fmt: skip

PLACES = (
    "mkdir -p /dir /full/f /filled; touch /file /filled/a; ln -s /file /tofile; ln -s dir /todir; "
    "ln -s made /dangling; ln -s ../../..//dir/../todir /around; ln -s loop /loop"
)


@pytest.mark.usefixtures("resolver")
@pytest.mark.parametrize(("source", "target", "wanted"), NAMES)
def test_names_in_the_container(
    engine: Engine, busybox_image: str, here: str, source: str, target: str, wanted: str
) -> None:
    web(engine, busybox_image, "running")
    box = engine.container("web")
    assert execute(engine, box, "sh", "-c", PLACES).code == 0
    if wanted.startswith("!"):
        with pytest.raises(FastboxError) as caught:
            engine.copy_in("web", source, target)
        assert str(caught.value) == wanted[1:].format(here=here)
    else:
        engine.copy_in("web", source, target)
        data = source[0] if source == "f" else "y"
        assert content(engine, wanted) == data.encode()


@pytest.mark.parametrize(("source", "target", "wanted"), NAMES)
def test_names_on_the_host(
    engine: Engine, busybox_image: str, here: str, source: str, target: str, wanted: str
) -> None:
    """The same, out of the container: what it has as here, and the host what it had."""
    web(engine, busybox_image, "created")
    engine.copy_in("web", here, "/here")
    place = f"{here}/place"
    os.mkdir(place)
    script = PLACES.replace(" /", f" {place}/").replace("../../..//", f"{place}/")
    subprocess.run(["sh", "-c", script], check=True)
    if target == "/dev/null":
        os.mknod(f"{place}/null", stat.S_IFCHR, os.makedev(1, 3))
    local = place + target.replace("/dev/null", "/null") if target[0] == "/" else f"place/{target}"
    if wanted.startswith("!"):
        with pytest.raises(FastboxError) as caught:
            engine.copy_out("web", f"/here/{source}", local)
        assert wanted_on_host(wanted, target, source, place) in str(caught.value)
        return
    engine.copy_out("web", f"/here/{source}", local)
    with open(f"{place}{wanted}") as file:
        assert file.read() == (source if source == "f" else "y")


def wanted_on_host(wanted: str, target: str, source: str, place: str) -> str:
    if "lstat" in wanted:
        return f"Could not find the file /here/{source} in container web"
    if target == "/no/new":
        return f'invalid output path: directory "{place}/no" does not exist'
    if target == "/file/new":
        return "not a directory"
    if target == "/loop":
        return "loop"
    if target == "/dev/null":
        return "must be a directory or a regular file: got a device"
    return wanted[1:].replace('"/', f'"{place}/')


@pytest.mark.usefixtures("resolver")
def test_links_at_the_source(engine: Engine, busybox_image: str, here: str) -> None:
    web(engine, busybox_image, "created")
    os.symlink("a", "to-a")
    os.symlink("/etc/os-release", "absolute")
    engine.copy_in("web", "to-a", "/link")
    assert ls(engine, "/link")["link"].linkname == "a"
    engine.copy_in("web", "to-a", "/followed", follow_link=True)
    engine.copy_in("web", "to-a/", "/slash")
    engine.copy_in("web", "to-a/.", "/dot")
    engine.copy_in("web", "to-a", "/tmp", follow_link=True)
    for place in ("/followed", "/slash", "/dot", "/tmp/to-a"):
        assert content(engine, f"{place}/sub/y") == b"y"

    engine.copy_in("web", "absolute", "/absolute")
    engine.copy_out("web", "/absolute", "out")
    assert os.readlink("out") == "/etc/os-release"
    engine.copy_out("web", "/absolute", "out2", follow_link=True)
    with open("out2") as file:  # the container's, not ours
        assert file.read() == 'NAME="busybox"\nID=busybox\n'
    os.mkdir("into")
    engine.copy_out("web", "/absolute", "into", follow_link=True)
    assert os.listdir("into") == ["absolute"]
    with pytest.raises(NotFound, match="Could not find the file /link in container web"):
        engine.copy_out("web", "/link", "x", follow_link=True)


def test_a_missing_source(engine: Engine, busybox_image: str, state: str, here: str) -> None:
    web(engine, busybox_image, state)
    for path in ("/x", "x", "/etc/passwd/x", "/etc/passwd/"):
        with pytest.raises(NotFound) as caught:
            engine.copy_out("web", path, "out")
        assert str(caught.value) == f"Could not find the file {path} in container web"
        assert not os.path.exists("out")
    with pytest.raises(NotFound, match="No such container: nosuch"):
        engine.copy_out("nosuch", "/x", "out")


def test_the_whole_root(engine: Engine, busybox_image: str, state: str, base: str) -> None:
    web(engine, busybox_image, state)
    engine.copy_out("web", "/", f"{base}/all")
    assert {"bin", "etc", "proc", "sys", "dev", "tmp"} <= set(os.listdir(f"{base}/all"))
    assert os.listdir(f"{base}/all/proc") == os.listdir(f"{base}/all/sys") == []
    assert "./bin/sh" in ls(engine, "")


# ---- mounts ------------------------------------------------------------------------------------


def test_volumes_and_binds_are_seen(
    engine: Engine, busybox_image: str, state: str, here: str
) -> None:
    web(
        engine, busybox_image, state,
        mounts=[
            Mount(type="volume", source="vol", target="/not/in/the/image"),
            Mount(type="bind", source=f"{here}/a", target="/bound"),
            Mount(type="bind", source=f"{here}/f", target="/etc/f", read_only=True),
        ],
    )  # fmt: skip
    # Reading makes the mount point that no start has made, writing goes through it.
    assert set(ls(engine, "/not/in/the/image")) == {"image"}
    assert content(engine, "/bound/sub/y") == b"y"
    assert content(engine, "/etc/f") == b"f"
    engine.copy_in("web", "f", "/not/in/the/image")
    engine.copy_in("web", "f", "/bound/sub")
    with open(f"{here}/a/sub/f") as file:
        assert file.read() == "f"
    with open(f"{engine.root}/volumes/vol/_data/f") as file:
        assert file.read() == "f"
    # A file that is mounted is not replaced, and stays mounted.
    for path in ("/etc/f", "/etc/hosts"):
        with pytest.raises(FastboxError, match=f"cannot replace {path[5:]}: Device or resource"):
            engine.copy_in("web", "a/x", path)
        assert content(engine, path) not in (b"x", b"")
    with open(f"{here}/f") as file:
        assert file.read() == "f"


def test_a_tmpfs_is_seen_while_it_is_there(engine: Engine, busybox_image: str, here: str) -> None:
    web(engine, busybox_image, "running", mounts=[Mount(type="tmpfs", target="/run")])
    engine.copy_in("web", "f", "/run")
    box = engine.container("web")
    assert execute(engine, box, "cat", "/run/f").out == "f"
    assert content(engine, "/run/f") == b"f"
    engine.stop("web")
    with pytest.raises(NotFound):
        engine.copy_out("web", "/run/f", "out")


def test_what_is_read_only(engine: Engine, busybox_image: str, state: str, here: str) -> None:
    web(
        engine, busybox_image, state, read_only=True,
        mounts=[
            Mount(type="volume", source="vol", target="/rw"),
            Mount(type="volume", source="vol", target="/ro", read_only=True),
        ],
    )  # fmt: skip
    engine.copy_in("web", "f", "/rw")
    assert content(engine, "/ro/f") == b"f"
    for path, text in (
        ("/tmp", "container rootfs is marked read-only"),
        ("/etc/passwd", "container rootfs is marked read-only"),
        ("/ro", "mounted volume is marked read-only"),
        ("/ro/f", "mounted volume is marked read-only"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            engine.copy_in("web", "f", path)
        assert str(caught.value) == text
    with pytest.raises(InvalidArgument, match="rootfs is marked read-only"):
        engine.copy_to("web", "/tmp", Tar().file("x").bytes())


def test_what_the_kernel_makes_up(engine: Engine, busybox_image: str, here: str) -> None:
    web(engine, busybox_image, "running")
    for path in ("/proc/cpuinfo", "/proc/1/environ", "/sys/kernel/uevent_seqnum"):
        with pytest.raises(NotFound, match=f"Could not find the file {path} in") as caught:
            engine.copy_out("web", path, "out")
        assert "fastbox exec web cat" in (caught.value.hint or "")
    assert set(ls(engine, "/proc")) == {"proc"}
    with pytest.raises(InvalidArgument, match="the kernel makes up what is in there"):
        engine.copy_in("web", "f", "/proc/1")
    # Through a magic link nothing is found: it could lead anywhere.
    for path in ("/proc/1/root/etc/passwd", "/proc/1/cwd/etc/passwd"):
        with pytest.raises(FastboxError):
            engine.copy_out("web", path, "out")
    assert ls(engine, "/dev/null")["null"].ischr()  # an entry; nothing is read from it


def test_a_fifo_blocks_nobody(engine: Engine, busybox_image: str, here: str) -> None:
    web(engine, busybox_image, "running")
    script = "mkdir /d; mkfifo /d/fifo; cp /bin/sh /d; nc -lU -s /d/socket & until [ -e /d/fifo ];"
    execute(engine, engine.container("web"), "sh", "-c", f"{script} do :; done; kill $!")
    assert ls(engine, "/d")["d/fifo"].isfifo()
    engine.copy_out("web", "/d/fifo", "fifo")
    assert stat.S_ISFIFO(os.lstat("fifo").st_mode)
    engine.copy_in("web", "f", "/d/fifo")
    assert content(engine, "/d/fifo") == b"f"


# ---- streams -----------------------------------------------------------------------------------


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize(
    "pack",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstd],
    ids=["plain", "gzip", "bzip2", "xz", "zstd"],
)
def test_archives_of_all_kinds(
    engine: Engine, busybox_image: str, base: str, pack: Callable[[bytes], bytes]
) -> None:
    web(engine, busybox_image)
    data = os.urandom(700_000)
    plain = Tar().dir("d", uid=7, gid=8, mode=0o750).file("d/x", data, uid=9, gid=10).bytes()
    packed = pack(plain)
    path = write(f"{base}/packed", packed)
    with open(path, "rb") as file:
        engine.copy_to("web", "/tmp", packed)
        engine.copy_to("web", "/root", file)
        file.seek(0)
        engine.copy_to("web", "/home", file.fileno(), keep_owners=False)
    engine.copy_to("web", "/etc", (packed[at : at + 999] for at in range(0, len(packed), 999)))
    for place, owners in (
        ("/tmp", (7, 8, 9, 10)),
        ("/root", (7, 8, 9, 10)),
        ("/home", (0, 0, 0, 0)),
        ("/etc", (7, 8, 9, 10)),
    ):
        found = ls(engine, f"{place}/d")
        assert (found["d"].uid, found["d"].gid, found["d/x"].uid, found["d/x"].gid) == owners
        assert found["d"].mode == 0o750
        assert content(engine, f"{place}/d/x") == data


def test_a_bad_archive(engine: Engine, busybox_image: str, state: str) -> None:
    web(engine, busybox_image, state)
    good = Tar().file("good", b"1").bytes()
    for data in (b"x" * 5000, gzip.compress(good)[:40], b"\xfd7zXZ\x00rubbish", good[:700]):
        with pytest.raises(ArchiveError):
            engine.copy_to("web", "/tmp", data)
    engine.copy_to("web", "/tmp", b"")
    engine.copy_to("web", "/tmp", good)
    assert content(engine, "/tmp/good") == b"1"
    with pytest.raises(InvalidArgument, match='"web:/etc/passwd" must be a directory'):
        engine.copy_to("web", "/etc/passwd", good)
    with pytest.raises(NotFound, match="Could not find the file /no in container web"):
        engine.copy_to("web", "/no", good)


def test_a_bad_archive_is_refused_at_once(engine: Engine, busybox_image: str) -> None:
    """Although its writer never ends, and says nothing more."""
    web(engine, busybox_image)
    reader, writer = os.pipe()
    data = Tar().file("../../x", b"1" * 300_000).bytes()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):  # the rest of it is read by nobody
            os.write(writer, data)

    thread = threading.Thread(target=write)
    thread.start()
    with pytest.raises(ArchiveError, match="leads out of the root"):
        engine.copy_to("web", "/tmp", reader)
    os.close(reader)
    thread.join()
    os.close(writer)


def test_what_the_caller_raises_comes_out(engine: Engine, busybox_image: str) -> None:
    web(engine, busybox_image)

    def pieces() -> Iterator[bytes]:
        yield Tar().file("x", b"1" * 100_000).bytes()[:50_000]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        engine.copy_to("web", "/tmp", pieces())


def test_the_stream_is_what_tar_expects(engine: Engine, busybox_image: str, zoo: str) -> None:
    web(engine, busybox_image)
    engine.copy_in("web", zoo, "/zoo", archive=True)
    with engine.copy_from("web", "/zoo") as archive:
        assert (archive.stat.name, archive.stat.is_dir) == ("zoo", True)
        data = archive.read()
        assert archive.read() == b""
    assert len(data) % 512 == 0
    done = subprocess.run(["tar", "tvf", "-"], input=data, capture_output=True, check=True)
    assert done.stderr == b""
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    assert len(lines) == 1 + sum(len(d) + len(f) for _, d, f in os.walk(zoo))
    with engine.copy_from("web", "/zoo/.") as archive:
        assert archive.read(262)[257:262] == b"ustar"  # and the rest is not read
    assert {"", "./link", "link"} & {name.rstrip("/") for name in ls(engine, "/zoo/.")}


def test_stat(engine: Engine, busybox_image: str, state: str) -> None:
    web(engine, busybox_image, state)
    found = engine.stat_path("web", "etc/passwd")
    assert (found.name, found.is_dir, found.uid, found.link_target) == ("passwd", False, 0, "")
    assert found.size == len(content(engine, "/etc/passwd"))
    assert engine.stat_path("web", "/bin/sh").link_target == "busybox"
    assert engine.stat_path("web", "/").is_dir
    with pytest.raises(NotFound):
        engine.stat_path("web", "/x")


def test_async(root: str, runtime_dir: str, busybox_image: str, here: str) -> None:
    async def main() -> None:
        async with AsyncEngine(root, runtime_dir) as engine:
            await engine.create(ContainerConfig(image=busybox_image, name="web"))
            await engine.copy_in("web", "a", "/new")
            await engine.copy_to("web", "/new", Tar().file("z", b"z").bytes())
            async with await engine.copy_from("web", "/new") as archive:
                assert archive.stat.name == "new"
                data = b"".join([piece async for piece in archive])
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                assert tar.getnames() == ["new", "new/sub", "new/sub/y", "new/x", "new/z"]
            await engine.copy_out("web", "/new/z", "z")
            assert [str(c.kind + c.path) for c in await engine.changes("web")][:2] == [
                "A/new", "A/new/sub",
            ]  # fmt: skip

    asyncio.run(main())
    assert os.path.exists("z")


# ---- what others do meanwhile ------------------------------------------------------------------


def test_a_stopped_container_cannot_start_meanwhile(engine: Engine, busybox_image: str) -> None:
    box = web(engine, busybox_image)
    directory = engine.container(box).directory
    archive = engine.copy_from("web", "/bin")
    with pytest.raises(BlockingIOError), lock(directory, blocking=False):
        pass
    starter = threading.Thread(target=engine.start, args=(box,))
    starter.start()
    archive.read(1000)
    assert not engine.container(box).state.status.is_up
    archive.close()
    starter.join()
    assert engine.container(box).state.status.is_up


def test_a_running_container_is_not_locked(engine: Engine, busybox_image: str) -> None:
    box = web(engine, busybox_image, "running")
    with engine.copy_from("web", "/bin") as archive:
        archive.read(1000)
        engine.stop(box)
        engine.start(box)
        assert archive.read()[-1024:] == bytes(1024)  # the files of the run before


def test_an_archive_that_is_not_closed(engine: Engine, busybox_image: str) -> None:
    web(engine, busybox_image)
    archive = engine.copy_from("web", "/")
    archive.read(100)
    del archive
    engine.start("web")


def test_one_that_is_removed_when_it_ends(engine: Engine, busybox_image: str, here: str) -> None:
    """Its overlay is volatile, and may be mounted again only because nothing marks it."""
    web(engine, busybox_image, auto_remove=True, command=["cat", "/f"])
    engine.copy_in("web", "f", "/")
    assert content(engine, "/f") == b"f"
    assert engine.run_attached("web") == 0


COPY = """
import sys
from fastbox import Engine
Engine(sys.argv[1], sys.argv[2]).copy_to("web", "/tmp", 0)
"""


@pytest.mark.parametrize("state", ["created", "running"])
def test_killed_at_any_point(engine: Engine, busybox_image: str, state: str) -> None:
    web(engine, busybox_image, state)
    command = [sys.executable, "-c", COPY, engine.root, engine.runtime_dir]
    for number in range(3):
        with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
            assert child.stdin is not None
            child.stdin.write(Tar().file(f"{state}{number}", b"1" * 600_000).bytes()[:-1024])
            child.stdin.flush()
            upper = f"{engine.container('web').directory}/upper/tmp/{state}{number}"
            wait_for(lambda path=upper: os.path.exists(path), "the file")
            child.send_signal(signal.SIGKILL)
    if state == "created":
        engine.start("web")
    assert execute(engine, engine.container("web"), "ls", "/tmp").lines == [
        f"{state}{number}" for number in range(3)
    ]


def test_a_full_disk(engine: Engine, busybox_image: str, zoo: str, base: str) -> None:
    web(
        engine, busybox_image, "running",
        mounts=[Mount(type="tmpfs", target="/small", tmpfs_size=1 << 20)],
    )  # fmt: skip
    with pytest.raises(FastboxError, match=r"cannot copy to /small: .*No space left") as caught:
        engine.copy_in("web", f"{zoo}/large", "/small")
    assert caught.value.hint == "free some space on that file system"


def test_a_file_that_shrinks(base: str) -> None:
    path = write(f"{base}/file", b"1" * (1 << 20))
    fd = os.open(path, os.O_PATH)
    reader, writer = os.pipe()

    def shrink(size: int) -> None:
        os.truncate(path, 10)

    errors: list[BaseException] = []

    def pack() -> None:
        try:
            Packer(writer, progress=shrink).add(fd, "file")
        except BaseException as error:
            errors.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=pack)
    thread.start()
    with open(reader, "rb") as stream:
        stream.read()
    thread.join()
    os.close(fd)
    assert "file became shorter while it was copied" in str(errors[0])


def test_a_large_file_of_holes(base: str) -> None:
    """Sizes that a tar header's digits cannot hold are written and read."""
    path = write(f"{base}/file")
    os.truncate(path, 9 << 30)
    fd = os.open(path, os.O_PATH)
    reader, writer = os.pipe()

    def pack() -> None:
        try:
            Packer(writer).add(fd, "file")
        except BrokenPipeError:
            pass
        finally:
            os.close(writer)

    thread = threading.Thread(target=pack)
    thread.start()
    with open(reader, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        member = tar.next()
        assert member is not None
        assert (member.name, member.size) == ("file", 9 << 30)
    thread.join()
    os.close(fd)


def test_paths_are_resolved_alike(base: str) -> None:
    """By openat2 and by hand, through links of all kinds."""
    root = f"{base}/root"
    write(f"{root}/d/e/f", "f")
    for name, target in {
        "abs": "/d/e", "rel": "d/../d/e", "up": "../../../d/./e/", "file": "/d/e/f",
        "chain": "abs", "loop": "loop", "dangling": "/x", "d/back": "../abs", "self": ".",
    }.items():  # fmt: skip
        os.symlink(target, f"{root}/{name}")
    fd = os.open(root, os.O_RDONLY)
    names = ("abs", "rel", "up", "file", "chain", "loop", "dangling", "d/back", "self", "d", "")
    ends = ("", "/", "/f", "/f/", "/f/x", "/..", "/../..", "/.", "/nosuch", "//f", "/self/abs/f")
    outcomes: list[list[Any]] = []
    for openat2 in (True, False):
        outcome: list[Any] = []
        view = views.View(os.dup(fd), openat2=openat2)
        with view:
            for path in (f"{name}{end}" for name in names for end in ends if name or end):
                for flags in (os.O_PATH, os.O_PATH | os.O_NOFOLLOW, os.O_PATH | os.O_DIRECTORY):
                    try:
                        found = view.open(path, flags)
                    except OSError as error:
                        outcome.append((path, flags, error.errno))
                    else:
                        outcome.append((path, flags, os.fstat(found).st_ino))
                        assert not os.get_inheritable(found)
                        os.close(found)
        outcomes.append(outcome)
    os.close(fd)
    assert outcomes[0] == outcomes[1]


def test_a_container_started_by_its_name(engine: Engine, busybox_image: str) -> None:
    """Texts name the container as the user did."""
    box = start(engine, busybox_image, name="web")
    with pytest.raises(NotFound, match=f"Could not find the file /x in container {box.short_id}"):
        engine.stat_path(box.short_id, "/x")
