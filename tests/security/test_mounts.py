"""Mounts whose targets or sources a container controls: the races of CVE-2021-30465 and
CVE-2024-45310, mounts over /proc (CVE-2019-19921, CVE-2023-27561), redirected writes to /proc
(CVE-2019-16884, CVE-2025-52881), masks (CVE-2025-31133), volumes with links (CVE-2025-9566) and
hostile VOLUME paths (CVE-2022-23648)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from fastbox._core import launch as core
from fastbox.container.config import Mount
from fastbox.container.plan import PlanBuilder
from fastbox.engine import Engine
from fastbox.errors import FastboxError, InvalidArgument
from tests.support.boxes import Canary, directory, execute, image, link, run, start
from tests.support.leaks import open_text
from tests.support.wait import wait_for

NEW_NAMESPACES = 0x00020000 | 0x20000000  # mount, pid


# ---- over /proc ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/proc",
        "/proc/",
        "//proc",
        "/proc/self/attr",
        "/proc/sys",
        "/proc/sys/kernel",
        "/proc/../proc/sys",
        "/x/../proc/1",
        "/proc/cpuinfo/../sys",
    ],
)
@pytest.mark.parametrize("kind", ["volume", "bind", "tmpfs"])
def test_nothing_over_proc(
    engine: Engine, busybox_image: str, base: str, target: str, kind: str
) -> None:
    mount = Mount(type=kind, target=target, source=base if kind == "bind" else "")
    with pytest.raises(InvalidArgument, match="inside /proc"):
        run(engine, busybox_image, "true", mounts=[mount])
    assert engine.containers(all=True) == [] and engine.volumes() == []


def test_nothing_over_proc_by_an_image_volume(engine: Engine) -> None:
    for path in ("/proc", "/proc/self/attr", "/x/../proc/sys"):
        name = image(engine, "volumes", {}, [f"VOLUME {path}"])
        with pytest.raises(InvalidArgument, match="inside /proc"):
            run(engine, name, "true")


@pytest.mark.parametrize("target", ["/door", "/door/sys", "/door/self/attr", "/win/attr/x"])
def test_nothing_over_proc_by_a_link(engine: Engine, target: str) -> None:
    name = image(engine, "links", {"door": link("/proc"), "win": link("../../proc/self")})
    with pytest.raises(FastboxError, match=r"inside /proc|no such file|permission denied"):
        run(engine, name, "true", mounts=[Mount(type="tmpfs", target=target)])


def test_lxcfs_files_may_be_covered(engine: Engine, busybox_image: str, base: str) -> None:
    source = os.path.join(base, "meminfo")
    with open(source, "w") as file:
        file.write("MemTotal: 1 kB\n")
    mount = Mount(type="bind", source=source, target="/proc/meminfo", read_only=True)
    assert run(engine, busybox_image, "cat", "/proc/meminfo", mounts=[mount]).out == (
        "MemTotal: 1 kB\n"
    )


# ---- writes to /proc -------------------------------------------------------------------------


def proc_write(over: str, source: str, path: str, value: str) -> core.StepError | None:
    """Replay: in a mount namespace, put ``source`` over ``over``, then write to ``/proc/path``."""
    builder = PlanBuilder()
    builder.op(core.OP_PROPAGATION, x=1 << 14 | 1 << 18)
    builder.op(core.OP_TREE, source, slot=builder.new_slot())
    builder.op(core.OP_ATTACH, b=over, slot=0)
    builder.op(core.OP_PROC_WRITE, path, value)
    builder.op(core.OP_CGROUP_JOIN, "/nonexistent")  # the end: never an exec
    data = builder.build(argv=["true"], env=[], cwd="/", namespaces=NEW_NAMESPACES)
    with pytest.raises(core.StepError) as caught:
        core.start(
            data,
            stdio=[-1, -1, -1],
            monitor_path=b"/nonexistent",
            monitor_argv=[b"m", b""],
            monitor_fds=[-1] * 11,
        )
    return None if caught.value.step == core.OP_CGROUP_JOIN else caught.value


def test_proc_writes_do_not_leave_procfs(base: str) -> None:
    plain = os.path.join(base, "file")
    with open(plain, "w") as file:
        file.write("untouched")
    before = open_text("/proc/sys/kernel/domainname")
    tree = os.path.join(base, "tree")
    os.makedirs(f"{tree}/sys/kernel")
    open(f"{tree}/sys/kernel/domainname", "w").close()
    cases = [
        ("/proc/sys/kernel/domainname", plain),
        ("/proc/sys/kernel/domainname", "/proc/sys/kernel/core_pattern"),
        ("/proc/sys/kernel/domainname", "/proc/self/comm"),
        ("/proc/sys/kernel", f"{tree}/sys/kernel"),
        ("/proc", tree),
    ]
    pattern = open_text("/proc/sys/kernel/core_pattern")
    for over, source in cases:
        error = proc_write(over, source, "sys/kernel/domainname", "fastbox-test")
        assert error is not None and error.step == core.OP_PROC_WRITE, (over, source)
        assert error.errno in (errno.EXDEV, errno.ELOOP)
    with open(plain) as file:
        assert file.read() == "untouched"
    assert os.path.getsize(f"{tree}/sys/kernel/domainname") == 0
    assert open_text("/proc/sys/kernel/core_pattern") == pattern
    assert open_text("/proc/sys/kernel/domainname") == before


def test_proc_writes_follow_no_magic_link() -> None:
    for path in ("self/root/proc/sys/kernel/domainname", "self/cwd/x", "self/fd/0"):
        error = proc_write("/proc/uptime", "/proc/uptime", path, "x")
        assert error is not None and error.errno in (errno.ELOOP, errno.ENOENT, errno.EXDEV)


# ---- races -----------------------------------------------------------------------------------

EXCHANGE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
/* argv: pairs of paths, exchanged for ever. */
int main(int argc, char **argv) {
  for (;;)
    for (int i = 1; i + 1 < argc; i += 2)
      syscall(SYS_renameat2, AT_FDCWD, argv[i], AT_FDCWD, argv[i + 1], 2);
}
"""


