"""A container of busybox that runs ``true``, on a warm store: until its exec (*start*), from
nothing to removed without a network (*launch*), and on the default bridge (*bridge*).

The peers do the same job from what is prepared for them, see docs/benchmarks.md.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from bench.commands import seconds
from bench.conftest import House
from bench.house import TRUE
from bench.race import Found, race, report, timed
from fastbox.errors import FastboxError
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from fastbox.container.config import ContainerConfig

POOL = 4  # sandboxes that are ready
CONTESTANTS = {
    "test_start": ["floor", "floor+seccomp", "library", "library, kept", "pool"],
    "test_start_on_bridge": ["floor", "library", "library, kept", "pool"],
    "test_launch": [
        *("floor", "floor+seccomp", "bubblewrap", "pool", "library", "library, kept", "client"),
        *("cli", "crun", "runc", "podman", "docker"),
    ],
    # bubblewrap, crun and runc make no networks.
    "test_bridge": ["floor", "pool", "library", "client", "cli", "podman", "docker"],
}
FACES = ("client", "cli")
Contestants = dict[str, Callable[[], float]]


def start_of(house: House, config: ContainerConfig) -> Callable[[], float]:
    """A contestant: from a config to the exec of its command, which is when ``start`` returns."""

    def once() -> float:
        begin = time.perf_counter()
        container = house.engine.create(config)
        house.engine.start(container.id)
        taken = time.perf_counter() - begin
        with contextlib.suppress(FastboxError):  # with --rm it may be gone already
            house.engine.wait(container.id)
            house.engine.remove(container.id)
        return taken

    return once


def life_of(house: House, config: ContainerConfig) -> Callable[[], float]:
    """A contestant: with --rm, which is what the peers' run amounts to: nothing outlives it."""

    def once() -> None:
        container = house.engine.create(config)
        assert house.engine.run_attached(container.id) == 0

    return timed(once)


def kept(house: House) -> None:
    """Without: its writable layer is made to survive a power loss, then removed by a call."""
    container = house.engine.create(house.config)
    house.engine.start(container.id)
    assert house.engine.wait(container.id) == 0
    house.engine.remove(container.id)


def faces(house: House, network: str) -> Contestants:
    """``fastbox run --rm`` as a whole process, of the native client and of plain Python."""
    words = ["run", "--rm", "--network", network, "busybox", "true"]
    found: Contestants = {}
    for face in FACES:
        if face not in house.missing:
            argv, env = house.command(face, *words), house.cli.env if face == "cli" else None
            found[face] = lambda argv=argv, env=env: seconds(argv, env=env)  # type: ignore[misc]
    return found


def engines(house: House, network: str) -> Contestants:
    """podman and docker, as whole processes; docker's daemon runs already."""
    found: Contestants = {}
    for name, engine in (("podman", house.podman), ("docker", house.docker)):
        if engine is not None:
            found[name] = lambda engine=engine: engine.run("--network", network)  # type: ignore[misc]
    return found


@contextlib.contextmanager
def pooled(house: House, network: str) -> Iterator[tuple[Contestants, Contestants]]:
    """A pool's contestants: until exec, and the whole life. Each finds the pool full: that it
    fills itself up is not measured, and is over before another contestant's turn."""
    if "pool" in house.missing:
        yield {}, {}
        return
    with house.engine.pool("busybox", POOL, network=network) as pool:  # type: ignore[attr-defined]

        def fill() -> None:
            wait_for(lambda: pool.stats().ready >= POOL, "the pool to be full")

        def start() -> float:
            begin = time.perf_counter()
            box = pool.start(TRUE)
            taken = time.perf_counter() - begin
            with contextlib.suppress(FastboxError):  # it may be gone already
                house.engine.wait(box.id)
            fill()
            return taken

        def run() -> float:
            taken = timed(lambda: pool.run(TRUE, check=True))()
            fill()
            return taken

        fill()
        missed = pool.stats().missed
        yield {"pool": start}, {"pool": run}
        assert pool.stats().missed == missed, "an ordinary start took a sandbox's place"


# ---- until exec --------------------------------------------------------------------------------


def started(house: House, network: str, floors: dict[str, str], rounds: int) -> Found:
    """Like the floor's, the library's container is thrown away; *kept* is one that stays, and is to
    survive a power loss."""
    contestants: Contestants = {}
    for name, floor in floors.items():
        if floor in house.floors:
            contestants[name] = house.floors[floor].start
    for name, config in (("library", house.ephemeral), ("library, kept", house.config)):
        contestants[name] = start_of(house, msgspec.structs.replace(config, network=network))
    with pooled(house, network) as (starts, _):
        return race(contestants | starts, rounds)


@pytest.fixture(scope="module")
def starts(house: House, rounds: int) -> Found:
    floors = {"floor": "floor", "floor+seccomp": "floor+seccomp"}
    return started(house, "none", floors, rounds * 2)


@pytest.fixture(scope="module")
def starts_on_bridge(house: House, rounds: int) -> Found:
    return started(house, "bridge", {"floor": "floor, bridge"}, rounds * 2)


@pytest.mark.benchmark(group="start")
def test_start(contestant: str, starts: Found, benchmark: Any) -> None:
    report(benchmark, starts[contestant])


@pytest.mark.benchmark(group="start on bridge")
def test_start_on_bridge(contestant: str, starts_on_bridge: Found, benchmark: Any) -> None:
    report(benchmark, starts_on_bridge[contestant])


# ---- the whole life ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def launches(house: House, rounds: int) -> Found:
    contestants: Contestants = {
        name: house.floors[name].run for name in ("floor", "floor+seccomp") if name in house.floors
    }
    contestants["library"] = life_of(house, house.ephemeral)
    contestants["library, kept"] = timed(lambda: kept(house))
    contestants |= faces(house, "none")
    bundles = {"bubblewrap": house.bubblewrap, "crun": house.crun, "runc": house.runc}
    for name, peer in bundles.items():
        if peer is not None:
            contestants[name] = peer.run
    contestants |= engines(house, "none")
    with house.supervised(), pooled(house, "none") as (_, lives):
        return race(contestants | lives, rounds)


@pytest.fixture(scope="module")
def launches_on_bridge(house: House, rounds: int) -> Found:
    contestants: Contestants = {}
    if "floor, bridge" in house.floors:
        contestants["floor"] = house.floors["floor, bridge"].run
    config = msgspec.structs.replace(house.ephemeral, network="bridge")
    contestants["library"] = life_of(house, config)
    contestants |= faces(house, "bridge") | engines(house, "bridge")
    with house.supervised(), pooled(house, "bridge") as (_, lives):
        return race(contestants | lives, rounds)


@pytest.mark.benchmark(group="launch")
def test_launch(contestant: str, launches: Found, benchmark: Any) -> None:
    report(benchmark, launches[contestant])


@pytest.mark.benchmark(group="bridge")
def test_bridge(contestant: str, launches_on_bridge: Found, benchmark: Any) -> None:
    report(benchmark, launches_on_bridge[contestant])
