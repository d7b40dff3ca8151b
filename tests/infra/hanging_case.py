"""Not collected by itself: test_support.py runs it and wants it to be interrupted."""

from __future__ import annotations

import threading

import pytest

import tests.conftest


@pytest.fixture(autouse=True, scope="module")
def short_limit() -> None:
    tests.conftest.TIME_LIMIT = 1


def test_hangs() -> None:
    threading.Event().wait()


def test_runs_afterwards() -> None:
    assert tests.conftest.TIME_LIMIT == 1
