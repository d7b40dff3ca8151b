"""The supervisor's pools: what the configuration names is prepared; every start takes from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastbox
from fastbox import ContainerConfig, Engine, Status, supervision
from fastbox.container import pool_client, pool_sweep
from fastbox.supervisor import pools
from tests.support import boxes
from tests.support.command import Command
from tests.support.wait import wait_for

TABLE = '[[pool]]\nimage = "{image}"\nsize = 2\nnetwork = "none"\n'


@pytest.fixture
def configure(base: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write the configuration that the supervisor will read."""
    path = os.path.join(base, "pools.toml")
    monkeypatch.setenv("FASTBOX_CONFIG", path)

    def write(text: str) -> None:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write('daemon-json = ""\n' + text)
        os.rename(f"{path}.new", path)

    return write


@pytest.fixture
def supervised(
    engine: Engine, configure: Callable[[str], None], busybox_image: str
) -> Iterator[Engine]:
    """An engine whose supervisor has a full pool."""
    configure(TABLE.format(image=busybox_image))
    engine.start_supervisor()
    wait_for(lambda: first(engine).get("ready") == 2, "a full pool")
    yield engine
    engine.stop_supervisor()
    assert list(pool_sweep.records(engine._containers)) == []
    assert not os.path.exists(pool_client.socket_path(engine.runtime_dir))


def first(engine: Engine) -> dict[str, Any]:
    status = engine.supervisor_status()
    assert status is not None
    return status["pools"][0] if status["pools"] else {}


def taken(engine: Engine) -> int:
    return int(first(engine)["taken"])


def taken_are(engine: Engine, count: int) -> None:
    """The supervisor counts one when it has handed it over, which the other side may see before."""
    wait_for(lambda: taken(engine) == count, f"{count} taken: {taken(engine)}")


def test_every_face_takes_from_it(supervised: Engine, busybox_image: str, cli: Command) -> None:
    run = ("run", "--rm", "--network", "none")
    done = cli(*run, "-e", "A=b", busybox_image, "sh", "-c", "echo $A; echo err >&2; exit 3")
    assert (done.code, done.out, done.err) == (3, "b\n", "err\n")
    taken_are(supervised, 1)
    result = fastbox.run(busybox_image, ["cat"], input=b"x", network="none", engine=supervised)
    assert result.stdout == b"x"
    taken_are(supervised, 2)
    box = cli(*run, "-d", busybox_image, "sleep", "1000").out.strip()
    assert supervised.container(box).state.status is Status.RUNNING
    assert supervised.container(box).record.args == ["1000"]
    taken_are(supervised, 3)
    done = cli(*run, busybox_image, "nosuch")
    assert (done.code, "executable file not found in $PATH" in done.err) == (127, True)
    supervised.remove(box, force=True)
    assert "0 missed" in cli("supervisor", "status").out


def test_what_does_not_match_starts_ordinarily(
    supervised: Engine, busybox_image: str, cli: Command
) -> None:
    others = (["--network", "none", "--rm", "-m", "64m"], ["--rm", "--network", "host"],
              ["--network", "none"], ["--rm", "--network", "none", "--name", "web"],
              ["--rm", "--network", "none", "-u", "1"])  # fmt: skip
    for options in others:
        assert cli("run", *options, busybox_image, "echo", "x").out == "x\n"
    assert taken(supervised) == 0


def test_whoever_is_not_like_the_supervisor_makes_its_own(
    supervised: Engine, busybox_image: str, cli: Command, base: str
) -> None:
    """A prepared one has the supervisor's rights, namespaces, priority and store."""
    line = ["run", "--rm", "--network", "none", busybox_image, "sh", "-c"]
    less = ["setpriv", "--bounding-set=-net_raw", *cli.argv, *line, "grep CapBnd /proc/self/status"]
    done = subprocess.run(less, env=cli.env, capture_output=True, check=True)
    assert done.stdout == b"CapBnd:\t00000000a80405fb\n"
    nice = "cut -d ' ' -f 19 /proc/self/stat"
    assert cli(*line, nice, preexec_fn=lambda: os.nice(3)).out == "3\n"
    other = ["unshare", "-n", *cli.argv, *line, "echo x"]
    assert subprocess.run(other, env=cli.env, capture_output=True, check=True).stdout == b"x\n"
    elsewhere = ["--root", f"{base}/elsewhere", "--runtime-dir", supervised.runtime_dir]
    done = subprocess.run([cli.argv[0], *elsewhere, *line, "true"], env=cli.env)
    assert done.returncode == 125  # there is no such image
    assert taken(supervised) == 0


