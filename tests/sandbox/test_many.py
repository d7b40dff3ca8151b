"""``run_many``: order, bounds, errors, and that an end in the middle leaves nothing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import fastbox
from fastbox.errors import InvalidArgument, LaunchError, NotFound

if TYPE_CHECKING:
    from fastbox.engine import Engine

Box = fastbox.Sandbox
Job = fastbox.Job
IMAGE = "busybox"


def left(engine: Engine) -> list[str]:
    return os.listdir(f"{engine.root}/containers")


def test_results_in_order_and_as_they_end(engine: Engine, busybox_image: str) -> None:
    jobs = [["sh", "-c", f"sleep 0.{3 - number}; echo {number}"] for number in range(4)]
    for ordered in (True, False):
        results = list(
            fastbox.run_many(jobs, image=IMAGE, engine=engine, parallel=4, ordered=ordered)
        )
        assert all(r.text == f"{r.index}\n" for r in results)
        indices = [r.index for r in results]
        assert sorted(indices) == [0, 1, 2, 3] and (indices == [0, 1, 2, 3] or not ordered)
    assert left(engine) == []


def test_a_map_over_inputs_from_a_prepared_box(engine: Engine, busybox_image: str) -> None:
    with Box(busybox_image, engine=engine) as box:
        box.write("/double", "#!/bin/sh\nread n; echo $((2*n)) | tee /out/result\n", mode=0o755)
        box.put({"seen": b""}, "/out")
        with box.snapshot() as prepared:
            jobs = (
                Job(args=["/double"], input=str(n), files={"/out/n": str(n)}, collect="/out")
                for n in range(5)
            )
            results = list(fastbox.run_many(jobs, image=prepared, parallel=2))
    assert [r.text for r in results] == [f"{2 * n}\n" for n in range(5)]
    assert results[3].files == {"n": b"3", "result": b"6\n", "seen": b""}
    assert left(engine) == [] and os.listdir(f"{engine.root}/snapshots") == []


def test_an_error_of_one_job_loses_no_other(engine: Engine, busybox_image: str) -> None:
    jobs = [
        ["true"],
        ["no-such-program"],
        Job(args=["true"], image="no-such-image"),
        Job(args=["sh", "-c", "exit 7"], cwd="/tmp"),
        Job(args=["sleep", "1000"], timeout=0.1),
        ["echo", "end"],
    ]
    results = list(fastbox.run_many(jobs, image=IMAGE, engine=engine, pull="never"))
    assert [r.returncode for r in results] == [0, 127, 125, 7, 137, 0]
    assert isinstance(results[1].error, LaunchError) and isinstance(results[2].error, NotFound)
    assert results[4].timed_out and results[5].text == "end\n"
    with pytest.raises(LaunchError):
        results[1].check()


def test_jobs_are_taken_as_they_are_needed(engine: Engine, busybox_image: str) -> None:
    taken = itertools.count()
    jobs = (["echo", str(next(taken))] for _ in itertools.repeat(None))  # without end
    results = fastbox.run_many(jobs, image=IMAGE, engine=engine, parallel=2)
    assert [next(results).text for _ in range(5)] == [f"{n}\n" for n in range(5)]
    results.close()  # type: ignore[attr-defined]
    assert next(taken) <= 5 + 2 * 4 + 2
    assert left(engine) == []


def test_an_exception_in_the_loop_kills_all(engine: Engine, busybox_image: str) -> None:
    jobs = [["true"], *(["sleep", "1000"] for _ in range(3))]
    with pytest.raises(KeyboardInterrupt):
        for _ in fastbox.run_many(jobs, image=IMAGE, engine=engine, parallel=3):
            raise KeyboardInterrupt
    assert left(engine) == []


def test_a_failing_source_of_jobs_is_told(engine: Engine, busybox_image: str) -> None:
    def jobs() -> Iterator[list[str]]:
        yield ["echo", "1"]
        raise ZeroDivisionError

    results = fastbox.run_many(jobs(), image=IMAGE, engine=engine, parallel=2)
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert left(engine) == []


def test_bad_options_are_refused_before_anything_is_made(engine: Engine) -> None:
    for options in ({"parallel": 0}, {"parallel": "two"}, {"memory": "lots"}, {"no_such": 1}):
        with pytest.raises(InvalidArgument):
            fastbox.run_many([["true"]], image=IMAGE, engine=engine, **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        fastbox.run_many("true", image=IMAGE, engine=engine)
    (result,) = fastbox.run_many([["true"]], engine=engine)
    assert isinstance(result.error, InvalidArgument)
    assert list(fastbox.run_many([], image=IMAGE, engine=engine)) == []
