"""Workers that do a job when they are told to, and redis-benchmark's table."""

from __future__ import annotations

import contextlib

import pytest

from bench.commands import CommandFailed
from bench.inside import Worker, rates

TABLE = """"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms"
"SET","98039.22","0.120","0.040","0.111"
"GET","101010.10","0.118","0.032","0.111"
"""


def test_the_rates_of_a_table() -> None:
    assert rates(TABLE) == {"SET": 98039.22, "GET": 101010.10}


def test_a_table_without_rates() -> None:
    with pytest.raises(CommandFailed):
        rates("Could not connect to Redis\n")


def test_a_worker_does_its_job_each_time(tmp_path: object) -> None:
    job = f"echo x >> {tmp_path}/log"
    with contextlib.closing(Worker(["sh", "-c"], job)) as worker:
        assert worker.run() > 0
        assert worker.run() > 0
        with open(f"{tmp_path}/log") as file:
            assert file.read() == "x\nx\n"
    assert worker.process.returncode == 0


def test_a_job_that_fails() -> None:
    with contextlib.closing(Worker(["sh", "-c"], "false")) as worker:
        with pytest.raises(CommandFailed):
            worker.run()
