"""The library's face: fastbox.run, Engine, AsyncEngine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

import fastbox
from fastbox import AsyncEngine, ContainerConfig, Engine, Status
from fastbox.errors import CommandFailed, InvalidArgument, LaunchError, NotFound, NotRunning
from tests.support.wait import wait_for


def test_run_collects_output_and_status(engine: Engine, busybox_image: str) -> None:
    result = fastbox.run(
        busybox_image, ["sh", "-c", "echo out; echo err >&2; exit 3"], engine=engine
    )
    assert (result.returncode, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert result.args[0] == "sh"
    assert not result.timed_out
    assert engine.containers(all=True) == []


def test_run_feeds_stdin_and_environment(engine: Engine, busybox_image: str) -> None:
    data = os.urandom(3 << 20)
    result = fastbox.run(busybox_image, ["cat"], input=data, engine=engine)
    assert result.stdout == data
    result = fastbox.run(busybox_image, ["sh", "-c", "echo $A"], env={"A": "b c"}, engine=engine)
    assert result.text == "b c\n"


def test_run_without_input_reads_end_of_file(engine: Engine, busybox_image: str) -> None:
    assert fastbox.run(busybox_image, ["cat"], engine=engine).stdout == b""


def test_run_that_does_not_read_its_input(engine: Engine, busybox_image: str) -> None:
    assert fastbox.run(busybox_image, ["true"], input=b"x" * (1 << 20), engine=engine).text == ""


def test_run_times_out(engine: Engine, busybox_image: str) -> None:
    result = fastbox.run(busybox_image, ["sleep", "1000"], timeout=0.3, engine=engine)
    assert result.timed_out
    assert result.returncode == 137
    assert engine.containers(all=True) == []


def test_run_checks(engine: Engine, busybox_image: str) -> None:
    with pytest.raises(CommandFailed, match="exit status 5") as caught:
        fastbox.run(busybox_image, ["sh", "-c", "echo x; exit 5"], check=True, engine=engine)
    assert (caught.value.returncode, caught.value.stdout) == (5, b"x\n")


def test_a_failed_start_leaves_nothing(engine: Engine, busybox_image: str) -> None:
    with pytest.raises(LaunchError, match='exec: "nosuch": executable file not found') as caught:
        fastbox.run(busybox_image, ["nosuch"], engine=engine)
    assert caught.value.run_exit_code == 127
    assert engine.containers(all=True) == []
    assert os.listdir(f"{engine.root}/containers") == []


def test_config_by_keyword(engine: Engine, busybox_image: str) -> None:
    result = fastbox.run(
        busybox_image,
        ["sh", "-c", "id -u; hostname; touch /x || echo read-only"],
        user="1234",
        hostname="box",
        read_only=True,
        engine=engine,
    )
    assert result.text.split("\n")[:3] == ["1234", "box", "read-only"]


def test_life_of_a_container(engine: Engine, busybox_image: str) -> None:
    config = ContainerConfig(image=busybox_image, name="life", command=["sleep", "1000"])
    box = engine.create(config)
    assert engine.container("life").state.status is Status.CREATED
    with pytest.raises(NotRunning):
        engine.exec("life", ["true"])
    engine.start("life")
    assert engine.container(box.short_id).state.status is Status.RUNNING
    assert engine.exec("life", ["sh", "-c", "exit 7"]) == 7
    waiter: list[int] = []
    thread = threading.Thread(target=lambda: waiter.append(engine.wait("life")))
    thread.start()
    engine.stop("life", timeout=0)
    thread.join()
    assert waiter == [137]
    state = engine.container("life").state
    assert (state.status, state.exit_code, state.run) == (Status.EXITED, 137, 1)
    engine.start("life")
    engine.kill("life", signal="KILL")
    assert engine.container("life").state.run == 2
    engine.remove("life")
    with pytest.raises(NotFound, match="No such container: life"):
        engine.container("life")


def test_a_config_is_not_changed(engine: Engine, busybox_image: str) -> None:
    config = ContainerConfig(
        image=busybox_image,
        mounts=[fastbox.Mount(type="tmpfs", target="/a/../b")],
    )
    engine.remove(engine.create(config).id)
    assert config.mounts[0].target == "/a/../b"


def test_wait_sees_the_status_of_a_removed_container(engine: Engine, busybox_image: str) -> None:
    config = ContainerConfig(
        image=busybox_image,
        command=["sh", "-c", "read x; exit 9"],
        interactive=True,
        auto_remove=True,
    )
    box = engine.create(config)
    reader, writer = os.pipe()
    attached: list[int] = []
    runner = threading.Thread(
        target=lambda: attached.append(engine.run_attached(box.id, stdin=reader))
    )
    runner.start()
    while not engine.container(box.id).state.status.is_up:
        pass
    waited: list[int] = []
    waiter = threading.Thread(target=lambda: waited.append(engine.wait(box.id)))
    waiter.start()
    # It holds a lock once it waits: then let the container end.
    path = f"{box.directory}/work"
    while subprocess.run(["flock", "-n", "-x", path, "true"], check=False).returncode == 0:
        pass
    os.close(writer)
    for thread in (runner, waiter):
        thread.join()
    os.close(reader)
    assert (attached, waited) == ([9], [9])
    assert engine.containers(all=True) == []


def test_threads_share_an_engine(engine: Engine, busybox_image: str) -> None:
    results: list[str] = []

    def work(number: int) -> None:
        for round_ in range(5):
            text = f"{number}-{round_}"
            results.append(fastbox.run(busybox_image, ["echo", text], engine=engine).text.strip())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(f"{n}-{r}" for n in range(8) for r in range(5))


def test_async_runs_side_by_side(root: str, runtime_dir: str, busybox_image: str) -> None:
    async def main() -> None:
        async with AsyncEngine(root, runtime_dir) as engine:
            jobs = (engine.run(busybox_image, ["echo", str(n)]) for n in range(20))
            results = await asyncio.gather(*jobs)
            assert [result.text for result in results] == [f"{n}\n" for n in range(20)]
            assert await engine.containers(all=True) == []

    asyncio.run(main())


def test_async_cancellation_kills(root: str, runtime_dir: str, busybox_image: str) -> None:
    async def main() -> None:
        async with AsyncEngine(root, runtime_dir) as engine:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(engine.run(busybox_image, ["sleep", "1000"]), 0.5)
            assert await engine.containers(all=True) == []

    asyncio.run(main())


def test_async_logs(root: str, runtime_dir: str, busybox_image: str) -> None:
    async def main() -> None:
        async with AsyncEngine(root, runtime_dir) as engine:
            box = await engine.create(
                ContainerConfig(image=busybox_image, command=["sh", "-c", "echo a; echo b"])
            )
            await engine.start(box.id)
            lines = [line async for line in engine.logs(box.id, follow=True)]
            assert [line.data for line in lines] == [b"a", b"b"]
            await engine.remove(box.id, force=True)

    asyncio.run(main())


def test_every_verb_is_async_too() -> None:
    verbs = {
        name for name in dir(Engine) if callable(getattr(Engine, name)) and not name.startswith("_")
    }
    assert verbs <= {name for name in vars(AsyncEngine) if not name.startswith("_")}


def test_public_names() -> None:
    for name in fastbox.__all__:
        assert getattr(fastbox, name) is not None
    with pytest.raises(AttributeError):
        _ = fastbox.nothing
    code = "import fastbox, sys; print(len([m for m in sys.modules if m.startswith('fastbox')]))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "1"


def test_a_removed_container_was_started(engine: Engine, busybox_image: str) -> None:
    """--rm, detached, and over before anybody looks: start says so instead of failing."""
    for _ in range(20):
        config = ContainerConfig(image=busybox_image, command=["true"], auto_remove=True)
        box = engine.start(engine.create(config).id)
        assert box.state.status in (Status.RUNNING, Status.EXITED)


INTERRUPTED = """
import os, signal, sys, threading
from fastbox import ContainerConfig, Engine
engine = Engine(sys.argv[1], sys.argv[2])
def interrupt():
    os.read(reader, 1)
    os.kill(os.getpid(), signal.SIGINT)
