"""A destination, and unpacking into it with and without openat2."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fastbox._core import tar
from tests.core.tar_archives import Tar, Unpack, extract


@pytest.fixture
def dest(base: str) -> str:
    path = os.path.join(base, "dest")
    os.mkdir(path, 0o700)
    return path


@pytest.fixture(params=[True, False], ids=["openat2", "walk"])
def unpack(dest: str, request: pytest.FixtureRequest) -> Unpack:
    """unpack(archive, **options) into dest."""

    def run(archive: Tar | bytes, **options: Any) -> tar.Extracted:
        return extract(archive, dest, openat2=request.param, **options)

    return run
