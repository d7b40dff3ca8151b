"""Processes are told apart by pid and start time; signals are given by name or number."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from fastbox.container import process
from fastbox.errors import InvalidArgument


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
