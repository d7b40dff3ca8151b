"""The supervisor's process: one per store, whatever is done to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from fastbox import Engine, RestartPolicy, supervision
from fastbox.errors import Conflict, FastboxError
from fastbox.supervisor.log import MAX_SIZE, Log
from fastbox.supervisor.ownership import Ownership, notify
from tests.support.boxes import start
from tests.support.command import Command
from tests.support.wait import wait_for

ALWAYS = RestartPolicy(name="always")


def test_start_status_stop(cli: Command, engine: Engine) -> None:
    assert cli("supervisor", "status").code == 3
    assert cli.ok("supervisor", "status", "--help").startswith("Usage:  fastbox supervisor status")
    started = cli.ok("supervisor", "start")
    pid = supervision.owner(engine.runtime_dir)
    assert started == f"supervisor is running (pid {pid})"
    assert cli.ok("supervisor", "start", "--quiet") == ""
    shown = dict(line.split(": ") for line in cli.ok("supervisor", "status").splitlines())
    assert shown["Active"].startswith("active (running) since ")
    assert (shown["PID"], shown["Root"]) == (str(pid), engine.root)
    assert cli.ok("supervisor", "stop") == ""
    stopped = cli("supervisor", "status")
    assert (stopped.code, stopped.out) == (3, "Active: inactive\n")
    assert cli.ok("supervisor", "stop") == ""


def test_it_is_a_process_of_its_own(engine: Engine) -> None:
    pid = engine.start_supervisor()["pid"]
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(") ")[2].split()
    assert int(fields[3]) not in (os.getsid(0), 0)
    assert int(fields[1]) != os.getpid()
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    links = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)}
    assert links == {"/dev/null"}
    status = os.stat(supervision.socket_path(engine.runtime_dir))
    assert status.st_mode & 0o777 == 0o600


def test_a_second_one_names_the_first(cli: Command, engine: Engine) -> None:
    pid = engine.start_supervisor()["pid"]
    for options in ([], ["--detach"]):
        result = cli("supervisor", "run", *options)
        assert result.code == 1
        assert result.err.strip().removeprefix("Error: ") == (
            f"a supervisor of {engine.runtime_dir} is running already (pid {pid})"
        )


def test_several_starters_at_once(cli: Command, engine: Engine) -> None:
    racers = [cli.popen("supervisor", "start") for _ in range(6)]
    said = {racer.communicate()[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 6
    assert len(said) == 1
    assert _supervisors(engine) == [supervision.owner(engine.runtime_dir)]


def _supervisors(engine: Engine) -> list[int]:
    found = []
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if b"supervisor" in words and os.fsencode(engine.root) in words:
            found.append(int(entry))
    return found


def test_a_stale_socket_and_lock_are_no_hindrance(engine: Engine) -> None:
    first = engine.start_supervisor()["pid"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not supervision.is_running(engine.runtime_dir), "its end")
    path = supervision.socket_path(engine.runtime_dir)
    assert os.path.exists(path)
    with pytest.raises(ConnectionRefusedError):
        supervision.ask(engine.runtime_dir, request="status")
    assert engine.supervisor_status() is None
    second = engine.start_supervisor()["pid"]
    assert second != first
    assert os.path.exists(path)


def test_who_only_looks_does_not_keep_it_from_starting(engine: Engine, base: str) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            supervision.is_running(engine.runtime_dir)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            owned = Ownership(engine.runtime_dir)
            assert supervision.owner(engine.runtime_dir) == os.getpid()
            with pytest.raises(Conflict, match=f"pid {os.getpid()}"):
                Ownership(engine.runtime_dir)
            owned.release()
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_requests(engine: Engine) -> None:
    engine.start_supervisor()
    runtime = engine.runtime_dir
    assert supervision.ask(runtime, poke="0" * 64) == {"ok": True}  # of a container that is gone
    for request in ({"poke": 1}, {"request": "dance"}, {}):
        with pytest.raises(FastboxError, match="unknown request"):
            supervision.ask(runtime, **request)
    for data in (b"\n", b"[1]\n", b"\xff\xfe\n", b'{"poke": "../../etc"}\n'):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(supervision.socket_path(runtime))
            connection.sendall(data)
            answer = json.loads(connection.recv(4096))
            assert answer.keys() & {"error", "ok"}
    with socket.socket(socket.AF_UNIX) as connection:  # a line without end
        connection.connect(supervision.socket_path(runtime))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                connection.sendall(b"x" * 65536)
    status = engine.supervisor_status()
    assert status is not None
    wait_for(lambda: engine.supervisor_status()["watched"] == 0, "nothing to watch")  # type: ignore[index]


def test_clients_that_say_nothing_hold_nothing_up(engine: Engine) -> None:
    engine.start_supervisor()
    silent = []
    for _ in range(50):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(supervision.socket_path(engine.runtime_dir))
        silent.append(connection)
    assert engine.supervisor_status() is not None
    for connection in silent:
        connection.close()


def test_one_that_is_halted_holds_no_command_up(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = engine.start_supervisor()["pid"]
    monkeypatch.setattr(supervision, "ANSWER", 0.2)
    os.kill(pid, signal.SIGSTOP)
    try:
        start(engine, busybox_image, name="box", restart=ALWAYS)
        assert [box.name for box in engine.containers()] == ["box"]
        with pytest.raises(FastboxError, match=f"the supervisor \\(pid {pid}\\) does not answer"):
            engine.supervisor_status()
        os.kill(engine.container("box").state.pid, signal.SIGKILL)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: engine.container("box").state.restart_count == 1, "the restart")


def test_a_store_with_a_long_path(base: str, new_root: object) -> None:
    root = new_root("r" + "o" * 100 + "t")  # type: ignore[operator]
    engine = Engine(root, root + ".run")
    assert engine.start_supervisor()["root"] == root


def test_sigterm_ends_it_and_containers_go_on(engine: Engine, busybox_image: str) -> None:
    box = start(engine, busybox_image, "sh", "-c", "trap '' TERM; sleep 1000", restart=ALWAYS)
    pid = supervision.owner(engine.runtime_dir)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not supervision.is_running(engine.runtime_dir), "its end")
    assert not os.path.exists(supervision.socket_path(engine.runtime_dir))
    assert not supervision.was_stopped(engine.runtime_dir)
    assert engine._containers.state(box.record).pid == box.state.pid
    with open(f"{engine.root}/supervisor.log") as file:
        assert file.read().splitlines()[-1].endswith(f" {pid} ended")


def test_a_container_whose_state_is_damaged_or_newer_is_left_alone(
    engine: Engine, busybox_image: str
) -> None:
    bad = start(engine, busybox_image, name="bad", restart=ALWAYS)
    newer = start(engine, busybox_image, name="newer", restart=ALWAYS)
    start(engine, busybox_image, name="good", restart=ALWAYS)
    engine.stop_supervisor()
    texts = ((bad, "{"), (newer, '{"version": 99}'))
    whole = {}
    for box, text in texts:
        path = f"{box.directory}/container.json"
        with open(path) as file:
            whole[path] = file.read()
        with open(path, "w") as file:
            file.write(text)
    engine.start_supervisor()
    os.kill(engine.container("good").state.pid, signal.SIGKILL)
    wait_for(lambda: engine.container("good").state.restart_count == 1, "the restart")
    with open(f"{engine.root}/supervisor.log") as file:
        log = file.read()
    assert f"{bad.short_id} is left alone: reading " in log
    assert (
        f"{newer.short_id} is left alone: reading {newer.directory}/container.json failed: " in log
    )
    assert "it is of version 99" in log
    for path, text in whole.items():
        with open(path, "w") as file:
            file.write(text)


def test_why_it_could_not_be_started(engine: Engine, base: str) -> None:
    os.mkdir(supervision.lock_path(engine.runtime_dir))
    with pytest.raises(FastboxError, match=r"the supervisor cannot be started: .*directory"):
        engine.start_supervisor()
    os.rmdir(supervision.lock_path(engine.runtime_dir))


def test_a_container_is_started_without_it_and_told_so(
    cli: Command, engine: Engine, busybox_image: str
) -> None:
    os.mkdir(supervision.lock_path(engine.runtime_dir))
    result = cli("run", "-d", "--name", "box", "--restart", "always", "busybox", "sleep", "1000")
    os.rmdir(supervision.lock_path(engine.runtime_dir))
    assert result.code == 0
    assert result.err.startswith("WARNING: the supervisor cannot be started: ")
    assert result.err.endswith("; restart policies and health checks are not acted on\n")


# ---- systemd's side --------------------------------------------------------------------------

ACTIVATED = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1]); listener.listen()
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), NOTIFY_SOCKET=sys.argv[2])
os.execv(sys.argv[3], sys.argv[3:])
"""


