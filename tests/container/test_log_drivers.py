"""journald and syslog: what is sent, and that a daemon which does not keep up holds up nobody."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from fastbox.container import logging
from fastbox.container.config import ContainerConfig
from fastbox.container.record import ContainerRecord, Status
from fastbox.engine import Engine
from fastbox.errors import InvalidArgument, Unsupported
from tests.support.boxes import start
from tests.support.command import Command


class Daemon:
    """A datagram socket that a log daemon would have."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(30)

    def take(self) -> str:
        return self.socket.recv(1 << 20).decode()

    def close(self) -> None:
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


@pytest.fixture
def daemon(base: str) -> Iterator[Daemon]:
    made = Daemon(f"{base}/log")
    yield made
    made.close()


def options(daemon: Daemon, **more: str) -> dict[str, str]:
    return {"syslog-address": f"unixgram://{daemon.path}", **more}


# ---- syslog ------------------------------------------------------------------------------------


def test_syslog(engine: Engine, busybox_image: str, daemon: Daemon) -> None:
    script = "echo one; echo two >&2; sleep 0.1; printf three"
    box = start(
        engine, busybox_image, "sh", "-c", script,
        log_driver="syslog", log_options=options(daemon, tag="{{.Name}}/x"), name="talker",
    )  # fmt: skip
    got = sorted(daemon.take() for _ in range(3))
    when = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    # daemon.info for stdout, daemon.err for stderr
    assert re.fullmatch(rf"<27>{when} talker/x\[\d+\]: two", got[0])
    assert re.fullmatch(rf"<30>{when} talker/x\[\d+\]: one", got[1])
    assert got[2].endswith("]: three")
    engine.wait(box.id)
    with pytest.raises(Unsupported, match="does not support reading"):
        list(engine.logs(box.id))


def test_a_long_line_comes_in_pieces(engine: Engine, busybox_image: str, daemon: Daemon) -> None:
    script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo end"
    start(
        engine, busybox_image, "sh", "-c", script, log_driver="syslog", log_options=options(daemon)
    )
    got = [daemon.take().split("]: ", 1)[1] for _ in range(4)]
    assert [len(text) for text in got] == [16384, 16384, 40000 - 2 * 16384, 3]


def test_a_daemon_that_does_not_read(engine: Engine, busybox_image: str, daemon: Daemon) -> None:
    """Its queue holds a few datagrams; the rest is dropped and counted."""
    box = start(
        engine, busybox_image, "sh", "-c", "seq 20000; exit 5",
        log_driver="syslog", log_options=options(daemon),
    )  # fmt: skip
    assert engine.wait(box.id) == 5
    with open(f"{box.directory}/exit") as file:
        dropped = re.search(r'"log_bytes_dropped":(\d+)', file.read())
    assert dropped is not None and int(dropped.group(1)) > 50000


def test_a_daemon_that_is_restarted(engine: Engine, busybox_image: str, daemon: Daemon) -> None:
    box = start(
        engine, busybox_image, "sh", "-c", "while read x; do echo $x; done",
        log_driver="syslog", log_options=options(daemon), interactive=True,
    )  # fmt: skip
    source, sink = os.pipe()
    client = threading.Thread(target=lambda: engine.attach(box.id, stdin=source))
    client.start()
    os.write(sink, b"before\n")
    assert daemon.take().endswith("]: before")
    daemon.close()
    os.write(sink, b"lost\n")
    again = Daemon(daemon.path)
    try:
        os.write(sink, b"after\n")
        text = ""
        while not text.endswith("after"):
            text = again.take()
        assert engine.container(box.id).state.status is Status.RUNNING
    finally:
        again.close()
        engine.kill(box.id)
        client.join()
        for fd in (source, sink):
            os.close(fd)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "given", "message"),
    [
        ("fluentd", {}, "no log driver named 'fluentd' is registered"),
        ("syslog", {"foo": "1"}, "unknown log opt 'foo' for syslog log driver"),
        ("cri", {"tag": "x"}, "unknown log opt 'tag' for cri log driver"),
        ("syslog", {"syslog-facility": "foo"}, "invalid syslog facility"),
        ("syslog", {"tag": "{{.Foo}}"}, "only plain text and fields can be used"),
        ("syslog", {"tag": "{{range}}"}, "only plain text and fields can be used"),
        ("syslog", {"tag": "a\nb"}, "only plain text and fields can be used"),
        ("syslog", {"syslog-address": "udp://1.2.3.4:514"}, "invalid syslog-address"),
        ("syslog", {"syslog-address": "unixgram:///nonexistent"}, "syslog does not run"),
    ],
)
def test_refused(
    engine: Engine, busybox_image: str, driver: str, given: dict[str, str], message: str
) -> None:
    config = ContainerConfig(image=busybox_image, log_driver=driver, log_options=given)
    with pytest.raises((InvalidArgument, Unsupported), match=re.escape(message)):
        engine.create(config)
    assert engine.containers(all=True) == []


