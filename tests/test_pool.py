"""Pools: starts from containers prepared ahead, and what may go wrong with them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from fastbox import AsyncEngine, Engine, Mount, Pool, Status
from fastbox.container import pool_prepare, pool_sweep
from fastbox.errors import CommandFailed, FastboxError, InvalidArgument, LaunchError, NotFound
from fastbox.network.types import Publish
from tests.support.wait import wait_for


def full(pool: Pool) -> None:
    assert pool.wait(30)


def prepared(engine: Engine) -> list[str]:
    return [record.id for record in pool_sweep.records(engine._containers)]


def nothing_left(engine: Engine) -> bool:
    store = engine._containers
    return not (store.ids() or os.listdir(store.trash) or os.listdir(store.names))


def test_run_from_a_pool(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 2, network="none", env=["A=1"]) as pool:
        full(pool)
        assert engine.containers(all=True) == []  # nobody sees them
        data = os.urandom(1 << 20)
        assert pool.run(["cat"], input=data).stdout == data
        script = "echo $A $B $HOME $HOSTNAME; hostname; echo err >&2; exit 3"
        result = pool.run(["sh", "-c", script], env={"B": "2"})
        name = result.text.split()[-1]
        assert result.text == f"1 2 /root {name}\n{name}\n"
        assert (result.returncode, result.stderr, result.args[0]) == (3, b"err\n", "sh")
        assert pool.run(["cat"]).stdout == b""
        with pytest.raises(CommandFailed, match="exit status 5"):
            pool.run(["sh", "-c", "exit 5"], check=True)
        stats = pool.stats()
        assert stats.taken + stats.missed == 4
        assert stats.each > 100 << 10
    assert wait_for(lambda: nothing_left(engine), "everything to be gone")


def test_what_a_command_gets_is_what_it_needs(engine: Engine, busybox_image: str) -> None:
    script = "ls /proc/self/fd; grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; id -u; pwd"
    options: dict[str, Any] = {"network": "none", "user": "1000:1000", "workdir": "/tmp"}
    with engine.pool(busybox_image, 1, **options) as pool:
        full(pool)
        from_pool = pool.run(["sh", "-c", script]).text
        assert pool.stats().taken == 1
    import fastbox

    ordinary = fastbox.run(busybox_image, ["sh", "-c", script], engine=engine, **options).text
    assert from_pool == ordinary
    assert "1000\n/tmp\n" in from_pool


def test_a_taken_one_is_a_container_as_any(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 1, network="none", auto_remove=False) as pool:
        full(pool)
        before = len(list(engine.events(until="0s")))
        box = pool.start(["sh", "-c", "echo hello; exec sleep 1000"], env={"A": "b"})
        assert box.state.status is Status.RUNNING
        assert box.record.path == "sh"
        shown = engine.inspect_container(box.id)
        assert shown["Path"] == "sh"
        assert shown["Args"] == ["-c", "echo hello; exec sleep 1000"]
        assert "A=b" in shown["Config"]["Env"]
        assert shown["State"]["StartedAt"] >= shown["Created"]
        assert [item.id for item in engine.containers()] == [box.id]
        assert engine.exec(box.id, ["sh", "-c", 'test "$A" = b']) == 0
        wait_for(lambda: [line.data for line in engine.logs(box.id)], "its output")
        told = [event.action for event in engine.events(until="0s")][before:]
        assert told[:2] == ["create", "start"]
    engine.stop(box.id, timeout=0)
    engine.start(box.id)  # with its own command
    assert engine.container(box.id).state.run == 2
    engine.remove(box.id, force=True)


def test_who_waits_has_what_its_command_will_have(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 1, network="none", user="7:8") as pool:
        pid = pool._ready[0].pid
        with open(f"/proc/{pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert status["Name"] == "fastbox-wait"
        assert status["Uid"].split() == ["7"] * 4
        assert status["CapEff"] == status["CapPrm"] == "0" * 16
        assert status["CapBnd"] == "00000000a80425fb"
        assert status["Seccomp"] == "2"
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2", "5"]
        assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:fastbox-helper")
        assert os.stat(f"/proc/{pid}/mem").st_uid == 0  # not dumpable: nobody may attach to it


def test_the_store_is_whole_beside_a_pool(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 1, network="none") as pool:
        assert engine.check(repair=True) == []
        assert engine.prune_containers()[0] == []
        assert pool.stats().ready == 1


def test_with_an_init(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 1, network="none", init=True) as pool:
        full(pool)
        result = pool.run(["sh", "-c", "cat /proc/1/comm; echo $$"])
        assert result.text == "fastbox-init\n2\n"


def test_long_arguments(engine: Engine, busybox_image: str) -> None:
    word = "x" * 100_000
    with engine.pool(busybox_image, 1, network="none") as pool:
        full(pool)
        assert pool.run(["echo", word], input=b"").text == word + "\n"
        assert pool.stats().taken == 1


def test_a_command_that_is_not_there(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 1, network="none") as pool:
        full(pool)
        with pytest.raises(LaunchError, match='exec: "nosuch": executable file not found') as one:
            pool.run(["nosuch"])
        assert one.value.run_exit_code == 127
        full(pool)
        with pytest.raises(LaunchError, match="permission denied") as other:
            pool.start(["/etc/passwd"])
        assert other.value.run_exit_code == 126
        assert engine.containers(all=True) == []
        assert pool.stats().taken == 2


def test_a_timeout_kills(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 1, network="none") as pool:
        full(pool)
        result = pool.run(["sleep", "1000"], timeout=0.1)
        assert (result.timed_out, result.returncode) == (True, 137)
    assert wait_for(lambda: nothing_left(engine), "everything to be gone")


def test_on_the_bridge(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 2) as pool:
        full(pool)
        first = pool.start(["sleep", "1000"])
        assert first.networking is not None
        address = first.networking.endpoints[0].addresses[0]
        second = pool.run(["ping", "-c", "1", "-W", "5", address])
        assert second.returncode == 0
        engine.remove(first.id, force=True)


def test_published_ports(engine: Engine, busybox_image: str) -> None:
    fixed = [Publish(container=80, host=18080)]
    with pytest.raises(InvalidArgument, match="cannot publish host port 18080"):
        engine.pool(busybox_image, 2, publish=fixed)
    with engine.pool(busybox_image, 1, publish=[Publish(container=80)]) as pool:
        full(pool)
        box = pool.start(["nc", "-l", "-p", "80", "-e", "echo", "served"])
        assert box.networking is not None
        assert box.networking.ports
        engine.remove(box.id, force=True)


def test_anonymous_volumes_are_each_ones_own(engine: Engine, busybox_image: str) -> None:
    mounts = [Mount(type="volume", target="/data")]
    with engine.pool(busybox_image, 2, network="none", mounts=mounts) as pool:
        full(pool)
        assert len(engine.volumes()) == 2
        assert engine.prune_volumes()[0] == []  # they are in use
        for _ in range(2):
            assert pool.run(["sh", "-c", "ls /data; touch /data/x"]).text == ""
    assert engine.volumes() == []
    assert nothing_left(engine)


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (0, {}, "a pool's size is a number from 1 to 1024, not 0"),
        (1, {"tty": True}, "a pool takes no tty"),
        (1, {"name": "x"}, "a pool takes no name"),
        (1, {"nosuch": 1}, "unknown attribute of a container: 'nosuch'"),
        (1, {"network": "nowhere"}, "network nowhere not found"),
        (1, {"network": "container:x"}, "cannot join a container's network"),
        (1, {"user": "nobodyknows"}, "unable to find user nobodyknows"),
        (1, {"max_memory": 1000}, "max_memory is 1000 bytes, but one prepared container takes"),
        (1, {"max_memory": -1}, "max_memory is a number of bytes, not -1"),
    ],
)
def test_bad_configurations_are_told_at_once(
    engine: Engine, busybox_image: str, size: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FastboxError, match=message):
        engine.pool(busybox_image, size, **{"network": "none", **options})
    assert nothing_left(engine)


def test_an_unknown_image(engine: Engine) -> None:
    with pytest.raises(FastboxError):
        engine.pool("localhost:1/nosuch", 1)


def test_an_empty_pool_starts_ordinarily(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.pool(busybox_image, 1, network="none") as pool:
        full(pool)
        with monkeypatch.context() as patch:
            patch.setattr(Pool, "_target", 0)
            assert pool.run(["echo", "1"]).text == "1\n"
            assert pool.run(["echo", "2"]).text == "2\n"
            box = pool.start(["sleep", "1000"])
        assert (pool.stats().taken, pool.stats().missed) == (1, 2)
        engine.remove(box.id, force=True)


def test_what_keeps_it_empty_is_told(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FastboxError("no more processes", hint="end some")

    with engine.pool(busybox_image, 1, network="none") as pool:
        full(pool)
        with monkeypatch.context() as patch:
            patch.setattr(pool_prepare, "prepare", fail)
            assert pool.run(["true"]).returncode == 0
            wait_for(lambda: pool.stats().failed, "a failure")
            with pytest.raises(FastboxError, match="cannot be refilled: no more processes"):
                pool.run(["true"])
            with pytest.raises(FastboxError, match="no more processes"):
                pool.wait()
        wait_for(lambda: pool.stats().ready, "it to be filled, after a pause")
        assert pool.run(["true"]).returncode == 0
        assert pool.stats().error == ""


def test_one_that_was_killed_is_replaced(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 2, network="none") as pool:
        full(pool)
        for one, which in zip(list(pool._ready), ("pid", "monitor_pid"), strict=True):
            os.kill(getattr(one, which), signal.SIGKILL)
        wait_for(lambda: pool.stats().died == 2, "the pool to notice")
        full(pool)
        assert pool.run(["true"]).returncode == 0
        assert pool.stats().missed == 0


def test_a_take_passes_over_a_killed_one(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.pool(busybox_image, 2, network="none") as pool:
        full(pool)
        monkeypatch.setattr(Pool, "_remove_dead", lambda self: None)
        victim = pool._ready[0]
        os.kill(victim.pid, signal.SIGKILL)
        wait_for(lambda: pool_prepare.is_dead(victim), "its end")
        assert pool.run(["echo", "x"]).text == "x\n"
        assert (pool.stats().died, pool.stats().taken) == (1, 1)
    assert nothing_left(engine)


def test_memory_is_bounded(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 1, network="none") as pool:
        each = pool.stats().each
    with engine.pool(busybox_image, 8, network="none", max_memory=each * 2 + each // 2) as pool:
        full(pool)
        assert pool.stats().target == 2
        assert pool.stats().memory <= each * 3


def test_it_drains_when_memory_is_short(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.pool(busybox_image, 2, network="none") as pool:
        full(pool)
        monkeypatch.setattr("fastbox.pool.is_short", lambda: "it is")
        monkeypatch.setattr("fastbox.pool.LOOK", 0.05)
        pool._poke()
        wait_for(lambda: pool.stats().drained == 2, "it to drain")
        assert (pool.stats().short, pool.stats().target) == ("it is", 0)
        assert pool.run(["true"]).returncode == 0  # an ordinary start
        monkeypatch.undo()
        full(pool)


def test_an_image_that_is_removed(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 1, network="none") as pool:
        full(pool)
        with pytest.raises(FastboxError, match="a pool keeps containers of it prepared"):
            engine.remove_image(busybox_image)
        engine.remove_image(busybox_image, force=True)
        with pytest.raises(NotFound, match="No such image"):
            pool.run(["true"])
        assert pool.stats().drained == 1
        with pytest.raises(NotFound, match="No such image"):
            pool.start(["true"])
        wait_for(lambda: not prepared(engine), "its layers to be nobody's")
        (dangling,) = engine.images()
        engine.tag(dangling.id, busybox_image)
        assert pool.run(["true"]).returncode == 0
    assert wait_for(lambda: nothing_left(engine), "everything to be gone")


def test_another_image_of_its_name(engine: Engine, busybox_image: str) -> None:
    engine.tag(busybox_image, "other:1")
    with engine.pool("other:1", 1, network="none") as pool:
        full(pool)
        box = engine.create(_config(busybox_image))
        engine.commit(box.id, "other:1", changes=["CMD echo new"])
        engine.remove(box.id)
        assert pool.run().text == "new\n"


def _config(image: str) -> Any:
    from fastbox import ContainerConfig

    return ContainerConfig(image=image, network="none")


def test_threads_take_side_by_side(engine: Engine, busybox_image: str) -> None:
    found: list[str] = []
    with (
        engine.pool(busybox_image, 4, network="none") as one,
        engine.pool(busybox_image, 4, network="none", hostname="two") as two,
    ):
        full(one)

        def work(number: int) -> None:
            for turn in range(3):
                pool = two if turn % 2 else one
                found.append(pool.run(["echo", f"{number} {turn}"]).text.strip())

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == sorted(f"{i} {t}" for i in range(8) for t in range(3))
        stats = one.stats(), two.stats()
        assert sum(item.taken + item.missed for item in stats) == 24
    assert wait_for(lambda: nothing_left(engine), "everything to be gone")


def test_a_closed_pool(engine: Engine, busybox_image: str) -> None:
    pool = engine.pool(busybox_image, 1, network="none")
    pool.close()
    pool.close()
    with pytest.raises(FastboxError, match=r"the pool of .* is closed"):
        pool.run(["true"])
    assert nothing_left(engine)


def test_a_forked_child_has_no_pool(engine: Engine, busybox_image: str) -> None:
    with engine.pool(busybox_image, 1, network="none") as pool:
        full(pool)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                pool.run(["true"])
            except FastboxError:
                pool.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.run(["true"]).returncode == 0
        assert pool.stats().taken == 1


OWNER = """
import sys, time
from fastbox import Engine
engine = Engine(sys.argv[1], sys.argv[2])
pool = engine.pool(sys.argv[3], 2)
while pool.stats().ready < 2: time.sleep(0.01)
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def owner(root: str, runtime_dir: str, busybox_image: str) -> Any:
    argv = [sys.executable, "-c", OWNER, root, runtime_dir, busybox_image]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_killed_owner_leaves_nothing(engine: Engine, owner: Any) -> None:
    assert len(prepared(engine)) == 2
    owner.kill()
    wait_for(lambda: nothing_left(engine), "the monitors to clean up")
    assert _cgroups(engine) == []
    assert _leases(engine) == []


