"""``bench/compare``: what got slower between two results."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from bench.compare import judge

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def stats(median: float, iqr: float = 0.0) -> dict[str, float]:
    return {"median": median, "iqr": iqr}


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (stats(100), stats(109), "same"),
        (stats(100), stats(91), "same"),
        (stats(100), stats(112), "slower"),
        (stats(100), stats(88), "faster"),
        (stats(100, 30), stats(112, 10), "noise"),  # 12 moved, 20 scattered
        (stats(100, 10), stats(130, 30), "slower"),
        (stats(0), stats(0), "same"),
    ],
)
def test_a_case_changed_when_it_moved_by_more_than_it_scatters(
    before: dict[str, float], after: dict[str, float], verdict: str
) -> None:
    assert judge("x", before, after, 10).verdict == verdict


def write(path: str, cases: dict[str, float], **facts: Any) -> str:
    entries = [
        {"case": case, "group": "g", "name": case, "stats": stats(median, median / 50)}
        for case, median in cases.items()
    ]
    with open(path, "w") as file:
        json.dump({"benchmarks": entries, "values": {}, "targets": [], **facts}, file)
    return path


def compare(*words: str) -> subprocess.CompletedProcess[str]:
    program = os.path.join(PROJECT, "bench", "compare")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60)


def test_slower_is_status_1(tmp_path: Any) -> None:
    a = write(f"{tmp_path}/a", {"launch[library]": 0.010, "exec[library]": 0.002, "gone": 1.0})
    b = write(f"{tmp_path}/b", {"launch[library]": 0.013, "exec[library]": 0.001})
    done = compare(a, b)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "not in the second: gone"
    slower = "launch[library] 10.0 ms 13.0 ms +30% 230 µs slower"
    assert " ".join(lines[2].split()) == slower
    faster = "exec[library] 2.00 ms 1.00 ms -50% 30.0 µs faster"
    assert " ".join(lines[3].split()) == faster
    assert lines[-1].startswith("2 cases: 1 slower, 1 faster by more than 10 %")
    assert compare(b, b).returncode == 0
    assert compare(a, b, "--percent", "35").returncode == 0


def figure(number: float, met: bool, *, least: bool = False) -> dict[str, Any]:
    return {
        "subject": "starts per second[fastbox, 8]",
        "against": "",
        "how": "value",
        "limit": 100,
        "unit": "/s",
        "least": least,
        "figure": number,
        "met": met,
    }


def test_figures_that_are_no_times_and_targets(tmp_path: Any) -> None:
    values = {"starts per second[fastbox, 8]": 1.0}
    cases = {"x": 1.0}
    more = write(f"{tmp_path}/a", cases, values=values, targets=[figure(200, met=True, least=True)])
    less = write(f"{tmp_path}/b", cases, values=values, targets=[figure(90, met=False, least=True)])
    done = compare(more, less)
    assert done.returncode == 1
    assert "worse" in done.stdout
    assert "NOT MET ANY MORE: starts per second[fastbox, 8]: 200.00 -> 90.00" in done.stdout
    done = compare(less, more)
    assert done.returncode == 0
    assert "better" in done.stdout
    assert "now met" in done.stdout


def test_other_machines_are_told(tmp_path: Any) -> None:
    a = write(f"{tmp_path}/a", {"x": 1.0}, machine_info={"kernel": "6.1"}, quick=True)
    b = write(f"{tmp_path}/b", {"x": 1.0}, machine_info={"kernel": "6.2"})
    out = compare(a, b).stdout
    assert "warning: another kernel: 6.1 -> 6.2" in out
    assert "quick run" in out


def test_bad_input_is_one_line_and_status_2(tmp_path: Any) -> None:
    a = write(f"{tmp_path}/a", {"x": 1.0})
    other = write(f"{tmp_path}/b", {"y": 1.0})
    for words in ([a, f"{tmp_path}/none"], [a, "/dev/null"], [a, other]):
        done = compare(*words)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("bench/compare: ")
    assert compare(a).returncode == 2
    assert compare(a, a, "--percent", "-1").returncode == 2
