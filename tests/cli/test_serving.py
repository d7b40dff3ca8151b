"""Commands of the native client, run by the command server: as the Python command line runs them,
and without a trace of one client in what the next one gets."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fastbox import Engine, supervision
from fastbox.cli.serving import likeness, master
from fastbox.supervisor import board
from tests.support import client
from tests.support.boxes import start
from tests.support.command import Command, fastbox_program
from tests.support.keyboard import Keyboard
from tests.support.wait import wait_for

DIRECT = {"FASTBOX_DIRECT": "1"}


@pytest.fixture
def runtime(served: Command, runtime_dir: str) -> str:
    return runtime_dir


def status(runtime: str) -> dict[str, int]:
    found = supervision.status(runtime)
    assert found is not None
    return found


def commands(runtime: str) -> int:
    """How many the server has run."""
    return status(runtime)["commands"]


def workers(runtime: str) -> list[int]:
    """Their pids."""
    supervisor = status(runtime)["pid"]
    return [worker for parent in children(supervisor) for worker in children(parent)]


def children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        return []


def is_idle(worker: int) -> bool:
    return all(link(worker, f"fd/{number}") == os.devnull for number in range(3))


def link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def idle_workers(runtime: str) -> list[int]:
    """All of them, once they wait for clients."""
    return wait_for(
        lambda: (found := workers(runtime)) and all(map(waits, found)) and found, "idle workers"
    )


def waits(worker: int) -> bool:
    """Whether it waits for a client: then it takes no signals."""
    with open(f"/proc/{worker}/status") as file:
        fields = dict(line.split(":\t") for line in file if ":\t" in line)
    return is_idle(worker) and int(fields["SigBlk"], 16) != 0 and fields["State"][0] == "S"


def busy_worker(runtime: str) -> int:
    return wait_for(
        lambda: next((pid for pid in workers(runtime) if not is_idle(pid)), 0), "a busy worker"
    )


@pytest.fixture
def box(engine: Engine, busybox_image: str) -> str:
    """A container that runs until it is told to end."""
    script = "trap 'exit 3' TERM; while :; do sleep 1000 & wait; done"
    return start(engine, busybox_image, "sh", "-c", script).id


@pytest.fixture
def waiting(served: Command, box: str, runtime: str) -> Iterator[subprocess.Popen[bytes]]:
    """A client whose command waits for the box."""
    process = served.popen("wait", box)
    busy_worker(runtime)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


# ---- the same as ever ----------------------------------------------------------------------------


SAME = (
    ["--version"],
    [],
    ["ps", "--help"],
    ["ps", "-a", "--format", "{{.Image}}"],
    ["dance"],
    ["ps", "--dance"],
    ["inspect", "nobody"],
    ["--debug", "rm", "nobody"],
    ["run", "--memory=x", "busybox"],
    ["ps", "-f", "name=" + "x" * 120_000],
    ["ps", "-f", "name=\udcff", "--root"],
)


def test_same_output_and_status(served: Command, runtime: str) -> None:
    for words in SAME:
        there, here = served(*words), served(*words, env=DIRECT)
        assert (there.code, there.raw, there.err) == (here.code, here.raw, here.err)
    assert commands(runtime) == len(SAME)


def test_a_container_in_the_foreground(served: Command, busybox_image: str, runtime: str) -> None:
    run = ["run", "-i", "--rm", "--network", "none", "busybox"]
    result = served(*run, "sh", "-c", "cat; echo no >&2; exit 7", input="x\ny\n")
    assert (result.code, result.out, result.err) == (7, "x\ny\n", "no\n")
    shell = f"{' '.join(served.argv)} {' '.join(run)} sh -c 'while echo y; do :; done' | head -1"
    done = subprocess.run(
        ["bash", "-c", f"{shell}; exit ${{PIPESTATUS[0]}}"], env=served.env, capture_output=True
    )
    direct = subprocess.run(
        ["bash", "-c", f"{shell}; exit ${{PIPESTATUS[0]}}"],
        env={**served.env, **DIRECT}, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (direct.returncode, direct.stdout)
    assert commands(runtime) == 2


def test_the_reader_has_gone(served: Command, runtime: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = served.popen("ps", "--help", stdout=writer)
    os.close(writer)
    assert process.communicate()[1] == b""
    assert process.returncode == 141
    assert commands(runtime) == 1


def test_closed_streams(served: Command, runtime: str) -> None:
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        script = f"{' '.join(served.argv)} inspect nobody {closed}"
        results = [
            subprocess.run(["sh", "-c", script], env={**served.env, **extra}, capture_output=True)
            for extra in ({}, DIRECT)
        ]
        assert len({(r.returncode, r.stdout, r.stderr) for r in results}) == 1
    assert commands(runtime) == 4


def test_by_another_name(served: Command, runtime: str, base: str) -> None:
    name = f"{base}/other name"
    os.symlink(fastbox_program(), name)
    command = Command([name, *served.argv[1:]], served.home, env=served.env)
    assert command.ok("ps", "-q") == ""
    assert commands(runtime) == 1
    assert command.ok("ps", "-q", env=DIRECT) == ""


def test_what_is_not_handed_over(served: Command, runtime: str, base: str) -> None:
    name = f"{base}/fifty"
    with open(name, "w") as file:
        file.write("A=1\n")
    script = f"{' '.join(served.argv)} run --env-file <(cat {name}) nobody.invalid/x:y --x"
    subprocess.run(["bash", "-c", script], env=served.env, capture_output=True)
    served.ok("supervisor", "status")
    served("ps", env={"LC_ALL": "de_DE.ISO-8859-1"})
    served("ps", preexec_fn=lambda: os.nice(1))
    served("ps", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (60, 60)))
    served("ps", preexec_fn=lambda: os.setgid(1))
    served("ps", preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]))
    subprocess.run(["unshare", "-u", *served.argv, "ps"], env=served.env, capture_output=True)
    served("run", "-v", "proc/self:/x", "nobody.invalid/x:y", cwd="/")
    assert commands(runtime) == 0
    assert served.ok("ps", "-q") == ""
    assert commands(runtime) == 1


# ---- signals -------------------------------------------------------------------------------------


def test_a_signal(served: Command, box: str, runtime: str) -> None:
    for number, code in (
        (signal.SIGINT, 130),
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGHUP, -signal.SIGHUP),
        (signal.SIGALRM, -signal.SIGALRM),
    ):
        process = served.popen("wait", box)
        busy_worker(runtime)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (code, b"", b"")
        wait_for(lambda: all(map(is_idle, workers(runtime))), "the end of its worker")


def test_an_ignored_signal(served: Command, box: str, runtime: str) -> None:
    process = served.popen("wait", box, preexec_fn=lambda: signal.signal(1, signal.SIG_IGN))
    worker = busy_worker(runtime)
    process.send_signal(signal.SIGHUP)
    served.ok("stop", box)
    assert process.communicate()[0] == b"3\n"
    wait_for(lambda: not ignores(worker, signal.SIGHUP), "the end of ignoring it")


def ignores(pid: int, number: signal.Signals) -> bool:
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":\t") for line in file if ":\t" in line)
    return bool(int(fields["SigIgn"], 16) >> (number - 1) & 1)


def test_a_foreground_container_gets_signals(
    served: Command, engine: Engine, busybox_image: str
) -> None:
    script = "trap 'echo one' INT; trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    words = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]
    with served.popen(*words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"one\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 5


def test_stopped_and_continued(served: Command, box: str, runtime: str) -> None:
    shell = Command(["bash", "--norc", "-i"], served.home, env={**served.env, "PS1": "# "})
    with Keyboard(shell) as keyboard:
        keyboard.see("# ")
        keyboard.type(f"{' '.join(served.argv)} wait {box}\r")
        worker = busy_worker(runtime)
        keyboard.type("\x1a")
        keyboard.see("Stopped")
        assert state(worker) == "T"
        keyboard.type("fg\r")
        wait_for(lambda: state(worker) == "S", "its going on")
        served.ok("stop", box)
        keyboard.see("\n3\r\n")
        keyboard.type("exit\r")
        assert keyboard.wait() == 0


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0]


# ---- nothing is left in a worker -----------------------------------------------------------------


def test_a_worker_forgets_its_client(
    served: Command, busybox_image: str, runtime: str, base: str
) -> None:
    def prepare() -> None:
        os.umask(0o077)
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 2048))

    before = {worker: traits(worker) for worker in idle_workers(runtime)}
    served.ok("save", "-o", "one.tar", "busybox", cwd=base, preexec_fn=prepare)
    name = served.ok(
        "create", "-e", "SECRET", "--network", "none", "busybox", env={"SECRET": "x"}, cwd=base
    )
    assert stat.S_IMODE(os.stat(f"{base}/one.tar").st_mode) == 0o600
    assert commands(runtime) == 2
    after = {worker: traits(worker) for worker in idle_workers(runtime)}
    for worker in before.keys() & after.keys():
        assert after[worker] == before[worker]
    for _ in range(2 * len(after)):
        other = served.ok("create", "-e", "SECRET", "--network", "none", "busybox")
        variables = json.loads(served.ok("inspect", other))[0]["Config"]["Env"]
        assert not [entry for entry in variables if "x" in entry.partition("SECRET=")[2]]
    assert "SECRET=x" in json.loads(served.ok("inspect", name))[0]["Config"]["Env"]


def traits(pid: int) -> tuple[object, ...]:
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":\t") for line in file if ":\t" in line)
    with open(f"/proc/{pid}/limits") as file:
        limits = file.read()
    signals = [fields[name] for name in ("SigBlk", "SigIgn")]
    standard = [link(pid, f"fd/{number}") for number in range(3)]
    return fields["Umask"], limits, link(pid, "cwd"), signals, standard


def test_a_pipe_ends_with_the_command(served: Command, runtime: str) -> None:
    """Though the worker lives on."""
    lived = set(workers(runtime))
    reader, writer = os.pipe()
    process = served.popen("ps", "-q", stdout=writer)
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b""
    process.communicate()
    assert commands(runtime) == 1
    assert lived & set(workers(runtime)) == lived


def test_many_at_once(served: Command, box: str, runtime: str) -> None:
    waits = [served.popen("wait", box) for _ in range(5)]
    wait_for(lambda: sum(not is_idle(pid) for pid in workers(runtime)) == 5, "five busy workers")
    assert served.ok("ps", "-q")
    wait_for(lambda: len(workers(runtime)) > 5, "another worker")
    served.ok("kill", box)
    assert [process.communicate() for process in waits] == [(b"137\n", b"")] * 5
    assert commands(runtime) == 7


# ---- faults --------------------------------------------------------------------------------------


def test_the_worker_is_killed(
    waiting: subprocess.Popen[bytes], served: Command, runtime: str
) -> None:
    os.kill(busy_worker(runtime), signal.SIGKILL)
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out) == (125, b"")
    assert err == (
        b"Error: the fastbox process that did this was killed; what it was doing may be half done\n"
    )
    assert served.ok("ps", "-q")
    assert commands(runtime) == 1


def test_the_master_is_killed(
    waiting: subprocess.Popen[bytes], served: Command, box: str, runtime: str
) -> None:
    (first,) = children(status(runtime)["pid"])
    idle = [pid for pid in workers(runtime) if is_idle(pid)]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not any(map(lives, idle)), "the end of idle workers")
    assert served.ok("ps", "-q")  # whoever runs it
    wait_for(lambda: len(workers(runtime)) >= 2, "new workers")
    served.ok("stop", box)
    assert waiting.communicate() == (b"3\n", b"")


def test_the_supervisor_is_killed(
    waiting: subprocess.Popen[bytes], served: Command, box: str, runtime: str
) -> None:
    found = [*workers(runtime), *children(status(runtime)["pid"])]
    os.kill(status(runtime)["pid"], signal.SIGKILL)
    wait_for(lambda: sum(map(lives, found)) == 1, "the end of all but the busy one")
    assert os.path.exists(supervision.command_socket_path(runtime))  # stale
    served.ok("stop", box)
    assert waiting.communicate() == (b"3\n", b"")
    wait_for(lambda: not any(map(lives, found)), "the end of the busy one")


def lives(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}") and state(pid) not in "ZX"


@pytest.mark.parametrize("options", [[], ["--rm"]], ids=["kept", "rm"])
def test_the_client_is_killed(
    served: Command, engine: Engine, busybox_image: str, runtime: str, options: list[str]
) -> None:
    """The container goes on, as with Docker; with --rm it goes when it ends."""
    script = "echo ready; trap 'exit 0' TERM; while :; do sleep 0.05; done"
    words = ["run", *options, "--network", "none", "--name", "it", "busybox", "sh", "-c", script]
    with served.popen(*words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        worker = busy_worker(runtime)
        process.kill()
    wait_for(lambda: not lives(worker), "the end of its worker")
    assert served.ok("ps", "--format", "{{.Names}}") == "it"
    served.ok("stop", "it")
    wait_for(lambda: served.ok("ps", "-aq") == "" or not options, "the end of --rm")
    assert bool(served.ok("ps", "-aq")) is not bool(options)


# ---- who may ask, and what -----------------------------------------------------------------------


def test_a_stale_socket(cli: Command, runtime_dir: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(supervision.command_socket_path(runtime_dir))
    assert cli.ok("ps", "-q") == ""


FORGER = """
import os, sys
from tests.support import client
with client.connect(sys.argv[1]) as connection:
    data = client.request("ps", like=bytes.fromhex(sys.argv[2]))
    try:
        client.send(connection, data, [os.open("/", os.O_RDONLY), 0, 1, 2])
        answer = client.answer(connection)
    except BrokenPipeError:
        answer = None
