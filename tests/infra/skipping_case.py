"""Not collected by itself: test_support.py runs it with and without CI."""

from __future__ import annotations

import pytest


def test_skips() -> None:
    pytest.skip("for no good reason")


@pytest.mark.hardware("a second sun")
def test_needs_hardware() -> None:
    pytest.skip("there is only one sun")
