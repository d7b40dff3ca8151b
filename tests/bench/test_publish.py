"""README's figures: they are those of the result that is kept in git."""

from __future__ import annotations

import os

import pytest

from bench import publish
from bench.results import BadResult, read
from tests.bench.test_plot import sample


def test_readme_has_the_figures_of_the_published_result() -> None:
    with open(publish.README, encoding="utf-8") as file:
        text = file.read()
    lines = publish.section(read(publish.PUBLISHED)) if os.path.exists(publish.PUBLISHED) else []
    assert publish.put_between(text, lines) == text
    for line in text.splitlines():
        if "](docs/plots/" in line:
            picture = line.partition("](")[2].partition(")")[0]
            assert os.path.exists(os.path.join(publish.PROJECT, picture))


def test_the_best_face_stands_for_fastbox() -> None:
    lines = publish.section(sample())
    assert lines[0].startswith("Medians on A CPU, 2 cores")
    row = next(line for line in lines if "--network none" in line)
    assert row == "| `run --rm --network none … true` | 4.00 ms | 12.0 ms |  | 350 ms |"
    assert "| memory of an idle container | 150 KiB |  |  | 11.7 MiB |" in lines
    assert not any("pull" in line for line in lines)  # not measured: no row


def test_a_quick_run_says_so() -> None:
    assert "a quick run" in publish.section({**sample(), "quick": True})[0]


def test_bad_input(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadResult, match="has no lines"):
        publish.put_between("no markers", [])
    assert publish.main([f"{tmp_path}/none.json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
