"""Which events the verbs tell, through the library, the command line, and (twin) docker's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

import pytest

import fastbox
from fastbox import AsyncEngine, ContainerConfig, Engine
from fastbox.errors import Conflict, InvalidArgument, LaunchError, StoreError
from fastbox.events import Journal, container_attributes
from tests.support.command import Command
from tests.support.wait import wait_for

SLEEP = ["sleep", "1000"]


class Recorder:
    """What happens from its making on, except what the native monitor tells (``die``, ``oom``, and
    the end of what it removes itself)."""

    def __init__(self, engine: Engine, **filters: list[str]) -> None:
        self.engine = engine
        self.stream = engine.events(filters=filters)

    def seen(self) -> list[tuple[str, dict[str, str]]]:
        """(action, attributes) since the last call."""
        Journal(self.engine.root).emit("daemon", "mark", "test", {})
        found: list[tuple[str, dict[str, str]]] = []
        while True:
            event = next(self.stream)
            if event.type == "daemon":
                return found
            if event.action not in ("die", "oom"):
                found.append((event.action, event.attributes))

    def actions(self) -> list[str]:
        return [action for action, _ in self.seen()]


@pytest.fixture
def recorder(engine: Engine) -> Iterator[Recorder]:
    recorder = Recorder(engine)
    yield recorder
    recorder.stream.close()


def make(engine: Engine, name: str = "web", **config: object) -> fastbox.Container:
    values = {"command": SLEEP, "labels": {"a": "b"}, "network": "none", **config}
    return engine.create(ContainerConfig(image="busybox", name=name, **values))  # type: ignore[arg-type]


def test_the_life_of_a_container(engine: Engine, busybox_image: str, recorder: Recorder) -> None:
    about = {"image": "busybox", "name": "web", "a": "b"}
    box = make(engine)
    engine.start("web")
    engine.start("web")  # runs already
    engine.top("web")
    engine.pause("web")
    engine.unpause("web")
    engine.kill("web", signal="USR1")
    engine.update("web", restart=fastbox.RestartPolicy(name="always"))
    seen = recorder.seen()
    assert [action for action, _ in seen] == [
        "create", "start", "top", "pause", "unpause", "kill", "update",
    ]  # fmt: skip
    own = {k: v for k, v in seen[0][1].items() if k in about}
    assert own == about
    labels = box.record.labels
    assert seen[0][1] == {**labels, "image": "busybox", "name": "web"}
    assert seen[5][1] == {**labels, "image": "busybox", "name": "web", "signal": "10"}
    engine.rename("web", "db")
    [(action, attributes)] = recorder.seen()
    assert (action, attributes["name"], attributes["oldName"]) == ("rename", "db", "/web")
    engine.restart("db", timeout=0)
    seen = recorder.seen()
    assert [action for action, _ in seen] == ["kill", "kill", "stop", "start", "restart"]
    assert [attributes.get("signal") for _, attributes in seen[:2]] == ["15", "9"]
    engine.stop("db", timeout=0)
    engine.stop("db")  # has ended
    assert recorder.actions() == ["kill", "kill", "stop"]
    engine.restart("db")
    assert recorder.actions() == ["start", "restart"]
    engine.remove("db", force=True)
    assert recorder.actions() == ["kill", "destroy"]


def test_execs(engine: Engine, busybox_image: str, recorder: Recorder) -> None:
    make(engine)
    engine.start("web")
    recorder.seen()
    assert engine.exec("web", ["sh", "-c", "exit 7"]) == 7
    seen = recorder.seen()
    assert [action for action, _ in seen] == [
        "exec_create: sh -c exit 7", "exec_start: sh -c exit 7", "exec_die",
    ]  # fmt: skip
    ids = {attributes["execID"] for _, attributes in seen}
    assert len(ids) == 1 and len(ids.pop()) == 64
    assert seen[2][1]["exitCode"] == "7"
    with pytest.raises(LaunchError):
        engine.exec("web", ["/nosuch"])
    action, attributes = recorder.seen()[-1]
    assert (action, attributes["exitCode"]) == ("exec_die", "127")
    engine.exec("web", ["true"], detach=True)
    assert recorder.actions() == ["exec_create: true", "exec_start: true"]
    engine.exec("web", ["echo", "\udcff"])
    assert recorder.actions()[:2] == ["exec_create: echo ?", "exec_start: echo ?"]


def test_what_fails_tells_nothing(engine: Engine, busybox_image: str, recorder: Recorder) -> None:
    make(engine, command=["/nosuch"])
    with pytest.raises(Conflict):
        make(engine)
    assert recorder.actions() == ["create"]
    with pytest.raises(LaunchError):
        engine.start("web")
    for verb in (engine.pause, engine.unpause, engine.kill, engine.top):
        with pytest.raises(fastbox.FastboxError):
            verb("web")
    with pytest.raises(InvalidArgument):
        engine.rename("web", "web")
    assert recorder.actions() == []
    engine.remove("web")
    assert recorder.actions() == ["destroy"]


def test_run(engine: Engine, busybox_image: str, recorder: Recorder) -> None:
    assert fastbox.run(busybox_image, ["true"], engine=engine, network="none").returncode == 0
    assert recorder.actions()[:2] == ["create", "start"]


def test_networks(engine: Engine, busybox_image: str) -> None:
    """In Docker's order; the monitor tells of the end."""
    stream = engine.events()
    for name in ("one", "two"):
        engine.create_network(name)
    box = make(engine, network="one")
    engine.start("web")
    engine.connect_network("two", "web")
    engine.disconnect_network("two", "web")
    os.kill(engine.container("web").state.pid, signal.SIGKILL)
    engine.wait("web")
    told = []
    while not told or told[-1] != "network disconnect one":
        event = next(stream)
        told.append(f"{event.type} {event.action} {event.attributes['name']}")
    stream.close()
    assert event.attributes == {"container": box.id, "name": "one", "type": "bridge"}
    assert told == [
        *("network create one", "network create two"),
        *("container create web", "network connect one", "container start web"),
        *("network connect two", "network disconnect two"),
        *("container die web", "network disconnect one"),
    ]


