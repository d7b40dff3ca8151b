"""A container from nothing to removed: ``true`` in busybox, without a network, on a warm store."""

from __future__ import annotations

from typing import Any

import pytest

from bench.conftest import House
from bench.race import Times, race, report, timed

CONTESTANTS = ["floor", "floor+seccomp", "library", "library, kept", "cli", "crun", "docker"]


@pytest.fixture(scope="module")
def launches(house: House, rounds: int) -> dict[str, Times]:
    def library() -> None:
        """With --rm, which is what the peers' run of a bundle amounts to: nothing outlives it."""
        container = house.engine.create(house.ephemeral)
        assert house.engine.run_attached(container.id) == 0

    def kept() -> None:
        """Without: its writable layer is made to survive a power loss, then removed by a call."""
        container = house.engine.create(house.config)
        house.engine.start(container.id)
        assert house.engine.wait(container.id) == 0
        house.engine.remove(container.id)

    def cli() -> None:
        house.cli.ok("run", "--rm", "--network", "none", "busybox", "true")

    contestants = {
        "floor": house.floors[0].run,
        "floor+seccomp": house.floors[1].run,
        "library": timed(library),
        "library, kept": timed(kept),
        "cli": timed(cli),
    }
    if house.crun:
        contestants["crun"] = house.crun.run
    if house.docker:
        contestants["docker"] = house.docker.run
    return race(contestants, rounds)


@pytest.mark.benchmark(group="launch")
def test_launch(contestant: str, launches: dict[str, Times], benchmark: Any) -> None:
    report(benchmark, launches[contestant])
