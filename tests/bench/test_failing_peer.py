"""A whole run in which a peer fails: it is named, its case is left out, and the rest goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

CASES = """
from bench.commands import seconds
from bench.race import race, report
import pytest

CONTESTANTS = ["library", "crun", "runc", "nobody's"]


@pytest.fixture(scope="module")
def found():
    return race(
        {
            "library": lambda: 0.004,
            "crun": lambda: seconds(["sh", "-c", "echo 'crun: no cgroup' >&2; exit 1"]),
            "runc": lambda: seconds(["sleep", "1000"]),
            **OURS,
        },
        3,
        call=1.0,
    )


@pytest.mark.benchmark(group="launch")
def test_launch(contestant, found, benchmark):
    report(benchmark, found[contestant])
"""
FINE = """OURS = {"nobody's": lambda: 0.008}\n"""
BROKEN = """OURS = {"nobody's": lambda: seconds(["sh", "-c", "echo mine >&2; exit 1"])}\n"""
# Peers that need not be installed for this.
PLUGIN = """
from bench import roster
roster.absent = lambda: {"podman": "not installed"}
import bench.conftest as real
globals().update({name: getattr(real, name) for name in dir(real) if name.startswith("pytest_")})
"""


def run(directory: str, text: str) -> tuple[subprocess.CompletedProcess[str], dict[str, object]]:
    """pytest with bench/'s conftest, and its result file."""
    with open(os.path.join(directory, "test_it.py"), "w") as file:
        file.write(text)
    with open(os.path.join(directory, "conftest.py"), "w") as file:
        file.write(PLUGIN)
    result = os.path.join(directory, "result.json")
    argv = [sys.executable, "-m", "pytest", directory, f"--rootdir={directory}", "-p"]
    argv += ["no:cacheprovider", "--benchmark-only", "--benchmark-quiet", "--quick"]
    # One that is told that it is a worker of several processes measures nothing.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [*argv, f"--benchmark-json={result}"],
        cwd=directory,
        env={**env, "PYTHONPATH": PROJECT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert os.path.exists(result), done.stdout + done.stderr
    with open(result) as file:
        return done, json.load(file)


def test_a_peer_that_fails_is_named_and_the_rest_goes_on(tmp_path: object) -> None:
    done, result = run(str(tmp_path), FINE + CASES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result["failed_peers"] == {
        "crun": "sh: exit status 1: crun: no cgroup",
        "runc": "runc: not done within 1 seconds",
    }
    assert result["absent_peers"] == {"podman": "not installed"}
    assert [entry["case"] for entry in result["benchmarks"]] == [  # type: ignore[attr-defined]
        "launch[library]",
        "launch[nobody's]",
    ]
    assert result["quick"] is True
    assert result["machine_info"]["kernel"] == os.uname().release  # type: ignore[index]
    for line in (
        "absent: podman (not installed)",
        "FAILED: crun: sh: exit status 1: crun: no cgroup",
        "FAILED: runc: not done within 1 seconds",
        "QUICK run",
    ):
        assert line in done.stdout, done.stdout
    assert "launch[library] / launch[crun]" in done.stdout  # among what was not measured


def test_one_of_ours_that_fails_fails_the_run(tmp_path: object) -> None:
    done, result = run(str(tmp_path), BROKEN + CASES)
    assert done.returncode == 1
    assert "nobody's: sh: exit status 1: mine" in done.stdout
    assert len(result["benchmarks"]) == 1  # type: ignore[arg-type]
