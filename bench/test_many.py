"""Many containers: starts per second, a start while many run, what an idle one costs, and the
commands that look at or remove all of them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.commands import output, seconds
from bench.conftest import House
from bench.crowds import (
    Fleet,
    PeerFleet,
    Rate,
    bundles_for,
    floors_for,
    rate_of_call,
    rate_of_command,
)
from bench.house import TRUE
from bench.race import Found, median, out, race, ready, report, timed, unless_out
from bench.test_launch import start_of

AT_ONCE, AT_ONCE_QUICK = [1, 2, 4, 8, 16], [1, 8]
WINDOW, WINDOW_QUICK = 2.0, 0.5  # seconds
REPEATS, REPEATS_QUICK = 3, 1
RUNNING, RUNNING_QUICK = [0, 100, 500, 1000], [0, 50]
DOCKER_RUNNING = 100  # at most: it starts three a second
FLEET, FLEET_QUICK = 100, 5
RATED = [
    *(
        "floor",
        "pool",
        "library",
        "client",
        "cli",
        "bubblewrap",
        "crun",
        "runc",
        "podman",
        "docker",
    ),
]
LOOKING = ["library", "client", "cli", "podman", "docker"]
CONTESTANTS = {
    "test_rate": RATED,
    "test_start_among_many": ["floor", "library", "client", "cli", "docker"],
    "test_ps": LOOKING,
    "test_inspect": LOOKING,
    "test_logs": LOOKING,
    "test_rm": LOOKING,
}
FACES = ("client", "cli")
Counter = Callable[[int, float], Rate]
Contestants = dict[str, Callable[[], float]]


# ---- starts per second ---------------------------------------------------------------------------


@contextlib.contextmanager
def counters(house: House) -> Iterator[dict[str, Counter]]:
    """Contestant -> how many of its starts so many at once manage in so many seconds."""

    def library() -> None:
        assert house.engine.run_attached(house.engine.create(house.ephemeral).id) == 0

    found: dict[str, Counter] = {"library": functools.partial(rate_of_call, library)}
    words = ["--rm", "--network", "none"]
    for face in FACES:
        if face not in house.missing:
            argv = house.command(face, "run", *words, "busybox", *TRUE)
            env = house.cli.env if face == "cli" else None
            found[face] = functools.partial(rate_of_command, argv, env=env)
    if "floor" in house.floors:
        argv = floors_for(house.floors["floor"], AT_ONCE[-1])
        found["floor"] = functools.partial(rate_of_command, argv)
    for oci in (house.crun, house.runc):
        if oci is not None:
            found[oci.name] = functools.partial(rate_of_command, bundles_for(oci, AT_ONCE[-1]))
    if house.bubblewrap is not None:
        # The filter's descriptor is inherited by all copies, each of which reads it from its start.
        argv = ["sh", "-c", 'exec "$@" 9<"$0"', house.bubblewrap.filter, *house.bubblewrap.argv]
        argv += ["--seccomp", "9", *TRUE]
        found["bubblewrap"] = functools.partial(rate_of_command, argv)
    for engine in (house.podman, house.docker):
        if engine is not None:
            argv = [*engine.argv, "run", *engine.LIMITS, *words, engine.IMAGE, *TRUE]
            found[engine.NAME] = functools.partial(rate_of_command, argv)
    with contextlib.ExitStack() as stack:
        if "pool" not in house.missing:
            size = 2 * AT_ONCE[-1]
            pool = stack.enter_context(house.engine.pool("busybox", size, network="none"))  # type: ignore[attr-defined]
            found["pool"] = functools.partial(rate_of_call, lambda: pool.run(TRUE))
        yield found


@pytest.fixture(scope="module")
def rates(house: House, quick: bool, values: dict[str, float]) -> dict[int, Found]:
    """How many at once -> contestant -> seconds for each start, of each window."""
    points = AT_ONCE_QUICK if quick else AT_ONCE
    window = WINDOW_QUICK if quick else WINDOW
    with house.supervised(), counters(house) as contestants:
        found = {}
        for at_once in points:

            def once(counter: Counter, at_once: int = at_once) -> float:
                rate = counter(at_once, window)
                return rate.seconds / rate.count

            turns = {name: functools.partial(once, work) for name, work in contestants.items()}
            found[at_once] = race(
                turns, REPEATS_QUICK if quick else REPEATS, warmup=0 if quick else 1
            )
    for at_once, times in found.items():
        for name in times:
            with unless_out():
                values[f"starts per second[{name}, {at_once}]"] = 1 / median(times[name])
    compare_rates(values)
    return found


def compare_rates(values: dict[str, float]) -> None:
    """Ours beside theirs, eight at once."""
    for face in ("client", "library", "pool", "cli"):
        for peer in ("crun", "docker"):
            ours = values.get(f"starts per second[{face}, 8]")
            theirs = values.get(f"starts per second[{peer}, 8]")
            if ours and theirs:
                values[f"starts per second, 8 at once[{face}] / [{peer}]"] = ours / theirs


@pytest.mark.benchmark(group="many, 8 at once")
def test_rate(contestant: str, rates: dict[int, Found], benchmark: Any) -> None:
    """Seconds for each start."""
    report(benchmark, rates[8][contestant])


# ---- a start while many run ----------------------------------------------------------------------


def starters(house: House) -> Contestants:
    """One start: of the library and the floor until exec, of others as a whole process."""
    found: Contestants = {"library": start_of(house, house.config)}
    if "floor" in house.floors:
        found["floor"] = house.floors["floor"].start
    for face in FACES:
        if face not in house.missing:
            argv = house.command(face, "run", "--rm", "--network", "none", "busybox", *TRUE)
            env = house.cli.env if face == "cli" else None
            found[face] = functools.partial(seconds, argv, env=env)
    return found


@pytest.fixture(scope="module")
def among_many(
    house: House, quick: bool, rounds: int, values: dict[str, float]
) -> dict[int, Found]:
    """How many run -> contestant -> seconds. With none: before they come and after they went."""
    found: dict[int, Found] = {}
    points = RUNNING_QUICK if quick else RUNNING
    rounds = 3 if quick else rounds
    with contextlib.closing(Fleet(house)) as fleet, house.supervised():
        for running in points:
            fleet.grow(running)
            found[running] = race(starters(house), rounds)
        fleet.remove()
        again = race(starters(house), rounds)
    found[0] = Found({name: both(found[0][name], again[name]) for name in again})
    if house.docker is not None:
        with ready("docker"), contextlib.closing(PeerFleet(house.docker)) as theirs:
            for running in (0,) if quick else (0, DOCKER_RUNNING):
                theirs.grow(running)
                found[running] |= race({"docker": house.docker.run}, max(2, rounds // 6), 1)
    for running, times in found.items():
        for name in times:
            with unless_out():
                values[f"start with running[{name}, {running}]"] = median(times[name]) * 1000
    compare_crowds(values, points[-1])
    return found


def both(first: Any, second: Any) -> Any:
    """The times of two races of one contestant; what put it out of one of them."""
    for times in (first, second):
        if isinstance(times, Exception):
            return times
    return first + second


def compare_crowds(values: dict[str, float], most: int) -> None:
    """The start among most, beside one alone."""
    for name in ("library", "client", "cli", "floor"):
        alone = values.get(f"start with running[{name}, 0]")
        crowded = values.get(f"start with running[{name}, {most}]")
        if alone and crowded:
            values[f"start with {most} running[{name}] / none"] = crowded / alone


@pytest.mark.benchmark(group="start among many")
def test_start_among_many(contestant: str, among_many: dict[int, Found], benchmark: Any) -> None:
    """With as many as there can be."""
    most = max(
        running for running in among_many if contestant in among_many[running] or not running
    )
    report(benchmark, among_many[most][contestant], running=most)


# ---- looking at all of them, and removing them ---------------------------------------------------


class Crowd:
    """Fleets of the same size of every engine.

    Attributes:
        size: of each. fleets: engine -> its fleet, without those that could not be started.
    """

    def __init__(self, house: House, size: int) -> None:
        self.house = house
        self.size = size
        self.ours = Fleet(house)
        self.theirs: dict[str, PeerFleet] = {}
        for engine in (house.podman, house.docker):
            if engine is not None:
                self.theirs[engine.NAME] = PeerFleet(engine)

    def grow(self) -> None:
        """Start all; a peer that fails does not take part."""
        self.ours.grow(self.size)
        for name, fleet in list(self.theirs.items()):
            try:
                fleet.grow(self.size)
            except Exception as e:
                out(name, e)
                fleet.close()
                del self.theirs[name]

    def commands(self, verb: str, *, named: bool) -> Contestants:
        """Verb as a whole process, of every engine's command.

        Args:
            named: with the name of a container.
        """
        found: Contestants = {}
        for face in FACES:
            if face not in self.house.missing:
                argv = self.house.command(face, verb, *self.ours.ids[:1][: int(named)])
                env = self.house.cli.env if face == "cli" else None
                found[face] = functools.partial(seconds, argv, env=env)
        for name, fleet in self.theirs.items():
            argv = [*fleet.engine.argv, verb, *fleet.ids[:1][: int(named)]]
            found[name] = functools.partial(seconds, argv)
        return found

    def close(self) -> None:
        self.ours.close()
        for fleet in self.theirs.values():
            fleet.close()


@pytest.fixture(scope="module")
def crowd(house: House, quick: bool, values: dict[str, float]) -> Iterator[Crowd]:
    """Removed by test_rm, and by the end of this module at the latest."""
    made = Crowd(house, FLEET_QUICK if quick else FLEET)
    with house.supervised(), contextlib.closing(made):
        made.grow()
        values["density[fastbox]"] = made.ours.memory()
        for name, fleet in made.theirs.items():
            with ready(name):
                values[f"density[{name}]"] = fleet.memory()
        yield made


def looked_at(crowd: Crowd, library: Callable[[], object], contestants: Contestants) -> Found:
    return race({"library": timed(library), **contestants}, 5 if crowd.size == FLEET_QUICK else 30)


@pytest.fixture(scope="module")
def listed(crowd: Crowd) -> Found:
    engine = crowd.house.engine
    return looked_at(crowd, engine.containers, crowd.commands("ps", named=False))


@pytest.fixture(scope="module")
def inspected(crowd: Crowd) -> Found:
    engine, name = crowd.house.engine, crowd.ours.ids[0]
    return looked_at(crowd, lambda: engine.container(name), crowd.commands("inspect", named=True))


@pytest.fixture(scope="module")
def read(crowd: Crowd) -> Found:
    engine, name = crowd.house.engine, crowd.ours.ids[0]
    return looked_at(crowd, lambda: list(engine.logs(name)), crowd.commands("logs", named=True))


@pytest.mark.benchmark(group="ps of many")
def test_ps(contestant: str, listed: Found, crowd: Crowd, benchmark: Any) -> None:
    report(benchmark, listed[contestant], containers=crowd.size)


@pytest.mark.benchmark(group="inspect among many")
def test_inspect(contestant: str, inspected: Found, crowd: Crowd, benchmark: Any) -> None:
    report(benchmark, inspected[contestant], containers=crowd.size)


@pytest.mark.benchmark(group="logs among many")
def test_logs(contestant: str, read: Found, crowd: Crowd, benchmark: Any) -> None:
    report(benchmark, read[contestant], containers=crowd.size)


@pytest.fixture(scope="module")
def removed(crowd: Crowd) -> Found:
    """All of them by one command (of the library: one after the other); our faces get a fleet
    each."""

    def ours(remove: Callable[[], object]) -> Callable[[], float]:
        def once() -> float:
            crowd.ours.grow(crowd.size)
            taken = timed(remove)()
            crowd.ours.ids = []
            return taken

        return once

    contestants: Contestants = {"library": ours(crowd.ours.remove)}
    for face in FACES:
        if face not in crowd.house.missing:
            env = crowd.house.cli.env if face == "cli" else None

            def remove(face: str = face, env: Any = env) -> None:
                output(crowd.house.command(face, "rm", "-f", *crowd.ours.ids), env=env)

            contestants[face] = ours(remove)

    def theirs(fleet: PeerFleet) -> float:
        taken = seconds(fleet.removal())
        fleet.ids = []
        return taken

    for name, fleet in crowd.theirs.items():
        contestants[name] = functools.partial(theirs, fleet)
    return race(contestants, 1, warmup=0)


@pytest.mark.benchmark(group="rm -f of all")
def test_rm(contestant: str, removed: Found, crowd: Crowd, benchmark: Any) -> None:
    report(benchmark, removed[contestant], containers=crowd.size)
