"""What Python's start and our imports cost, as whole processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from bench.race import Times, race, report, timed
from bench.roster import program

CONTESTANTS = ["python", "import fastbox", "import Engine", "fastbox --help", "fastbox --version"]


@pytest.fixture(scope="module")
def starts(rounds: int) -> dict[str, Times]:
    fastbox = program("fastbox-python") or program("fastbox")
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "import fastbox": [sys.executable, "-c", "import fastbox"],
        "import Engine": [sys.executable, "-c", "from fastbox import Engine"],
        "fastbox --help": [fastbox, "--help"],
        "fastbox --version": [fastbox, "--version"],
    }
    return race({name: timed(process(argv)) for name, argv in commands.items()}, rounds)


def process(argv: list[str]) -> Callable[[], None]:
    environment = {"FASTBOX_DIRECT": "1", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def work() -> None:
        subprocess.run(argv, stdout=subprocess.DEVNULL, env=environment, check=True)

    return work


@pytest.mark.benchmark(group="import")
def test_import(contestant: str, starts: dict[str, Times], benchmark: Any) -> None:
    report(benchmark, starts[contestant])
