"""``python -m bench.plot RESULT.json [DIRECTORY]``: a result as pictures, SVG and PNG.

start.svg: from the kernel's floor to a virtual machine, on a log scale. density.svg: memory of an
idle container. scaling.svg: starts per second over concurrency, and how long a start takes over how
many run. What the result has no figures for is not drawn, and said so.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any, NamedTuple

from bench.machine import sentence
from bench.results import BadResult, duration, medians, read

HERE = os.path.dirname(os.path.abspath(__file__))
DIRECTORY = os.path.join(os.path.dirname(HERE), "docs", "plots")

OURS, PEER, FLOOR, MACHINE = "#1668b8", "#9aa4ae", "#4d5761", "#c77b2b"
_INK = "#20262c"

# Case -> what the plot calls it.
STARTS = {
    "start[pool]": "fastbox library, pool (to exec)",
    "start[floor]": "kernel's floor, in C (to exec)",
    "start[library]": "fastbox library (to exec)",
    "launch[floor]": "kernel's floor, in C",
    "launch[pool]": "fastbox library, pool",
    "launch[library]": "fastbox library",
    "launch[client]": "fastbox run",
    "launch[cli]": "fastbox run, in plain Python",
    "launch[bubblewrap]": "bubblewrap",
    "launch[crun]": "crun",
    "launch[runc]": "runc",
    "launch[podman]": "podman run",
    "launch[docker]": "docker run",
    "bridge[client]": "fastbox run, bridge",
    "bridge[podman]": "podman run, bridge",
    "bridge[docker]": "docker run, bridge",
}
# How a curve looks: ours in one colour, told apart by their marks.
FACES = {
    "library": "fastbox library",
    "client": "fastbox run",
    "cli": "fastbox, plain Python",
    "pool": "fastbox, pool",
    "floor": "kernel's floor, in C",
}
LOOKS = {
    "library": ("-", "o", OURS),
    "client": ("-", "s", OURS),
    "pool": ("-", "^", OURS),
    "cli": (":", "x", OURS),
    "floor": ("--", "o", FLOOR),
    "bubblewrap": (":", "D", PEER),
    "crun": ("-", "s", "#6d7781"),
    "runc": ("--", "^", "#8d97a1"),
    "podman": ("-.", "v", "#a58b6f"),
    "docker": ("-", "D", "#b0603a"),
}
DENSITY = re.compile(r"density\[(.+)\]$")
RATE = re.compile(r"starts per second\[(.+), (\d+)\]$")
CROWDED = re.compile(r"start with running\[(.+), (\d+)\]$")
FIRST_BYTE = re.compile(r"first byte\[(.+)\]$")


class Bar(NamedTuple):
    """One bar: what it is called, how long, its colour."""

    label: str
    value: float
    colour: str


def colour_of(name: str) -> str:
    """Ours, the floor, virtual machines, and everybody else."""
    if "fastbox" in name or name in ("library", "pool", "client", "cli"):
        return OURS
    if "floor" in name:
        return FLOOR
    return MACHINE if re.search(r"qemu|microvm|q35|kvm|tcg", name, re.IGNORECASE) else PEER


def start_bars(result: dict[str, Any]) -> list[Bar]:
    """Seconds of starts, shortest first: the start matrix, and virtual machines' first byte."""
    found = medians(result)
    bars = [
        Bar(label, found[case], colour_of(label)) for case, label in STARTS.items() if case in found
    ]
    for entry in result["benchmarks"]:
        match = FIRST_BYTE.match(entry["case"])
        if match and colour_of(match[1]) == MACHINE:
            how = (entry.get("extra_info") or {}).get("accelerator", "")
            label = f"{match[1]}{', ' if how else ''}{how} (to first byte)"
            bars.append(Bar(label, entry["stats"]["median"], MACHINE))
    return sorted(bars, key=lambda bar: bar.value)


def density_bars(result: dict[str, Any]) -> list[Bar]:
    """KiB of an idle container or machine, least first."""
    found = result.get("values", {})
    bars = [
        Bar(match[1], number, colour_of(match[1]))
        for name, number in found.items()
        if (match := DENSITY.match(name))
    ]
    if not bars and "memory[idle container]" in found:
        bars = [Bar("fastbox", found["memory[idle container]"], OURS)]
    for machine in ("qemu microvm", "qemu q35"):
        if number := found.get(f"memory per instance[{machine}]"):
            bars.append(Bar(f"{machine}, all of it", number, MACHINE))
    return sorted(bars, key=lambda bar: bar.value)


def curves(
    numbers: dict[str, float], pattern: re.Pattern[str]
) -> dict[str, list[tuple[int, float]]]:
    """Contestant -> its points, from names such as ``starts per second[crun, 8]``."""
    found: dict[str, list[tuple[int, float]]] = {}
    for name, number in numbers.items():
        if match := pattern.match(name):
            found.setdefault(match[1], []).append((int(match[2]), number))
    return {name: sorted(points) for name, points in found.items()}


