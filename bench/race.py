"""Measuring several contestants in turns, so that a machine that drifts hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

Times: TypeAlias = "list[float] | Exception"


def race(
    contestants: dict[str, Callable[[], float]], rounds: int, warmup: int = 2
) -> dict[str, Times]:
    """Let each contestant run once per round. One that fails is out; the others go on.

    Args:
        contestants: name -> function that does the work once and returns the seconds it took.
        warmup: rounds that are not counted.

    Returns:
        name -> the seconds of each counted round, or why it is out.
    """
    names = list(contestants)
    seconds: dict[str, Times] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        # Another one goes first each time: what one leaves behind (a network namespace that is
        # being torn down, dirty pages) is paid for by all of them in turn.
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            times = seconds[name]
            if isinstance(times, Exception):
                continue
            try:
                taken = contestants[name]()
            except Exception as e:
                seconds[name] = e
                continue
            if number >= 0:
                times.append(taken)
    return seconds


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """work as a contestant: all of it is measured."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def report(benchmark: Any, seconds: Times, **facts: object) -> None:
    """Hand measured rounds to pytest-benchmark, which makes the statistics, table and JSON.

    Raises:
        Exception: what put the contestant out of the race.
    """
    if isinstance(seconds, Exception):
        raise seconds
    readings = iter([reading for taken in seconds for reading in (0.0, taken)])

    def clock() -> float:
        return next(readings)

    benchmark._timer = clock  # the only way in for rounds that were measured elsewhere
    benchmark.extra_info.update(facts)
    benchmark.pedantic(lambda: None, rounds=len(seconds), iterations=1)


def median(*several: Times) -> float:
    """Of all of them.

    Raises:
        Exception: what put one out of the race.
    """
    readings: list[float] = []
    for seconds in several:
        if isinstance(seconds, Exception):
            raise seconds
        readings += seconds
    return sorted(readings)[len(readings) // 2]