def test_an_image_with_more_to_tell_than_a_packet_holds(
    engine: Engine, configure: Callable[[str], None], busybox_image: str
) -> None:
    configure("")
    for size in (pool_client.PACKET, pool_client.PACKET * 6 // 5):
        boxes.image(engine, f"long{size}", {}, [f"LABEL long={'x' * size}"])
        configure(TABLE.format(image=f"long{size}"))
        kept = pools.Pools(engine)
        kept._look()
        assert kept._kept[0].pool is not None, kept._kept[0].error
        kept._kept[0].pool.wait(30)
        result = fastbox.run(f"long{size}", ["echo", "x"], network="none", engine=engine)
        assert result.stdout == b"x\n"
        kept.close()


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
def test_somebody_else_listens(engine: Engine, busybox_image: str, who: str) -> None:
    os.makedirs(engine.runtime_dir, exist_ok=True)
    directory = engine.runtime_dir
    os.chmod(directory, 0o777)
    while (directory := os.path.dirname(directory)) not in ("/tmp", "/"):
        os.chmod(directory, 0o711)
    argv = [sys.executable, "-c", IMPOSTOR, pool_client.socket_path(engine.runtime_dir)]
    argv = [*argv, who] if who == "user" else ["unshare", "-m", *argv]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd="/") as impostor:
        assert impostor.stdout is not None
        assert impostor.stdout.readline() == b"ready\n"
        result = fastbox.run(busybox_image, ["echo", "x"], network="none", engine=engine)
        assert result.stdout == b"x\n"
        assert impostor.stdout.read() == b"0\n"  # it was told nothing


def test_one_that_is_never_started(supervised: Engine, busybox_image: str) -> None:
    config = ContainerConfig(
        image=busybox_image, command=["true"], network="none", auto_remove=True
    )
    box = supervised.create(config, transient=True)
    taken_are(supervised, 1)
    assert supervised.container(box.id).state.status is Status.CREATED
    supervised.remove(box.id)
    assert not os.path.exists(box.directory)


def test_a_killed_supervisor(supervised: Engine, busybox_image: str, cli: Command) -> None:
    os.kill(supervision.owner(supervised.runtime_dir), signal.SIGKILL)
    wait_for(
        lambda: not list(pool_sweep.records(supervised._containers)), "the monitors to clean up"
    )
    run = ("run", "--rm", "--network", "none", busybox_image, "echo", "x")
    assert cli(*run).out == "x\n"  # its socket is there still
    supervised.start_supervisor()
    wait_for(lambda: first(supervised).get("ready") == 2, "a full pool")


def test_a_changed_configuration(
    engine: Engine,
    configure: Callable[[str], None],
    busybox_image: str,
) -> None:
    kept = pools.Pools(engine)
    told: list[str] = []
    kept._note = told.append
    configure(TABLE.format(image="nosuch"))
    kept._look()
    assert kept.status()[0]["error"] == "No such image: nosuch:latest"
    configure(TABLE.format(image=busybox_image))
    kept._look()
    assert kept.status()[0]["error"] == ""
    configure('[[pool]]\nimage = "x"\nsze = 1\n')
    kept._look()
    assert "pools.toml:4: pool.sze: unknown key" in told[-1]
    assert kept.problem == told[-1]
    assert len(kept.status()) == 1  # as it was
    configure("")
    kept._look()
    assert kept.status() == [] and kept.problem == ""
    kept.close()
