"""Containers on a host with cgroup v1, v2, or both: a private mount namespace hides what is not to
be there. Limits are applied, and readable inside."""

from __future__ import annotations

import json
import os

import pytest

from fastbox.container.cgroups import detect
from tests.support.command import Command
from tests.support.wait import wait_for


def mounted(kind: str) -> list[str]:
    """Where filesystems of this kind are mounted."""
    with open("/proc/self/mountinfo") as file:
        return [line.split()[4] for line in file if f" - {kind} " in line]


V1, V2 = mounted("cgroup"), mounted("cgroup2")


def hiding(cli: Command, mounts: list[str]) -> Command:
    """The command in a mount namespace without these mounts."""
    script = "".join(f"umount {path} && " for path in mounts) + 'exec "$@"'
    wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh"]
    return Command([*wrapper, *cli.argv], cli.home)


def run(cli: Command, options: list[str], script: str) -> str:
    return cli.ok("run", "--rm", *options, "busybox", "sh", "-c", script)


LIMITS = ["-m", "64m", "--pids-limit", "33", "--cpus", "0.5", "--cpuset-cpus", "0"]


def check_isolated(cli: Command) -> None:
    """What holds on every layout."""
    assert run(cli, [], "echo x > /dev/null && echo ok") == "ok"
    # The device filter: a node can be made, not opened.
    assert run(cli, [], "mknod /m c 1 1 && cat /m 2>&1 | grep -c 'not permitted'") == "1"
    assert run(cli, [], "mkdir /sys/fs/cgroup/x 2>/dev/null || echo read-only") == "read-only"


def check_pause(cli: Command) -> None:
    cli.ok("run", "-d", "--name", "still", "busybox", "sleep", "1000")
    for end in ("stop", "kill", "rm"):
        assert cli.ok("pause", "still") == "still"
        assert cli.ok("ps", "-a", "--format", "{{.State}}", "-f", "name=still") == "paused"
        assert "is paused, unpause" in cli.fails(1, "exec", "still", "true")
        cli.ok("unpause", "still")
        cli.ok("exec", "still", "true")
        cli.ok("pause", "still")
        cli.ok(*{"stop": ("stop", "-t", "0"), "kill": ("kill",), "rm": ("rm", "-f")}[end], "still")
        if end != "rm":
            assert cli.ok("inspect", "-f", "{{.State.ExitCode}}", "still") == "137"
            cli.ok("start", "still")
    assert cli.ok("ps", "-aq") == ""


def check_stats(cli: Command, *, memory: bool) -> None:
    options = ["-m", "64m", "--pids-limit", "9"] if memory else []
    script = "sleep 1000 & exec sleep 1001"
    cli.ok("run", "-d", "--name", "seen", *options, "busybox", "sh", "-c", script)
    wait_for(lambda: len(cli("top", "seen").lines) == 3)
    shown = json.loads(cli.ok("stats", "--no-stream", "--format", "json", "seen"))
    assert (shown["Name"], shown["PIDs"]) == ("seen", "2")
    used, limit = shown["MemUsage"].split(" / ")
    assert used != "0B"
    assert (limit == "64MiB") is memory
    cli.ok("rm", "-f", "seen")


def check_update(cli: Command) -> None:
    """Of a running container, with a limit that it did not start with."""
    cli.ok("run", "-d", "--name", "grown", "busybox", "sh", "-c", "sleep 1000 & exec sleep 1001")
    cli.ok("update", "--pids-limit", "7", "--memory", "64m", "grown")
    mine = cli.ok("exec", "grown", "cat", "/proc/self/cgroup").splitlines()
    joined = [line.split(":")[1] for line in mine if "fastbox" in line]
    assert {"pids", "memory"} <= set(joined)
    cli.ok("kill", "grown")
    cli.ok("start", "grown")
    cli.ok("rm", "-f", "grown")


def read_v1(cli: Command) -> None:
    files = "memory/memory.limit_in_bytes pids/pids.max cpuset/cpuset.cpus cpu/cpu.cfs_quota_us"
    out = run(cli, LIMITS, f"cd /sys/fs/cgroup && cat {files}")
    assert out.split() == [str(64 << 20), "33", "0", "50000"]


def read_v2(cli: Command) -> None:
    out = run(cli, LIMITS, "cd /sys/fs/cgroup && cat memory.max pids.max cpuset.cpus cpu.max")
    assert out.split() == [str(64 << 20), "33", "0", "50000", "100000"]


def test_as_the_host_is(cli: Command, busybox_image: str) -> None:
    check_isolated(cli)
    check_pause(cli)
    check_stats(cli, memory=False)
    check_stats(cli, memory=True)
    if detect().mode == "v2":
        read_v2(cli)
    else:
        read_v1(cli)


@pytest.mark.skipif(not V1, reason="the host has no cgroup v1 hierarchy that could be used alone")
@pytest.mark.hardware
def test_v1_alone(cli: Command, busybox_image: str) -> None:
    alone = hiding(cli, V2)
    check_isolated(alone)
    check_pause(alone)
    read_v1(alone)
    check_stats(alone, memory=False)
    check_stats(alone, memory=True)
    check_update(alone)
    assert alone.ok("info", "--format", "{{.CgroupVersion}}") == "1"
    alone.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    assert alone.ok("exec", "box", "cat", "/proc/self/cgroup").count("/\n") >= 2
    with open("/proc/self/cgroup") as file:
        assert "fastbox" not in file.read()
    assert len(alone.ok("top", "box").splitlines()) == 2
    alone.ok("rm", "-f", "box")


@pytest.mark.skipif(not V2, reason="the host has no cgroup v2 hierarchy")
@pytest.mark.hardware
def test_v2_alone(cli: Command, busybox_image: str) -> None:
    alone = hiding(cli, V1)
    check_isolated(alone)
    check_pause(alone)
    check_stats(alone, memory=False)
    error = alone.fails(125, "run", "--rm", "--oom-kill-disable", "-m", "64m", "busybox", "true")
    assert "--oom-kill-disable is not supported: with cgroup v2" in error
    assert alone.ok("info", "--format", "{{.CgroupVersion}}") == "2"
    with open(os.path.join(V2[0], "cgroup.controllers")) as file:
        controllers = file.read().split()
    if {"memory", "pids", "cpu", "cpuset"} <= set(controllers):
        read_v2(alone)
        check_stats(alone, memory=True)
    else:  # v1 has the controllers: a limit is refused, not dropped
        error = alone.fails(125, "run", "--rm", "-m", "64m", "busybox", "true")
        assert "memory" in error
        assert "Traceback" not in error


def test_limits_refused_on_bad_values(cli: Command, busybox_image: str) -> None:
    for options, text in [
        (["-m", "5m"], "Minimum memory limit allowed is 6MB"),
        (["--cpuset-cpus", "999"], "Requested CPUs are not available - requested 999"),
        (["--cpus", "9999"], "range of CPUs is from 0.01 to"),
        (["-m", "64m", "--memory-swap", "32m"], "Minimum memoryswap limit should be larger"),
        (["--memory-swap", "64m"], "You should always set the Memory limit when using Memoryswap"),
    ]:
        assert text in cli.fails(125, "run", *options, "busybox", "true")
    assert cli.ok("ps", "-aq") == ""
