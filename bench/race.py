"""Measuring several contestants in turns, so that a machine that drifts hits all of them alike."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from bench.commands import last_line, limit

CALL = 120.0  # seconds that one call of a contestant may take


class Out(Exception):
    """Why a contestant is out of a race: a line.

    Attributes:
        contestant: its name in that race.
    """

    def __init__(self, contestant: str, why: str) -> None:
        super().__init__(f"{contestant}: {why}")
        self.contestant = contestant
        self.why = why


Times: TypeAlias = "list[float] | Exception"

# Contestant -> the last line of what put it out, for all races of this run.
failures: dict[str, str] = {}


class Found(dict[str, Times]):
    """Name -> the seconds of each counted round, or why it is out. A name that never ran is out
    too: its peer could not be made ready, or is absent."""

    def __missing__(self, name: str) -> Times:
        from bench.roster import peer_of

        why = failures.get(name) or failures.get(peer_of(name) or "", "it did not take part")
        return Out(name, why)

    def __or__(self, other: Any) -> Found:  # type: ignore[override]
        return Found({**self, **other})


def race(
    contestants: dict[str, Callable[[], float]],
    rounds: int,
    warmup: int = 2,
    *,
    call: float = CALL,
) -> Found:
    """Let each contestant run once per round. One that fails is out; the others go on.

    Args:
        contestants: name -> function that does the work once and returns the seconds it took.
        warmup: rounds that are not counted.
        call: seconds that a contestant may take for one of its calls; then it is out.
    """
    names = list(contestants)
    found = Found({name: [] for name in names})
    for number in range(-warmup, rounds):
        # Another one goes first each time: what one leaves behind (a network namespace that is
        # being torn down, dirty pages) is paid for by all of them in turn.
        shift = number % max(len(names), 1)
        for name in names[shift:] + names[:shift]:
            times = found[name]
            if isinstance(times, Exception):
                continue
            try:
                with limit(call, name):
                    taken = contestants[name]()
            except Exception as e:
                found[name] = out(name, e)
                continue
            if number >= 0:
                times.append(taken)
    return found


def out(name: str, error: Exception) -> Out:
    """Note that a contestant is out, and why."""
    failures[name] = last_line(error)
    found = Out(name, failures[name])
    found.__cause__ = error
    return found


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
        Exception: what put the contestant out of the race. (A peer's failure does not fail the
            run, see conftest.py; one of fastbox's own does.)
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


@contextlib.contextmanager
def ready(name: str) -> Iterator[None]:
    """For what a peer's contestant needs: where that fails, it does not take part, and the end
    names it."""
    try:
        yield
    except Exception as e:
        out(name, e)


@contextlib.contextmanager
def unless_out() -> Iterator[None]:
    """For figures made of several contestants: none where a peer among them is out (what is out is
    named at the end); one of fastbox's own that is out is an error."""
    from bench.roster import peer_of

    try:
        yield
    except Out as e:
        if peer_of(e.contestant) is None:
            raise
