"""Boxes, one after another, leave nothing behind. (10,000 of them: ``python -m bench.soak``.)"""

from __future__ import annotations

import pytest

from bench import soak


def test_boxes_leave_nothing_behind(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.soak(40, base) == 0, capsys.readouterr().out
