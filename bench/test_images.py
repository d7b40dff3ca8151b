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
from bench.race import Found, median, race, report, timed, unless_out
from bench.roster import takes_part
from bench.shops import ENGINES, Engine, run, stocked, transfer
from bench.worlds import Disk
from tests.support.registry import Registry

# Two things are "skopeo": what docker and podman do, and a copy of blobs that needs no unpacking.
CONTESTANTS = {
    "test_pull": [*ENGINES, "skopeo to storage", "skopeo to oci"],
    "test_push": list(ENGINES),
    "test_load": list(ENGINES),
    "test_save": [*ENGINES, "library", "cp"],
}


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """Where disks and registries are."""
    # A short path: there are sockets in it (108 bytes), and podman wants no more than 50.
    with tempfile.TemporaryDirectory(prefix="fb-", dir="/var/tmp") as path:
        yield path


@pytest.fixture(scope="module")
def image(place: str, quick: bool) -> Iterator[str]:
    """The reference of the layered image in a registry."""
    os.mkdir(f"{place}/registry")
    registry = Registry(f"{place}/registry")
    try:
        layered(small=quick).push(registry, "bench/layered")
        yield f"{registry.host}/bench/layered"
    finally:
        registry.stop()


@pytest.fixture(scope="module")
def stores(place: str, image: str, missing: dict[str, str]) -> Iterator[dict[str, list[str]]]:
    with stocked(place, image, missing) as commands:
        yield commands


@pytest.fixture(scope="module")
def few(rounds: int, quick: bool) -> int:
    """Rounds of what takes seconds."""
    return 1 if quick else max(3, rounds // 20)


@pytest.fixture(scope="module")
def warmup(quick: bool) -> int:
    return 0 if quick else 1


def here(contestants: dict[str, Callable[[], float]], missing: dict[str, str]) -> Any:
    """Those of them that can run."""
    return {name: work for name, work in contestants.items() if takes_part(name, missing)}


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
def pulled(place: str, image: str, missing: dict[str, str], few: int, warmup: int) -> Found:
    storage = "containers-storage:[overlay@{disk}/root+{disk}/run]x:latest"
    contestants = {name: pulls(engine, place, image) for name, engine in ENGINES.items()}
    contestants["skopeo to storage"] = copies(place, image, storage)
    contestants["skopeo to oci"] = copies(place, image, "oci:{disk}/oci:x")
    return race(here(contestants, missing), few, warmup)


@pytest.mark.benchmark(group="pull")
def test_pull(contestant: str, pulled: Found, quick: bool, benchmark: Any) -> None:
    """An image of 500 MB (100 MB when quick) in five layers, from a registry on this machine."""
    report(benchmark, pulled[contestant], bytes=layered(small=quick).unpacked)


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
def pushed(place: str, image: str, stores: dict[str, list[str]], few: int, warmup: int) -> Found:
    contestants = {name: pushes(command, place, image) for name, command in stores.items()}
    return race(contestants, few, warmup)


@pytest.mark.benchmark(group="push")
def test_push(contestant: str, pushed: Found, quick: bool, benchmark: Any) -> None:
    """The image to a registry that has nothing of it."""
    report(benchmark, pushed[contestant])


# ---- load and save -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(place: str, image: str, stores: dict[str, list[str]]) -> str:
    """What ``docker save`` makes of the image: its layers are not compressed."""
    path = f"{place}/docker.tar"
    run([*stores.get("docker", stores["fastbox"]), "save", "-o", path, image])
    return path


def loads(engine: Engine, place: str, archive: str) -> Callable[[], float]:
    """A contestant that loads into an empty store."""

    def once() -> float:
        with Disk(place) as disk, engine(disk) as command:
            return run([*command, "load", "--quiet", "--input", archive])

    return once


@pytest.fixture(scope="module")
def loaded(place: str, archive: str, missing: dict[str, str], few: int, warmup: int) -> Found:
    contestants = {name: loads(engine, place, archive) for name, engine in ENGINES.items()}
    return race(here(contestants, missing), few, warmup)


@pytest.mark.benchmark(group="load")
def test_load(contestant: str, loaded: Found, quick: bool, benchmark: Any) -> None:
    """The archive of 500 MB that docker saved."""
    report(benchmark, loaded[contestant], bytes=layered(small=quick).unpacked)


def saves(place: str, words: Callable[[str], list[str]]) -> Callable[[], float]:
    """A contestant that writes files into an empty directory."""

    def once() -> float:
        with Disk(place) as disk:
            return run(words(disk))

    return once


@pytest.fixture(scope="module")
def saved(
    place: str,
    image: str,
    stores: dict[str, list[str]],
    few: int,
    warmup: int,
    values: dict[str, float],
    quick: bool,
) -> Found:
    def by(command: list[str]) -> Callable[[], float]:
        return saves(place, lambda disk: [*command, "save", "--output", f"{disk}/saved", image])

    contestants = {name: by(command) for name, command in stores.items()}
    blobs = layered(small=quick).blobs
    contestants["cp"] = saves(place, lambda disk: ["cp", *blobs, disk])
    contestants["library"] = library_saves(place, image, stores["fastbox"])
    times = race(contestants, few, warmup)
    size = sum(map(os.path.getsize, blobs)) / 1e9
    values["save[rate]"] = size / median(times["library"])
    with unless_out():
        most = min(1.0, size / median(times["cp"]))
        values["save[rate] / cp's or 1 GB/s"] = values["save[rate]"] / most
    return times


def library_saves(place: str, image: str, command: list[str]) -> Callable[[], float]:
    """A contestant: fastbox without the start of its command."""
    from fastbox.engine import Engine as Fastbox

    words = dict(zip(command[1::2], command[2::2], strict=True))
    engine = Fastbox(words["--root"], words["--runtime-dir"])

    def once() -> float:
        with Disk(place) as disk:
            return timed(lambda: engine.save([image], f"{disk}/saved"))()

    return once


@pytest.mark.benchmark(group="save")
def test_save(contestant: str, saved: Found, quick: bool, benchmark: Any) -> None:
    """The image as an archive in a file: 170 MB of compressed layers, as they are; docker and
    podman write them uncompressed."""
    report(benchmark, saved[contestant])
