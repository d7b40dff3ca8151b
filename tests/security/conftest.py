"""Fixtures of the security tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.boxes import Canary, compile_static


@pytest.fixture
def canary(base: str) -> Iterator[Canary]:
    """A directory of the host; after the test it must be as it was, to the inode and nanosecond."""
    watched = Canary(os.path.join(base, "canary"))
    yield watched
    watched.check()


@pytest.fixture(scope="session")
def program(session_base: str) -> Callable[[str], bytes]:
    """``program(source)``: a static program, compiled once in a session."""
    directory = os.path.join(session_base, "programs")
    os.makedirs(directory, exist_ok=True)
    return lambda source: compile_static(source, directory)
