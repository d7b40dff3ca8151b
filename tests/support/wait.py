"""Waiting for a condition, with a deadline instead of a guessed pause."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T], what: str = "the condition", *, timeout: float = 30.0
) -> T:
    """Call ``condition`` until it returns something true; return that.

    Args:
        timeout: seconds after which the test fails, naming ``what``.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
