"""The fixtures that all cases share, and what becomes of the results."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from bench import machine, peers, race, results
from bench.house import TRUE, House
from bench.roster import absent, peer_of, takes_part
from bench.traffic import Net
from tests.support.leaks import LeakCheck

__all__ = ["TRUE", "House"]

VALUES = pytest.StashKey[dict[str, float]]()
ABSENT = pytest.StashKey[dict[str, str]]()
MACHINE = pytest.StashKey[dict[str, Any]]()
LINES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few rounds, small images")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[VALUES] = {}
    config.stash[ABSENT] = absent()
    config.stash[MACHINE] = machine.describe()  # before: the load is not to be our own


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``CONTESTANTS`` of the module (or, by name, of each test), without the peers that are absent
    (which the end names)."""
    if "contestant" in metafunc.fixturenames:
        missing = metafunc.config.stash[ABSENT]
        known = metafunc.module.CONTESTANTS
        if isinstance(known, dict):
            known = known[metafunc.function.__name__]
        names = [name for name in known if takes_part(name, missing)]
        metafunc.parametrize("contestant", names)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A peer that fails is no failure of fastbox: its case is reported as left out, and the end
    names it with its error. One of our own contestants that is out fails its case."""
    outcome = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, race.Out) and peer_of(error.contestant) is not None:
        report = outcome.get_result()
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"failed: {error}")


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    """Whether all is to be done in three minutes."""
    return bool(request.config.getoption("--quick"))


@pytest.fixture(scope="session")
def rounds(quick: bool) -> int:
    """How often a cheap case is measured; dear ones take a fraction."""
    return 5 if quick else 60


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
    """Ratios, targets, the machine, and who was absent or failed go into the result file."""
    results.complete(
        output_json,
        values=config.stash[VALUES],
        machine=config.stash[MACHINE],
        absent=config.stash[ABSENT],
        failed=dict(race.failures),
        quick=bool(config.getoption("--quick")),
    )
    config.stash[LINES] = results.report(output_json, partial=is_partial(config))


def is_partial(config: pytest.Config) -> bool:
    """Whether only some cases were asked for."""
    named = any("::" in word or word.endswith(".py") for word in config.args)
    return named or bool(config.option.keyword)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    terminalreporter.section("benchmarks")
    lines = config.stash.get(LINES, None)
    if lines is None:  # nothing was measured
        lines = results.people(config.stash[ABSENT], race.failures)
    for line in lines:
        terminalreporter.write_line(line)
