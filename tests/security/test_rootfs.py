"""Images that try to lead the engine out of the root filesystem (CVE-2026-41579, CVE-2026-47766,
CVE-2026-88265, CVE-2019-19921, CVE-2025-24965, CVE-2024-5154, CVE-2026-55686 and their kin)."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable

import pytest

from fastbox.engine import Engine
from fastbox.errors import FastboxError
from tests.support.boxes import (
    Canary,
    device,
    directory,
    entry,
    execute,
    fifo,
    image,
    link,
    run,
    start,
)
from tests.support.leaks import mounts

# Once the places themselves, once what the engine puts below them.
TOP = ("dev", "proc", "sys", "etc", "run", "workdir")
BELOW = (
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "dev/console",
    "dev/null",
    "dev/ptmx",
    "dev/stdin",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/mtab",
    ".dockerenv",
    "workdir",
)
KINDS: dict[str, Callable[[Canary], tarfile.TarInfo]] = {
    "link": lambda canary: link(canary.path),
    "link to a file": lambda canary: link(f"{canary.path}/f"),
    "dangling": lambda canary: link(f"{canary.path}/nothing"),
    "upwards": lambda canary: link("../../../../../.." + canary.path),
    "magic": lambda canary: link("/proc/self/root"),
    "fifo": lambda canary: fifo(),
    "device": lambda canary: device(1, 5),
}
LOOK = """
grep -q ' /proc proc ' /proc/mounts && grep -q ' /sys sysfs ' /proc/mounts || exit 90
[ -c /dev/null ] && [ ! -L /dev/null ] && [ -d /dev/pts ] && [ -e /dev/pts/ptmx ] || exit 91
[ "$(cat /etc/hostname)" = box ] && grep -q localhost /etc/hosts || exit 92
mount | grep -q ' on /dev/shm type tmpfs' || exit 93
[ ! -e "$0" ] || exit 94
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("places", [TOP, BELOW], ids=["top", "below"])
def test_hostile_places(engine: Engine, canary: Canary, kind: str, places: tuple[str, ...]) -> None:
    content: dict[str, tarfile.TarInfo | bytes] = {"dev": directory(), "etc": directory()}
    content |= {place: KINDS[kind](canary) for place in places}
    name = image(engine, "hostile", content)
    # /proc, /dev and the rest are the container's own whatever the image says.
    result = run(engine, name, "sh", "-c", LOOK, canary.path, hostname="box")
    assert result.code == 0, result
    # The working directory is resolved, and made, inside; or refused.
    try:
        result = run(engine, name, "pwd", workdir="/workdir/a", hostname="box")
    except FastboxError as error:
        assert "working directory" in str(error)
    else:
        assert result.code == 0 and result.out.strip().endswith("/a")
    canary.check()


def test_read_only_root(engine: Engine, canary: Canary) -> None:
    content = {place: link(canary.path) for place in TOP}
    name = image(engine, "hostile", content)  # type: ignore[arg-type]
    result = run(engine, name, "sh", "-c", "touch /x; touch /dev/shm/x", read_only=True)
    assert result.code == 0 and "/x: Read-only file system" in result.err


def test_volumes_below_hostile_places(engine: Engine, canary: Canary) -> None:
    from fastbox.container.config import Mount

    content = {"data": link(canary.path), "up": link("../../.." + canary.path)}
    content[canary.path[1:]] = directory()  # those lead to a directory of the image
    name = image(engine, "hostile", content)  # type: ignore[arg-type]
    points = [
        Mount(type="volume", target="/data/f"),
        Mount(type="tmpfs", target="/up/shm"),
        Mount(type="volume", target="/data/new/deep"),
    ]
    result = run(engine, name, "sh", "-c", "echo x > /data/f/x; echo y > /up/shm/y", mounts=points)
    assert result.code == 0, result


def test_working_directory_is_made_inside(engine: Engine, canary: Canary) -> None:
    content = {"work": link(canary.path), canary.path[1:]: directory()}
    name = image(engine, "hostile", content)  # type: ignore[arg-type]
    result = run(engine, name, "pwd", workdir="/work/made")
    assert result.out == f"{canary.path}/made\n"  # that path inside the container
    name = image(engine, "dangling", {"work": link(canary.path)})
    with pytest.raises(FastboxError, match="working directory"):
        run(engine, name, "pwd", workdir="/work/made")
    assert not os.path.exists(f"{canary.path}/made")


