"""``bench/profile``: the system calls of one start by cost, of the engine, the monitor and the new
process, with the step that they belong to; beside those of the C floor with ``--floor``.

strace sees each call, of processes that share their parent's memory too. It makes each of them
dearer by what a call without work takes; that is measured in the same run and subtracted, so that a
figure below a microsecond is noise. What happens between calls (page faults, the scheduler) is not
seen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import msgspec

from bench import strace
from bench.peers import Floor
from fastbox._core.tree import remove_tree
from tests.conftest import remove_networks
from tests.support.images import archive, changes
from tests.support.leaks import LeakCheck

MARK = "/fastbox-profile-mark"
NULLS = 300  # calls without work
TRUE = ["/bin/true"]
NETWORKS = ("none", "bridge", "host")  # those of a new store

# What is looked at: a library that is warm, one start after the other, each traced as --trace does.
PROGRAM = """
import gc, json, os, sys, time
from fastbox import ContainerConfig, Engine, Trace
root, run, rounds, network, out = sys.argv[1:]
engine = Engine(root, run)
config = ContainerConfig(image="busybox", command=["/bin/true"], network=network, auto_remove=True)
def start(number):
    config.name = f"profiled{number}"
    assert engine.run_attached(engine.create(config, transient=True).id) == 0
for number in range(5):
    start(number)
gc.freeze()
for _ in range(%d):
    os.getppid()
os.access(%r, 0)
with Trace(out):
    for number in range(5, 5 + int(rounds)):
        start(number)
os.access(%r, 0)
with open(out + ".clock", "w") as file:
    file.write(str(time.time_ns() - time.monotonic_ns()))
