"""A box of busybox on the test's store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import fastbox

if TYPE_CHECKING:
    from fastbox.engine import Engine


@pytest.fixture
def box(engine: Engine, busybox_image: str) -> Iterator[fastbox.Sandbox]:
    with fastbox.Sandbox(busybox_image, engine=engine) as made:
        yield made
