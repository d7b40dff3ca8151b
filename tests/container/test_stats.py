"""What a container uses: from v1 and v2 groups in fake directories, and of real containers."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from fastbox import AsyncEngine, ContainerConfig, Engine
from fastbox.container import cgroups, stats
from fastbox.container.cgroups import Cgroup, CgroupLayout
from fastbox.container.record import Container, ContainerRecord, ContainerState, Status
from fastbox.container.stats import Stats
from fastbox.errors import NotFound
from fastbox.network.types import Attachment
from tests.support.boxes import execute, start
from tests.support.wait import wait_for

MIB = 1 << 20
HERE = cgroups.detect()


def directory(base: str, name: str, **content: str) -> str:
    """A group's directory; ``memory__current`` stands for memory.current."""
    path = os.path.join(base, name)
    os.mkdir(path)
    for key, text in {"cgroup__procs": "", **content}.items():
        with open(f"{path}/{key.replace('__', '.')}", "w") as file:
            file.write(text)
    return path


def up(**config: object) -> Container:
    record = ContainerRecord(
        id="a" * 64,
        name="box",
        created="2026-01-02T03:04:05Z",
        config=ContainerConfig(image="x", **config),  # type: ignore[arg-type]
    )
    return Container(
        record=record, state=ContainerState(status=Status.RUNNING), directory="/x", bundle="/x"
    )


def test_v2(base: str) -> None:
    path = directory(
        base,
        "v2",
        cpu__stat="usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n",
        memory__current=f"{50 * MIB}\n",
        memory__max=f"{64 * MIB}\n",
        memory__stat=f"anon 1\ninactive_file {20 * MIB}\nactive_file 3\n",
        io__stat="8:0 rbytes=4096 wbytes=100 rios=1 wios=1\n8:16 rbytes=4 wbytes=5 dbytes=9\n",
        pids__current="7\n",
    )
    found = stats.sample(up(), Cgroup(CgroupLayout(base, {}), "v2", path, {}))
    assert found.cpu == 1_500_000
    assert (found.memory, found.memory_limit) == (30 * MIB, 64 * MIB)
    assert (found.block_read, found.block_write, found.pids) == (4100, 105, 7)
    assert found.memory_percent == 46.875
    with open(f"{path}/memory.max", "w") as file:
        file.write("max\n")
    found = stats.sample(up(), Cgroup(CgroupLayout(base, {}), "v2", path, {}))
    assert found.memory_limit == stats.host_memory()


def test_v1(base: str) -> None:
    dirs = {
        "cpu": directory(base, "cpu", cpuacct__usage="1234567\n"),
        "memory": directory(
            base,
            "memory",
            memory__usage_in_bytes=f"{50 * MIB}\n",
            memory__limit_in_bytes="9223372036854771712\n",
            memory__stat=f"inactive_file 1\ntotal_inactive_file {20 * MIB}\n",
        ),
        "blkio": directory(
            base,
            "blkio",
            blkio__throttle__io_service_bytes_recursive=(
                "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n"
            ),
        ),
        "pids": directory(base, "pids", pids__current="3\n"),
    }
    found = stats.sample(up(), Cgroup(CgroupLayout(None, dirs), "x", None, dirs))
    assert (found.cpu, found.pids) == (1_234_567, 3)
    assert (found.memory, found.memory_limit) == (30 * MIB, stats.host_memory())
    assert (found.block_read, found.block_write) == (11, 22)


def test_more_inactive_than_used(base: str) -> None:
    """The counters are not read at one instant."""
    path = directory(base, "v2", memory__current="5\n", memory__stat="inactive_file 9\n")
    found = stats.sample(up(), Cgroup(CgroupLayout(base, {}), "v2", path, {}))
    assert found.memory == 5


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_without_controllers_the_processes_are_asked(base: str, kind: str) -> None:
    path = directory(base, "group", cgroup__procs=f"{os.getpid()}\n999999999\n")
    if kind == "v2":
        group = Cgroup(CgroupLayout(base, {}), "group", path, {})
    else:
        group = Cgroup(CgroupLayout(None, {"freezer": base}), "group", None, {"freezer": path})
    before = time.process_time_ns()
    found = stats.sample(up(), group)
    assert found.cpu > before - 50_000_000
    assert MIB < found.memory < found.memory_limit == stats.host_memory()
    with open("/proc/self/status") as file:
        threads = next(line.split()[1] for line in file if line.startswith("Threads:"))
    assert found.pids == int(threads)


