"""The same work in a container and on the host, by one program from one place."""

from __future__ import annotations

import contextlib
import csv
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence

from bench.commands import CommandFailed, output

_ROUND_WITHIN = 120.0  # seconds
# Whoever writes a line to it gets one back when the job is done.
LOOP = "while read line; do {job} || exit 1; echo done; done"


class Worker:
    """A shell that does a job whenever it is told to.

    Args:
        argv: ends with ``sh -c``, be it in a container or not. job: a shell command.
    """

    def __init__(self, argv: Sequence[str], job: str, env: Mapping[str, str] | None = None) -> None:
        self.argv = argv
        self.process = subprocess.Popen(
            [*argv, LOOP.replace("{job}", job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=env,
            start_new_session=True,
        )

    def run(self) -> float:
        """Seconds of the job.

        Raises:
            CommandFailed: it ended, or took too long.
        """
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        start = time.perf_counter()
        process.stdin.write(b"\n")
        said = b""
        if select.select([process.stdout], [], [], _ROUND_WITHIN)[0]:
            said = os.read(process.stdout.fileno(), 100)
        taken = time.perf_counter() - start
        if said != b"done\n":
            raise CommandFailed(f"{self.argv[0]}: the job was not done")
        return taken

    def close(self) -> None:
        """End it: its input does."""
        for end in (self.process.stdin, self.process.stdout):
            if end is not None:
                end.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def pinned(pid: int, processor: int) -> Iterator[None]:
    """All threads of a process on one processor."""
    for name in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(name), {processor})
    yield


def requests_per_second(port: int, processor: int, requests: int) -> dict[str, float]:
    """redis-benchmark against 127.0.0.1: command -> its rate."""
    words = ["taskset", "-c", str(processor), "redis-benchmark", "-p", str(port), "-c", "20"]
    return rates(output([*words, "-n", str(requests), "-t", "set,get", "--csv"]))


def rates(table: str) -> dict[str, float]:
    """What redis-benchmark --csv prints.

    Raises:
        CommandFailed: there is no figure in it.
    """
    found = {}
    for row in csv.reader(table.splitlines()):
        with contextlib.suppress(ValueError, IndexError):
            found[row[0]] = float(row[1])
    if not found:
        raise CommandFailed("redis-benchmark: printed no figures")
    return found
