"""``python -m bench.plot``: a result as pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from bench import plot

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def sample() -> dict[str, Any]:
    """A result with figures for every picture."""
    cases = {
        "start[floor]": 0.0006,
        "launch[library]": 0.003,
        "launch[client]": 0.004,
        "launch[crun]": 0.012,
        "launch[docker]": 0.35,
        "first byte[qemu microvm]": 1.2,
        "first byte[library]": 0.003,
    }
    values = {"density[fastbox]": 150.0, "density[docker]": 12000.0}
    for engine, rate in (("fastbox", 400.0), ("crun", 100.0)):
        values |= {f"starts per second[{engine}, {n}]": rate * n for n in (1, 2, 4, 8, 16)}
        values |= {f"start with running[{engine}, {n}]": 3.0 for n in (0, 100, 1000)}
    return {
        "benchmarks": [
            {
                "case": case,
                "group": case.partition("[")[0],
                "params": {"contestant": case.partition("[")[2][:-1]},
                "name": case,
                "stats": {"median": number, "iqr": 0.0},
                "extra_info": {"accelerator": "TCG"} if "qemu" in case else {},
            }
            for case, number in cases.items()
        ],
        "values": values,
        "machine_info": {"cpu": "A CPU", "cores": 2},
    }


def test_bars_go_from_the_floor_to_the_machine() -> None:
    bars = plot.start_bars(sample())
    assert [bar.value for bar in bars] == sorted(bar.value for bar in bars)
    assert bars[0].colour == plot.FLOOR
    assert bars[-1].label == "qemu microvm, TCG (to first byte)"
    assert bars[-1].colour == plot.MACHINE
    assert len(bars) == 6  # the container's first byte is what launch[library] tells
    assert [bar.label for bar in plot.density_bars(sample())] == ["fastbox", "docker"]


def test_curves_are_sorted_by_number() -> None:
    found = plot.curves({"starts per second[a, 16]": 3, "starts per second[a, 2]": 1}, plot.RATE)
    assert found == {"a": [(2, 1), (16, 3)]}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bench.plot", *words]
    return subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=120)


def test_pictures_are_drawn(tmp_path: Any) -> None:
    (tmp_path / "r.json").write_text(json.dumps(sample()))
    out = tmp_path / "plots"
    done = run(str(tmp_path / "r.json"), str(out))
    assert (done.returncode, done.stderr) == (0, "")
    names = ["density", "scaling", "start"]
    assert sorted(os.listdir(out)) == [
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    ]
    for name in names:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (out / f"{name}.svg").read_bytes()


def test_what_cannot_be_drawn_is_told(tmp_path: Any) -> None:
    slim = {**sample(), "values": {}}
    (tmp_path / "r.json").write_text(json.dumps(slim))
    done = run(str(tmp_path / "r.json"), str(tmp_path / "plots"))
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "bench.plot: no density: the result has no figures for it",
        "bench.plot: no scaling: the result has no figures for it",
    ]


def test_bad_input_is_one_line(tmp_path: Any) -> None:
    for words in ([], [str(tmp_path / "none.json")], ["/dev/null"], ["--help", "x", "y"]):
        done = run(*words)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
