"""Attached clients: how many, how slow, how hostile; and bytes that arrive as they were sent."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fastbox.aio import AsyncEngine
from fastbox.container.config import ContainerConfig
from fastbox.container.record import Container, Status
from fastbox.engine import Engine
from fastbox.errors import Conflict, Detached, FastboxError
from tests.support.boxes import start
from tests.support.command import Command
from tests.support.wait import wait_for

MEBIBYTE = 1 << 20
COUNTER = "i=0; while :; do echo $i; i=$((i+1)); usleep 2000; done"


class Client(threading.Thread):
    """``attach`` in a thread, its output in a pipe."""

    def __init__(self, engine: Engine, box: Container, **streams: Any) -> None:
        super().__init__()
        self.reader, writer = os.pipe()
        self.stop = os.eventfd(0)
        self.status: int | None = None
        self.error: FastboxError | None = None
        self._engine, self._id, self._writer = engine, box.id, writer
        self._streams = {"stdout": writer, **streams}
        self.start()

    def run(self) -> None:
        try:
            self.status = self._engine.attach(self._id, cancel=self.stop, **self._streams)
        except FastboxError as error:
            self.error = error
        finally:
            os.close(self._writer)

    def close(self) -> None:
        os.eventfd_write(self.stop, 1)
        self.join()
        for fd in (self.reader, self.stop):
            os.close(fd)

    def line(self) -> bytes:
        text = b""
        while not text.endswith(b"\n"):
            text += os.read(self.reader, 1)
        return text

    def rest(self) -> bytes:
        data = b""
        while piece := os.read(self.reader, MEBIBYTE):
            data += piece
        return data


@pytest.fixture
def clients(engine: Engine) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def attach(box: Container, **streams: Any) -> Client:
            client = Client(engine, box, **streams)
            stack.callback(client.close)
            return client

        yield attach


def log_length(box: Container) -> int:
    with contextlib.suppress(FileNotFoundError):
        return os.path.getsize(box.log_path)
    return 0


def grows(box: Container) -> None:
    """The container goes on writing."""
    size = log_length(box)
    wait_for(lambda: log_length(box) > size, "the log to grow")


# ---- several, slow, gone -----------------------------------------------------------------------


def test_several_clients_see_the_same(engine: Engine, busybox_image: str, clients: Any) -> None:
    box = start(engine, busybox_image, "sh", "-c", COUNTER)
    first, second = clients(box), clients(box)
    one, two = int(first.line()), int(second.line())
    for number in range(one + 1, one + 50):
        assert int(first.line()) == number
    for number in range(two + 1, two + 50):
        assert int(second.line()) == number
    engine.kill(box.id)
    first.rest(), second.rest()
    first.join(), second.join()
    assert (first.status, second.status) == (137, 137)


def test_a_client_that_does_not_read_holds_up_nobody(
    engine: Engine, busybox_image: str, clients: Any
) -> None:
    """A pipe's and a socket's buffers are long full when 8 MiB have been written."""
    script = "i=0; while [ $i -lt 128 ]; do head -c 65536 /dev/zero; i=$((i+1)); done; echo; exit 3"
    box = start(engine, busybox_image, "sh", "-c", f"read x; {script}", interactive=True)
    source, sink = os.pipe()
    lazy, eager = clients(box), clients(box, stdin=source)
    wait_for(lambda: len(sockets_of(box)) == 2, "both clients")
    os.write(sink, b"go\n")
    assert len(eager.rest()) == 8 * MEBIBYTE + 1
    eager.join()
    assert eager.status == 3
    assert engine.wait(box.id) == 3
    # What the other has not read yet is kept for it.
    assert len(lazy.rest()) == 8 * MEBIBYTE + 1
    lazy.join()
    assert lazy.status == 3
    os.close(source)
    os.close(sink)


def test_a_client_that_lags_too_far_behind_is_let_go(
    engine: Engine, busybox_image: str, clients: Any
) -> None:
    box = start(
        engine,
        busybox_image,
        "sh",
        "-c",
        "read x; head -c 100000000 /dev/zero; echo; echo done; sleep 1000",
        interactive=True,
        log_driver="none",
    )
    source, sink = os.pipe()
    lazy, eager = clients(box), clients(box, stdin=source)
    wait_for(lambda: len(sockets_of(box)) == 2, "both clients")
    os.write(sink, b"go\n")
    total = b""
    while not total.endswith(b"done\n"):
        total = total[-4:] + os.read(eager.reader, MEBIBYTE)
    lazy.join()
    assert lazy.error is not None and "writes faster than its output is read" in str(lazy.error)
    assert engine.container(box.id).state.status is Status.RUNNING
    # What was put aside for it is gone.
    assert spill_files(box) == []
    engine.kill(box.id)
    os.close(source)
    os.close(sink)


def spill_files(box: Container) -> list[str]:
    """Unlinked files that the monitor has open, by size > 0."""
    found = []
    for fd in os.listdir(f"/proc/{box.state.monitor_pid}/fd"):
        path = f"/proc/{box.state.monitor_pid}/fd/{fd}"
        with contextlib.suppress(OSError):
            if "(deleted)" in os.readlink(path) and os.stat(path).st_blocks:
                found.append(os.readlink(path))
    return found


def sockets_of(box: Container) -> list[str]:
    """The monitor's connections to clients (of a container that was started detached)."""
    fds = f"/proc/{box.state.monitor_pid}/fd"
    names = []
    for fd in os.listdir(fds):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"{fds}/{fd}"))
    return [name for name in names if name.startswith("socket:")][1:]  # one of them listens


