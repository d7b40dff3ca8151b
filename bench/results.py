"""A run's result: what the file holds beside pytest-benchmark's statistics, and how the terminal
shows it, in 100 columns."""

from __future__ import annotations

import json
import math
from typing import Any

from bench.machine import sentence
from bench.targets import Target, outcomes, table

WIDTH = 100
KEPT = ("median", "iqr", "min", "max", "mean", "stddev", "q1", "q3", "rounds", "total")


class BadResult(Exception):
    """A file that is no result of this suite: one line."""


def case_name(group: str | None, params: dict[str, Any] | None, name: str) -> str:
    """``launch[library]``: as the targets name it."""
    contestant = (params or {}).get("contestant")
    return f"{group}[{contestant}]" if contestant else name


def complete(
    result: dict[str, Any],
    *,
    values: dict[str, float],
    machine: dict[str, Any],
    absent: dict[str, str],
    failed: dict[str, str],
    quick: bool,
) -> None:
    """Add to pytest-benchmark's JSON what it does not know; take out what makes it large."""
    for entry in result["benchmarks"]:
        entry["case"] = case_name(entry["group"], entry["params"], entry["name"])
        slim(entry)
    result["machine_info"] = machine
    result["quick"] = quick
    result["values"] = values
    result["absent_peers"] = absent
    result["failed_peers"] = failed
    result["targets"] = [
        {**outcome.target._asdict(), "figure": outcome.figure, "met": outcome.met}
        for outcome in outcomes(medians(result), values)
    ]


def slim(entry: dict[str, Any]) -> None:
    """Leave of a case's statistics what is looked at: the file is kept in git."""
    stats = entry["stats"]
    entry["stats"] = {name: stats[name] for name in KEPT if name in stats}
    for name in ("options", "fullname", "param"):
        entry.pop(name, None)


def read(path: str) -> dict[str, Any]:
    """A result file.

    Raises:
        BadResult: it cannot be read, or is something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
    except OSError as e:
        raise BadResult(f"{path}: {e.strerror}") from None
    except ValueError:
        raise BadResult(f"{path}: is no JSON") from None
    if not isinstance(result, dict) or not isinstance(result.get("benchmarks"), list):
        raise BadResult(f"{path}: is no result of `make bench`")
    for entry in result["benchmarks"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("stats"), dict):
            raise BadResult(f"{path}: is no result of `make bench`")
        entry.setdefault(
            "case", case_name(entry.get("group"), entry.get("params"), entry.get("name", "?"))
        )
    return result


def medians(result: dict[str, Any]) -> dict[str, float]:
    """Case name -> seconds."""
    return {entry["case"]: entry["stats"]["median"] for entry in result["benchmarks"]}


def group_of(result: dict[str, Any], group: str) -> dict[str, dict[str, float]]:
    """Contestant -> its statistics, in the order of the run."""
    found = {}
    for entry in result["benchmarks"]:
        if entry["group"] == group and (entry.get("params") or {}).get("contestant"):
            found[entry["params"]["contestant"]] = entry["stats"]
    return found


def groups(result: dict[str, Any]) -> set[str]:
    """The groups that something was measured of."""
    return {_group(name) for name in (*medians(result), *result.get("values", {}))}


def _group(case: str) -> str:
    return case.partition("[")[0]


# ---- the terminal --------------------------------------------------------------------------------


def report(result: dict[str, Any], *, partial: bool = False) -> list[str]:
    """The whole result as lines of at most 100 columns.

    Args:
        partial: some cases were asked for; targets of other cases are not worth a word.
    """
    lines = [sentence(result["machine_info"])]
    if result["quick"]:
        lines.append("QUICK run: few rounds, small images; its figures are an indication only")
    lines += ["", *cases(result), "", *others(result["values"])]
    fields = Target._fields
    measured = groups(result)
    found = [
        (Target(*(entry[name] for name in fields)), entry["figure"])
        for entry in result["targets"]
        if not partial or {_group(entry["subject"]), _group(entry["against"])} & measured
    ]
    lines += ["", "targets", *table(found), ""]
    lines += people(result["absent_peers"], result["failed_peers"])
    return [line[:WIDTH] for line in lines]


def cases(result: dict[str, Any]) -> list[str]:
    """The times: median, spread, and how often the group's fastest it is."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in result["benchmarks"]:
        groups.setdefault(entry["group"] or entry["name"], []).append(entry)
    lines = [f"{'case':<46}{'median':>12}{'IQR':>12}{'best':>12}{'rounds':>8}{'x best':>9}"]
    for entries in groups.values():
        fastest = min(entry["stats"]["median"] for entry in entries)
        for entry in sorted(entries, key=lambda entry: float(entry["stats"]["median"])):
            stats = entry["stats"]
            times = stats["median"] / fastest if fastest and len(entries) > 1 else math.nan
            ratio = "" if math.isnan(times) else f"{times:.2f}"
            lines.append(
                f"{shorten(entry['case'], 45):<46}{duration(stats['median']):>12}"
                f"{duration(stats['iqr']):>12}{duration(stats['min']):>12}"
                f"{stats['rounds']:>8}{ratio:>9}"
            )
    return lines


def others(values: dict[str, float]) -> list[str]:
    """What is no time."""
    return [f"{shorten(name, 70):<72}{number:>14.4g}" for name, number in sorted(values.items())]


def people(absent: dict[str, str], failed: dict[str, str]) -> list[str]:
    """Who did not take part, and who failed."""
    lines = [f"absent: {name} ({why})" for name, why in absent.items()]
    lines += [f"FAILED: {name}: {why.removeprefix(name + ': ')}" for name, why in failed.items()]
    return [shorten(line, WIDTH) for line in lines]


def duration(seconds: float) -> str:
    """With three digits: ``812 ns``, ``1.25 ms``, ``13.0 s``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            number = seconds / size
            digits = 0 if number >= 100 else 1 if number >= 10 else 2
            return f"{number:.{digits}f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
