"""What people do all day: exec, output that is logged, a key typed at a terminal, and what the
supervisor costs while nothing happens."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from bench.commands import output, seconds
from bench.conftest import TRUE, House
from bench.entering import Enter
from bench.race import Found, median, race, ready, report, timed, unless_out
from fastbox.container.config import RestartPolicy
from tests.support.wait import wait_for

CONTESTANTS = [
    "floor",
    "floor+seccomp",
    "library",
    "client",
    "cli",
    "crun",
    "runc",
    "podman",
    "docker",
]
GIGABYTE = 10**9
WATCHED, WATCHED_QUICK = 200, 20
IDLE_SECONDS, IDLE_QUICK = 20, 3


# ---- exec --------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(house: House) -> Iterator[dict[str, Callable[[], float]]]:
    """``true`` in a running container, as a contestant of each engine."""
    with contextlib.ExitStack() as stack:
        config = msgspec.structs.replace(house.config, command=["sleep", "10000"])
        box = house.engine.start(house.engine.create(config).id)
        stack.callback(house.engine.remove, box.id, force=True)
        found = {"library": timed(lambda: house.engine.exec(box.id, ["true"]))}
        for name, filter_file in (("floor", None), ("floor+seccomp", f"{house.directory}/filter")):
            found[name] = Enter(house.engine, box, TRUE, filter_file).run
        for face in ("client", "cli"):
            if face not in house.missing:
                argv = house.command(face, "exec", box.id, "true")
                found[face] = process(argv, house.cli.env if face == "cli" else None)
        for name, oci in (("crun", house.crun), ("runc", house.runc)):
            if oci is not None:
                with ready(name):
                    made = oci.start_sleeping()
                    stack.callback(oci.delete, made)
                    found[name] = process([*oci.argv, "exec", made, "true"])
        for engine in (house.podman, house.docker):
            if engine is not None:
                with ready(engine.NAME):
                    made = stack.enter_context(engine.sleeping())
                    found[engine.NAME] = process([*engine.argv, "exec", made, "true"])
        yield found


def process(argv: list[str], env: dict[str, str] | None = None) -> Callable[[], float]:
    return lambda: seconds(argv, env=env)


@pytest.fixture(scope="module")
def executions(house: House, rounds: int) -> Found:
    with house.supervised(), running(house) as found:
        return race(found, rounds)


@pytest.mark.benchmark(group="exec")
def test_exec(contestant: str, executions: Found, benchmark: Any) -> None:
    report(benchmark, executions[contestant])


# ---- output ------------------------------------------------------------------------------------

SCRIPT = "yes 'a line of log as programs write them, of some eighty characters in all, or so' "
SCRIPT += "| head -c "


def resident(pid: int) -> int:
    """Peak resident set in KiB."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


