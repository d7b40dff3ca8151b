"""What is promised, in terms of the suite's own measurements."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Target(NamedTuple):
    """``subject`` against ``against`` (both case names), by their medians.

    Attributes:
        how: ``"ratio"`` (subject / against), ``"over"`` (subject - against, milliseconds) or
            ``"value"`` (the subject's own number, in ``unit``).
        limit: what it must not exceed; None where the comparison is for information.
        least: the limit is what it must reach.
    """

    subject: str
    against: str
    how: str
    limit: float | None
    unit: str = ""
    least: bool = False


TARGETS = [
    # The start matrix (test_launch.py).
    Target("launch[client]", "launch[crun]", "ratio", 0.8),
    Target("launch[client]", "launch[docker]", "ratio", 1 / 30),
    Target("bridge[client]", "bridge[docker]", "ratio", 1 / 30),
    Target("start[library]", "start[floor]", "ratio", 1.25),
    Target("start[library]", "start[floor+seccomp]", "ratio", None),
    Target("start[pool]", "start[floor]", "ratio", 0.4),
    Target("start on bridge[library]", "start on bridge[floor]", "ratio", None),
    Target("launch[library]", "launch[floor]", "ratio", None),
    Target("launch[library]", "launch[floor+seccomp]", "ratio", None),
    Target("launch[library]", "launch[bubblewrap]", "ratio", None),
    Target("launch[library]", "launch[crun]", "ratio", 0.7),
    Target("launch[library, kept]", "launch[floor]", "ratio", None),
    Target("launch[cli]", "", "value", 100, "ms"),
    Target("launch[cli]", "launch[crun]", "ratio", None),
    Target("launch[cli]", "launch[docker]", "ratio", 100 / 350),
    # What people do all day (test_daily.py).
    Target("exec[library]", "exec[crun]", "ratio", 1.0),
    Target("exec[library]", "exec[docker]", "ratio", 0.1),
    Target("exec[library]", "exec[floor+seccomp]", "ratio", None),
    Target("exec[cli]", "exec[docker]", "ratio", None),
    Target("echo[fastbox] - echo[bare]", "", "value", 2, "ms"),
    Target("memory[monitor that logs]", "", "value", 4, "MiB"),
    Target("logs[--tail 1000 of 5 GB]", "", "value", None, "ms"),
    Target("memory[logs --tail 1000]", "", "value", None, "MiB"),
    Target("ps of running[library] / [docker]", "", "value", 0.5),
    Target("ps of running[cli] / [docker]", "", "value", None),
    Target("supervisor[memory]", "", "value", 60, "MiB"),
    Target("supervisor[cpu, idle]", "", "value", 1, "%"),
    Target("log[fastbox] / log[docker]", "", "value", 1 / 3),
    Target("extract[gzip]", "extract[tar xzf]", "ratio", 0.4),
    Target("extract[plain]", "extract[tar xf]", "ratio", 1.0),
    Target("extract[zstd]", "extract[tar --zstd]", "ratio", None),
    Target("pull[fastbox]", "pull[docker]", "ratio", 0.5),
    Target("pull[fastbox]", "pull[podman]", "ratio", 0.5),
    Target("pull[fastbox]", "pull[skopeo to storage]", "ratio", 0.5),
    # It copies 170 MB of blobs and unpacks nothing; we do all of that and unpack 500 MB.
    Target("pull[fastbox]", "pull[skopeo to oci]", "ratio", None),
    Target("push[fastbox]", "push[docker]", "ratio", 0.5),
    Target("push[fastbox]", "push[podman]", "ratio", 0.5),
    Target("load[fastbox]", "load[docker]", "ratio", 0.5),
    Target("load[fastbox]", "load[podman]", "ratio", None),
    Target("save[rate]", "", "value", None, "GB/s"),
    Target("save[rate] / cp's or 1 GB/s", "", "value", 1.0, least=True),
    Target("save[fastbox]", "save[docker]", "ratio", None),
    Target("commit[library]", "", "value", 50, "ms"),
    Target("commit[cli]", "commit[docker]", "ratio", None),
    Target("import[import fastbox]", "import[python]", "over", 10, "ms"),
    Target("import[fastbox --help]", "import[python]", "over", 60, "ms"),
    Target("ps[library]", "ps[docker]", "ratio", 0.5),
    Target("ps[cli]", "ps[docker]", "ratio", None),
    Target("memory[idle container]", "", "value", 200, "KiB"),
    Target("memory[extraction]", "", "value", 64, "MiB"),
    Target("network[library, bridge]", "network[library, none]", "over", 3, "ms"),
    Target("network[library, port]", "network[library, none]", "over", 3, "ms"),
    Target("network[library, any port]", "network[library, none]", "over", None, "ms"),
    Target("network[whole run, bridge]", "network[whole run, none]", "over", None, "ms"),
    Target("network[whole run, port]", "network[whole run, none]", "over", None, "ms"),
    Target("network[cli, bridge]", "network[cli, none]", "over", None, "ms"),
    Target("network[cli, port]", "network[cli, none]", "over", None, "ms"),
    Target("network[docker, bridge]", "network[docker, none]", "over", None, "ms"),
    Target("network[docker, port]", "network[docker, none]", "over", None, "ms"),
    Target("crowd[bridge] / alone", "", "value", 1.3),
    Target("crowd[port] / alone", "", "value", 1.3),
    Target("crowd[any port] / alone", "", "value", None),
    Target("crowd[none] / alone", "", "value", None),
    Target("crowd[call] / alone", "", "value", 1.3),
    Target("docker's crowd of 40[start] / alone", "", "value", None),
    Target("docker's crowd of 40[call] / alone", "", "value", None),
    Target("throughput host[fastbox] / [docker]", "", "value", 1.0, least=True),
    Target("throughput container[fastbox] / [docker]", "", "value", 1.0, least=True),
    Target("throughput published[fastbox] / [docker]", "", "value", 1.0, least=True),
    Target("published call[fastbox]", "", "value", None, "ms"),
    Target("published call[fastbox] / [docker]", "", "value", None),
    Target("names[fastbox]", "", "value", 20000, "/s", least=True),
    Target("names[fastbox, per second of its processor]", "", "value", 20000, "/s", least=True),
    Target("names[fastbox, latency]", "", "value", 1, "ms"),
    Target("names[docker, latency]", "", "value", None, "ms"),
    Target("names[fastbox] / [docker]", "", "value", 1.0, least=True),
    # Against virtual machines (test_vm.py).
    Target("first byte[qemu microvm]", "first byte[client]", "ratio", 100, least=True),
    Target("first byte[qemu microvm]", "first byte[library]", "ratio", 100, least=True),
    Target("first byte[qemu microvm]", "first byte[cli]", "ratio", None),
    Target("redis answers PING[qemu microvm]", "redis answers PING[client]", "ratio", None),
    Target("redis answers PING[qemu microvm]", "redis answers PING[library]", "ratio", None),
    Target("memory per instance[qemu microvm] / [fastbox]", "", "value", None),
    Target("memory with redis[qemu microvm] / [fastbox]", "", "value", None),
    # Many of them (test_many.py).
    Target("starts per second, 8 at once[client] / [crun]", "", "value", 2.5, least=True),
    Target("starts per second, 8 at once[client] / [docker]", "", "value", 20, least=True),
    Target("starts per second, 8 at once[library] / [crun]", "", "value", None),
    Target("starts per second, 8 at once[library] / [docker]", "", "value", None),
    Target("starts per second, 8 at once[pool] / [crun]", "", "value", None),
    Target("start with 1000 running[library] / none", "", "value", 1.3),
    Target("start with 1000 running[client] / none", "", "value", 1.3),
    Target("start with 1000 running[floor] / none", "", "value", None),
    Target("density[fastbox]", "", "value", 200, "KiB"),
    Target("density[podman]", "", "value", None, "KiB"),
    Target("density[docker]", "", "value", None, "KiB"),
    Target("ps of many[client]", "ps of many[docker]", "ratio", 0.25),
    Target("inspect among many[client]", "inspect among many[docker]", "ratio", 0.25),
    Target("logs among many[client]", "logs among many[docker]", "ratio", 0.25),
    Target("rm -f of all[client]", "rm -f of all[docker]", "ratio", None),
    Target("rm -f of all[library]", "rm -f of all[docker]", "ratio", None),
    # Work inside (test_inside.py): a container's over the host's.
    Target("redis-benchmark[inside] / [host]", "", "value", None),
    Target("tar[inside] / [host]", "", "value", None),
    Target("tar[overlay] / [host]", "", "value", None),
    Target("untar[inside] / [host]", "", "value", None),
    Target("untar[overlay] / [host]", "", "value", None),
]


class Outcome(NamedTuple):
    """A target with its figure; ``figure`` is None where a side of it was not measured."""

    target: Target
    figure: float | None

    @property
    def met(self) -> bool | None:
        """Whether the promise holds; None where there is none, or no figure."""
        if self.figure is None or self.target.limit is None:
            return None
        if self.target.least:
            return self.figure >= self.target.limit
        return self.figure <= self.target.limit


def outcomes(medians: dict[str, float], values: dict[str, float]) -> Iterator[Outcome]:
    """Judge each target.

    Args:
        medians: case name -> seconds.
        values: case name -> number in the target's unit, for what is not a time.
    """
    for target in TARGETS:
        subject, against = medians.get(target.subject), medians.get(target.against)
        figure = None
        if target.how == "value":
            figure = values.get(target.subject)
            if figure is None and subject is not None:
                figure = subject * 1000
        elif subject is not None and against:
            figure = subject / against if target.how == "ratio" else (subject - against) * 1000
        yield Outcome(target, figure)


def table(found: Iterable[tuple[Target, float | None]]) -> list[str]:
    """One line for each figure, in columns, 100 wide; at the end the targets without one."""
    lines, without = [], []
    for target, figure in found:
        what = {
            "ratio": f"{target.subject} / {target.against}",
            "over": f"{target.subject} - {target.against}",
            "value": target.subject,
        }[target.how]
        if figure is None:
            without.append(what)
            continue
        number = f"{precise(figure)} {target.unit}".rstrip()
        sign = ">=" if target.least else "<="
        limit = "" if target.limit is None else f"{sign} {target.limit:.4g} {target.unit}".rstrip()
        met = Outcome(target, figure).met
        verdict = {True: "ok", False: "MISSED", None: ""}[met]
        lines.append(f"{what:<60} {number:>14}  {limit:<13} {verdict}".rstrip())
    if without:
        lines += textwrap.wrap(f"not measured: {'; '.join(without)}", 100, subsequent_indent="    ")
    return lines


def precise(number: float) -> str:
    """Enough digits to see by how much a limit is met: 0.021, 1.24, 15300."""
    digits = 3 if abs(number) < 0.1 else 2 if abs(number) < 1000 else 0
    return f"{number:.{digits}f}"
