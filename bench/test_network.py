"""What the default bridge adds to a start: beside no network, with a published port, and with
hundreds of containers on the bridge already."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from bench.commands import output, seconds
from bench.conftest import House
from bench.peers import Docker
from bench.race import Found, Times, median, race, report, timed, unless_out
from bench.traffic import PORT, Net
from fastbox.network.types import Publish

if TYPE_CHECKING:
    from fastbox.container.config import ContainerConfig

ENGINES = {
    "library": ["none", "bridge", "port", "any port"],
    "whole run": ["none", "bridge", "port"],
    "cli": ["none", "bridge", "port"],
    "docker": ["none", "bridge", "port"],
}
CONTESTANTS = [f"{engine}, {network}" for engine in ENGINES for network in ENGINES[engine]]
DOCKER_OPTIONS = {
    "none": ["--network", "none"],
    "bridge": ["--network", "bridge"],
    "port": ["-p", "18080:80"],
}
CROWD, CROWD_QUICK = 500, 50
DOCKERS, DOCKERS_QUICK = 40, 8
CROWDS = 4  # so often it comes and goes
PUBLISHED = 200  # of the crowd; a quick run has fewer
FIRST_PORT = 20000


def config_of(house: House, network: str, *command: str) -> ContainerConfig:
    """An ephemeral container on ``none`` or ``bridge``; ``port`` and ``any port`` publish one."""
    publish = {"port": [Publish(container=80, host=18080)], "any port": [Publish(container=80)]}
    return msgspec.structs.replace(
        house.ephemeral,
        network="none" if network == "none" else "bridge",
        publish=publish.get(network, []),
        command=list(command) or house.ephemeral.command,
    )


def start_of(house: House, network: str) -> Callable[[], float]:
    """A contestant: ``create`` and ``start``; that it ends and is removed is not measured."""
    config = config_of(house, network, "sleep", "1000")

    def run() -> float:
        begin = time.perf_counter()
        container = house.engine.create(config)
        house.engine.start(container.id)
        taken = time.perf_counter() - begin
        house.engine.remove(container.id, force=True)
        return taken

    return run


def whole_run_of(house: House, network: str) -> Callable[[], float]:
    """A contestant: ``run --rm … true``, until it is gone."""
    config = config_of(house, network)

    def run() -> None:
        assert house.engine.run_attached(house.engine.create(config).id) == 0

    return timed(run)


def command_of(house: House, network: str) -> Callable[[], float]:
    options = DOCKER_OPTIONS[network]
    argv = house.command("cli", "run", "--rm", *options, "busybox", "true")
    return lambda: seconds(argv, env=house.cli.env)


def docker_of(docker: Docker, network: str) -> Callable[[], float]:
    return lambda: docker.run(*DOCKER_OPTIONS[network])


@pytest.fixture(scope="module")
def starts(house: House, rounds: int, quick: bool) -> Found:
    house.engine.remove(house.engine.start(_created(house)).id, force=True)  # makes the bridge
    contestants: dict[str, Callable[[], float]] = {}
    for network in ENGINES["library"]:
        contestants[f"library, {network}"] = start_of(house, network)
    for network in ENGINES["whole run"]:
        contestants[f"whole run, {network}"] = whole_run_of(house, network)
    found = race(contestants, rounds if quick else rounds * 5)
    slow: dict[str, Callable[[], float]] = {}
    for network in ENGINES["cli"]:
        slow[f"cli, {network}"] = command_of(house, network)
    if house.docker is not None:
        for network in ENGINES["docker"]:
            slow[f"docker, {network}"] = docker_of(house.docker, network)
    return found | race(slow, rounds // 2, warmup=1)


def _created(house: House) -> str:
    return house.engine.create(config_of(house, "bridge", "sleep", "1000")).id


@pytest.mark.benchmark(group="network")
def test_starts(contestant: str, starts: Found, benchmark: Any) -> None:
    report(benchmark, starts[contestant])


# ---- a crowd -------------------------------------------------------------------------------------


@contextlib.contextmanager
def crowd(house: House, count: int, published: int) -> Iterator[None]:
    """So many containers on the default bridge, the first ones with a published port each."""
    made = []
    try:
        for number in range(count):
            config = config_of(house, "bridge", "sleep", "100000")
            if number < published:
                config.publish = [Publish(container=80, host=FIRST_PORT + number)]
            made.append(house.engine.start(house.engine.create(config).id).id)
        yield
    finally:
        for container in made:
            house.engine.remove(container, force=True)


@pytest.mark.benchmark(group="crowd")
def test_a_crowd(
    house: House,
    net: Net,
    values: dict[str, float],
    rounds: int,
    quick: bool,
    benchmark: Any,
) -> None:
    """Starts, and connections to a published port, on an empty bridge and with a crowd on it, by
    turns."""
    count = CROWD_QUICK if quick else CROWD
    published = min(PUBLISHED, count * 2 // 5)
    few: dict[str, list[Times]] = {}
    many: dict[str, list[Times]] = {}
    with net.fastbox_server(house, publish=[Publish(container=PORT, host=PORT)]) as server:
        contestants: dict[str, Callable[[], float]] = {
            name: start_of(house, name) for name in ("none", "bridge", "port", "any port")
        }
        contestants["call"] = lambda: net.call([], server.gateway, PORT)

        def measure(into: dict[str, list[Times]]) -> None:
            for name, times in race(contestants, max(5, rounds // CROWDS)).items():
                into.setdefault(name, []).append(times)

        measure(few)
        for _ in range(1 if quick else CROWDS):
            with crowd(house, count, published):
                measure(many)
            measure(few)
    for name in contestants:
        values[f"crowd[{name}] / alone"] = median(*many[name]) / median(*few[name])
    times = [second for found in many["bridge"] if isinstance(found, list) for second in found]
    report(benchmark, times, crowd=count, published=published)


@pytest.mark.benchmark(group="crowd of docker's")
def test_a_crowd_of_dockers(
    house: House, net: Net, values: dict[str, float], rounds: int, quick: bool, benchmark: Any
) -> None:
    """The same with forty containers of docker's (eight when quick), each with a published port."""
    docker = house.docker
    if docker is None:
        pytest.skip("docker is absent, or failed")
    with net.docker_server(docker, ["-p", f"{PORT}:{PORT}"]) as server:
        address = server.gateway
        contestants: dict[str, Callable[[], float]] = {
            "docker, start": docker_of(docker, "port"),
            "docker, call": lambda: net.call(net.docker_host, address, PORT),
        }
        few = race(contestants, max(4, rounds // 10))
        ids = []
        try:
            for number in range(DOCKERS_QUICK if quick else DOCKERS):
                options = ["-d", "-p", f"{FIRST_PORT + number}:80"]
                argv = ["docker", "run", *options, docker.IMAGE, "sleep", "100000"]
                ids.append(output(argv))
            many = race(contestants, max(4, rounds // 10))
        finally:
            if ids:
                output(["docker", "rm", "-f", *ids])
    for name in contestants:
        with unless_out():
            ratio = median(many[name]) / median(few[name])
            what = name.removeprefix("docker, ")
            values[f"docker's crowd of 40[{what}] / alone"] = ratio
    report(benchmark, many["docker, start"])
