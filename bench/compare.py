"""What got slower or faster between two results: ``bench/compare A.json B.json``.

A case counts as changed when its median moved by more than the allowance *and* by more than what
the two runs scatter: half of the two interquartile ranges together. So a case that wobbles by 20 %
is no alarm at 10 %, and one that is steady is. Of figures that are no times (memory, starts per
second) no scatter is known: they count when they got worse by three times the allowance.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NamedTuple

from bench.results import BadResult, duration, read, shorten
from bench.targets import precise

PERCENT = 10.0
_UNKNOWN = 3  # times the allowance, where no scatter is known


class Change(NamedTuple):
    """A case in both results.

    Attributes:
        before, after: median seconds. noise: seconds that the two runs scatter.
        verdict: ``"slower"``, ``"faster"``, ``"same"``, or ``"noise"`` where it moved by more than
            allowed, but by no more than it scatters.
    """

    case: str
    before: float
    after: float
    noise: float
    verdict: str

    @property
    def percent(self) -> float:
        """By how much it takes longer; negative: it is faster."""
        return 100 * (self.after / self.before - 1) if self.before else 0.0


def judge(case: str, before: dict[str, float], after: dict[str, float], percent: float) -> Change:
    """Compare two cases' statistics, as pytest-benchmark writes them."""
    one, two = before["median"], after["median"]
    noise = (before.get("iqr", 0.0) + after.get("iqr", 0.0)) / 2
    moved = abs(two - one)
    if moved <= one * percent / 100:
        verdict = "same"
    elif moved <= noise:
        verdict = "noise"
    else:
        verdict = "slower" if two > one else "faster"
    return Change(case, one, two, noise, verdict)


def changes(a: dict[str, Any], b: dict[str, Any], percent: float) -> list[Change]:
    """The cases that both results have, in the order of the first."""
    after = {entry["case"]: entry["stats"] for entry in b["benchmarks"]}
    return [
        judge(entry["case"], entry["stats"], after[entry["case"]], percent)
        for entry in a["benchmarks"]
        if entry["case"] in after
    ]


def relations(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What changed in the targets: met before and not now, or the other way round."""
    lines = []
    before = {_name(target): target for target in a.get("targets", [])}
    for target in b.get("targets", []):
        old = before.get(_name(target))
        if (
            old is None
            or old.get("met") == target.get("met")
            or None in (old["met"], target["met"])
        ):
            continue
        word = "now met" if target["met"] else "NOT MET ANY MORE"
        figures = f"{precise(old['figure'])} -> {precise(target['figure'])}"
        lines.append(f"{word}: {_name(target)}: {figures}, limit {target['limit']:.4g}")
    return lines


def figures(a: dict[str, Any], b: dict[str, Any], percent: float) -> list[tuple[str, bool]]:
    """The targets' figures that are no times and moved: (line, whether it got worse)."""
    found = []
    before = {target["subject"]: target for target in a.get("targets", [])}
    for target in b.get("targets", []):
        name = target["subject"]
        if target["how"] != "value" or not all(
            name in result.get("values", {}) for result in (a, b)
        ):
            continue
        one, two = before.get(name, {}).get("figure"), target["figure"]
        if not one or two is None or abs(two - one) <= abs(one) * percent * _UNKNOWN / 100:
            continue
        worse = (two < one) if target["least"] else (two > one)
        change = 100 * (two / one - 1)
        text = f"{precise(one):>11}{precise(two):>11}{change:>+8.0f}%{target['unit']:>11}"
        found.append((f"{shorten(name, 45):<46}{text}  {'worse' if worse else 'better'}", worse))
    return found


def _name(target: dict[str, Any]) -> str:
    sign = {"ratio": " / ", "over": " - "}.get(target["how"], "")
    return f"{target['subject']}{sign}{target['against']}"


def warnings(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Why the two may not be comparable."""
    lines = []
    one, two = a.get("machine_info", {}), b.get("machine_info", {})
    for what in ("cpu", "cores", "kernel", "cgroup", "filesystem"):
        if one.get(what) != two.get(what):
            lines.append(f"warning: another {what}: {one.get(what)} -> {two.get(what)}")
    if bool(a.get("quick")) != bool(b.get("quick")):
        lines.append("warning: one of them is of a quick run, which uses smaller images")
    names = (
        {entry["case"] for entry in a["benchmarks"]},
        {entry["case"] for entry in b["benchmarks"]},
    )
    for word, missing in (("second", names[0] - names[1]), ("first", names[1] - names[0])):
        if missing:
            lines.append(f"not in the {word}: {', '.join(sorted(missing))}")
    return lines


def report(a: dict[str, Any], b: dict[str, Any], percent: float, *, every: bool) -> list[str]:
    """All of it as lines, slowest change first."""
    found = sorted(changes(a, b, percent), key=lambda change: -change.percent)
    lines = warnings(a, b)
    shown = [change for change in found if every or change.verdict in ("slower", "faster")]
    if shown:
        lines.append(f"{'case':<46}{'before':>11}{'after':>11}{'change':>9}{'scatter':>11}")
    for change in shown:
        lines.append(
            f"{shorten(change.case, 45):<46}{duration(change.before):>11}"
            f"{duration(change.after):>11}{change.percent:>+8.0f}%{duration(change.noise):>11}"
            f"  {change.verdict}"
        )
    lines += [line for line, _ in figures(a, b, percent)]
    count = dict.fromkeys(("slower", "faster", "same", "noise"), 0)
    for change in found:
        count[change.verdict] += 1
    lines += relations(a, b)
    lines.append(
        f"{len(found)} cases: {count['slower']} slower, {count['faster']} faster by more than "
        f"{percent:g} %; {count['same']} the same, {count['noise']} within their scatter"
    )
    return lines


def main(arguments: list[str]) -> int:
    """0: nothing got slower. 1: something did. 2: the results cannot be read or compared."""
    parser = argparse.ArgumentParser(
        prog="bench/compare", description="What got slower or faster between two results."
    )
    parser.add_argument("before", metavar="A.json")
    parser.add_argument("after", metavar="B.json")
    parser.add_argument(
        "--percent", type=float, default=PERCENT, help="a median may move so far (default: 10)"
    )
    parser.add_argument("--all", action="store_true", help="show what stayed the same too")
    options = parser.parse_args(arguments)
    if not 0 <= options.percent < float("inf"):
        parser.error("--percent wants a number that is not negative")
    try:
        a, b = read(options.before), read(options.after)
    except BadResult as e:
        print(f"bench/compare: {e}", file=sys.stderr)
        return 2
    found = changes(a, b, options.percent)
    for line in report(a, b, options.percent, every=options.all):
        print(line)
    if not found:
        print("bench/compare: the two have no case in common", file=sys.stderr)
        return 2
    slower = any(change.verdict == "slower" for change in found)
    return 1 if slower or any(worse for _, worse in figures(a, b, options.percent)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
