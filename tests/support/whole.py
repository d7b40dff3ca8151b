"""The invariant of a store: whatever was done to it, and whoever was killed meanwhile, a check
finds nothing wrong."""

from __future__ import annotations

import os

from fastbox.check.problems import Problem
from fastbox.engine import Engine


def check_whole(root: str, runtime_dir: str | None = None) -> None:
    """Fails the test if anything in the store at ``root`` is damaged."""
    runtime = runtime_dir or (f"{root}.run" if os.path.isdir(f"{root}.run") else None)
    found = [problem for problem in Engine(root, runtime).check() if problem.is_left]
    assert not found, "\n".join(map(line, found))


def line(problem: Problem) -> str:
    """A problem as text."""
    return f"{problem.kind} {problem.what}: {problem.text}"