def test_targets_swapped_for_links(
    engine: Engine, canary: Canary, program: Callable[[str], bytes], base: str
) -> None:
    """A container swaps a volume's directories for links while another one gets mounts below."""
    name = image(engine, "race", {"exchange": program(EXCHANGE)})
    run(
        engine,
        name,
        "sh",
        "-c",
        f"mkdir -p /v/a/b /v/c; ln -s / /v/root; ln -s {canary.path} /v/out; ln -s /proc /v/proc",
        mounts=[Mount(type="volume", source="shared", target="/v")],
    )
    shared = Mount(type="volume", source="shared", target="/v")
    swap = ["/v/a", "/v/root", "/v/a/b", "/v/out", "/v/c", "/v/proc"]
    attacker = start(engine, name, "/exchange", *swap, mounts=[shared])
    source = os.path.join(base, "given")
    os.mkdir(source)
    names, root = set(os.listdir("/")), os.stat("/").st_dev
    host_device = f"{os.major(root)}:{os.minor(root)}"
    mounts = [
        shared,
        Mount(type="tmpfs", target="/v/a/b/t"),
        Mount(type="bind", source=source, target="/v/a/given"),
        Mount(type="tmpfs", target="/v/c/sys"),
    ]
    table = "cat /proc/1/mountinfo; cat /proc/sys/kernel/ostype"
    good = 0
    for _ in range(150):
        try:
            result = run(engine, name, "sh", "-c", table, mounts=mounts)
        except FastboxError as error:
            assert "\n" not in str(error)
            continue
        good += 1
        assert result.lines[-1] == "Linux"  # /proc/sys is not covered
        points = [line.split(" ")[4] for line in result.lines[:-1]]
        assert not [p for p in points if p.startswith("/proc/") and "/sys/kernel" in p]
        shown = {tuple(line.split(" ")[2:4]) for line in result.lines[:-1]}
        assert (host_device, "/") not in shown
        assert not [root for _, root in shown if root.startswith(canary.path)], shown
    assert good > 0
    assert engine.container(attacker.id).state.status.is_up
    canary.check()
    assert set(os.listdir("/")) == names


