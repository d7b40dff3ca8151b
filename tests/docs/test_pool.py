"""docs/pool.md: its programs run, and its table of keys is what the configuration knows."""

from __future__ import annotations

import os
import re

import pytest

from fastbox import pool_settings

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def blocks(language: str) -> list[str]:
    with open(os.path.join(PROJECT, "docs", "pool.md"), encoding="utf-8") as file:
        return re.findall(rf"^```{language}\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)


def test_the_programs(
    root: str,
    runtime_dir: str,
    busybox_image: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FASTBOX_ROOT", root)
    monkeypatch.setenv("FASTBOX_RUNTIME_DIR", runtime_dir)
    space: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "pool.md", "exec"), space)
    assert "2 taken" in capsys.readouterr().out


def test_the_configuration() -> None:
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    (text,) = blocks("toml")
    settings = pool_settings.parse(tomllib.loads(text)["pool"])
    assert [setting.image for setting in settings] == ["redis", "python"]
    with open(os.path.join(PROJECT, "docs", "pool.md"), encoding="utf-8") as file:
        page = file.read()
    assert all(f"`{key}`" in page for key in pool_settings.KEYS)