""" % (NULLS, MARK, MARK)  # noqa: UP031


class Line(msgspec.Struct):
    """Calls that are told together.

    Attributes:
        calls: per start. cost: microseconds per start. steps: what they belong to -> how many.
    """

    who: str
    name: str
    about: str
    calls: float = 0.0
    cost: float = 0.0
    steps: dict[str, int] = {}


class Span(msgspec.Struct):
    """Of the trace that fastbox wrote; seconds since the epoch."""

    pid: int
    name: str
    begin: float
    end: float


def main() -> int:
    parser = argparse.ArgumentParser("bench/profile", description=__doc__)
    parser.add_argument("-n", "--rounds", type=int, default=20, help="starts that are measured")
    parser.add_argument(
        "--network", default="none", choices=NETWORKS, help="the containers' network"
    )
    parser.add_argument("--floor", action="store_true", help="compare with the C floor")
    parser.add_argument("--top", type=int, default=40, help="lines of the table")
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error(f"argument -n/--rounds: must be at least 1, not {chosen.rounds}")
    if not strace.is_there():
        print("bench/profile: strace is missing: make bench-deps installs it", file=sys.stderr)
        return 1
    if os.geteuid() != 0:
        print("bench/profile: run it as root", file=sys.stderr)
        return 1
    directory = tempfile.mkdtemp(prefix="fastbox-profile-", dir="/var/tmp")
    check = LeakCheck([directory])
    check.watch(f"{directory}/root")
    try:
        _profile(directory, chosen)
    finally:
        remove_networks(f"{directory}/root")
        check.remove_cgroups()
        remove_tree(directory)
    return 0


def _profile(directory: str, chosen: argparse.Namespace) -> None:
    from fastbox import Engine

    root, run = f"{directory}/root", f"{directory}/run"
    engine = Engine(root, run)
    engine.import_image(archive("busybox"), "busybox", changes=changes("busybox"))
    out = f"{directory}/trace"
    argv = [sys.executable, "-c", PROGRAM, root, run, str(chosen.rounds), chosen.network, out]
    calls = strace.trace(argv, f"{directory}/strace")
    places = {directory: ""}
    overhead = _overhead(calls)
    mine = list(_lines(_between_marks(calls), overhead, chosen.rounds, places, _spans(out, places)))
    print(
        f"One start of {' '.join(TRUE)}, --network {chosen.network}: calls by cost, the median of"
    )
    print(
        f"{chosen.rounds} starts; {overhead * 1e6:.1f} µs of strace's subtracted from each call\n"
    )
    _print(mine, chosen.top)
    if chosen.floor:
        _compare(mine, _floor(engine, directory, chosen.rounds, overhead))


def _overhead(calls: list[strace.Call]) -> float:
    return statistics.median(call.took for call in calls if call.name == "getppid")


def _between_marks(calls: list[strace.Call]) -> list[strace.Call]:
    first, last = (i for i, call in enumerate(calls) if MARK in call.args)
    return calls[first + 1 : last]


def _spans(path: str, places: dict[str, str]) -> list[Span]:
    with open(path) as file, open(path + ".clock") as clock:
        events, offset = json.load(file)["traceEvents"], int(clock.read()) / 1e9
    spans = [
        Span(
            event["pid"],
            strace.plain(event["name"], places)[:50],
            event["ts"] / 1e6 + offset,
            (event["ts"] + event["dur"]) / 1e6 + offset,
        )
        for event in events
        if event["ph"] == "X"
    ]
    return sorted(spans, key=lambda span: span.end - span.begin)


def _lines(
    calls: list[strace.Call],
    overhead: float,
    rounds: int,
    places: dict[str, str],
    spans: list[Span],
) -> Iterator[Line]:
    who, by_pid = _Roles(calls), _by_pid(spans)
    lines: dict[tuple[str, str, str], Line] = {}
    times: dict[tuple[str, str, str], list[float]] = {}
    for call in calls:
        role = who.of(call)
        key = role, call.name, strace.plain(strace.argument(call), places)
        step = _step(by_pid.get(call.pid, []), call.at)
        if role == "engine" and step == "removal":  # it waits for the monitor for the trace's sake
            continue
        line = lines.setdefault(key, Line(*key))
        times.setdefault(key, []).append(0.0 if call.waits else max(0.0, call.took - overhead))
        line.steps[step] = line.steps.get(step, 0) + 1
    for key, line in lines.items():
        line.calls = len(times[key]) / rounds
        line.cost = statistics.median(times[key]) * 1e6 * line.calls
        yield line


def _by_pid(spans: list[Span]) -> dict[int, list[Span]]:
    found: dict[int, list[Span]] = {}
    for span in spans:
        found.setdefault(span.pid, []).append(span)
    return found


def _step(spans: list[Span], at: float) -> str:
    """The innermost span at an instant: they are sorted by their length."""
    return next((span.name for span in spans if span.begin <= at <= span.end), "")


class _Roles:
    """Who a process is: the engine, the middle one, the monitor, init before its execs; after the
    second, it is the command, which is not ours."""

    NAMES = ("engine", "middle", "monitor", "init")

    def __init__(self, calls: list[strace.Call]) -> None:
        self._parents = strace.children(calls)
        self._execs: dict[int, int] = {}

    def of(self, call: strace.Call) -> str:
        depth, pid = 0, call.pid
        while pid in self._parents:
            depth, pid = depth + 1, self._parents[pid]
        role = self.NAMES[min(depth, 3)]
        if role == "init":
            passed = self._execs.get(call.pid, 0)
            if call.name in ("execve", "execveat") and call.result.startswith("0"):
                self._execs[call.pid] = passed + 1
            return ("init", "helper", "command")[min(passed, 2)]
        return role


def _print(lines: list[Line], top: int) -> None:
    lines = [line for line in lines if line.who != "command"]
    total = sum(line.cost for line in lines)
    print(f"{'who':8} {'calls':>6} {'µs':>8} {'share':>6}  system call")
    for line in sorted(lines, key=lambda line: -line.cost)[:top]:
        step = max(line.steps, key=lambda name: line.steps[name])
        about = f"{line.name} {line.about[-60:]}".rstrip()
        told = f"  ({step})" if step else ""
        share = line.cost / total
        print(f"{line.who:8} {line.calls:6.1f} {line.cost:8.1f} {share:6.1%}  {about}{told}")
    print()
    for who in ("engine", "middle", "monitor", "init", "helper"):
        mine = [line for line in lines if line.who == who]
        calls, cost = sum(line.calls for line in mine), sum(line.cost for line in mine)
        print(f"{who:8} {calls:6.1f} {cost:8.1f} {cost / total:6.1%}  in all")
    print(f"{'':8} {sum(line.calls for line in lines):6.1f} {total:8.1f}")


def _floor(engine: object, directory: str, rounds: int, overhead: float) -> list[Line]:
    """The calls of bench/floor.c, without a seccomp filter."""
    root = f"{directory}/root"
    layers = f"{root}/layers"
    names = [name for name in os.listdir(layers) if not name.startswith(".")]
    if os.path.isdir(f"{layers}/.init"):
        names.insert(0, ".init")
    floor = Floor(f"{directory}/floor", layers, names, TRUE, None)
    try:
        argv = [floor.program, "-n", str(rounds), *floor.argv[1:]]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        calls = strace.trace(argv, f"{directory}/strace")
    finally:
        floor.close()
    execs: dict[int, float] = {}  # from then on it is the command
    for call in calls:
        if call.name == "execve" and call.pid != calls[0].pid and call.result.startswith("0"):
            execs.setdefault(call.pid, call.at)
    begin = next(call.at for call in calls if call.name == "mkdir")
    ours = [call for call in calls if begin <= call.at <= execs.get(call.pid, call.at)]
    return list(_lines(ours, overhead, rounds, {directory: ""}, []))


def _compare(mine: list[Line], floor: list[Line]) -> None:
    """By the call's name alone: the two do not have the same arguments."""
    print("\nbeside the C floor (bench/floor.c, no seccomp filter):\n")
    print(f"{'fastbox':>16} {'floor':>16}")
    print(f"{'calls':>7} {'µs':>8} {'calls':>7} {'µs':>8} {'more':>8}  system call")
    tables = [_by_name(mine), _by_name(floor)]
    rows = []
    for name in sorted({*tables[0], *tables[1]}):
        ours, theirs = (table.get(name, (0.0, 0.0)) for table in tables)
        rows.append((ours[1] - theirs[1], ours, theirs, name))
    for more, ours, theirs, name in sorted(rows, reverse=True):
        print(
            f"{ours[0]:7.1f} {ours[1]:8.1f} {theirs[0]:7.1f} {theirs[1]:8.1f} {more:8.1f}  {name}"
        )
    ours_all, theirs_all = (sum(cost for _, cost in table.values()) for table in tables)
    print(f"{'':7} {ours_all:8.1f} {'':7} {theirs_all:8.1f} {ours_all - theirs_all:8.1f}")


def _by_name(lines: list[Line]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for line in lines:
        if line.who != "command":
            calls, cost = found.get(line.name, (0.0, 0.0))
            found[line.name] = calls + line.calls, cost + line.cost
    return found


if __name__ == "__main__":
    sys.exit(main())
