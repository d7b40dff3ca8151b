"""``python -m bench.publish [RESULT.json]`` (``make bench-publish``): a result becomes what README
shows: its table between the two markers, the pictures in docs/plots, and the file itself as
bench/results/published.json, so that each figure can be traced."""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from typing import Any

from bench.machine import PROJECT, sentence
from bench.plot import DENSITY, DIRECTORY, draw, memory
from bench.results import BadResult, duration, group_of, read

RESULTS = os.path.join(PROJECT, "bench", "results")
PUBLISHED = os.path.join(RESULTS, "published.json")
README = os.path.join(PROJECT, "README.md")
BEGIN, END = "<!-- figures: written by bench/publish.py -->", "<!-- end of figures -->"

# What README says of it -> the group of cases.
ROWS = {
    "`run --rm --network none … true`": "launch",
    "`run --rm … true` on the default bridge": "bridge",
    "`exec … true`": "exec",
    "`cp` of 1,000 files into a container": "cp in",
    "`commit` of 1 GB": "commit",
    "`pull` of 500 MB": "pull",
    "`push`": "push",
    "`load`": "load",
}
# A column -> the contestants that stand for it, the best face first.
COLUMNS = {
    "fastbox": ["client", "fastbox", "cli"],
    "crun": ["crun"],
    "podman": ["podman"],
    "docker": ["docker"],
}
PICTURES = {
    "start": "Start times, from the kernel's floor to a virtual machine",
    "density": "Memory of one idle container",
    "scaling": "Starts per second over concurrency; a start while others run",
}


def section(result: dict[str, Any], plots: str = "docs/plots") -> list[str]:
    """README's lines for a result."""
    lines = [
        f"Medians on {sentence(result.get('machine_info', {}))}, all in one run, by turns"
        + (" (a quick run with small images: an indication only)." if result.get("quick") else "."),
        "",
        f"| | {' | '.join(COLUMNS)} |",
        f"|---|{'---|' * len(COLUMNS)}",
    ]
    for label, group in ROWS.items():
        found = group_of(result, group)
        cells = []
        for contestants in COLUMNS.values():
            stats = next((found[name] for name in contestants if name in found), None)
            cells.append(duration(stats["median"]) if stats else "")
        if cells[0]:
            # The sizes of a quick run are others.
            shown = label.partition(" of ")[0] if result.get("quick") else label
            lines.append(f"| {shown} | {' | '.join(cells)} |")
    lines += _density_row(result.get("values", {}))
    for name, words in PICTURES.items():
        if os.path.exists(os.path.join(PROJECT, plots, f"{name}.svg")):
            lines += ["", f"![{words}]({plots}/{name}.svg)"]
    return lines


def _density_row(values: dict[str, float]) -> list[str]:
    found = {match[1]: values[name] for name in values if (match := DENSITY.match(name))}
    cells = [memory(found[name]) if name in found else "" for name in COLUMNS]
    return [f"| memory of an idle container | {' | '.join(cells)} |"] if cells[0] else []


def put_between(text: str, lines: list[str]) -> str:
    """README's text with other lines between its two markers.

    Raises:
        BadResult: the markers are not there.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise BadResult(f"README.md: has no lines {BEGIN} and {END}")
    body = "".join(f"{line}\n" for line in lines)
    return f"{head}{BEGIN}\n{body}{END}{tail}"


def newest() -> str:
    """The newest result of a whole run.

    Raises:
        BadResult: there is none.
    """
    for path in sorted(glob.glob(os.path.join(RESULTS, "2*.json")), reverse=True):
        if not read(path).get("quick"):
            return path
    raise BadResult("bench/results: has no result of a whole run: `make bench` makes one")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.publish", description="Make README's figures.")
    parser.add_argument("result", nargs="?", help="default: the newest of a whole run")
    parser.add_argument("--quick-too", action="store_true", help="take a quick run's as well")
    options = parser.parse_args(arguments)
    try:
        path = options.result or newest()
        result = read(path)
        if result.get("quick") and not options.quick_too:
            raise BadResult(f"{path}: is of a quick run")
        left_out = draw(result, DIRECTORY)
        with open(README, encoding="utf-8") as file:
            text = file.read()
        made = put_between(text, section(result))
    except BadResult as e:
        print(f"bench.publish: {e}", file=sys.stderr)
        return 2
    with open(README, "w", encoding="utf-8") as file:
        file.write(made)
    with open(PUBLISHED, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    for name in left_out:
        print(f"bench.publish: no picture {name}: the result has no figures for it")
    print(f"bench.publish: {os.path.relpath(path, PROJECT)} is in README.md now")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