def test_host_dev_null_cannot_be_changed(engine: Engine, busybox_image: str) -> None:
    """Root in the container may change its standard input's inode: it must not be the host's."""
    before = os.stat("/dev/null")
    command = "chmod 600 /proc/self/fd/0; chown 1000:1000 /proc/self/fd/0; stat -c %a /dev/null"
    null = os.open("/dev/null", os.O_RDWR)
    try:
        seen = run(engine, busybox_image, "sh", "-c", command, stdin=null)
        box = start(engine, busybox_image)
        joined = execute(engine, box, "sh", "-c", command, stdin=null)
        detached = start(engine, busybox_image, "sh", "-c", command + "; sleep 1000")
        assert execute(engine, detached, "true").code == 0
    finally:
        os.close(null)
        after = os.stat("/dev/null")
        os.chmod("/dev/null", before.st_mode & 0o7777)  # should it have been changed after all
        os.chown("/dev/null", before.st_uid, before.st_gid)
    # The container's own changed, the host's did not.
    assert [seen.out, joined.out] == ["600\n", "600\n"]
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )


@pytest.mark.parametrize("what", ["fifo", "link", "regular", "other device"])
def test_dev_null_that_is_none(engine: Engine, canary: Canary, what: str, base: str) -> None:
    """A volume over /dev with something else as null: refused, without blocking (A6, A9)."""
    from fastbox.container.config import Mount

    volume = os.path.join(base, "dev")
    os.mkdir(volume)
    path = os.path.join(volume, "null")
    if what == "fifo":
        os.mkfifo(path)
    elif what == "link":
        os.symlink(f"{canary.path}/f", path)
    elif what == "regular":
        open(path, "w").close()
    else:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    name = image(engine, "plain", {})
    with pytest.raises(FastboxError, match=r"/dev/null|standard streams|masking"):
        run(engine, name, "true", mounts=[Mount(type="bind", source=volume, target="/dev")])


ESCAPE = """
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void) {
  mkdir("/jail", 0755);
  int root = open("/", O_RDONLY);
  if (chroot("/jail") || fchdir(root)) return 3;
  for (int i = 0; i < 200; i++) chdir("..");
  if (chroot(".")) return 4;
  return access("/marker", F_OK) ? 5 : 0;
}
"""


def test_double_chroot_stays_inside(engine: Engine, program: Callable[[str], bytes]) -> None:
    name = image(engine, "escape", {"escape": program(ESCAPE), "marker": b""})
    assert run(engine, name, "/escape").code == 0


def test_mount_tables_stay_the_same(engine: Engine, busybox_image: str) -> None:
    def table() -> list[str]:
        return sorted(line for *_, line in mounts())

    before = table()
    for number in range(20):
        assert run(engine, busybox_image, "true").code == 0
        with pytest.raises(FastboxError):
            run(engine, busybox_image, ["nosuch", "/etc"][number % 2])
    assert table() == before


def test_no_mount_of_the_host_is_seen(engine: Engine, busybox_image: str) -> None:
    text = run(engine, busybox_image, "cat", "/proc/1/mountinfo").out
    host = {}
    for line in text.splitlines():
        fields = line.split(" ")
        if fields[3] != "/" and fields[4] not in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            host[fields[4]] = fields[3]
    files = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}
    inner = {point for point in host if point.startswith(("/proc/", "/sys/"))}
    assert set(host) - inner == files, host
    assert all(fields.split(" ")[6] != "shared:" for fields in text.splitlines())


def test_layer_devices_are_inert(engine: Engine, busybox_image: str) -> None:
    """A block device of the host in a layer: it may be there, it cannot be opened."""
    disk = entry(tarfile.BLKTYPE, mode=0o666)
    disk.devmajor, disk.devminor = 8, 0
    name = image(engine, "devices", {"sda": disk, "mem": device(1, 1)})
    result = run(engine, name, "sh", "-c", "cat /sda; cat /mem; echo x > /mem")
    assert result.out == ""
    assert result.err.count("Operation not permitted") == 3, result
