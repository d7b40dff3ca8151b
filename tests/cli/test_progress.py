"""Progress of a pull: lines, and bars on a terminal."""

from __future__ import annotations

import errno
import io
import os
import pty
import re
import threading

import msgspec
import pytest

from fastbox.cli.progress import Progress
from fastbox.errors import FastboxError


class Event(msgspec.Struct):
    id: str
    status: str
    current: int = 0
    total: int = 0


def test_without_a_terminal_there_is_a_line_per_change() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        for event in (
            Event("aaa", "Pulling fs layer"), Event("bbb", "Pulling fs layer"),
            Event("aaa", "Downloading", 1, 10), Event("aaa", "Downloading", 2, 10),
            Event("aaa", "Download complete"), Event("aaa", "Download complete"),
            Event("aaa", "Extracting", 1, 2), Event("bbb", "Already exists"),
            Event("aaa", "Pull complete"), Event("", "Retrying in 5 seconds"),
        ):  # fmt: skip
            progress.update(event)
    assert stream.getvalue().splitlines() == [
        "aaa: Pulling fs layer", "bbb: Pulling fs layer", "aaa: Download complete",
        "bbb: Already exists", "aaa: Pull complete", "Retrying in 5 seconds",
    ]  # fmt: skip


def test_a_push_of_two_tags() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        for event in (
            Event("aaa", "Preparing"), Event("aaa", "Pushing", 1, 10), Event("aaa", "Pushed"),
            Event("", "1: digest: sha256:0 size: 5"), Event("aaa", "Preparing"),
            Event("aaa", "Layer already exists"), Event("", "2: digest: sha256:0 size: 5"),
        ):  # fmt: skip
            progress.update(event)
    assert stream.getvalue().splitlines() == [
        "aaa: Preparing", "aaa: Pushed", "1: digest: sha256:0 size: 5",
        "aaa: Preparing", "aaa: Layer already exists", "2: digest: sha256:0 size: 5",
    ]  # fmt: skip


def test_quiet() -> None:
    stream = io.StringIO()
    with Progress(stream, quiet=True) as progress:
        progress.update(Event("aaa", "Pull complete"))
    assert stream.getvalue() == ""


def test_what_a_registry_says_does_not_reach_the_terminal() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.update(Event("aaa", "Retrying: \x1b[2J\x07"))
    assert stream.getvalue() == "aaa: Retrying: ?[2J?\n"


def test_a_closed_stream_is_no_error() -> None:
    with Progress(None) as progress:
        progress.update(Event("aaa", "Pull complete"))


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, *events: Event) -> str:
    """What a terminal of so many columns gets."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    main_end, own_end = pty.openpty()
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                shown.append(os.read(main_end, 65536))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    with open(own_end, "w") as stream, Progress(stream) as progress:
        for event in events:
            progress.update(event)
    reader.join()
    os.close(main_end)
    return b"".join(shown).decode()


def test_a_bar_per_layer_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_terminal(
        monkeypatch, 100,
        Event("aaa", "Pulling fs layer"), Event("bbb", "Downloading", 5_000_000, 10_000_000),
        Event("aaa", "Extracting", 1, 2), Event("bbb", "Pull complete"),
        Event("aaa", "Pull complete"), Event("[red]x", "[bold]y"),
    )  # fmt: skip
    text = " ".join(shown.split())
    assert "aaa: Pull complete" in text
    assert "bbb: Pull complete" in text
    assert "[red]x: [bold]y" in text
    assert "━" in text


def test_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar gives way; a layer has one line, and beside it there is room for ^C."""
    shown = on_terminal(
        monkeypatch, 46, Event("b" * 12, "Downloading", 5_000_000, 10_000_000),
        Event("c" * 12, "Waiting"),
    )  # fmt: skip
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    lines = re.split(r"[\r\n]+", plain)
    assert any(line.endswith("5.0/10.0 MB") for line in lines)
    assert max(map(len, lines)) == 44


def test_a_narrow_terminal_cuts_and_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "30")
    stream = Terminal()
    with Progress(stream) as progress:
        progress.update(Event("fb26459cc83a", "Downloading", 9_200_000, 76_100_000))
        progress.update(Event("3077b6d62d37", "Download complete"))
    last = stream.getvalue().rpartition("\x1b[1A")[2]
    assert len(last.strip().splitlines()) == 3  # two bars, and the cursor shown again


def test_a_full_disk_under_the_output() -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(FastboxError, match=r"^write /dev/stdout: no space left on device$"):
        Progress(Full()).update(Event("aaa", "Pull complete"))