def test_owner_and_monitors_killed_leave_it_to_the_next_command(engine: Engine, owner: Any) -> None:
    inits = [_only_process(group) for group in _cgroups(engine)]
    assert len(inits) == 2
    owner.send_signal(signal.SIGSTOP)
    for pid in inits:
        os.kill(_parent(pid), signal.SIGKILL)
    owner.kill()
    owner.wait()
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in inits), "the inits' end")
    assert len(prepared(engine)) == 2
    assert engine.containers(all=True) == []
    assert nothing_left(engine)
    assert _cgroups(engine) == []
    assert _leases(engine) == []


def _cgroups(engine: Engine) -> list[str]:
    base = f"/sys/fs/cgroup/unified/{engine.cgroup_parent}"
    base = base if os.path.isdir(base) else f"/sys/fs/cgroup/{engine.cgroup_parent}"
    if not os.path.isdir(base):
        return []
    return [f"{base}/{name}" for name in os.listdir(base) if len(name) == 64]


def _leases(engine: Engine) -> list[str]:
    found = []
    for directory, folders, files in os.walk(f"{engine.runtime_dir}/networks"):
        if directory.endswith("/leases"):
            found += files + folders
    return found


def _only_process(group: str) -> int:
    with open(f"{group}/cgroup.procs") as file:
        return int(file.read())


def _parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def test_a_profile_that_forbids_waiting(engine: Engine, busybox_image: str) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["recvmsg"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    with pytest.raises(FastboxError, match="ended before anybody took it"):
        engine.pool(busybox_image, 1, network="none", seccomp=json.dumps(profile))
    assert nothing_left(engine)


def test_coroutines(root: str, runtime_dir: str, busybox_image: str, engine: Engine) -> None:
    async def main() -> None:
        async with AsyncEngine(root, runtime_dir) as aio:
            async with aio.pool(busybox_image, 2, network="none") as pool:
                results = await asyncio.gather(*(pool.run(["echo", str(i)]) for i in range(3)))
                assert [result.text for result in results] == ["0\n", "1\n", "2\n"]
                box = await pool.start(["sleep", "1000"])
                await aio.remove(box.id, force=True)
                task = asyncio.ensure_future(pool.run(["sleep", "1000"]))
                while not await aio.containers():
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await aio.containers(all=True) == []
                assert pool.stats().taken >= 1

    asyncio.run(main())
    assert wait_for(lambda: nothing_left(engine), "everything to be gone")