def test_socket_activation_and_notification(cli: Command, engine: Engine, base: str) -> None:
    path = supervision.socket_path(engine.runtime_dir)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{base}/notify")
        manager.settimeout(30)
        argv = [sys.executable, "-c", ACTIVATED, path, f"{base}/notify", *cli.argv]
        with subprocess.Popen([*argv, "supervisor", "run"], env=cli.env, cwd="/") as service:
            assert manager.recv(100) == b"READY=1"
            status = engine.supervisor_status()
            assert status is not None
            assert status["pid"] == service.pid
            engine.stop_supervisor()
            assert manager.recv(100) == b"STOPPING=1"
            assert service.wait() == 0
    assert os.path.exists(path)  # it is systemd's


def test_notify_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("", "nonsense", "/nonexistent/socket"):
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("READY=1")


def test_the_log_is_bounded(base: str) -> None:
    log = Log(f"{base}/log")
    line = "x" * 100_000
    for _ in range(MAX_SIZE * 3 // len(line)):
        log.write(line)
    log.close()
    assert sorted(os.listdir(base)) == ["log", "log.1"]
    for name in ("log", "log.1"):
        assert os.path.getsize(f"{base}/{name}") < MAX_SIZE + 2 * len(line)


@pytest.mark.usefixtures("busybox_image")
def test_many_stopped_containers_do_not_keep_it_from_starting(engine: Engine) -> None:
    from fastbox import ContainerConfig

    for _ in range(200):
        engine.create(ContainerConfig(image="busybox", restart=ALWAYS))
    began = time.monotonic()
    status = engine.start_supervisor()
    assert status["pid"]
    assert time.monotonic() - began < supervision.START
    wait_for(lambda: engine.supervisor_status()["watched"] == 0, "nothing to watch")  # type: ignore[index]
