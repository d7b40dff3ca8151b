"""The store that most tests of images work on."""

from __future__ import annotations

import pytest

from fastbox.image.store import ImageStore
from tests.image.build import open_store


@pytest.fixture
def store(root: str) -> ImageStore:
    return open_store(root)