def test_big_processes_are_not_walked(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory(base, "group", cgroup__procs=f"{os.getpid()}\n")
    group = Cgroup(CgroupLayout(base, {}), "group", path, {})
    asked = []
    real = stats._proc

    def note(pid: int, name: str) -> bytes:
        asked.append(name)
        return real(pid, name)

    monkeypatch.setattr(stats, "_proc", note)
    monkeypatch.setattr(stats, "_MEASURED_EXACTLY", MIB)
    assert stats.sample(up(), group).memory > MIB
    assert "smaps_rollup" not in asked


def test_a_group_that_is_gone(base: str) -> None:
    dirs = {"memory": f"{base}/m", "blkio": f"{base}/b", "pids": f"{base}/p"}
    found = stats.sample(up(), Cgroup(CgroupLayout(base, dirs), "x", f"{base}/x", dirs))
    assert (found.cpu, found.memory, found.block_read, found.pids) == (0, 0, 0, 0)


def test_network_of_all_interfaces_but_lo(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        b"Inter-|   Receive                            |  Transmit\n face |bytes packets\n"
        b"    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n"
        b"  eth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n"
        b"eth1:11 1 0 0 0 0 0 0 3 1 0 0 0 0 0 0\n"
    )
    monkeypatch.setattr(stats, "_proc", lambda pid, name: text)
    from fastbox.container import process

    me = os.getpid(), process.start_time(os.getpid())
    assert stats._interfaces(*me) == {"eth0": (100, 20), "eth1": (11, 3)}
    assert stats._interfaces(me[0], me[1] + 1) == {}  # another process by now


def test_percent() -> None:
    one = Stats(id="a", name="a", time=10**9, cpu=5 * 10**8)
    two = Stats(id="a", name="a", time=3 * 10**9, cpu=35 * 10**8)
    assert two.cpu_percent(one) == 150.0
    assert one.cpu_percent(two) == one.cpu_percent(None) == one.cpu_percent(one) == 0.0
    restarted = Stats(id="a", name="a", time=4 * 10**9, cpu=10)
    assert restarted.cpu_percent(two) == 0.0
    assert one.memory_percent == 0.0


# ---- real ones -------------------------------------------------------------------------------


def test_of_a_busy_container(engine: Engine, busybox_image: str) -> None:
    start(engine, busybox_image, "sh", "-c", "sleep 1000 & while :; do :; done", name="box")
    first = engine.stats("box")
    found = wait_for(
        lambda: s if (s := engine.stats("box")).cpu - first.cpu > 50_000_000 else None, "CPU time"
    )
    assert (found.id, found.name) == (engine.container("box").id, "box")
    assert 0 < found.cpu_percent(first) < 250
    assert found.pids == 2
    assert 4096 < found.memory < 64 * MIB
    assert found.memory_limit == stats.host_memory()
    assert (found.net_rx, found.net_tx) == (0, 0)


def test_limits_and_memory_of_a_real_group(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, name="box", memory=64 * MIB, pids_limit=9, network="host")
    execute(engine, box, "sh", "-c", "dd if=/dev/zero of=/dev/shm/x bs=1M count=20")
    found = engine.stats("box")
    assert found.memory_limit == 64 * MIB
    assert 20 * MIB <= found.memory < 40 * MIB
    assert found.pids == 1
    assert (found.net_rx, found.net_tx) == (0, 0)  # the host's traffic is not the container's


def test_block_writes_of_what_has_ended_count(engine: Engine, busybox_image: str) -> None:
    script = "dd if=/dev/zero of=/x bs=1M count=8 conv=fsync; echo done > /ready; sleep 1000"
    box = start(engine, busybox_image, "sh", "-c", script)
    wait_for(lambda: os.path.exists(f"{box.directory}/upper/ready"))
    assert engine.stats(box.id).block_write >= 8 * MIB


def test_of_one_that_does_not_run(engine: Engine, busybox_image: str) -> None:
    box = engine.create(ContainerConfig(image=busybox_image, name="box"))
    found = engine.stats("box")
    assert found == Stats(id=box.id, name="box", time=found.time)
    with pytest.raises(NotFound, match="No such container: nosuch"):
        engine.stats("nosuch")


def test_async(root: str, runtime_dir: str, busybox_image: str) -> None:
    async def main() -> Stats:
        async with AsyncEngine(root, runtime_dir) as engine:
            await engine.create(ContainerConfig(image=busybox_image, name="box"))
            return await engine.stats("box")

    assert asyncio.run(main()).name == "box"


def test_of_each_interface(engine: Engine, busybox_image: str) -> None:
    for name in ("one", "two"):
        engine.create_network(name)
    box = start(
        engine,
        busybox_image,
        network="one",
        networks=[Attachment(network="one"), Attachment(network="two")],
    )
    places = {place.network: place for place in engine.networking(box).endpoints}
    assert execute(engine, box, "ping", "-c3", places["two"].gateway).code == 0
    found = engine.stats(box.id)
    received, sent = found.interfaces[places["two"].interface]
    assert received >= 3 * 84 and sent >= 3 * 84
    assert set(found.interfaces) == {place.interface for place in places.values()}
    assert found.net_rx == sum(rx for rx, _ in found.interfaces.values())
