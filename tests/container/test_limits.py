"""Block I/O, CPU periods, swappiness and the OOM killer: what is written where, and the kernel's
own files of real containers."""

from __future__ import annotations

import os

import pytest

from fastbox import ContainerConfig, Engine
from fastbox.container import cgroups
from fastbox.container.cgroups import CgroupLayout, Resources, blkio, files, v1, v2
from fastbox.container.cgroups.blkio import OfDevice
from fastbox.container.config import DeviceLimit
from fastbox.errors import Conflict, InvalidArgument, Unsupported
from tests.support.boxes import compile_static, image, start
from tests.support.command import Command
from tests.support.wait import wait_for

MIB = 1 << 20
HERE = cgroups.detect()
LIMITS = (
    OfDevice("weight", 8, 0, 500),
    OfDevice("read_bps", 8, 0, MIB),
    OfDevice("write_bps", 8, 16, 0),
    OfDevice("read_iops", 8, 0, 100),
    OfDevice("write_iops", 8, 0, 200),
)


class Directory:
    """A group's directory; ``writes`` are the writes to its files, in order."""

    def __init__(self, base: str, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.path = os.path.join(base, "group")
        os.makedirs(self.path, exist_ok=True)
        for name in names:
            open(f"{self.path}/{name}", "w").close()
        self.writes: list[tuple[str, str]] = []
        monkeypatch.setattr(files, "write_raw", self._note)

    def _note(self, directory: str, name: str, value: str) -> None:
        assert directory == self.path
        if not os.path.exists(f"{directory}/{name}"):
            raise FileNotFoundError(2, "No such file or directory", name)
        self.writes.append((name, value))


@pytest.mark.parametrize("prefix", ["blkio.", "blkio.bfq."])
def test_blkio_of_v1(base: str, monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    throttle = [f"blkio.throttle.{what}_device" for what in
                ("read_bps", "write_bps", "read_iops", "write_iops")]  # fmt: skip
    names = [f"{prefix}weight", f"{prefix}weight_device", *throttle]
    group = Directory(base, monkeypatch, *names)
    v1.apply(group.path, "blkio", Resources(blkio_weight=300, block_limits=LIMITS))
    values = ["300", "8:0 500", f"8:0 {MIB}", "8:16 0", "8:0 100", "8:0 200"]
    assert group.writes == list(zip(names, values, strict=True))


@pytest.mark.parametrize(
    ("name", "weight", "device"), [("io.weight", "2930", "4950"), ("io.bfq.weight", "300", "500")]
)
def test_io_of_v2(
    base: str, monkeypatch: pytest.MonkeyPatch, name: str, weight: str, device: str
) -> None:
    group = Directory(base, monkeypatch, name, "io.max")
    v2.apply(group.path, "blkio", Resources(blkio_weight=300, block_limits=LIMITS))
    assert group.writes == [
        (name, weight),
        (name, f"8:0 {device}"),
        ("io.max", f"8:0 rbps={MIB}"),
        ("io.max", "8:16 wbps=max"),
        ("io.max", "8:0 riops=100"),
        ("io.max", "8:0 wiops=200"),
    ]


def test_v2_switches_io_on(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller that v1 calls blkio."""
    group = Directory(base, monkeypatch, "cgroup.procs")
    asked = []

    def enable(top: str, path: str, controllers: tuple[str, ...]) -> None:
        asked.append(controllers)
        open(f"{group.path}/io.weight", "w").close()

    monkeypatch.setattr("fastbox.container.cgroups.group.enable_v2", enable)
    made = cgroups.Cgroup(CgroupLayout(base, {}), "group", group.path, {})
    made.update(Resources(blkio_weight=10))
    assert asked == [("io",)]
    assert group.writes == [("io.weight", "1")]


@pytest.mark.parametrize(
    ("limits", "old", "new"),
    [
        ({"cpu_period": 50_000}, [("period", "50000")], "max 50000"),
        ({"cpu_quota": 20_000}, [("quota", "20000")], "20000 100000"),
        ({"cpu_quota": -1}, [("quota", "-1")], "max 100000"),
        (
            {"cpu_quota": 20_000, "cpu_period": 50_000},
            [("period", "50000"), ("quota", "20000")],
            "20000 50000",
        ),
    ],
)
def test_cpu_period_and_quota(
    base: str,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, int],
    old: list[tuple[str, str]],
    new: str,
) -> None:
    resources = Resources(**limits)  # type: ignore[arg-type]
    assert resources.controllers() == ["cpu"]
    group = Directory(base, monkeypatch, "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.max")
    v1.apply(group.path, "cpu", resources)
    assert group.writes == [(f"cpu.cfs_{what}_us", value) for what, value in old]
    group.writes.clear()
    v2.apply(group.path, "cpu", resources)
    assert group.writes == [("cpu.max", new)]


def test_memory_of_v1(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = Resources(memory_swappiness=0, oom_kill_disable=True)
    assert resources.controllers() == ["memory"]
    group = Directory(base, monkeypatch, "memory.swappiness", "memory.oom_control")
    v1.apply(group.path, "memory", resources)
    assert group.writes == [("memory.swappiness", "0"), ("memory.oom_control", "1")]


def test_oci_round_trip() -> None:
    for resources in (
        Resources(blkio_weight=300, block_limits=LIMITS),
        Resources(memory_swappiness=0, oom_kill_disable=True, memory=64 * MIB, memory_swap=-1),
        Resources(cpu_period=50_000, cpu_quota=-1),
        Resources(cpu_period=50_000),
    ):
        assert Resources.from_oci(resources.to_oci()) == resources
    oci = Resources(block_limits=LIMITS).to_oci()["blockIO"]
    assert oci["throttleReadIOPSDevice"] == [{"major": 8, "minor": 0, "rate": 100}]
    # A share of the default period is CPUs.
    found = Resources.from_oci(Resources(cpu_quota=150_000).to_oci())
    assert (found.nano_cpus, found.cpu_quota, found.cpu_period) == (1_500_000_000, 0, 0)


NANO = "Conflicting options: Nano CPUs and CPU {} cannot both be set"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"blkio_weight": 9}, "Range of blkio weight is from 10 to 1000"),
        ({"blkio_weight": 1001}, "Range of blkio weight is from 10 to 1000"),
        ({"memory_swappiness": 101}, "invalid value: 101. Valid memory swappiness range is 0-100"),
        ({"memory_swappiness": -1}, "invalid value: -1. Valid memory swappiness range is 0-100"),
        (
            {"cpu_period": 999},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (
            {"cpu_period": 1_000_001},
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        ({"cpu_quota": 999}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"cpu_quota": -2}, "invalid CPU quota (-2): it is a time, or -1 for none"),
        ({"nano_cpus": 10**9, "cpu_period": 50_000}, NANO.format("Period")),
        ({"nano_cpus": 10**9, "cpu_quota": 50_000}, NANO.format("Quota")),
    ],
)
def test_bad_limits(limits: dict[str, int], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        cgroups.validate(Resources(**limits), CgroupLayout(None, {"memory": "/x"}))  # type: ignore[arg-type]
    assert str(caught.value) == text


def test_what_v2_does_not_have() -> None:
    for limits, text in (
        ({"oom_kill_disable": True}, "--oom-kill-disable is not supported: with cgroup v2"),
        ({"memory_swappiness": 5}, "--memory-swappiness is not supported: with cgroup v2"),
    ):
        resources = Resources(**limits)  # type: ignore[arg-type]
        with pytest.raises(Unsupported, match=text) as caught:
            cgroups.validate(resources, CgroupLayout("/x", {}))
        assert caught.value.hint
        assert caught.value.hint.startswith("leave it out")
        cgroups.validate(resources, CgroupLayout("/x", {"memory": "/y"}))


def test_paths_that_are_no_disks(base: str) -> None:
    for path, text in (
        (f"{base}/nosuch", f"stat {base}/nosuch: no such file or directory"),
        ("/dev/null", "/dev/null is not a block device"),
        (base, f"{base} is not a block device"),
        ("/dev/\0", "stat /dev/\0: embedded null byte"),
    ):
        config = ContainerConfig(image="x", device_read_bps=[DeviceLimit(path=path, value=1)])
        with pytest.raises(InvalidArgument) as caught:
            blkio.of_config(config)
        assert str(caught.value) == text


# ---- real groups -----------------------------------------------------------------------------


def of(engine: Engine, name: str, controller: str, old: str, new: str) -> str:
    group = cgroups.open_existing(HERE, engine.container(name).record.cgroup_path)
    directory = group.v1_dirs.get(controller)
    return files.read(directory, old) if directory else files.read(group.v2_dir or "", new)


def test_period_and_quota_of_a_container(engine: Engine, busybox_image: str) -> None:
    def found() -> str:
        if "cpu" not in HERE.v1:
            return of(engine, "box", "cpu", "", "cpu.max")
        quota = of(engine, "box", "cpu", "cpu.cfs_quota_us", "")
        return f"{quota} {of(engine, 'box', 'cpu', 'cpu.cfs_period_us', '')}".replace("-1", "max")

    box = start(engine, busybox_image, name="box", cpu_period=50_000, cpu_quota=25_000)
    assert found() == "25000 50000"
    engine.update("box", cpu_quota=10_000)
    assert found() == "10000 50000"
    engine.update("box", cpu_quota=-1)
    assert found() == "max 50000"
    host = engine.inspect_container("box")["HostConfig"]
    assert (host["CpuPeriod"], host["CpuQuota"], host["NanoCpus"]) == (50_000, -1, 0)
    cannot = f"Cannot update container {box.id}: Conflicting options: "
    with pytest.raises(Conflict) as caught:
        engine.update("box", nano_cpus=10**9)
    assert str(caught.value) == (
        f"{cannot}Nano CPUs cannot be updated as CPU Period has already been set"
    )
    engine.create(ContainerConfig(image=busybox_image, name="other", nano_cpus=10**9))
    for key, name in (("cpu_period", "CPU Period"), ("cpu_quota", "CPU Quota")):
        with pytest.raises(Conflict, match=f"{name} cannot be updated as NanoCPUs has already"):
            engine.update("other", **{key: 50_000})  # type: ignore[arg-type]


def test_a_failed_update_puts_everything_back(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the container started without, in a group that it is in."""
    from fastbox import atomic

    start(engine, busybox_image, name="box", cpu_shares=512)
    shares = of(engine, "box", "cpu", "cpu.shares", "cpu.weight")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write", full)
        with pytest.raises(Exception, match="no space left"):
            engine.update("box", nano_cpus=10**8, cpu_shares=2048)
    assert of(engine, "box", "cpu", "cpu.shares", "cpu.weight") == shares
    quota = of(engine, "box", "cpu", "cpu.cfs_quota_us", "cpu.max")
    assert quota in ("-1", "max 100000")


V1_MEMORY = pytest.mark.skipif("memory" not in HERE.v1, reason="cgroup v1 only")
V1_BLKIO = pytest.mark.skipif("blkio" not in HERE.v1, reason="cgroup v1 only")


# Its own code touches the memory: where the kernel does that for it (read, write), it gets an error
# instead of having to wait.
TOUCH = """
#include <string.h>
#include <unistd.h>
static char memory[64 << 20];
int main(void) { memset(memory, 1, sizeof memory); return memory[getpid()]; }
"""


@V1_MEMORY
@pytest.mark.hardware
def test_swappiness_and_oom_killer(engine: Engine, base: str, busybox_image: str) -> None:
    """With the killer off, who wants too much memory waits; the container can be killed."""
    box = start(
        engine,
        image(engine, "touching", {"bin/touch-all": compile_static(TOUCH, base)}),
        "touch-all",
        name="box",
        memory=16 * MIB,
        memory_swap=16 * MIB,
        memory_swappiness=10,
        oom_kill_disable=True,
    )
    assert of(engine, "box", "memory", "memory.swappiness", "") == "10"
    wait_for(lambda: "under_oom 1" in of(engine, "box", "memory", "memory.oom_control", ""))
    assert engine.container(box.id).state.status.is_up
    host = engine.inspect_container("box")["HostConfig"]
    assert (host["OomKillDisable"], host["MemorySwappiness"]) == (True, 10)
    engine.kill("box")
    state = engine.inspect_container("box")["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (137, False)


@V1_BLKIO
@pytest.mark.hardware
def test_block_limits_of_a_container(engine: Engine, busybox_image: str) -> None:
    disk = next(name for name in sorted(os.listdir("/sys/block")) if os.path.exists(f"/dev/{name}"))
    number = os.stat(f"/dev/{disk}").st_rdev
    device = f"{os.major(number)}:{os.minor(number)}"

    def limit(value: int) -> list[DeviceLimit]:
        return [DeviceLimit(path=f"/dev/{disk}", value=value)]

    start(
        engine,
        busybox_image,
        name="box",
        device_read_bps=limit(MIB),
        device_write_iops=limit(100),
    )
    assert of(engine, "box", "blkio", "blkio.throttle.read_bps_device", "") == f"{device} {MIB}"
    assert of(engine, "box", "blkio", "blkio.throttle.write_iops_device", "") == f"{device} 100"
    host = engine.inspect_container("box")["HostConfig"]
    assert host["BlkioDeviceReadBps"] == [{"Path": f"/dev/{disk}", "Rate": MIB}]
    assert host["BlkioDeviceWriteIOps"] == [{"Path": f"/dev/{disk}", "Rate": 100}]
    assert host["BlkioDeviceWriteBps"] == host["BlkioWeightDevice"] == []


# ---- out of memory ---------------------------------------------------------------------------

EAT = "dd if=/dev/zero of=/dev/null bs=64M count=1"


def state(engine: Engine, name: str) -> tuple[int, bool]:
    found = engine.inspect_container(name)["State"]
    return found["ExitCode"], found["OOMKilled"]


def test_init_is_killed_for_want_of_memory(engine: Engine, busybox_image: str) -> None:
    start(engine, busybox_image, *EAT.split(), name="box", memory=16 * MIB, memory_swap=16 * MIB)
    assert engine.wait("box") == 137
    assert state(engine, "box") == (137, True)
    engine.update("box", memory=256 * MIB, memory_swap=256 * MIB)
    engine.start("box")
    assert engine.wait("box") == 0
    assert state(engine, "box") == (0, False)  # of the last run


def test_a_child_is_killed_and_init_goes_on(engine: Engine, busybox_image: str) -> None:
    box = start(
        engine, busybox_image, "sh", "-c", f"{EAT}; echo $? > /ready; exec sleep 1000",
        name="box", memory=16 * MIB, memory_swap=16 * MIB,
    )  # fmt: skip
    path = f"{box.directory}/upper/ready"
    wait_for(lambda: os.path.exists(path) and os.path.getsize(path))
    with open(path) as file:
        assert file.read() == "137\n"
    assert engine.container("box").state.status.is_up
    assert state(engine, "box") == (0, True)
    engine.kill("box")
    assert state(engine, "box") == (137, True)


def test_a_plain_kill_is_no_want_of_memory(engine: Engine, busybox_image: str) -> None:
    start(engine, busybox_image, name="box", memory=16 * MIB)
    start(engine, busybox_image, name="free")
    assert state(engine, "box") == state(engine, "free") == (0, False)
    engine.kill("box")
    engine.kill("free")
    assert state(engine, "box") == state(engine, "free") == (137, False)


@pytest.mark.usefixtures("busybox_image")
def test_the_command(cli: Command) -> None:
    wanted = "{{.HostConfig.CpuPeriod}} {{.HostConfig.CpuQuota}} {{.HostConfig.BlkioWeight}}"
    options = ["--cpu-period", "50000", "--cpu-quota", "25000"]
    cli.ok("create", "--name", "box", *options, "--blkio-weight", "300", "busybox", "true")
    assert cli.ok("inspect", "-f", wanted, "box") == "50000 25000 300"
    cli.ok("update", "--cpu-quota", "-1", "--blkio-weight", "10", "box")
    assert cli.ok("inspect", "-f", wanted, "box") == "50000 -1 10"
    error = cli.fails(125, "run", "--cpus", "1", "--cpu-quota", "5000", "busybox", "true")
    assert "Conflicting options: Nano CPUs and CPU Quota cannot both be set" in error