def test_a_damaged_container_goes_too(
    engine: Engine, busybox_image: str, recorder: Recorder
) -> None:
    box = make(engine)
    with open(f"{box.directory}/container.json", "w") as file:
        file.write("{")
    with pytest.raises(StoreError):
        engine.remove("web")
    engine.remove("web", force=True)
    assert recorder.seen()[1:] == [("destroy", {})]


def test_images(engine: Engine, busybox_tar: str, recorder: Recorder) -> None:
    image = engine.import_image(busybox_tar, "one", changes=["LABEL a=b"])
    engine.tag("one", "example.com/two:3")
    assert recorder.seen() == [
        ("import", {"a": "b", "name": image.id}),
        ("tag", {"a": "b", "name": "example.com/two:3"}),
    ]
    engine.remove_image("one")
    assert recorder.seen() == [("untag", {"a": "b", "name": image.id})]
    with pytest.raises(fastbox.FastboxError):
        engine.remove_image("one")
    engine.remove_image(image.id)
    assert recorder.seen() == [
        ("untag", {"a": "b", "name": image.id}),
        ("delete", {"name": image.id}),
    ]


def test_volumes(engine: Engine, busybox_image: str, recorder: Recorder) -> None:
    engine.create_volume("data")
    engine.create_volume("data")  # is there
    engine.remove_volume("data")
    engine.remove_volume("data", force=True)  # is gone
    local = {"driver": "local"}
    assert recorder.seen() == [("create", local), ("destroy", local)]
    box = make(engine, mounts=[fastbox.Mount(type="volume", target="/v")])
    assert recorder.actions() == ["create", "create"]
    engine.remove(box.id, volumes=True)
    assert recorder.actions() == ["destroy", "destroy"]
    engine.create_volume()
    engine.prune_volumes()
    assert recorder.seen() == [
        ("create", local), ("destroy", local), ("prune", {"reclaimed": "0"}),
    ]  # fmt: skip


