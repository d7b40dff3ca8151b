"""``commit`` of a stopped container that has written a gigabyte."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from bench.conftest import House
from bench.race import Times, race, report

CONTESTANTS = ["library", "cli", "docker"]
GIGABYTE = ["dd", "if=/dev/zero", "of=/big", "bs=1M", "count=1024"]


def by_library(house: House, container: str) -> str:
    return house.engine.commit(container).id


def by_cli(house: House, container: str) -> str:
    return house.cli.ok("commit", container)


def of_fastbox(house: House, commit: Callable[[House, str], str]) -> Callable[[], float]:
    """A contestant: only the commit is measured."""
    from fastbox.container.config import ContainerConfig

    engine = house.engine
    config = ContainerConfig(image="busybox", command=GIGABYTE, network="none")

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


def by_docker(house: House) -> Callable[[], float]:
    def words(*words: str) -> str:
        done = subprocess.run(["docker", *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def once() -> float:
        assert house.docker is not None
        words("run", "--name", "fastbox-bench", "--network", "none", house.docker.IMAGE, *GIGABYTE)
        os.sync()
        start = time.perf_counter()
        image = words("commit", "fastbox-bench")
        taken = time.perf_counter() - start
        words("rm", "fastbox-bench")
        words("rmi", image)
        return taken

    return once


@pytest.fixture(scope="module")
def commits(house: House, rounds: int) -> dict[str, Times]:
    contestants = {
        "library": of_fastbox(house, by_library),
        "cli": of_fastbox(house, by_cli),
    }
    if house.docker is not None:
        contestants["docker"] = by_docker(house)
    return race(contestants, max(3, rounds // 12), warmup=1)


@pytest.mark.benchmark(group="commit")
def test_commit(contestant: str, commits: dict[str, Times], benchmark: Any) -> None:
    report(benchmark, commits[contestant])