def test_the_starter_may_take_a_break_and_misses_nothing(
    cli: Command, busybox_image: str, engine: Engine
) -> None:
    """``run | less``: what it has not read yet waits for it, and nobody waits for it."""
    script = "seq 1000000 1400000; echo end > /tmp/end; sleep 1000"
    with cli.popen("run", "--name", "box", "busybox", "sh", "-c", script) as client:
        wait_for(lambda: cli("exec", "box", "cat", "/tmp/end").out == "end\n", "the end")
        engine.kill("box")
        assert client.stdout is not None
        lines = client.stdout.read().split()
        assert lines == [b"%d" % number for number in range(1000000, 1400001)]
        assert client.wait() == 137
    engine.remove("box")


def test_clients_come_and_go(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, "sh", "-c", COUNTER)
    wait_for(lambda: os.path.exists(f"{engine.runtime_dir}/{box.id}/attach"), "the socket")
    grows(box)  # the log is open by now
    before = len(os.listdir(f"/proc/{box.state.monitor_pid}/fd"))
    for _ in range(100):
        client = Client(engine, box)
        client.line()
        client.close()
        assert isinstance(client.error, Detached)
    wait_for(lambda: len(os.listdir(f"/proc/{box.state.monitor_pid}/fd")) <= before, "descriptors")
    grows(box)
    engine.kill(box.id)


def test_a_client_that_is_killed_or_stopped(
    cli: Command, engine: Engine, busybox_image: str
) -> None:
    box = start(engine, busybox_image, "sh", "-c", COUNTER, name="box")
    with cli.popen("attach", "box") as one, cli.popen("attach", "box") as two:
        for client in (one, two):
            assert client.stdout is not None
            client.stdout.readline()
        one.send_signal(signal.SIGSTOP)
        two.kill()
        grows(box)
        one.send_signal(signal.SIGCONT)
        assert one.stdout is not None
        assert one.stdout.readline()
        engine.kill("box", signal="KILL")
        one.stdout.read()
        assert one.wait() == 137