reader, writer = os.pipe()
threading.Thread(target=interrupt, daemon=True).start()
try:
    {call}
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    "call",
    [
        "config = ContainerConfig(image='busybox', auto_remove=True, command=['sh', '-c', "
        "'echo; sleep 1000'])\n    engine.run_attached(engine.create(config).id, stdout=writer)",
        "engine.exec('host', ['sh', '-c', 'echo; exec sleep 1000'], stdout=writer)",
    ],
)
def test_an_interrupted_wait_ends_what_it_waits_for(
    engine: Engine, busybox_image: str, call: str
) -> None:
    config = ContainerConfig(image=busybox_image, name="host", command=["sleep", "1000"])
    engine.start(engine.create(config).id)
    script = INTERRUPTED.replace("{call}", call)
    argv = [sys.executable, "-c", script, engine.root, engine.runtime_dir]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout == "interrupted\n", done.stderr
    assert [box.name for box in engine.containers(all=True)] == ["host"]
    wait_for(lambda: len(engine.top("host")[1]) == 1, "the exec'ed shell to be gone")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"memory": "64m"}, "attribute `memory`"),
        ({"cpus": 1}, "unknown attribute of a container: 'cpus'"),
        ({"env": ["A=1"]}, "env must be a mapping"),
        ({"input": 5}, "input must be bytes"),
        ({"command": "echo hi"}, "the command must be a list of words"),
    ],
)
def test_wrong_types_are_refused_by_name(
    engine: Engine, busybox_image: str, arguments: dict[str, object], text: str
) -> None:
    with pytest.raises(InvalidArgument, match=text):
        fastbox.run(busybox_image, **{"command": ["true"], "engine": engine, **arguments})  # type: ignore[arg-type]
    assert engine.containers(all=True) == []


def test_text_as_input(engine: Engine, busybox_image: str) -> None:
    result = fastbox.run(busybox_image, ["cat"], input="é", engine=engine)  # type: ignore[arg-type]
    assert result.stdout == "é".encode()


def test_an_image_of_another_platform_is_none(engine: Engine, busybox_image: str) -> None:
    config = ContainerConfig(image=busybox_image, command=["true"])
    with pytest.raises(NotFound, match="for platform linux/s390x"):
        engine.create(config, pull="never", platform="linux/s390x")