@pytest.mark.benchmark(group="log")
def test_a_gigabyte_of_log(
    house: House, values: dict[str, float], quick: bool, benchmark: Any
) -> None:
    """From the start to the end of a container that writes it (a twentieth when quick); docker
    keeps it as json-file."""
    script = SCRIPT + str(GIGABYTE // 20 if quick else GIGABYTE)
    peak = 0

    def fastbox() -> None:
        nonlocal peak
        config = msgspec.structs.replace(house.config, command=["sh", "-c", script])
        box = house.engine.start(house.engine.create(config).id)
        while house.engine.container(box.id).state.status.is_up:
            with contextlib.suppress(FileNotFoundError, StopIteration, ProcessLookupError):
                peak = max(peak, resident(box.state.monitor_pid))
            time.sleep(0.01)
        house.engine.remove(box.id)

    def docker() -> None:
        argv = ["docker", "run", "-d", "--network", "none", "--log-opt", "max-size=20m"]
        argv += ["--log-opt", "max-file=5", house.docker.IMAGE, "sh", "-c", script]  # type: ignore[union-attr]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        container = done.stdout.strip()
        subprocess.run(["docker", "wait", container], check=True, capture_output=True)
        subprocess.run(["docker", "rm", container], check=True, capture_output=True)

    contestants = {"fastbox": timed(fastbox)}
    if house.docker:
        contestants["docker"] = timed(docker)
    found = race(contestants, 1 if quick else 3, warmup=0)
    with unless_out():
        values["log[fastbox] / log[docker]"] = median(found["fastbox"]) / median(found["docker"])
    values["memory[monitor that logs]"] = peak / 1024
    report(benchmark, found["fastbox"], peak_kibibytes=peak)


# ---- a terminal --------------------------------------------------------------------------------


def echo(master: int) -> float:
    """Milliseconds from a key to its echo."""
    start = time.perf_counter()
    os.write(master, b"x")
    while b"x" not in os.read(master, 1024):
        pass
    return (time.perf_counter() - start) * 1000


def drain(master: int) -> None:
    while select.select([master], [], [], 0.5)[0]:
        os.read(master, 65536)


@pytest.mark.benchmark(group="echo")
def test_a_key(house: House, values: dict[str, float], rounds: int, benchmark: Any) -> None:
    """``cat`` on a bare terminal, and in a container that was started with ``run -it``."""
    taken: dict[str, list[float]] = {}
    ends = []
    commands = {
        "bare": ["cat"],
        "fastbox": [*house.cli.argv, "run", "-it", "--rm", "--network", "none", "busybox", "cat"],
    }
    masters = {}
    for name, argv in commands.items():
        pid, master = pty.fork()
        if pid == 0:
            os.execvpe(argv[0], argv, {**house.cli.env, "TERM": "xterm"})
        masters[name] = master
        ends.append(pid)
    time.sleep(1)  # its start is not what is measured
    for name, master in masters.items():
        os.write(master, b"\r")
        drain(master)
        taken[name] = []
    for _ in range(rounds):
        for name, master in masters.items():
            taken[name].append(echo(master))
            time.sleep(0.005)
    for master in masters.values():
        os.write(master, b"\r\x04")
        with contextlib.suppress(OSError):
            drain(master)
        os.close(master)
    for pid in ends:
        os.waitpid(pid, 0)
    medians = {name: sorted(times)[len(times) // 2] for name, times in taken.items()}
    values["echo[fastbox] - echo[bare]"] = medians["fastbox"] - medians["bare"]
    report(benchmark, [ms / 1000 for ms in taken["fastbox"]])


# ---- the supervisor ----------------------------------------------------------------------------


@pytest.mark.benchmark(group="supervisor")
def test_two_hundred_containers(
    house: House, values: dict[str, float], quick: bool, benchmark: Any
) -> None:
    """With a restart policy each (twenty when quick); what watching them costs, and what ``ps``
    takes."""
    watched, idle = (WATCHED_QUICK, IDLE_QUICK) if quick else (WATCHED, IDLE_SECONDS)
    config = msgspec.structs.replace(
        house.config, command=["sleep", "10000"], restart=RestartPolicy(name="always")
    )
    start = time.perf_counter()
    ids = [house.engine.start(house.engine.create(config).id).id for _ in range(watched)]
    taken = time.perf_counter() - start
    with open(f"{house.runtime_dir}/supervisor.lock") as file:
        pid = int("".join(c if c.isdigit() else " " for c in file.read()).split()[0])
    wait_for(lambda: f"{watched}" in house.cli.ok("supervisor", "status"), "all to be watched")
    before = cpu_ticks(pid)
    time.sleep(idle)
    used = (cpu_ticks(pid) - before) / os.sysconf("SC_CLK_TCK")
    values["supervisor[cpu, idle]"] = 100 * used / idle
    with open(f"/proc/{pid}/status") as file:
        kibibytes = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    values["supervisor[memory]"] = kibibytes / 1024
    with docker_sleeping(house, watched) as argv:
        contestants = {
            "library": timed(house.engine.containers),
            "cli": timed(lambda: house.cli.ok("ps")),
        }
        if argv:
            contestants["docker"] = process(argv)
        found = race(contestants, 3 if quick else 15)
    for name in ("library", "cli"):
        with unless_out():
            ratio = median(found[name]) / median(found["docker"])
            values[f"ps of running[{name}] / [docker]"] = ratio
    for container in ids:
        house.engine.remove(container, force=True)
    house.cli.ok("supervisor", "stop")
    report(benchmark, [taken / watched], containers=watched)


@contextlib.contextmanager
def docker_sleeping(house: House, count: int) -> Iterator[list[str]]:
    """As many containers of docker's; gives its ``ps``, [] without docker."""
    if not house.docker:
        yield []
        return
    argv = ["docker", "run", "-d", "--network", "none", house.docker.IMAGE, "sleep", "10000"]
    made: list[str] = []
    with ready("docker"):
        for _ in range(count):
            made.append(output(argv))
    try:
        yield ["docker", "ps"] if len(made) == count else []
    finally:
        if made:
            subprocess.run(["docker", "rm", "-f", *made], capture_output=True)


# ---- logs ----------------------------------------------------------------------------------------


@pytest.mark.benchmark(group="logs")
def test_the_end_of_a_large_log(
    house: House, values: dict[str, float], rounds: int, quick: bool, benchmark: Any
) -> None:
    """The last 1000 lines of 5 GB (500 MB when quick), in a process of its own; coreutils' tail
    for comparison."""
    gigabytes = 0.5 if quick else 5
    path = f"{house.directory}/large.log"
    line = b"2026-01-02T03:04:05.123456789Z stdout F " + b"x" * 80 + b"\n"
    with open(path, "wb") as file:
        for _ in range(int(gigabytes * GIGABYTE) // (len(line) * 8192)):
            file.write(line * 8192)
    program = (
        "import sys, time\n"
        "from fastbox.container.logs import read_logs\n"
        "start = time.perf_counter()\n"
        "assert sum(1 for _ in read_logs(sys.argv[1], tail=1000)) == 1000\n"
        "taken = time.perf_counter() - start\n"
        "status = open('/proc/self/status').read()\n"
        "print(taken, status.split('VmHWM:')[1].split()[0])"
    )
    peaks = []

    def ours() -> float:
        done = subprocess.run(
            [sys.executable, "-c", program, path], check=True, capture_output=True, text=True
        )
        taken, peak = done.stdout.split()
        peaks.append(int(peak))
        return float(taken)

    def tail() -> None:
        subprocess.run(["tail", "-n", "1000", path], check=True, capture_output=True)

    found = race({"fastbox": ours, "tail": timed(tail)}, max(3, rounds // 6))
    os.unlink(path)
    values["logs[--tail 1000 of 5 GB]"] = median(found["fastbox"]) * 1000
    values["memory[logs --tail 1000]"] = max(peaks) / 1024
    report(benchmark, found["fastbox"], gigabytes=gigabytes)


def cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
