"""stats: tables, rows, what comes and goes, and a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from fastbox.cli import stats
from fastbox.container.record import Status
from tests.cli.conftest import Fastbox
from tests.cli.fake import FakeEngine, box
from tests.support.command import Command
from tests.support.wait import wait_for

HEAD = (
    "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS\n"
)


@pytest.fixture(autouse=True)
def intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "INTERVAL", 0.001)
    monkeypatch.setattr(stats, "FIRST_INTERVAL", 0.001)


@pytest.fixture
def boxes(fake: FakeEngine) -> None:
    fake.boxes = [
        box("web", "a" * 64, status=Status.RUNNING),
        box("db", "b" * 64, status=Status.RUNNING),
        box("off", "c" * 64, status=Status.EXITED),
    ]


@pytest.mark.usefixtures("boxes")
def test_table(fastbox: Fastbox) -> None:
    result = fastbox("stats", "--no-stream")
    assert (result.code, result.err) == (0, "")
    assert result.out == (
        "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O           "
        "BLOCK I/O        PIDS\n"
        "aaaaaaaaaaaa   web       25.00%    1.5MiB / 64MiB      2.34%     1.23kB / 5.68MB   "
        "4.1kB / 1.02GB   3\n"
        "bbbbbbbbbbbb   db        25.00%    1.5MiB / 64MiB      2.34%     1.23kB / 5.68MB   "
        "4.1kB / 1.02GB   3\n"
    )


def test_nothing_runs(fastbox: Fastbox) -> None:
    assert fastbox("stats", "--no-stream").out == HEAD


@pytest.mark.usefixtures("boxes")
def test_which_ones(fastbox: Fastbox) -> None:
    def names(*words: str) -> list[str]:
        result = fastbox("stats", "--no-stream", "--format", "{{.Container}} {{.Name}}", *words)
        return result.out.splitlines()

    assert names() == ["aaaaaaaaaaaa web", "bbbbbbbbbbbb db"]
    assert names("-a") == ["aaaaaaaaaaaa web", "bbbbbbbbbbbb db", "cccccccccccc off"]
    # As typed, each once.
    assert names("db", "off", "db", "a" * 64) == ["db db", "off off", f"{'a' * 64} web"]


@pytest.mark.usefixtures("boxes")
def test_formats(fastbox: Fastbox) -> None:
    result = fastbox("stats", "--no-stream", "--format", "json", "web")
    assert json.loads(result.out) == {
        "BlockIO": "4.1kB / 1.02GB",
        "CPUPerc": "25.00%",
        "Container": "web",
        "ID": "a" * 12,
        "MemPerc": "2.34%",
        "MemUsage": "1.5MiB / 64MiB",
        "Name": "web",
        "NetIO": "1.23kB / 5.68MB",
        "PIDs": "3",
    }
    result = fastbox("stats", "--no-stream", "--no-trunc", "--format", "{{.ID}}", "web")
    assert result.out == "a" * 64 + "\n"
    result = fastbox("stats", "--no-stream", "--format", "table {{.Name}}\t{{.PIDs}}", "web")
    assert result.out == "NAME      PIDS\nweb       3\n"
    result = fastbox("stats", "--no-stream", "--format", "{{.Foo}}", "web")
    assert (result.code, result.out) == (1, "")
    assert "can't evaluate field Foo in type *container.statsContext" in result.err


@pytest.mark.usefixtures("boxes")
def test_what_is_missing(fastbox: Fastbox) -> None:
    for more in ([], ["--no-stream"]):
        result = fastbox("stats", *more, "nosuch", "web", "other")
        assert (result.code, result.out) == (1, "")
        assert result.err == ("Error: No such container: nosuch\nError: No such container: other\n")


class Later:
    """A pause in which something happens to the containers; after the last one, ctrl-C."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self.steps = iter(steps)

    def __call__(self, seconds: float) -> None:
        step = next(self.steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()


def test_without_a_terminal_tables_are_repeated(
    fastbox: Fastbox, fake: FakeEngine, boxes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    web, db, _ = fake.boxes
    new = box("new", "d" * 64, status=Status.RUNNING)

    def nothing() -> None: ...

    def come() -> None:
        fake.boxes = [new, web, db]

    def go() -> None:
        fake.boxes = [new, db]

    monkeypatch.setattr(time, "sleep", Later(nothing, come, go))
    result = fastbox("stats", "--format", "{{.Name}}")
    assert (result.code, result.err) == (130, "")
    # Who comes is put last.
    assert result.out.split() == ["web", "db", "web", "db", "new", "db", "new"]
    assert "\033" not in result.out


def test_a_named_one_that_goes_stays_in_the_table(
    fastbox: Fastbox, fake: FakeEngine, boxes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    web, db, _ = fake.boxes

    def go() -> None:
        fake.boxes = [db]

    def come() -> None:
        fake.boxes = [web]

    monkeypatch.setattr(time, "sleep", Later(go, come))
    fields = ("Container", "Name", "ID", "CPUPerc", "MemUsage", "NetIO", "BlockIO", "PIDs")
    format = "|".join(f"{{{{.{field}}}}}" for field in fields)
    result = fastbox("stats", "--format", format, "web")
    assert result.code == 130
    assert result.out == (
        "web|--||--|-- / --|--|--|--\n"
        "web|web|aaaaaaaaaaaa|0.00%|1.5MiB / 64MiB|1.23kB / 5.68MB|4.1kB / 1.02GB|3\n"
    )


# ---- on a terminal ---------------------------------------------------------------------------


class Terminal:
    """A pseudo-terminal with a command on it."""

    def __init__(self, cli: Command, *words: str, rows: int = 24, columns: int = 120) -> None:
        import fcntl
        import struct
        import termios

        self.fd, other = os.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.seen = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *cli.argv, *words],
            stdin=other,
            stdout=other,
            stderr=other,
            env=cli.env,
        )
        os.close(other)

    def read(self) -> bytes:
        """All that has been printed until now."""
        while select.select([self.fd], [], [], 0)[0]:
            try:
                part = os.read(self.fd, 65536)
            except OSError:  # nobody has the other side any more
                break
            if not part:
                break
            self.seen += part
        return self.seen

    def frames(self) -> list[bytes]:
        """The tables shown until now, the last one only if it is complete."""
        return [text for text in self.read().split(b"\033[H")[1:] if b"\033[J" in text]

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(timeout=60)
        os.close(self.fd)


HIDDEN, SHOWN = b"\033[?25l", b"\033[?25h"
UNWRAPPED, WRAPPED = b"\033[?7l", b"\033[?7h"


@contextlib.contextmanager
def on_terminal(cli: Command, *words: str, **size: int) -> Iterator[Terminal]:
    terminal = Terminal(cli, *words, **size)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.mark.usefixtures("busybox_image")
def test_live(cli: Command) -> None:
    cli.ok("run", "--network", "none", "-d", "--name", "one", "busybox", "sleep", "1000")
    with on_terminal(cli, "stats") as terminal:
        wait_for(lambda: len(terminal.frames()) >= 2, "two tables")
        assert terminal.seen.startswith(HIDDEN + UNWRAPPED)
        assert terminal.seen.count(b"\033[2J") == 1  # once; then each over the one before
        assert b"one" in terminal.frames()[-1]
        cli.ok("run", "--network", "none", "-d", "--name", "two", "busybox", "sleep", "1000")
        wait_for(lambda: b"two" in terminal.frames()[-1], "the one that came")
        cli.ok("kill", "one")
        wait_for(lambda: b"one" not in terminal.frames()[-1], "the end of the one that went")
        terminal.type(b"\x03")
        assert terminal.process.wait(timeout=60) == 130
        assert terminal.read().endswith(b"\r\n" + WRAPPED + SHOWN)
        assert b"Traceback" not in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_cursor_comes_back(cli: Command, number: int) -> None:
    with on_terminal(cli, "stats") as terminal:
        wait_for(terminal.frames, "a table")
        terminal.process.send_signal(number)
        assert terminal.process.wait(timeout=60) == 128 + number
        assert terminal.read().endswith(WRAPPED + SHOWN)


def test_stopped_and_continued(cli: Command) -> None:
    def state() -> str:
        with open(f"/proc/{terminal.process.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]

    with on_terminal(cli, "stats") as terminal:
        wait_for(terminal.frames, "a table")
        os.kill(terminal.process.pid, signal.SIGTSTP)
        # An orphaned process group is not stopped by this signal, the one of a shell's job is.
        wait_for(lambda: SHOWN in terminal.read(), "the cursor")
        if state() == "T":
            os.kill(terminal.process.pid, signal.SIGCONT)
        wait_for(lambda: HIDDEN in terminal.read().partition(SHOWN)[2], "the table again")


@pytest.mark.usefixtures("busybox_image")
def test_no_more_lines_than_the_terminal_has(cli: Command) -> None:
    for number in range(4):
        cli.ok("create", "--network", "none", "--name", f"box{number}", "busybox", "true")
    with on_terminal(cli, "stats", "-a", rows=4) as terminal:
        frame = wait_for(terminal.frames, "a table")[0]
        lines = re.sub(rb"\033\[[KJ]", b"", frame).split(b"\r\n")
        assert len(lines) == 3
        assert lines[0].startswith(b"CONTAINER ID")


@pytest.mark.usefixtures("busybox_image")
def test_once_on_a_terminal(cli: Command) -> None:
    with on_terminal(cli, "stats", "--no-stream") as terminal:
        assert terminal.process.wait(timeout=60) == 0
        assert terminal.read().startswith(b"CONTAINER ID")
        assert b"\033" not in terminal.seen


@pytest.mark.usefixtures("busybox_image")
def test_of_real_containers(cli: Command) -> None:
    cli.ok(
        "run",
        "--network",
        "none",
        "-d",
        "--name",
        "busy",
        "-m",
        "64m",
        "busybox",
        "sh",
        "-c",
        "while :; do :; done",
    )
    shown = json.loads(cli.ok("stats", "--no-stream", "--format", "json", "busy"))
    assert float(shown["CPUPerc"].removesuffix("%")) > 0
    assert re.fullmatch(r"[0-9.]+(B|KiB|MiB) / 64MiB", shown["MemUsage"])
    assert (shown["Name"], shown["PIDs"], shown["NetIO"]) == ("busy", "1", "0B / 0B")
    assert shown["ID"] == cli.ok("ps", "-q")
