"""Measuring several contestants in turns, so that a machine that drifts hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def race(
    contestants: dict[str, Callable[[], float]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Let each contestant run once per round.

    Args:
        contestants: name -> function that does the work once and returns the seconds it took.
        warmup: rounds that are not counted.

    Returns:
        name -> the seconds of each counted round.
    """
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        # Another one goes first each time: what one leaves behind (a network namespace that is
        # being torn down, dirty pages) is paid for by all of them in turn.
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            taken = contestants[name]()
            if number >= 0:
                seconds[name].append(taken)
    return seconds


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """work as a contestant: all of it is measured."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def report(benchmark: Any, seconds: list[float], **facts: object) -> None:
    """Hand measured rounds to pytest-benchmark, which makes the statistics, table and JSON."""
    readings = iter([reading for taken in seconds for reading in (0.0, taken)])

    def clock() -> float:
        return next(readings)

    benchmark._timer = clock  # the only way in for rounds that were measured elsewhere
    benchmark.extra_info.update(facts)
    benchmark.pedantic(lambda: None, rounds=len(seconds), iterations=1)