def test_masks_while_dev_null_is_swapped(
    engine: Engine, program: Callable[[str], bytes], base: str
) -> None:
    """/dev is a directory that another container works on (CVE-2025-31133): masked files are the
    real null device, or the start fails."""
    name = image(engine, "race", {"exchange": program(EXCHANGE)})
    source = os.path.join(base, "dev")
    os.mkdir(source)
    shared = Mount(type="bind", source=source, target="/d")  # a volume is nodev, and useless here
    prepare = (
        "mknod /d/null c 1 3; mknod /d/zero c 1 5; ln -s /proc/sys/kernel/core_pattern /d/link;"
        "for n in full random urandom tty; do mknod /d/$n c 1 3; done"
    )
    assert run(engine, name, "sh", "-c", prepare, mounts=[shared]).code == 0
    swap = ["/d/null", "/d/link", "/d/null", "/d/zero"]
    start(engine, name, "/exchange", *swap, mounts=[shared])
    look = (
        "for f in /proc/kcore /proc/keys /proc/timer_list; do [ -e $f ] && stat -c %t:%T $f; done;"
        "ls -A /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v :;"
        "(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo WRITTEN"
    )
    pattern = open_text("/proc/sys/kernel/core_pattern")
    good = 0
    for _ in range(150):
        try:
            seen = run(
                engine,
                name,
                "sh",
                "-c",
                look,
                mounts=[Mount(type="bind", source=source, target="/dev")],
            )
        except FastboxError as error:
            assert "\n" not in str(error)
            continue
        good += 1
        assert set(seen.lines) <= {"1:3", ""}, seen
    assert open_text("/proc/sys/kernel/core_pattern") == pattern
    assert good > 0


# ---- volumes ---------------------------------------------------------------------------------


def test_links_in_a_volume_lead_nowhere(engine: Engine, canary: Canary) -> None:
    content = {"data/cfg": b"from the image", "data/sub/g": b"g"}
    name = image(engine, "filled", content)  # type: ignore[arg-type]
    volume = Mount(type="volume", source="data", target="/data")
    assert run(engine, name, "cat", "/data/cfg", mounts=[volume]).out == "from the image"
    change = f"rm -r /data/cfg /data/sub; ln -s {canary.path}/f /data/cfg;"
    change += f"ln -s {canary.path} /data/sub"
    assert run(engine, name, "sh", "-c", change, mounts=[volume]).code == 0
    # Filled once; the second start neither follows nor replaces the links.
    seen = run(engine, name, "sh", "-c", "readlink /data/cfg; cat /data/cfg", mounts=[volume])
    assert seen.out == f"{canary.path}/f\n" and "No such file" in seen.err


@pytest.mark.parametrize("path", ["/../../../etc", "/link", "/link/sub", "/a/../link/sub", "/up"])
def test_image_volumes_hold_only_what_the_image_has(
    engine: Engine, canary: Canary, path: str
) -> None:
    content = {"link": link(canary.path), "up": link("../../../.." + canary.path)}
    content["a"] = directory()
    name = image(engine, "volumes", content, [f"VOLUME {path}"])  # type: ignore[arg-type]
    try:
        result = run(
            engine, name, "sh", "-c", f"find {path}/ -type f | xargs cat; echo x > {path}/w"
        )
    except FastboxError as error:
        assert "\n" not in str(error)
    else:
        assert "canary" not in result.out
        host = open_text("/etc/hostname")
        assert not host or f"\n{host}\n" not in result.out


@pytest.mark.parametrize("path", ["//", "/", "/proc/self/root", "/.."])
def test_image_volumes_over_everything_are_refused(engine: Engine, path: str) -> None:
    name = image(engine, "volumes", {}, [f'VOLUME ["{path}"]'])
    with pytest.raises(InvalidArgument):
        run(engine, name, "true")
    assert engine.volumes() == []


def test_recursively_read_only(engine: Engine, busybox_image: str, canary: Canary) -> None:
    mount = Mount(type="bind", source=canary.path, target="/c", read_only=True)
    command = "echo x > /c/f; mkdir /c/shm/y; touch /c; mount -o remount,rw,bind /c; echo x > /c/f"
    result = run(engine, busybox_image, "sh", "-c", command, mounts=[mount])
    assert result.err.count("Read-only file system") >= 3


def test_mounts_inside_do_not_reach_the_host(engine: Engine, busybox_image: str, base: str) -> None:
    source = os.path.join(base, "source")
    os.makedirs(f"{source}/sub")
    mount = Mount(type="bind", source=source, target="/m")
    box = start(engine, busybox_image, mounts=[mount], privileged=True)
    assert execute(engine, box, "mount", "-t", "tmpfs", "none", "/m/sub").code == 0
    assert execute(engine, box, "touch", "/m/sub/inside").code == 0
    assert os.listdir(f"{source}/sub") == []
    engine.remove(box.id, force=True)
    wait_for(lambda: engine.containers(all=True) == [], "the container to go")
