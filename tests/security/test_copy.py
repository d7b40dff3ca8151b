"""cp between the host and hostile containers: links, races, crafted streams.

The race tests run bounded rounds; whatever the outcome of one is, the host's canary stays as it was
and nothing of it comes out of the container.
"""

from __future__ import annotations

import contextlib
import errno
import io
import lzma
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator

import pytest

from fastbox import ContainerConfig, Engine, Mount
from fastbox._core import tar
from fastbox.container import view as views
from fastbox.container.record import Container
from fastbox.errors import FastboxError
from tests.core.tar_archives import Tar, capability
from tests.support.boxes import Canary, directory, execute, image, link, start
from tests.support.wait import wait_for

ROUNDS = 1000
UP = "../" * 20
SWAPPER = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
/* swap PATH TARGET: PATH is now a directory, now a link to TARGET, as fast as can be. */
int main(int argc, char **argv) {
  char other[4096];
  snprintf(other, sizeof other, "%s.link", argv[1]);
  mkdir(argv[1], 0755);
  symlink(argv[2], other);
  write(1, "ready\\n", 6);
  for (;;) syscall(SYS_renameat2, AT_FDCWD, argv[1], AT_FDCWD, other, 2 /* RENAME_EXCHANGE */);
}
"""


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With openat2(2), and as on kernels that do not have it."""
    if request.param == "walk":
        monkeypatch.setattr(views, "_has_openat2", lambda root: False)


@pytest.fixture
def swapper(
    engine: Engine, program: Callable[[str], bytes]
) -> Callable[..., contextlib.AbstractContextManager[Container]]:
    """``with swapper(path, target)``: a container that swaps a directory and a link."""
    name = image(engine, "swapper", {"swap": program(SWAPPER)})

    @contextlib.contextmanager
    def run(path: str, target: str, **config: object) -> Iterator[Container]:
        box = start(engine, name, "/swap", path, target, name="web", **config)
        wait_for(lambda: list(engine.logs(box.id)), "the swapper")
        yield box
        assert engine.container("web").state.status.is_up
        engine.remove("web", force=True)

    return run


Swapper = Callable[..., contextlib.AbstractContextManager[Container]]


def names(data: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name for member in archive}


# ---- C1: a path is swapped while it is resolved ------------------------------------------------


def test_copies_out_never_leave_the_container(
    engine: Engine, swapper: Swapper, canary: Canary, base: str
) -> None:
    """CVE-2018-15664, CVE-2019-10152: only the host has the file that is asked for."""
    up = UP + canary.path.lstrip("/")
    for target in (canary.path, up):
        outcomes: dict[str, int] = {}
        with swapper("/d", target):
            for number in range(ROUNDS):
                try:
                    if number % 2:
                        engine.copy_out("web", "/d/passwd", f"{base}/out")
                    else:
                        with engine.copy_from("web", "/d/", follow_link=True) as archive:
                            assert names(archive.read()) == {"d"}
                    outcome = "copied"
                except FastboxError as error:
                    outcome = str(error)
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert not os.path.exists(f"{base}/out")
        assert any("Could not find the file /d" in outcome for outcome in outcomes)


def test_copies_in_never_leave_the_container(
    engine: Engine, swapper: Swapper, canary: Canary, base: str
) -> None:
    with open(f"{base}/f", "w") as file:
        file.write("evil")
    os.chmod(f"{base}/f", 0o777)
    archive = Tar().file("f", b"evil", mode=0o777).dir("shm", mode=0o777).bytes()
    for target in (canary.path, UP + canary.path.lstrip("/")):
        copied = 0
        with swapper("/d", target):
            for number in range(ROUNDS):
                with contextlib.suppress(FastboxError):
                    if number % 2:
                        engine.copy_in("web", f"{base}/f", "/d/f")
                    else:
                        engine.copy_to("web", "/d", archive)
                    copied += 1
        assert copied
        canary.check()


