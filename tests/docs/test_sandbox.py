"""The examples of docs/sandbox.md, each as it stands there."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

import fastbox.runner

if TYPE_CHECKING:
    from fastbox.engine import Engine

PAGE = os.path.join(os.path.dirname(__file__), "../../docs/sandbox.md")


def examples() -> list[tuple[str, str]]:
    """(heading above it, code) of each block."""
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    found, heading = [], ""
    for title, code in re.findall(r"^#+ ([^\n]*)$|^```python\n(.*?)^```$", text, re.M | re.S):
        heading = title or heading
        if code:
            found.append((heading, code))
    return found


@pytest.mark.parametrize(("heading", "code"), examples(), ids=[name for name, _ in examples()])
def test_example(
    heading: str,
    code: str,
    engine: Engine,
    busybox_image: str,
    redis_image: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fastbox.runner, "_shared", engine)
    exec(compile(code, f"{PAGE}: {heading}", "exec"), {"fastbox": fastbox})
    assert os.listdir(f"{engine.root}/containers") == []


def test_all_are_found() -> None:
    assert len(examples()) == 7
