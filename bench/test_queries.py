"""``ps -a`` over two hundred containers (thirty when quick), and an idle container's memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bench.commands import output, seconds
from bench.conftest import House
from bench.race import Found, race, ready, report, timed

CONTESTANTS = ["library", "cli", "docker"]
MANY, MANY_QUICK = 200, 30
IDLE = 10


@pytest.fixture(scope="module")
def many(house: House, quick: bool) -> Iterator[int]:
    """So many created containers of both engines."""
    count = MANY_QUICK if quick else MANY
    made = [house.engine.create(house.config).id for _ in range(count)]
    docker: list[str] = []
    if house.docker:
        argv = ["docker", "create", "--network", "none", house.docker.IMAGE, "/bin/true"]
        with ready("docker"):
            for _ in range(count):
                docker.append(output(argv))
    yield count
    for container in made:
        house.engine.remove(container)
    if docker:
        with ready("docker"):
            output(["docker", "rm", *docker])


@pytest.fixture(scope="module")
def listings(house: House, rounds: int, many: int) -> Found:
    def library() -> None:
        assert len(house.engine.containers(all=True)) == many

    def cli() -> None:
        assert house.cli.ok("ps", "-a").count("\n") == many

    contestants = {"library": timed(library), "cli": timed(cli)}
    if house.docker:
        contestants["docker"] = lambda: seconds(["docker", "ps", "-a"])
    return race(contestants, max(5, rounds // 2))


@pytest.mark.benchmark(group="ps")
def test_ps(contestant: str, listings: Found, many: int, benchmark: Any) -> None:
    report(benchmark, listings[contestant], containers=many)


@pytest.mark.benchmark(group="memory")
def test_memory_of_an_idle_container(
    house: House, values: dict[str, float], benchmark: Any
) -> None:
    """Proportional set size of what fastbox keeps running for a detached container, in KiB."""
    import msgspec

    config = msgspec.structs.replace(house.config, command=["sleep", "1000"])
    ids = [house.engine.create(config).id for _ in range(IDLE)]
    start = time.perf_counter()
    for container in ids:
        house.engine.start(container)
    taken = time.perf_counter() - start
    monitors = [house.engine.container(container).state.monitor_pid for container in ids]
    assert all(monitors)
    # Whatever else names one of the containers in its command line counts too.
    mine = set(monitors) | {pid for pid in processes() if names_one_of(pid, ids)}
    kibibytes = sum(pss(pid) for pid in mine) / IDLE
    for container in ids:
        house.engine.remove(container, force=True)
    values["memory[idle container]"] = kibibytes
    report(benchmark, [taken / IDLE], kibibytes=kibibytes, processes=len(mine) / IDLE)


def processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def names_one_of(pid: int, ids: list[str]) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", errors="replace") as file:
            command = file.read()
    except OSError:
        return False
    return any(container in command for container in ids)


def pss(pid: int) -> int:
    """Proportional set size in KiB."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
