"""``commit`` of a stopped container that has written a gigabyte (64 MB when quick)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from bench.commands import output
from bench.conftest import House
from bench.race import Found, race, report

CONTESTANTS = ["library", "client", "cli", "docker"]


def megabytes(count: int) -> list[str]:
    """The command that writes so many."""
    return ["dd", "if=/dev/zero", "of=/big", "bs=1M", f"count={count}"]


def by_library(house: House, container: str) -> str:
    return house.engine.commit(container).id


def by_cli(house: House, container: str) -> str:
    return house.cli.ok("commit", container)


def by_client(house: House, container: str) -> str:
    assert house.client is not None
    return house.client.ok("commit", container)


def of_fastbox(
    house: House, commit: Callable[[House, str], str], command: list[str]
) -> Callable[[], float]:
    """A contestant: only the commit is measured."""
    from fastbox.container.config import ContainerConfig

    engine = house.engine
    config = ContainerConfig(image="busybox", command=command, network="none")

    def once() -> float:
        container = engine.create(config)
        engine.start(container.id)
        assert engine.wait(container.id) == 0
        os.sync()  # the disk is not to be busy with what nobody measures
        start = time.perf_counter()
        image = commit(house, container.id)
        taken = time.perf_counter() - start
        engine.settle_images()
        engine.remove(container.id)
        engine.remove_image(image)
        return taken

    return once


def by_docker(house: House, command: list[str]) -> Callable[[], float]:
    def words(*words: str) -> str:
        return output(["docker", *words]).strip()

    def once() -> float:
        assert house.docker is not None
        words("run", "--name", "fastbox-bench", "--network", "none", house.docker.IMAGE, *command)
        os.sync()
        start = time.perf_counter()
        image = words("commit", "fastbox-bench")
        taken = time.perf_counter() - start
        words("rm", "fastbox-bench")
        words("rmi", image)
        return taken

    return once


@pytest.fixture(scope="module")
def commits(house: House, rounds: int, quick: bool) -> Found:
    command = megabytes(64 if quick else 1024)
    contestants = {
        "library": of_fastbox(house, by_library, command),
        "cli": of_fastbox(house, by_cli, command),
    }
    if house.client is not None:
        contestants["client"] = of_fastbox(house, by_client, command)
    if house.docker is not None:
        contestants["docker"] = by_docker(house, command)
    with house.supervised():
        return race(contestants, max(3, rounds // 12), warmup=0 if quick else 1)


@pytest.mark.benchmark(group="commit")
def test_commit(contestant: str, commits: Found, benchmark: Any) -> None:
    report(benchmark, commits[contestant])