def test_a_walk_never_leaves_the_container(
    engine: Engine, swapper: Swapper, canary: Canary
) -> None:
    """What is swapped is below the tree that is copied."""
    seen = set()
    with swapper("/tmp/in", canary.path):
        for _ in range(ROUNDS):
            with contextlib.suppress(FastboxError):
                with engine.copy_from("web", "/tmp") as archive:
                    seen |= names(archive.read())
    assert seen <= {"tmp", "tmp/in", "tmp/in.link"}
    assert "tmp/in" in seen


# ---- C2: mount points under links --------------------------------------------------------------


def test_mounts_of_a_stopped_container_stay_inside(engine: Engine, canary: Canary) -> None:
    """CVE-2026-41568, CVE-2026-42306; the legal /var/run -> /run works (moby 52653)."""
    name = image(
        engine,
        "links",
        {
            "run": directory(),
            "var/run": link("/run"),
            canary.path.lstrip("/"): directory(),
            "evil": link(canary.path),
            "up": link(UP + canary.path.lstrip("/")),
        },
    )
    mounts = [
        Mount(type="volume", source="vol", target="/var/run/service"),
        Mount(type="volume", source="vol", target="/evil/shm"),
        Mount(type="volume", source="vol", target="/up/new"),
    ]
    engine.create(ContainerConfig(image=name, name="web", mounts=mounts))
    engine.copy_to("web", "/var/run/service", Tar().file("x", b"1").bytes())
    for path in ("/run/service", "/evil/shm", "/up/new", f"{canary.path}/new"):
        with engine.copy_from("web", f"{path}/.") as archive:
            assert names(archive.read()) == {".", "./x"}
    canary.check()


