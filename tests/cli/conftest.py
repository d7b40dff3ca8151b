"""The command line over an engine that only notes what it is asked."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from fastbox.cli.main import main
from tests.cli.fake import FakeEngine


class Outcome:
    """What a command printed, and its status."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.raw = out
        self.out = out.decode("utf-8", "surrogateescape")
        self.err = err.decode("utf-8", "surrogateescape")


Fastbox = Callable[..., Outcome]


@pytest.fixture
def fake() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def fastbox(
    fake: FakeEngine, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Fastbox:
    """``fastbox("run", "redis")``: main() over the fake engine."""
    monkeypatch.setattr(os, "get_terminal_size", _no_terminal)
    monkeypatch.delenv("DOCKER_DEFAULT_PLATFORM", raising=False)

    def call(*words: str) -> Outcome:
        capfdbinary.readouterr()
        code = main(list(words), engine=fake)
        captured = capfdbinary.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def _no_terminal(fd: int = 0) -> os.terminal_size:
    raise OSError(25, "Inappropriate ioctl for device")
