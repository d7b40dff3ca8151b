"""The prepared store that all cases share, and the table at the end."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from bench import peers, worlds
from bench.peers import Crun, Docker, Floor, absent
from bench.targets import outcomes, table
from bench.traffic import Net
from tests.conftest import remove_networks
from tests.support.command import Command, fastbox_program
from tests.support.images import archive, changes
from tests.support.leaks import LeakCheck

if TYPE_CHECKING:
    from fastbox.engine import Engine

VALUES = pytest.StashKey[dict[str, float]]()
ABSENT = pytest.StashKey[dict[str, str]]()
LINES = pytest.StashKey[list[str]]()
TRUE = ["/bin/true"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few rounds")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[VALUES] = {}
    config.stash[ABSENT] = absent()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``CONTESTANTS`` of the module (or, by name, of each test), without the peers that are absent
    (which the end names)."""
    if "contestant" in metafunc.fixturenames:
        missing = metafunc.config.stash[ABSENT]
        known = metafunc.module.CONTESTANTS
        if isinstance(known, dict):
            known = known[metafunc.function.__name__]
        names = [name for name in known if name.split()[0] not in missing]
        metafunc.parametrize("contestant", names)


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    """How often a cheap case is measured; dear ones take a fraction."""
    return 10 if request.config.getoption("--quick") else 60


@pytest.fixture(scope="session")
def missing(request: pytest.FixtureRequest) -> dict[str, str]:
    return request.config.stash[ABSENT]


@pytest.fixture(scope="session")
def values(request: pytest.FixtureRequest) -> dict[str, float]:
    """Results that are no times: case name -> number, see bench/targets.py."""
    return request.config.stash[VALUES]


@pytest.fixture(scope="session")
def net() -> Net:
    return Net(peers.docker_network)


class House:
    """A warm store with busybox, and every engine that can start it."""

    def __init__(self, directory: str, missing: dict[str, str]) -> None:
        from fastbox.container.config import ContainerConfig
        from fastbox.engine import Engine

        self.directory = directory
        self.root = os.path.join(directory, "root")
        self.runtime_dir = os.path.join(directory, "run")
        os.mkdir(self.runtime_dir, 0o700)
        worlds.mount("tmpfs", self.runtime_dir, "tmpfs", 0, "mode=0700")  # as /run is
        self.missing = missing
        self.engine: Engine = Engine(self.root, self.runtime_dir)
        argv = [fastbox_program(), "--root", self.root, "--runtime-dir", self.runtime_dir]
        self.cli = Command(argv, directory)
        self.config = ContainerConfig(image="busybox", command=TRUE, network="none")
        self.ephemeral = ContainerConfig(
            image="busybox", command=TRUE, network="none", auto_remove=True
        )
        self.floors: list[Floor] = []
        self.crun: Crun | None = None
        self.docker: Docker | None = None

    def prepare(self) -> None:
        """Import the image and make the peers ready."""
        self.engine.import_image(archive("busybox"), "busybox", changes=changes("busybox"))
        # A container that ran tells everything: its config.json and its layers.
        example = self.engine.create(self.config)
        self.engine.start(example.id)
        assert self.engine.wait(example.id) == 0
        with open(os.path.join(example.directory, "config.json")) as file:
            spec = json.load(file)
        layers = os.path.join(self.root, "layers")
        names = example.record.layers
        if os.path.isdir(os.path.join(layers, ".init")):
            names = [".init", *names]
        filter_file = self._seccomp(spec)
        for label, program in (("floor", None), ("floor+seccomp", filter_file)):
            work = os.path.join(self.directory, label)
            self.floors.append(Floor(work, layers, names, TRUE, program))
        if "crun" not in self.missing:
            rootfs = os.path.join(self.directory, "rootfs")
            for name in reversed(names):
                shutil.copytree(
                    os.path.join(layers, name), rootfs, symlinks=True, dirs_exist_ok=True
                )
            self.crun = Crun(os.path.join(self.directory, "bundle"), rootfs, spec, TRUE)
        if "docker" not in self.missing:
            self.docker = Docker(archive("busybox"), TRUE)
        self.engine.remove(example.id)

    def _seccomp(self, spec: dict[str, Any]) -> str:
        from fastbox.container import seccomp

        path = os.path.join(self.directory, "filter")
        program = seccomp.compile(spec["linux"]["seccomp"], os.path.join(self.directory, "cache"))
        with open(path, "wb") as file:
            file.write(program)
        return path

    def close(self) -> None:
        for container in self.engine.containers(all=True):
            self.engine.remove(container.id, force=True, volumes=True)
        for peer in [*self.floors, self.crun, self.docker]:
            if peer is not None:
                peer.close()
        remove_networks(self.root)
        worlds.unmount(self.runtime_dir)


@pytest.fixture(scope="session")
def house(missing: dict[str, str]) -> Iterator[House]:
    directory = tempfile.mkdtemp(prefix="fb-bench-", dir="/var/tmp")
    check = LeakCheck([directory])
    check.watch(os.path.join(directory, "root"))
    made = House(directory, missing)
    try:
        made.prepare()
        yield made
    finally:
        made.close()
        left = [line for line in check.leaks() if not line.startswith(("descriptor", "thread"))]
        check.clean()
        check.remove_cgroups()
        shutil.rmtree(directory)
    assert not left, left


# ---- results -----------------------------------------------------------------------------------


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: Any, output_json: dict[str, Any]
) -> None:
    """Ratios, targets and absent peers go into the result file."""
    medians = {
        case_name(entry["group"], entry["params"], entry["name"]): entry["stats"]["median"]
        for entry in output_json["benchmarks"]
    }
    found = list(outcomes(medians, config.stash[VALUES]))
    output_json["values"] = config.stash[VALUES]
    output_json["absent_peers"] = config.stash[ABSENT]
    output_json["targets"] = [
        {**outcome.target._asdict(), "figure": outcome.figure, "met": outcome.met}
        for outcome in found
    ]
    config.stash[LINES] = table(found)


def case_name(group: str | None, params: dict[str, Any] | None, name: str) -> str:
    """``launch[library]``: as the targets name it."""
    contestant = (params or {}).get("contestant")
    return f"{group}[{contestant}]" if contestant else name


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    write = terminalreporter.write_line
    terminalreporter.section("targets")
    for line in config.stash.get(LINES, []):
        write(line)
    for name, why in config.stash[ABSENT].items():
        write(f"absent peer: {name} ({why})")