def test_mounts_of_a_stopped_container_race(
    engine: Engine, swapper: Swapper, canary: Canary
) -> None:
    """One container swaps the parent of another's mount point, in a volume that they share."""
    shared = Mount(type="volume", source="shared", target="/s")
    engine.create(
        ContainerConfig(
            image="swapper",
            name="victim",
            mounts=[shared, Mount(type="volume", source="vol", target="/s/d/shm")],
        )
    )
    with swapper("/s/d", canary.path, mounts=[shared]):
        for _ in range(ROUNDS // 4):
            with contextlib.suppress(FastboxError):
                engine.copy_to("victim", "/s/d/shm", Tar().file("x", b"1").bytes())
    canary.check()
    engine.remove("victim")


# ---- C3: nothing of the container is run or loaded ---------------------------------------------


@pytest.mark.parametrize("state", ["created", "running"])
def test_no_program_of_the_container_is_run(engine: Engine, state: str, base: str) -> None:
    """CVE-2019-14271, CVE-2026-41567: decompressors and libraries that tell when they are used."""
    marker = b"#!/bin/sh\necho $0 $@ >> /marker; cat\n"
    tools = ("xz", "zstd", "unpigz", "gzip", "bzip2", "unxz", "tar")
    content = {f"usr/bin/{tool}": marker for tool in tools}
    content |= {f"bin/{tool}": marker for tool in tools}
    content |= {
        f"{place}/{library}": b"not a library"
        for place in ("lib", "lib64", "usr/lib", "lib/x86_64-linux-gnu")
        for library in ("libnss_files.so.2", "liblzma.so.5", "libbz2.so.1.0", "libc.so.6")
    }
    name = image(engine, "traps", content)
    box = engine.create(ContainerConfig(image=name, name="web", command=["sleep", "1000"]))
    if state == "running":
        engine.start(box.id)
    plain = Tar().file("x", b"1", patch={265: b"nobody", 297: b"nogroup"}).bytes()
    for tool in ("xz", "zstd", "gzip", "bzip2"):
        command = [shutil.which(tool) or tool, "-c"]
        packed = subprocess.run(command, input=plain, stdout=subprocess.PIPE, check=True).stdout
        engine.copy_to("web", "/tmp", packed)
    engine.copy_out("web", "/tmp/x", f"{base}/x")
    with open(f"{base}/x") as file:
        assert file.read() == "1"
    changed = {change.path for change in engine.changes("web")}
    assert changed <= {"/tmp", "/tmp/x"}


NO_CHILDREN = """
import resource, sys
from fastbox import Engine
Engine(sys.argv[1], sys.argv[2]).copy_to("web", "/tmp", 0)
assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss == 0, "it had children"
with open("/proc/self/maps") as maps:
    assert not [line for line in maps if sys.argv[1] in line]
"""


def test_the_copy_starts_no_process(engine: Engine, busybox_image: str) -> None:
    engine.create(ContainerConfig(image=busybox_image, name="web"))
    data = lzma.compress(Tar().file("x", b"1").bytes())
    command = [sys.executable, "-c", NO_CHILDREN, engine.root, engine.runtime_dir]
    subprocess.run(command, input=data, check=True)


# ---- C4: modes and owners follow no link -------------------------------------------------------


def test_modes_follow_no_link(engine: Engine, swapper: Swapper, canary: Canary) -> None:
    """CVE-2021-41089: a directory gets its mode and owner last, when it may be a link by now."""
    archive = Tar()
    for number in range(50):
        archive.dir("d", mode=0o777, uid=1, gid=1).file(f"d/{number}", b"1", mode=0o777)
    with swapper("/d", canary.path):
        for _ in range(ROUNDS // 4):
            with contextlib.suppress(FastboxError):
                engine.copy_to("web", "/", archive.bytes())
    canary.check()


# ---- C5: what comes out is confined to the target ----------------------------------------------


def test_links_in_what_is_copied_are_links(engine: Engine, canary: Canary, base: str) -> None:
    """CVE-2026-17106: links that lead out of the target are made, and never gone through."""
    name = image(
        engine,
        "links",
        {"d/a": link(canary.path), "d/b": link(UP + canary.path), "d/z": b"z"},
    )
    engine.create(ContainerConfig(image=name, name="web"))
    engine.copy_out("web", "/d", f"{base}/out")
    assert os.readlink(f"{base}/out/a") == canary.path
    # Again, with directories where those links are now: they are in the way, not on it.
    evil = image(engine, "evil", {"d/a/f": b"evil", "d/b/f": b"evil"})
    engine.create(ContainerConfig(image=evil, name="evil"))
    with pytest.raises(FastboxError, match="cannot overwrite non-directory"):
        engine.copy_out("evil", "/d/.", f"{base}/out")
    canary.check()


def crafted(canary: str) -> dict[str, Tar]:
    up = UP + canary.lstrip("/")
    return {
        "through an absolute link": Tar().symlink("a", canary).file("a/f", b"evil"),
        "through a relative link": Tar().symlink("a", up).file("a/f", b"evil"),
        "through two links": Tar().symlink("a", "..").symlink("a/b", up).file("a/b/f", b"evil"),
        "a link made a directory": Tar().symlink("a", canary).dir("a", mode=0o777),
        "a directory through a link": Tar().symlink("a", canary).dir("a/shm", mode=0o777),
        "a hard link": Tar().hardlink("b", f"{canary}/f").file("b", b"evil"),
        "a hard link up": Tar().hardlink("b", f"{up}/f"),
        "a hard link to a link": Tar().symlink("a", f"{canary}/f").hardlink("b", "a").file("b"),
        "up": Tar().file("../x", b"evil"),
        "down and up": Tar().file("a/../../x", b"evil"),
        "absolute": Tar().file(f"{canary}/f", b"evil"),
        "a disk": Tar().entry("sda", "4", device=(8, 0)),
        "a device": Tar().entry("null", "3", device=(1, 3)),
    }


@pytest.mark.parametrize("kind", crafted("/canary"))
def test_crafted_streams(
    kind: str, canary: Canary, base: str, request: pytest.FixtureRequest
) -> None:
    """As a daemon that is not ours, or a mistake of our own packer, could send them."""
    dest = f"{base}/dest"
    os.mkdir(dest)
    fd = os.memfd_create("archive")
    os.write(fd, crafted(canary.path)[kind].bytes())
    os.lseek(fd, 0, os.SEEK_SET)
    before = set(os.listdir(base))
    with contextlib.suppress(FastboxError):
        tar.extract(
            fd,
            dest,
            whiteouts="keep",
            merge=True,
            harmless=True,
            owner=(0, 0),
            openat2="walk" not in request.node.name,
        )
    os.close(fd)
    canary.check()
    assert set(os.listdir(base)) == before
    for place, _, files in os.walk(dest):
        for name in files:
            mode = os.lstat(os.path.join(place, name)).st_mode
            assert stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def test_merging_replaces_no_link_to_a_directory(base: str, canary: Canary) -> None:
    """What is there already may lead out too: the user's own links in the target."""
    os.mkdir(f"{base}/dest")
    os.symlink(canary.path, f"{base}/dest/shm")
    fd = os.memfd_create("archive")
    os.write(fd, Tar().dir("shm", mode=0o777).file("shm/x", b"evil").bytes())
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(FastboxError) as caught:
        tar.extract(fd, f"{base}/dest", whiteouts="keep", merge=True, harmless=True)
    os.close(fd)
    assert (caught.value.step, caught.value.errno) == ("remove", errno.ENOTDIR)  # type: ignore[attr-defined]


def test_rights_do_not_come_along(engine: Engine, base: str) -> None:
    name = image(engine, "rights", {"d/x": b"x"})
    start(engine, name, "sleep", "1000", name="web")
    box = engine.container("web")
    execute(engine, box, "sh", "-c", "chmod 6755 /d/x; mknod /d/null c 1 3; chmod 2777 /d")
    engine.copy_to("web", "/d", Tar().pax(
        {"SCHILY.xattr.security.capability": capability(1)}).file("cap", b"1").bytes())  # fmt: skip
    copied = engine.copy_out("web", "/d", f"{base}/plain")
    assert stat.S_IMODE(os.stat(f"{base}/plain/x").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(f"{base}/plain").st_mode) == 0o777
    assert os.listxattr(f"{base}/plain/cap") == []
    assert copied.skipped == ["plain/null"]
    engine.copy_out("web", "/d", f"{base}/all", archive=True)
    assert stat.S_IMODE(os.stat(f"{base}/all/x").st_mode) == 0o6755
    assert os.listxattr(f"{base}/all/cap") == ["security.capability"]
    assert stat.S_ISCHR(os.stat(f"{base}/all/null").st_mode)


def test_a_device_cannot_be_opened_through_a_view(engine: Engine, busybox_image: str) -> None:
    """Of a stopped container: should everything else fail, the mount says no."""
    engine.create(ContainerConfig(image=busybox_image, name="web"))
    engine.copy_to("web", "/", Tar().entry("null", "3", device=(1, 3)).bytes())
    for write in (False, True):
        with engine._lifecycle.view(engine.container("web").id, write=write) as view:
            with pytest.raises(PermissionError):
                view.open("/null", os.O_RDONLY)
            program = view.open("/bin/busybox", os.O_RDONLY)
            with pytest.raises(PermissionError):
                os.execve(program, ["busybox", "true"], {})
            os.close(program)


def inherited() -> list[bytes]:
    command = ["ls", "/proc/self/fd"]
    return subprocess.check_output(command, close_fds=False).split()


def test_no_descriptor_of_the_copy_is_inherited(engine: Engine, busybox_image: str) -> None:
    engine.create(ContainerConfig(image=busybox_image, name="web"))
    before = inherited()
    with engine.copy_from("web", "/bin") as archive:
        archive.read(100)
        during = inherited()
    assert during == before
