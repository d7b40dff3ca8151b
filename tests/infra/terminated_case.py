"""Not collected by itself: test_support.py runs it and looks whether the tear-down was made."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest


@pytest.fixture
def torn_down() -> Iterator[None]:
    yield
    with open(os.environ["WHERE"] + "/torn-down", "w"):
        pass


def test_is_terminated(torn_down: None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()