print("taken" if answer and answer[0] == "A" else "refused")
"""


@pytest.mark.parametrize("outside, said", [([], "taken"), (["unshare", "-m"], "refused")])
def test_a_container_that_got_at_the_socket(
    served: Command, runtime: str, outside: list[str], said: str
) -> None:
    """What it says of itself is not believed."""
    like = likeness.of_self().hex()
    argv = [*outside, sys.executable, "-c", FORGER, runtime, like]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == said


IMPOSTOR = """
import os, socket, sys
if len(sys.argv) > 2:
    os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("ready", flush=True)
    connection, _ = listener.accept()
    print(len(connection.recv(1 << 20)), flush=True)
"""


@pytest.mark.parametrize("who", ["user", "container"])
def test_somebody_else_listens(cli: Command, runtime_dir: str, who: str) -> None:
    os.chmod(os.path.dirname(runtime_dir), 0o711)
    os.chmod(os.path.dirname(os.path.dirname(runtime_dir)), 0o711)
    os.chmod(runtime_dir, 0o777)
    path = supervision.command_socket_path(runtime_dir)
    argv = [sys.executable, "-c", IMPOSTOR, path]
    argv = [*argv, who] if who == "user" else ["unshare", "-m", *argv]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd="/") as impostor:
        assert impostor.stdout is not None
        assert impostor.stdout.readline() == b"ready\n"
        assert cli.ok("ps", "-q") == ""
        assert impostor.stdout.readline() == b"0\n"  # it was told nothing


def test_somebody_else_asks(served: Command, runtime: str) -> None:
    path = supervision.command_socket_path(runtime)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    os.chmod(path, 0o666)
    for directory in (runtime, os.path.dirname(runtime), os.path.dirname(os.path.dirname(runtime))):
        os.chmod(directory, 0o711)
    argv = [sys.executable, "-c", STRANGER, path]
    done = subprocess.run(argv, capture_output=True, cwd="/")
    assert done.stdout == b"R\n", done.stderr


STRANGER = """
import os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    os.setgid(65534); os.setuid(65534)
    connection.connect(sys.argv[1])
    print(connection.recv(8)[:1].decode())
