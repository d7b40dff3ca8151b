"""Processes are told apart by pid and start time; signals are given by name or number."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

import fastbox
from fastbox.container import process
from fastbox.errors import InvalidArgument

if TYPE_CHECKING:
    from fastbox.engine import Engine


def test_identity() -> None:
    started = process.start_time(os.getpid())
    assert started > 0
    assert process.is_alive(os.getpid(), started)
    assert not process.is_alive(os.getpid(), started + 1)
    assert not process.is_alive(0, 0)


def test_a_recycled_pid_gets_no_signal() -> None:
    child = subprocess.Popen(["sleep", "100"])
    try:
        started = process.start_time(child.pid)
        assert process.send(child.pid, started - 1, signal.SIGKILL) is False
        assert child.poll() is None
        assert process.send(child.pid, started, signal.SIGTERM) is True
        assert child.wait(10) == -signal.SIGTERM
        assert process.send(child.pid, started, signal.SIGTERM) is False
    finally:
        child.kill()
        child.wait()


def test_a_zombie_is_gone() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.start_time(child.pid) == 0
    child.wait()


def test_wait_gone() -> None:
    child = subprocess.Popen(["sleep", "100"])
    started = process.start_time(child.pid)
    assert process.wait_gone(child.pid, started, 0.0) is False
    child.kill()
    assert process.wait_gone(child.pid, started, 10.0) is True
    child.wait()
    assert process.wait_gone(child.pid, started, None) is True


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigkill", 9),
        ("9", 9),
        ("HUP", 1),
        ("RTMIN+1", signal.SIGRTMIN + 1),
        ("RTMAX-1", signal.SIGRTMAX - 1),
        ("SIGRTMIN", signal.SIGRTMIN),
    ],
)
def test_signal_names(text: str, number: int) -> None:
    assert process.signal_number(text) == number


@pytest.mark.parametrize("text", ["", "FOO", "0", "65", "-9", "SIG", "RTMIN+99", "RTMIN+", "٩"])
def test_bad_signal_names(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid signal"):
        process.signal_number(text)


def test_what_protects_the_engine_is_not_its_containers(
    engine: Engine, busybox_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor of systemd's has -500, and so has all that it starts."""
    monkeypatch.setattr(process, "_others", "0")
    before = oom_score("300")  # a lower one takes a right that not every host gives
    try:
        command = ["sh", "-c", "cat /proc/self/oom_score_adj"]
        for options, score in ({}, b"0\n"), ({"oom_score_adj": 400}, b"400\n"):
            result = fastbox.run(busybox_image, command, network="none", engine=engine, **options)
            assert result.stdout == score
        with fastbox.Sandbox(busybox_image, engine=engine) as box:
            assert box.run(command).stdout == b"0\n"
    finally:
        oom_score(before)
    monkeypatch.setattr(process, "_others", None)
    assert process.oom_score_of_others() == ("0" if int(before) < 0 else None)


def oom_score(value: str) -> str:
    """Sets ours; what it was."""
    with open("/proc/self/oom_score_adj", "r+") as file:
        before = file.read()
        file.seek(0)
        file.write(value)
    return before
