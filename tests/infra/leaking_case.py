"""Not collected by itself: test_support.py runs it and wants it to fail."""

from __future__ import annotations

import os

KEPT: list[int] = []


def test_leaks_a_descriptor() -> None:
    KEPT.extend(os.pipe())
