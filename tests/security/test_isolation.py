"""Devices (GHSA-g54h-m393-cpwq), cgroups (CVE-2023-25809, CVE-2022-0492), side channels, sockets
(CVE-2020-15257), namespaces."""

from __future__ import annotations

import os

import pytest

from fastbox.container.config import Device
from fastbox.engine import Engine
from tests.support.boxes import execute, run, start
from tests.support.leaks import own_cgroups

FORBIDDEN = [("b", 8, 0), ("c", 10, 229), ("c", 1, 1), ("c", 4, 0), ("b", 7, 0), ("c", 1, 11)]
GIVEN = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)]


@pytest.mark.parametrize("how", ["run", "exec"])
def test_devices(engine: Engine, busybox_image: str, how: str) -> None:
    script = "".join(
        f"mknod /tmp/n{number} {kind} {major} {minor} && "
        f"(: < /tmp/n{number}) 2>&1 | grep -c 'not permitted';"
        for number, (kind, major, minor) in enumerate(FORBIDDEN)
    )
    script += "".join(f"stat -c '%t:%T %a' /dev/{name}; : < /dev/{name};" for name, *_ in GIVEN)
    if how == "run":
        result = run(engine, busybox_image, "sh", "-c", script)
    else:
        result = execute(engine, start(engine, busybox_image), "sh", "-c", script)
    wanted = ["1"] * len(FORBIDDEN) + [f"{major}:{minor} 666" for _, major, minor in GIVEN]
    assert result.lines == wanted and result.err == "", result


def test_a_given_device_has_the_rights_asked_for(engine: Engine, busybox_image: str) -> None:
    for permissions, read, write in (("r", True, False), ("w", False, True), ("rwm", True, True)):
        result = run(
            engine,
            busybox_image,
            "sh",
            "-c",
            "(: < /dev/given) && echo read; (: > /dev/given) && echo write",
            devices=[
                Device(host="/dev/kmsg", container="/dev/given", permissions=permissions),
            ],
            cap_add=["SYSLOG"],
        )
        assert ("read" in result.lines, "write" in result.lines) == (read, write), result


def test_volumes_are_nodev(engine: Engine, busybox_image: str) -> None:
    from fastbox.container.config import Mount

    volume = Mount(type="volume", target="/v")
    result = run(engine, busybox_image, "sh", "-c", "mknod /v/n c 1 3; : > /v/n", mounts=[volume])
    assert "Permission denied" in result.err


@pytest.mark.parametrize("network", ["none", "host"])
def test_cgroups_are_read_only_and_ones_own(
    engine: Engine, busybox_image: str, network: str
) -> None:
    box = start(engine, busybox_image, network=network, memory=64 << 20)
    script = (
        "grep ' /sys/fs/cgroup' /proc/mounts | cut -d' ' -f4 | cut -d, -f1 | sort -u;"
        "cut -d: -f3 /proc/self/cgroup | sort | uniq -c | sort -n | tail -1;"
        "find /sys/fs/cgroup -name cgroup.procs | while read f; do echo 1 > $f; done 2>&1 |"
        " grep -vc 'Read-only file system'"
    )
    result = execute(engine, box, "sh", "-c", script)
    assert result.lines[0] == "ro" and result.lines[-1] == "0", result
    with open(f"/proc/{box.state.pid}/cgroup") as file:
        paths = {line.rstrip("\n").split(":", 2)[2] for line in file}
    assert any(path.endswith(box.record.cgroup_path) for path in paths), paths
    own = set(own_cgroups().values())
    assert all(path in own or path.endswith(box.record.cgroup_path) for path in paths), paths


def test_the_kernels_doors_are_closed(engine: Engine, busybox_image: str) -> None:
    commands = [
        "unshare -Ur true",
        "unshare -m true",
        "mount -t tmpfs none /tmp",
        "mount -t cgroup none /tmp",
        "umount /proc",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo x > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "mount -o remount,rw /sys",
        "chroot /tmp true; hostname other",
        "echo 1 > /sys/kernel/mm/ksm/run",
    ]
    script = ";".join(f"({command}) >/dev/null 2>&1; echo $?" for command in commands)
    assert "0" not in run(engine, busybox_image, "sh", "-c", script).lines


def test_side_channels_are_masked(engine: Engine, busybox_image: str) -> None:
    script = (
        "for f in /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/sched_debug"
        " /proc/interrupts; do [ ! -e $f ] || [ $(cat $f | wc -c) = 0 ] || echo $f; done;"
        "for d in /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/devices/virtual/powercap"
        " /sys/kernel/security /sys/kernel/debug /sys/fs/selinux;"
        ' do [ ! -d $d ] || [ -z "$(ls -A $d)" ] || echo $d; done;'
        "ls -d /sys/devices/system/cpu/cpu*/thermal_throttle/* 2>/dev/null"
    )
    result = run(engine, busybox_image, "sh", "-c", script)
    assert result.out == "", result


def test_no_abstract_socket(engine: Engine, busybox_image: str) -> None:
    """A container in the host's network could reach it (CVE-2020-15257)."""
    box = start(engine, busybox_image, network="host")
    sockets = execute(engine, box, "cat", "/proc/net/unix").out
    assert "fastbox" not in sockets
    assert f"@{os.path.basename(engine.root)}" not in sockets


def test_namespaces_are_ones_own(engine: Engine, busybox_image: str) -> None:
    kinds = ("mnt", "pid", "net", "uts", "ipc", "cgroup", "user")

    def of(process: int | str) -> dict[str, str]:
        return {kind: os.readlink(f"/proc/{process}/ns/{kind}") for kind in kinds}

    own = of("self")
    box, other = start(engine, busybox_image), start(engine, busybox_image, network="host")
    shared = {kind for kind, name in of(box.state.pid).items() if name == own[kind]}
    assert shared == {"user"}
    assert {k for k, name in of(other.state.pid).items() if name == own[k]} == {"user", "net"}
    both = of(box.state.pid), of(other.state.pid)
    assert all(both[0][kind] != both[1][kind] for kind in kinds if kind != "user")
    joined = execute(engine, box, "sh", "-c", "readlink /proc/self/ns/*").lines
    assert joined == execute(engine, box, "sh", "-c", "readlink /proc/1/ns/*").lines