# ---- journald ----------------------------------------------------------------------------------

# A real journald on a /run of its own: started in a mount namespace, without systemd.
JOURNALD = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
/lib/systemd/systemd-journald & daemon=$!
trap 'kill $daemon; wait $daemon' EXIT
for i in $(seq 200); do [ -S /run/systemd/journal/socket ] && break; sleep 0.02; done
exec 3>&1
"$@"
"""


def test_journald(cli: Command, busybox_image: str) -> None:
    script = r"""
fb() { "$FB" --root "$ROOT" --runtime-dir "$RUNTIME" "$@"; }
fb run -d --name talker -l team=red --log-driver journald --log-opt labels=team \
    --log-opt tag=hello busybox sh -c 'echo one; echo two >&2; printf three' >/dev/null
fb wait talker
for i in $(seq 100); do [ "$(fb logs talker 2>/dev/null | wc -l)" -ge 1 ] && break; done
sleep 0.2
echo "== logs"; fb logs talker 2>&1
echo; echo "== tail"; fb logs -n 1 talker 2>&1
echo; echo "== fields"
journalctl -q -o json CONTAINER_NAME=talker
fb rm talker
"""
    _, _, root, _, runtime = cli.argv
    env = {**cli.env, "FB": cli.argv[0], "ROOT": root, "RUNTIME": runtime}
    # The journal keeps itself going on nothing of the host's: /run is a tmpfs in there.
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", JOURNALD, "sh", "sh", "-c", script],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done
    assert sorted(done.stdout.split("== logs\n")[1].split("\n\n== tail")[0].split()) == [
        "one",
        "three",
        "two",
    ]
    assert '"PRIORITY":"3"' in done.stdout and '"TEAM":"red"' in done.stdout
    assert '"CONTAINER_TAG":"hello"' in done.stdout and '"IMAGE_NAME":"busybox"' in done.stdout


def test_journal_fields_cannot_be_forged() -> None:
    """A label chooses neither another field's value nor a trusted field."""
    record = ContainerRecord(
        id="f" * 64,
        name="box",
        created="",
        labels={"x\nMESSAGE": "1", "_UID": "0", "container.name": "other", "a": "b\nPRIORITY=0"},
        config=ContainerConfig(
            image="i",
            log_driver="journald",
            log_options={"labels": "x\nMESSAGE,_UID,container.name,a"},
        ),
    )
    fields = logging.sink(record).header.splitlines()
    names = [line.partition("=")[0] for line in fields]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*", name) for name in names)
    assert "CONTAINER_NAME=box" in fields and "PRIORITY=0" not in fields
    assert "MESSAGE" not in names and not any(name.startswith("_") for name in names)


def test_details(cli: Command, busybox_image: str) -> None:
    cli.ok(
        "run", "--name", "box", "-l", "team=red", "-e", "LEVEL=3", "--log-opt", "labels=team,none",
        "--log-opt", "env=LEVEL", "busybox", "echo", "text",
    )  # fmt: skip
    assert cli.ok("logs", "--details", "box") == "LEVEL=3,team=red text"
    cli.ok("rm", "box")
