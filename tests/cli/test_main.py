"""How a command ends when something else than its work goes wrong."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from fastbox.errors import StoreError
from tests.cli.conftest import Fastbox
from tests.cli.fake import FakeEngine

# The command with a closed or broken stream, in a process of its own.
SCRIPT = """
import sys
from fastbox.cli.main import main
from tests.cli.fake import FakeEngine, box
fake = FakeEngine()
fake.boxes = [box(f"name{number}", f"{number:064x}") for number in range(3000)]
sys.exit(main(sys.argv[1:], engine=fake))
"""
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which ``fastbox`` is the command over a fake engine."""
    function = f'fastbox() {{ "{sys.executable}" -c "$SCRIPT" "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", function + line],
        env={**os.environ, "SCRIPT": SCRIPT, "PYTHONPATH": ROOT},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_errors_of_the_engine(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["containers"] = StoreError("the disk is full", hint="make room")
    result = fastbox("ps")
    assert (result.code, result.out) == (1, "")
    assert result.err == "Error: the disk is full\nhint: make room\n"


def test_system_errors_that_nobody_put_into_words(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["containers"] = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x")
    assert fastbox("ps").err == "Error: /x: No space left on device\n"


def test_a_mistake_of_ours_is_one_line_unless_debugging(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["containers"] = ZeroDivisionError("division by zero")
    result = fastbox("ps")
    assert result.code == 1
    assert result.err == (
        "Error: internal error: ZeroDivisionError: division by zero\n"
        "hint: this is a bug in fastbox; --debug shows where it happened\n"
    )
    assert "Traceback" in fastbox("-D", "ps").err
    fake.errors = {"create": ZeroDivisionError("x")}
    assert fastbox("run", "img").code == 125


def test_an_interrupt(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["containers"] = KeyboardInterrupt()  # type: ignore[assignment]
    result = fastbox("ps")
    assert (result.code, result.out, result.err) == (130, "", "")


def test_names_that_are_not_utf8_come_out_as_they_came_in() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "rm", "-f", b"\xff\xfe", b"na\xefme"],
        env={**os.environ, "PYTHONPATH": ROOT, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "volume", "rm", "-f", b"\xff\xfe", "é".encode()],
        env={**os.environ, "PYTHONPATH": ROOT, "LC_ALL": "C"},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, b"\xff\xfe\n\xc3\xa9\n")


def test_a_reader_that_goes_away() -> None:
    done = shell("fastbox ps -a | head -n 1; echo ${PIPESTATUS[0]}")
    assert done.stdout.splitlines()[0].startswith("CONTAINER ID")
    assert done.stdout.splitlines()[1] == "141"
    assert done.stderr == ""


@pytest.mark.parametrize("line", ["fastbox ps -a >&-", "fastbox ps -a <&- >&- 2>&-"])
def test_a_closed_standard_output(line: str) -> None:
    done = shell(line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_full_disk_under_the_output() -> None:
    done = shell("fastbox ps -a > /dev/full")
    message = "Error: write /dev/stdout: no space left on device\n"
    assert (done.returncode, done.stderr) == (1, message)


# ---- the cost of a start -----------------------------------------------------------------------

HEAVY = (
    "asyncio", "email", "http", "rich", "socket", "ssl", "subprocess", "tempfile", "urllib3",
    "concurrent.futures", "json", "logging", "fractions", "ctypes", "traceback",
)  # fmt: skip


def modules(*words: str) -> set[str]:
    """What a command imports beyond the libraries that it cannot do without."""
    script = "import sys, click, msgspec, orjson\nbefore = set(sys.modules)\n" + SCRIPT.replace(
        "sys.exit(main(sys.argv[1:], engine=fake))",
        "main(sys.argv[1:], engine=fake)\nprint(*set(sys.modules) - before, file=sys.stderr)",
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "words",
    [("--help",), ("run", "img", "true"), ("ps",), ("exec", "name1", "ls"), ("rm", "name1")],
)
def test_a_command_imports_no_more_than_it_needs(words: tuple[str, ...]) -> None:
    loaded = modules(*words)
    assert "fastbox.cli.main" in loaded
    assert not loaded & set(HEAVY), words
    verbs = {"fastbox.cli.images", "fastbox.cli.bootstrap", "fastbox.cli.template"}
    assert not loaded & verbs


def test_help_imports_no_command() -> None:
    assert "fastbox.cli.run" not in modules("--help")
    assert "fastbox.cli.run" in modules("run", "img")