def test_more_clients_than_there_are_places(
    engine: Engine, busybox_image: str, clients: Any
) -> None:
    box = start(engine, busybox_image, "sh", "-c", COUNTER)
    many = [clients(box) for _ in range(31)]
    for client in many:
        client.line()
    with pytest.raises(Conflict, match="as many attached clients as it can have"):
        engine.attach(box.id, stdout=many[0]._writer)
    grows(box)
    engine.kill(box.id)


def test_a_reader_that_leaves(cli: Command, engine: Engine, busybox_image: str) -> None:
    """``attach | head``: the container and the other clients go on."""
    box = start(engine, busybox_image, "sh", "-c", COUNTER, name="box")
    command = " ".join([*cli.argv, "attach", "box", "|", "head", "-n", "1"])
    done = subprocess.run(["sh", "-c", command], env=cli.env, capture_output=True, timeout=60)
    assert done.stdout.strip().isdigit() and done.stderr == b""
    grows(box)
    assert engine.container("box").state.status is Status.RUNNING
    engine.kill("box")


# ---- protocol ----------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(engine: Engine, box: Container) -> Iterator[socket.socket]:
    directory = os.open(f"{engine.runtime_dir}/{box.id}", os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(30)
            connection.connect(f"/proc/self/fd/{directory}/attach")
            yield connection
    finally:
        os.close(directory)


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize(
    "packets",
    [
        [b"X"],
        [b"A"],
        [b"A\x02\x07"],
        [b"A\x01\x07\x00"],
        [b"I" * 100],
        [b"A\x01\x01", b"I" * 32769, b"I" * 32769],
        [b"A\x01\x01", b"Iabc", b"Idef", b"Ighi"],
        [b"A\x01\x01", b"I" * 60000],
        [b"A\x01\x01", b"Z"],
        [b"A\x01\x01", b"W", b"W" * 5, b"W" * 500],
        [b"A\x01\x01", b"E", b"Iafter the end"],
    ],
    ids=lambda packets: b" ".join(p[:4] for p in packets).hex(),
)
def test_what_a_client_may_say(
    engine: Engine, busybox_image: str, packets: list[bytes], tty: bool
) -> None:
    """Whatever it is, the monitor and the container go on."""
    box = start(engine, busybox_image, "sh", "-c", COUNTER, interactive=True, tty=tty)
    wait_for(lambda: os.path.exists(f"{engine.runtime_dir}/{box.id}/attach"), "the socket")
    for _ in range(3):
        with connected(engine, box) as connection, contextlib.suppress(OSError):
            for packet in packets:
                connection.send(packet)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    grows(box)
    assert engine.container(box.id).state.status is Status.RUNNING
    engine.kill(box.id)
    assert engine.container(box.id).state.exit_code == 137


def test_descriptors_that_nobody_asked_for(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, "sh", "-c", COUNTER)
    wait_for(lambda: os.path.exists(f"{engine.runtime_dir}/{box.id}/attach"), "the socket")
    grows(box)  # the log is open by now
    before = len(os.listdir(f"/proc/{box.state.monitor_pid}/fd"))
    for count in (1, 2, 5, 100):
        with connected(engine, box) as connection, contextlib.suppress(OSError):
            socket.send_fds(connection, [b"A\x01\x00"], [0] * count)
            socket.send_fds(connection, [b"W"], [0] * count)
            connection.recv(10)
    wait_for(lambda: len(os.listdir(f"/proc/{box.state.monitor_pid}/fd")) <= before, "descriptors")
    engine.kill(box.id)


def test_the_socket_is_its_owners(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image)
    path = f"{engine.runtime_dir}/{box.id}/attach"
    wait_for(lambda: os.path.exists(path), "the socket")
    assert os.stat(path).st_mode & 0o777 == 0o600
    with open("/proc/net/unix") as file:
        assert not any("@" in line and box.id in line for line in file)
    engine.kill(box.id)
    assert not os.path.exists(path)


# ---- states ------------------------------------------------------------------------------------


def test_states_that_cannot_be_attached_to(
    cli: Command, engine: Engine, busybox_image: str
) -> None:
    made = engine.create(ContainerConfig(image=busybox_image, command=["sleep", "1000"]))
    stopped = "cannot attach to a stopped container, start it first\n"
    assert cli.fails(1, "attach", made.id) == stopped
    engine.start(made.id)
    engine.pause(made.id)
    paused = "cannot attach to a paused container, unpause it first\n"
    assert cli.fails(1, "attach", made.id) == paused
    engine.kill(made.id)
    assert cli.fails(1, "attach", made.id) == stopped
    assert cli.fails(1, "attach", "nobody") == "Error: No such container: nobody\n"


def test_attaching_to_what_ends_at_once(engine: Engine, busybox_image: str) -> None:
    for _ in range(20):
        box = start(engine, busybox_image, "true")
        with contextlib.suppress(Conflict):
            assert engine.attach(box.id) == 0
        engine.remove(box.id, force=True)


def test_an_auto_remove_container_tells_its_status(
    engine: Engine, busybox_image: str, clients: Any
) -> None:
    box = start(
        engine, busybox_image, "sh", "-c", "read x; exit 42", interactive=True, auto_remove=True
    )
    source, sink = os.pipe()
    client = clients(box, stdin=source)
    os.write(sink, b"\n")
    client.join()
    assert client.status == 42
    wait_for(lambda: engine.containers(all=True) == [], "its removal")
    os.close(source)
    os.close(sink)


def test_signals_go_to_the_container(cli: Command, engine: Engine, busybox_image: str) -> None:
    script = "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    start(engine, busybox_image, "sh", "-c", f"read x; {script}", interactive=True, name="box")
    with cli.popen("attach", "box") as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(b"\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"ready\n"
        client.send_signal(signal.SIGTERM)
        assert client.stdout.readline() == b"told\n"
        assert client.wait() == 7


def test_async_attach_can_be_cancelled(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image)

    async def run() -> None:
        async with AsyncEngine(engine.root, engine.runtime_dir) as aio:
            task = asyncio.create_task(aio.attach(box.id))
            while not sockets_of(box):
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            task = asyncio.create_task(aio.attach(box.id))
            while not sockets_of(box):
                await asyncio.sleep(0.005)
            await aio.kill(box.id)
            assert await task == 137

    asyncio.run(run())


# ---- bytes -------------------------------------------------------------------------------------


def pattern(length: int) -> bytes:
    block = hashlib.sha512(b"fastbox").digest() * 1024
    return (block * (length // len(block) + 1))[:length]


@pytest.mark.parametrize("source", ["pipe", "file"])
def test_bytes_arrive_as_they_were_sent(
    cli: Command, busybox_image: str, base: str, source: str
) -> None:
    data = pattern(300 * MEBIBYTE)
    path = f"{base}/data"
    if source == "file":
        with open(path, "wb") as file:
            file.write(data)
        with open(path, "rb") as file:
            result = cli("run", "-i", "--rm", "--log-driver", "none", "busybox", "cat", stdin=file)
    else:
        result = cli("run", "-i", "--rm", "--log-driver", "none", "busybox", "cat", input=data)
    assert result.code == 0
    assert hashlib.sha256(result.raw).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("source", ["pipe", "file"])
def test_bytes_through_exec(cli: Command, busybox_image: str, base: str, source: str) -> None:
    cli.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    data = pattern(100 * MEBIBYTE)
    with open(f"{base}/data", "wb") as file:
        file.write(data)
    with open(f"{base}/data", "rb") as given, open(f"{base}/out", "wb") as out:
        streams: dict[str, Any] = {"stdin": given} if source == "file" else {"input": data}
        argv = [*cli.argv, "exec", "-i", "box", "cat"]
        subprocess.run(argv, env=cli.env, stdout=out, check=True, timeout=120, **streams)
    with open(f"{base}/out", "rb") as file:
        assert hashlib.sha256(file.read()).digest() == hashlib.sha256(data).digest()


def test_half_close(cli: Command, busybox_image: str) -> None:
    """The end of the input is told at once; the output goes on."""
    script = "cat > /dev/null; echo closed; sleep 0.1; echo more"
    with cli.popen("run", "-i", "--rm", "busybox", "sh", "-c", script) as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(b"something")
        client.stdin.close()
        assert client.stdout.read() == b"closed\nmore\n"
        assert client.wait() == 0


def test_input_of_a_detached_container(cli: Command, busybox_image: str, engine: Engine) -> None:
    """``run -di``: its input stays open from one client to the next."""
    box = start(engine, busybox_image, "cat", interactive=True, name="box")
    for text in (b"one\n", b"two\n"):
        with cli.popen("attach", "box") as client:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write(text)
            client.stdin.flush()
            assert client.stdout.readline() == text
            client.kill()
            client.stdin.close()
    wait_for(lambda: len(sockets_of(box)) == 0, "the clients to be gone")
    assert engine.container("box").state.status is Status.RUNNING
    engine.kill("box")


def test_input_that_is_open_once(cli: Command, busybox_image: str, engine: Engine) -> None:
    """``create -i`` and ``start``: the end of the first client's input is the container's."""
    cli.ok("create", "-i", "--name", "box", "busybox", "cat")
    cli.ok("start", "box")
    data = pattern(20 * MEBIBYTE)
    result = cli("attach", "box", input=data)
    assert (result.code, result.raw) == (0, data)
    assert engine.container("box").state.exit_code == 0


def test_detach_keys_are_bytes_without_a_terminal(
    cli: Command, busybox_image: str, engine: Engine
) -> None:
    """There is nothing to detach from: they go to the container, as all others do."""
    typed = b"a\x10\x11b\n"
    assert cli("run", "-i", "--rm", "busybox", "cat", input=typed).raw == typed
    cli.ok("create", "-i", "--name", "box", "busybox", "cat")
    cli.ok("start", "box")
    assert cli("attach", "--detach-keys", "ctrl-p", "box", input=typed).raw == typed


def test_a_container_that_does_not_read(cli: Command, busybox_image: str, engine: Engine) -> None:
    box = start(engine, busybox_image, "sh", "-c", COUNTER, interactive=True, name="box")
    with cli.popen("attach", "box") as client:
        assert client.stdin is not None and client.stdout is not None
        os.set_blocking(client.stdin.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(client.stdin.fileno(), bytes(65536))
                client.stdout.readline()
        for _ in range(100):
            client.stdout.readline()
        grows(box)
        client.kill()


def test_only_some_streams(cli: Command, busybox_image: str) -> None:
    script = "echo out; echo err >&2"
    run = ["run", "--rm"]
    result = cli(*run, "-a", "stdout", "busybox", "sh", "-c", script)
    assert (result.out, result.err) == ("out\n", "")
    result = cli(*run, "-a", "stderr", "busybox", "sh", "-c", script)
    assert (result.out, result.err) == ("", "err\n")


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_the_callers_files_stay_the_callers(
    cli: Command, busybox_image: str, base: str, verb: str
) -> None:
    """Root in the container could open what is behind a descriptor once more, to write to it."""
    with open(f"{base}/file", "w") as file:
        file.write("the host's\n")
    script = "cat; echo mine > /proc/self/fd/0; echo mine > /proc/self/fd/1; ls -l /proc/self/fd"
    words = ["run", "-i", "--rm", "busybox"]
    if verb == "exec":
        cli.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
        words = ["exec", "-i", "box"]
    with open(f"{base}/file") as given:
        result = cli(*words, "sh", "-c", script, stdin=given)
    assert result.out.startswith("the host's\n")
    assert base not in result.out and "pipe:" in result.out
    with open(f"{base}/file") as file:
        assert file.read() == "the host's\n"
