"""Images between registries, archives and this machine: whole commands of fastbox, docker, podman
and skopeo. Who fills a store gets an empty one in every round, on an empty disk of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.layered import layered
from bench.race import Times, race, report
from bench.shops import ENGINES, Engine, run, stocked, transfer
from bench.worlds import Disk
from tests.support.registry import Registry

# Two things are "skopeo": what docker and podman do, and a copy of blobs that needs no unpacking.
CONTESTANTS = {
    "test_pull": [*ENGINES, "skopeo to storage", "skopeo to oci"],
    "test_push": list(ENGINES),
}


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """Where disks and registries are."""
    # A short path: there are sockets in it (108 bytes), and podman wants no more than 50.
    with tempfile.TemporaryDirectory(prefix="fb-", dir="/var/tmp") as path:
        yield path


@pytest.fixture(scope="module")
def image(place: str) -> Iterator[str]:
    """The reference of the layered image in a registry."""
    os.mkdir(f"{place}/registry")
    registry = Registry(f"{place}/registry")
    try:
        layered().push(registry, "bench/layered")
        yield f"{registry.host}/bench/layered"
    finally:
        registry.stop()


@pytest.fixture(scope="module")
def stores(place: str, image: str, missing: dict[str, str]) -> Iterator[dict[str, list[str]]]:
    with stocked(place, image, missing) as commands:
        yield commands


@pytest.fixture(scope="module")
def few(rounds: int) -> int:
    """Rounds of what takes seconds."""
    return max(3, rounds // 12)


def here(contestants: dict[str, Callable[[], float]], missing: dict[str, str]) -> Any:
    """Those of them that can run."""
    return {n: work for n, work in contestants.items() if n.split()[0] not in missing}


# ---- pull --------------------------------------------------------------------------------------


def pulls(engine: Engine, place: str, image: str) -> Callable[[], float]:
    """A contestant that pulls into an empty store."""

    def once() -> float:
        with Disk(place) as disk, engine(disk) as command:
            return transfer(command, "pull", image)

    return once


def copies(place: str, image: str, target: str) -> Callable[[], float]:
    """A contestant: skopeo; ``{disk}`` in the target is the empty disk."""

    def once() -> float:
        with Disk(place) as disk:
            where = target.format(disk=disk)
            options = ["--quiet", "--insecure-policy", "--src-tls-verify=false"]
            return run(["skopeo", "copy", *options, f"docker://{image}", where])

    return once


@pytest.fixture(scope="module")
def pulled(place: str, image: str, missing: dict[str, str], few: int) -> dict[str, Times]:
    storage = "containers-storage:[overlay@{disk}/root+{disk}/run]x:latest"
    contestants = {name: pulls(engine, place, image) for name, engine in ENGINES.items()}
    contestants["skopeo to storage"] = copies(place, image, storage)
    contestants["skopeo to oci"] = copies(place, image, "oci:{disk}/oci:x")
    return race(here(contestants, missing), few, warmup=1)


@pytest.mark.benchmark(group="pull")
def test_pull(contestant: str, pulled: dict[str, Times], benchmark: Any) -> None:
    """An image of 500 MB in five layers, from a registry on this machine."""
    report(benchmark, pulled[contestant], bytes=layered().unpacked)


# ---- push --------------------------------------------------------------------------------------


def pushes(command: list[str], place: str, image: str) -> Callable[[], float]:
    """A contestant that pushes to an empty registry."""

    def once() -> float:
        directory = tempfile.mkdtemp(prefix="registry-", dir=place)
        registry = Registry(directory)
        try:
            name = f"{registry.host}/bench/layered"
            run([*command, "tag", image, name])
            return transfer(command, "push", name)
        finally:
            registry.stop()
            shutil.rmtree(directory)

    return once


@pytest.fixture(scope="module")
def pushed(place: str, image: str, stores: dict[str, list[str]], few: int) -> dict[str, Times]:
    contestants = {name: pushes(command, place, image) for name, command in stores.items()}
    return race(contestants, few, warmup=1)


@pytest.mark.benchmark(group="push")
def test_push(contestant: str, pushed: dict[str, Times], benchmark: Any) -> None:
    """The image to a registry that has nothing of it."""
    report(benchmark, pushed[contestant])