# ---- drawing -------------------------------------------------------------------------------------


def draw(result: dict[str, Any], directory: str) -> list[str]:
    """Write all pictures that the result has figures for; the names of those left out.

    Raises:
        BadResult: matplotlib is missing.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise BadResult("matplotlib is missing: pip install '.[bench]' brings it") from None
    mpl.use("Agg")
    mpl.rcParams.update(
        {
            "font.size": 10,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.hashsalt": "fastbox",  # the same result makes the same file
            "svg.fonttype": "path",
        }
    )
    os.makedirs(directory, exist_ok=True)
    below = sentence(result.get("machine_info", {})) + (
        ", quick run" if result.get("quick") else ""
    )
    left_out = []
    for name, made in (
        ("start", _start(result)),
        ("density", _density(result)),
        ("scaling", _scaling(result)),
    ):
        if made is None:
            left_out.append(name)
            continue
        made.text(0.01, 0.01, below, fontsize=7, color="#6b747d")
        for kind in ("svg", "png"):
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            path = os.path.join(directory, f"{name}.{kind}")
            made.savefig(path, dpi=144, metadata=metadata, facecolor="white")
    return left_out


def _figure(width: float, height: float, columns: int = 1) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", rect=(0, 0.05, 1, 0.95))
    return figure, figure.subplots(1, columns)


def _bars(bars: list[Bar], title: str, unit: str, texts: list[str]) -> Any:
    figure, axes = _figure(8, 1.3 + 0.32 * len(bars))
    positions = range(len(bars))
    axes.barh(
        positions, [bar.value for bar in bars], color=[bar.colour for bar in bars], height=0.7
    )
    axes.set_yticks(positions, [bar.label for bar in bars])
    axes.invert_yaxis()
    axes.set_xscale("log")
    most, least = max(bar.value for bar in bars), min(bar.value for bar in bars)
    axes.set_xlim(least / 2, most * 4)
    for position, bar, text in zip(positions, bars, texts, strict=True):
        axes.text(bar.value * 1.1, position, text, va="center", fontsize=9)
    axes.set_xlabel(unit)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", which="major", alpha=0.25)
    axes.set_axisbelow(True)
    return figure


def _start(result: dict[str, Any]) -> Any:
    bars = start_bars(result)
    if not bars:
        return None
    title = "A container that runs true, from nothing to removed"
    bars = [bar._replace(value=bar.value * 1000) for bar in bars]
    texts = [duration(bar.value / 1000) for bar in bars]
    return _bars(bars, title, "milliseconds, log scale; median", texts)


def _density(result: dict[str, Any]) -> Any:
    bars = density_bars(result)
    if not bars:
        return None
    texts = [memory(bar.value) for bar in bars]
    title = "Memory of one idle container, its own processes excluded"
    return _bars(bars, title, "KiB (proportional set size), log scale", texts)


def _scaling(result: dict[str, Any]) -> Any:
    numbers = {**medians(result), **result.get("values", {})}
    rates, crowded = curves(numbers, RATE), curves(numbers, CROWDED)
    if not rates and not crowded:
        return None
    figure, (left, right) = _figure(11.5, 4, 2)
    _curves(left, rates, "Starts per second", "started at the same time", "starts per second")
    _curves(right, crowded, "One start, while others run", "containers running", "milliseconds")
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter("{x:.0f}")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_minor_formatter("")
    return figure


def _curves(
    axes: Any, lines: dict[str, list[tuple[int, float]]], title: str, across: str, up: str
) -> None:
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.25)
    for name, points in sorted(lines.items(), key=lambda line: -line[1][-1][1]):
        style, marker, colour = LOOKS.get(name, ("-", "o", colour_of(name)))
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            marker=marker,
            linestyle=style,
            color=colour,
            linewidth=2.2 if colour == OURS else 1.4,
            markersize=4,
            label=FACES.get(name, name),
        )
    if lines:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def memory(kibibytes: float) -> str:
    """``153 KiB``, ``12.0 MiB``."""
    return f"{kibibytes:.0f} KiB" if kibibytes < 2048 else f"{kibibytes / 1024:.1f} MiB"


def main(arguments: list[str]) -> int:
    if not 1 <= len(arguments) <= 2 or arguments[0].startswith("-"):
        print("usage: python -m bench.plot RESULT.json [DIRECTORY]", file=sys.stderr)
        return 2
    directory = arguments[1] if len(arguments) == 2 else DIRECTORY
    try:
        left_out = draw(read(arguments[0]), directory)
    except BadResult as e:
        print(f"bench.plot: {e}", file=sys.stderr)
        return 2
    except OSError as e:
        print(f"bench.plot: {directory}: {e.strerror}", file=sys.stderr)
        return 2
    for name in left_out:
        print(f"bench.plot: no {name}: the result has no figures for it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
