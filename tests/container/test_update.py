"""update: limits and restart policy of containers that run, are paused, or do not run."""

from __future__ import annotations

import json
import os

import pytest

from fastbox import ContainerConfig, Engine
from fastbox.container import cgroups
from fastbox.container.config import RestartPolicy
from fastbox.container.record import Container
from fastbox.errors import (
    Conflict,
    FastboxError,
    InvalidArgument,
    NotFound,
    StoreError,
)
from tests.support.boxes import start
from tests.support.command import Command

MIB = 1 << 20
LIMITS = {
    "memory": 64 * MIB,
    "nano_cpus": 10**9,
    "cpu_shares": 1024,
    "cpuset_cpus": "0",
    "pids_limit": 50,
}
V1 = cgroups.detect().v1


def limits(box: Container) -> list[str]:
    """What the kernel holds it to: memory, memory and swap, CPU quota, CPUs, processes."""
    group = cgroups.open_existing(cgroups.detect(), box.record.cgroup_path)
    files = [
        ("memory", "memory.limit_in_bytes", "memory.max"),
        ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
        ("cpu", "cpu.cfs_quota_us", "cpu.max"),
        ("cpuset", "cpuset.cpus", "cpuset.cpus"),
        ("pids", "pids.max", "pids.max"),
    ]
    found = []
    for controller, old, new in files:
        directory = group.v1_dirs.get(controller)
        path = f"{directory}/{old}" if directory else f"{group.v2_dir}/{new}"
        with open(path) as file:
            found.append(file.read().split()[0])
    return found


def swap(memory: int, total: int) -> str:
    return str(total if "memory" in V1 else total - memory)


def stored(box: Container) -> dict[str, object]:
    with open(f"{box.directory}/config.json") as file:
        found: dict[str, object] = json.load(file)["linux"]["resources"]
    return found


def test_of_a_running_one(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="box", **LIMITS)
    assert limits(box) == [str(64 * MIB), swap(64 * MIB, 128 * MIB), "100000", "0", "50"]
    devices = stored(box)["devices"]
    engine.update("box", memory=96 * MIB, nano_cpus=500_000_000, pids_limit=20)
    assert limits(box) == [str(96 * MIB), swap(96 * MIB, 128 * MIB), "50000", "0", "20"]
    engine.pause("box")
    engine.update("box", memory=256 * MIB, memory_swap=512 * MIB, pids_limit=0)
    engine.unpause("box")
    wanted = [str(256 * MIB), swap(256 * MIB, 512 * MIB), "50000", "0", "max"]
    assert limits(box) == wanted
    host = engine.inspect_container("box")["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (256 * MIB, 512 * MIB)
    assert (host["NanoCpus"], host["PidsLimit"], host["CpuShares"]) == (500_000_000, -1, 1024)
    resources = stored(box)
    assert resources["memory"] == {"limit": 256 * MIB, "swap": 512 * MIB}
    assert resources["devices"] == devices
    engine.restart("box", timeout=0)
    assert limits(box) == wanted


def test_of_one_that_does_not_run(engine: Engine, busybox_image: str) -> None:
    config = ContainerConfig(image=busybox_image, name="box", command=["sleep", "1000"])
    box = engine.create(config)
    engine.update("box", restart=RestartPolicy(name="on-failure", max_retries=3), **LIMITS)  # type: ignore[arg-type]
    host = engine.inspect_container("box")["HostConfig"]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    engine.start("box")
    assert limits(box) == [str(64 * MIB), swap(64 * MIB, 128 * MIB), "100000", "0", "50"]
    engine.update("box", restart=RestartPolicy(name="always"))
    assert engine.container("box").record.config.restart.name == "always"


def test_what_is_refused(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="box", auto_remove=True, **LIMITS)
    cannot = f"Cannot update container {box.id}: "
    before = limits(box)
    cases: list[tuple[dict[str, object], type[FastboxError], str]] = [
        ({"memory": 5 * MIB}, InvalidArgument, "Minimum memory limit allowed is 6MB"),
        (
            {"memory_swap": 32 * MIB},
            InvalidArgument,
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            {"memory": 256 * MIB},
            Conflict,
            cannot + "Memory limit should be smaller than already set memoryswap limit, update "
            "the memoryswap at the same time",
        ),
        (
            {"restart": RestartPolicy(name="always"), "pids_limit": 20},
            Conflict,
            cannot + "Restart policy cannot be updated because AutoRemove is enabled for the "
            "container",
        ),
    ]
    for changes, kind, text in cases:
        with pytest.raises(kind) as caught:
            engine.update("box", **changes)  # type: ignore[arg-type]
        assert str(caught.value) == text
    with pytest.raises(InvalidArgument, match="Requested CPUs are not available - requested 999"):
        engine.update("box", cpuset_cpus="999")
    with pytest.raises(NotFound, match="No such container: nosuch"):
        engine.update("nosuch", pids_limit=3)
    assert limits(box) == before


def test_a_write_that_fails_changes_nothing(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastbox import atomic

    box = start(engine, busybox_image, name="box", **LIMITS)
    before = limits(box), stored(box)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", full)
        with pytest.raises(StoreError, match="^Cannot update container .*: storing it failed"):  # noqa: RUF043
            engine.update("box", memory=32 * MIB, nano_cpus=10**8, pids_limit=20)
    assert (limits(box), stored(box)) == before
    assert engine.container("box").record.config.memory == 64 * MIB
    os.unlink(f"{box.directory}/config.json")
    with pytest.raises(StoreError):
        engine.update("box", pids_limit=20)


@pytest.mark.usefixtures("busybox_image")
def test_the_command(cli: Command) -> None:
    cli.ok(
        "run", "-d", "--name", "box", "-m", "64m", "--pids-limit", "50", "busybox", "sleep", "99"
    )
    words = ["-m", "32m", "--memory-swap", "64m", "--pids-limit", "20", "--restart", "always"]
    assert cli.ok("update", *words, "box") == "box"
    wanted = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}}"
    assert cli.ok("inspect", "-f", wanted, "box") == f"{32 * MIB} {64 * MIB} 20"
    assert cli.ok("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "box") == "always"
    assert cli.fails(1, "container", "update", "box") == (
        "you must provide one or more flags when using this command\n"
    )