def test_the_end_as_the_monitor_tells_it(engine: Engine, busybox_image: str) -> None:
    """A line that no process of ours has written."""
    record = make(engine).record
    stream = engine.events(filters={"event": ["die"], "container": ["web"]})
    fragment = container_attributes(record)
    with open(f"{engine.root}/events/journal", "ab") as file:
        file.write(
            b'{"Type":"container","Action":"die","Actor":{"ID":"%b","Attributes":{%b,'
            b'"exitCode":"0","execDuration":"12"}},"time":1767323045,"timeNano":%d}\n'
            % (record.id.encode(), fragment.encode(), time.time_ns())
        )
    with stream:
        event = next(stream)
    assert event.id == record.id
    assert event.attributes["exitCode"] == "0"
    assert event.attributes["image"] == "busybox"
    assert event.attributes["a"] == "b"


def test_a_store_that_takes_no_events_works(engine: Engine, busybox_image: str) -> None:
    with open(f"{engine.root}/events", "w"):
        pass
    assert fastbox.run(busybox_image, ["echo", "x"], engine=engine).text == "x\n"


# ---- asyncio ---------------------------------------------------------------------------------


@pytest.fixture(params=["inotify", "polling"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "polling":
        from fastbox.watch import Watch

        monkeypatch.setattr(Watch, "_start", lambda self, directory: -1)


def test_async_events(root: str, runtime_dir: str, waiting: None) -> None:
    async def main() -> None:
        async with AsyncEngine(root, runtime_dir) as engine:
            events = engine.events(filters={"type": ["volume"]})
            await engine.create_volume("one")
            found = [await anext(events)]
            waiter = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await engine.create_volume("two")
            found.append(await waiter)
            await events.aclose()  # type: ignore[attr-defined]
            assert [event.id for event in found] == ["one", "two"]
            assert [e.id async for e in engine.events(0, time.time())] == ["one", "two"]
            assert [e.id async for e in engine.events(until=time.time() + 0.2)] == []
            with pytest.raises(InvalidArgument):
                engine.events(filters={"colour": ["red"]})

    asyncio.run(main())


def test_a_cancelled_follower_is_gone(root: str, runtime_dir: str, waiting: None) -> None:
    """No thread waits for it, and its descriptors are closed (the leak check looks)."""

    async def follow(engine: AsyncEngine) -> None:
        async for _ in engine.events():
            pass

    async def main() -> None:
        threads = threading.active_count()
        async with AsyncEngine(root, runtime_dir) as engine:
            for _ in range(5):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(follow(engine), 0.05)
            assert threading.active_count() == threads
            engine.events()  # never begun

    asyncio.run(main())


def test_a_long_journal_does_not_stop_the_loop(root: str, runtime_dir: str) -> None:
    log = Journal(root)
    for _ in range(2000):
        log.emit("daemon", "reload", "x", {"text": "y" * 200})

    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with AsyncEngine(root, runtime_dir) as engine:
            counter = asyncio.ensure_future(count())
            events = engine.events(0, time.time(), {"type": ["volume"]})
            assert [e async for e in events] == []
            counter.cancel()
        assert turns > 3

    asyncio.run(main())


# ---- the command -----------------------------------------------------------------------------


def line_of(stream: IO[bytes] | None) -> str:
    assert stream is not None
    return stream.readline().decode()


def wait_until_follows(root: str, process: subprocess.Popen[bytes]) -> None:
    """Emits until it says something."""
    import select

    log, out = Journal(root), process.stdout
    assert out is not None

    def heard() -> bool:
        log.emit("daemon", "reload", "test", {})
        return bool(select.select([out], [], [], 0.05)[0])

    wait_for(heard, "the follower to begin")


def test_the_command_follows_and_ends_with_130(cli: Command, root: str) -> None:
    with cli.popen("events", "--format", "{{.Type}} {{.Action}} {{.Actor.ID}}") as process:
        wait_until_follows(root, process)
        cli.ok("volume", "create", "data")
        while (line := line_of(process.stdout)) == "daemon reload test\n":
            pass
        assert line == "volume create data\n"  # it came at once, through a pipe
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert (process.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_has_enough(cli: Command, root: str) -> None:
    with cli.popen("events") as process:
        wait_until_follows(root, process)
        assert process.stdout is not None
        process.stdout.close()

        def over() -> bool:
            Journal(root).emit("daemon", "reload", "test", {})
            return process.poll() is not None

        wait_for(over, "the command to notice")
        assert process.stderr is not None and process.stderr.read() == b""


def test_it_waits_without_working(cli: Command, root: str) -> None:
    with cli.popen("events") as process:
        wait_until_follows(root, process)

        def sleeps() -> bool:
            with open(f"/proc/{process.pid}/syscall") as file:
                number, *arguments = file.read().split()
            if number == "7":  # poll(fds, count, timeout)
                return int(arguments[2], 16) & 0xFFFFFFFF == 0xFFFFFFFF
            return number == "73" and int(arguments[2], 16) == 0  # arm64's ppoll

        wait_for(sleeps, "a follower that sleeps for ever")
        process.terminate()
        process.communicate()


def test_until_ends_it(cli: Command) -> None:
    cli.ok("volume", "create", "data")
    out = cli.ok("events", "--since", "1h", "--until", "0s", "--filter", "volume=data")
    time_, rest = out.split(" ", 1)
    assert rest == "volume create data (driver=local)"
    assert len(time_) >= len("2017-01-05T00:35:58.859401177Z")
    again = cli.ok("events", "--since", time_, "--until", time_)
    assert again == out


INTERRUPTED = """
import sys
from fastbox import ContainerConfig, Engine
engine = Engine(sys.argv[1], sys.argv[2])
for _ in range(100000):
    engine.create_volume("v")
    print("x", flush=True)
    engine.remove_volume("v")
"""


def test_killed_verbs_leave_a_readable_journal(engine: Engine) -> None:
    for _ in range(5):
        argv = [sys.executable, "-c", INTERRUPTED, engine.root, engine.runtime_dir]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            line_of(process.stdout)
            process.kill()
    engine.remove_volume("v", force=True)
    engine.create_volume("last")
    found = list(engine.events(0, time.time()))
    assert found[-1].id == "last"


# ---- twins -----------------------------------------------------------------------------------


def test_the_same_events_as_docker(twin: Command) -> None:
    image = "fastbox-test/busybox"
    since = f"{time.time():.9f}"
    name = "fastbox-test-events"
    twin.ok("create", "--name", name, "-l", "x=y", image, "sleep", "1000")
    twin.ok("start", name)
    twin.ok("exec", name, "true")
    twin.ok("pause", name)
    twin.ok("unpause", name)
    twin.ok("rename", name, name + "2")
    twin.ok("kill", name + "2")
    twin.ok("rm", name + "2")

    def events(*words: str) -> list[str]:
        out = twin.ok("events", "--since", since, "--until", "0s", *words)
        return out.splitlines()

    lines = [json.loads(line) for line in events("--filter", "label=x=y", "--format", "json")]
    by_action = {line["Action"]: line for line in lines}
    wanted = ["create", "start", "exec_create: true", "exec_start: true", "exec_die", "pause",
              "unpause", "rename", "kill", "destroy"]  # fmt: skip
    assert [line["Action"] for line in lines if line["Action"] not in ("die", "attach")] == wanted
    for line in lines:
        assert line["Type"] == "container" and line["scope"] == "local"
        assert line["time"] == line["timeNano"] // 10**9
        assert line["Actor"]["Attributes"]["image"] == image
    assert by_action["kill"]["Actor"]["Attributes"]["signal"] == "9"
    assert by_action["rename"]["Actor"]["Attributes"]["oldName"] == f"/{name}"
    assert by_action["rename"]["Actor"]["Attributes"]["name"] == f"{name}2"
    assert by_action["exec_die"]["Actor"]["Attributes"]["exitCode"] == "0"
    [line] = events("--filter", "event=pause", "--filter", f"container={name}")
    assert line.split(" ", 1)[1].startswith(f"container pause {lines[0]['Actor']['ID']} (")
    assert f"image={image}, name={name}, x=y)" in line
