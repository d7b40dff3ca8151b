"""``cp`` of a tree into and out of a stopped container: 1,000 files of 4 KiB and one of 32 MiB (100
and 3 MiB when quick)."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.commands import output, seconds
from bench.conftest import House
from bench.race import Found, race, ready, report, timed

CONTESTANTS = ["library", "client", "cli", "podman", "docker"]
FILES, LARGE = 1000, 32
FILES_QUICK, LARGE_QUICK = 100, 3


def make_tree(path: str, files: int, mebibytes: int) -> None:
    """So many small files in ten directories, and a large one."""
    for number in range(files):
        directory = os.path.join(path, str(number % 10))
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, str(number)), "wb") as file:
            file.write(number.to_bytes(4, "big") * 1024)
    with open(os.path.join(path, "large"), "wb") as file:
        file.write(os.urandom(1 << 20) * mebibytes)


class Place:
    """A stopped container of some engine, as ``cp`` sees it.

    Args:
        argv: the engine's command; container: its id.
    """

    def __init__(self, argv: list[str], container: str, env: dict[str, str] | None = None) -> None:
        self.argv, self.container, self.env = argv, container, env
        self.count = 0

    def copy_in(self, tree: str) -> float:
        """Seconds; each time below another name."""
        self.count += 1
        target = f"{self.container}:/in{self.count}"
        return seconds([*self.argv, "cp", tree, target], env=self.env)

    def copy_out(self, directory: str) -> float:
        """Seconds of copying out what the first copy_in put there."""
        target = os.path.join(directory, "out")
        taken = seconds([*self.argv, "cp", f"{self.container}:/in1", target], env=self.env)
        shutil.rmtree(target)
        return taken


class Direct(Place):
    """The same by the library."""

    def __init__(self, house: House, container: str) -> None:
        super().__init__([], container)
        self.engine = house.engine

    def copy_in(self, tree: str) -> float:
        self.count += 1
        name = f"/in{self.count}"
        return timed(lambda: self.engine.copy_in(self.container, tree, name))()

    def copy_out(self, directory: str) -> float:
        target = os.path.join(directory, "out")
        taken = timed(lambda: self.engine.copy_out(self.container, "/in1", target))()
        shutil.rmtree(target)
        return taken


@contextlib.contextmanager
def containers(house: House) -> Iterator[dict[str, Place]]:
    """A stopped one for each contestant."""
    with contextlib.ExitStack() as stack:

        def ours() -> str:
            made = house.engine.create(house.config).id
            stack.callback(house.engine.remove, made)
            return made

        found: dict[str, Place] = {"library": Direct(house, ours())}
        for face in ("client", "cli"):
            if face not in house.missing:
                env = house.cli.env if face == "cli" else None
                found[face] = Place(house.command(face), ours(), env)
        for engine in (house.podman, house.docker):
            if engine is None:
                continue
            with ready(engine.NAME):
                made = output([*engine.argv, "create", *engine.LIMITS, engine.IMAGE, "true"])
                stack.callback(output, [*engine.argv, "rm", made])
                found[engine.NAME] = Place(engine.argv, made)
        yield found


@pytest.fixture(scope="module")
def copies(
    house: House, tmp_path_factory: pytest.TempPathFactory, rounds: int, quick: bool
) -> dict[str, Found]:
    tree = str(tmp_path_factory.mktemp("tree") / "files")
    make_tree(tree, *((FILES_QUICK, LARGE_QUICK) if quick else (FILES, LARGE)))
    out = str(tmp_path_factory.mktemp("out"))
    with house.supervised(), containers(house) as places:
        into: dict[str, Callable[[], float]] = {}
        outof: dict[str, Callable[[], float]] = {}
        for name, place in places.items():
            into[name] = lambda place=place: place.copy_in(tree)  # type: ignore[misc]
            outof[name] = lambda place=place: place.copy_out(out)  # type: ignore[misc]
        few = max(2, rounds // 6)
        return {"in": race(into, few, warmup=1), "out": race(outof, few, warmup=1)}


@pytest.mark.benchmark(group="cp in")
def test_copy_in(contestant: str, copies: dict[str, Found], benchmark: Any) -> None:
    report(benchmark, copies["in"][contestant])


@pytest.mark.benchmark(group="cp out")
def test_copy_out(contestant: str, copies: dict[str, Found], benchmark: Any) -> None:
    report(benchmark, copies["out"][contestant])