"""


def test_another_version(served: Command, runtime: str) -> None:
    like = bytearray(client.likeness.of_self())
    like[:5] = b"9.9.9"
    with client.connect(runtime) as connection, open(os.devnull, "rb") as null:
        client.send(connection, client.request("ps", like=bytes(like)), [null.fileno()] * 4)
        assert client.answer(connection) == ("R", 0)
    assert commands(runtime) == 0


def test_what_no_client_sends(served: Command, runtime: str) -> None:
    good = client.request("ps")
    before = {pid: descriptors(pid) for pid in idle_workers(runtime)}
    for data, count in (
        (b"x", 0),
        (b"GET / HTTP/1.0\r\n\r\n" * 100, 0),
        (good[:-3], 4),
        (good, 0),
        (good, 3),
        (good, 5),
        (good, 30),
        (client.request("ps", magic=1), 4),
        (client.request("ps", count=9), 4),
        (client.request("ps", opened=0xFF), 4),
        (good + b"x" * 70_000, 4),
    ):
        with client.connect(runtime) as connection, open(os.devnull, "rb") as null:
            client.send(connection, data, [null.fileno()] * count)
            assert client.answer(connection) in (None, ("R", 0))
    after = {pid: descriptors(pid) for pid in idle_workers(runtime)}
    assert {pid: after[pid] for pid in before.keys() & after.keys()} == before
    assert served.ok("ps", "-q") == ""
    assert commands(runtime) == 1


def descriptors(pid: int) -> list[str]:
    return sorted(os.listdir(f"/proc/{pid}/fd"))


def test_a_client_that_says_nothing(served: Command, runtime: str) -> None:
    silent = [client.connect(runtime) for _ in range(4)]
    assert served.ok("ps", "-q") == ""
    assert [client.answer(connection) for connection in silent] == [None] * 4
    for connection in silent:
        connection.close()
    assert served.ok("ps", "-q") == ""
    assert commands(runtime) >= 1


def test_nobody_has_time(cli: Command, runtime_dir: str) -> None:
    """Beyond the most workers, clients run their command themselves."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(supervision.command_socket_path(runtime_dir))
        listener.listen()
        process = cli.popen("ps", "-q")
        master.refuse(listener)
        assert process.communicate()[0] == b""
        assert process.returncode == 0
    page = os.memfd_create("board")
    os.ftruncate(page, 4096)
    found = board.Board(page)
    assert [found.take() for _ in range(board.SLOTS)] == list(range(board.SLOTS))
    assert found.take() is None
    found.close()
    os.close(page)


def test_status_tells(served: Command, runtime: str) -> None:
    served.ok("ps")
    shown = dict(line.split(": ") for line in served.ok("supervisor", "status").splitlines())
    assert int(shown["Workers"]) >= 2
    assert shown["Commands served"] == "1"


def test_a_client_without_the_python_command_line(base: str, home: str) -> None:
    alone = os.path.join(base, "fastbox")
    shutil.copy(fastbox_program(), alone)
    error = Command([alone], home, env=DIRECT).fails(125, "ps")
    assert error.startswith(f"Error: running {base}/fastbox-python failed: it has to be beside")
    assert len(error.splitlines()) == 1
