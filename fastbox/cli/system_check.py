"""``fastbox system check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Text, Values

if TYPE_CHECKING:
    from ..check.problems import Problem


def check(app: App, values: Values, words: list[str]) -> int:
    """Print a line for each problem, and a summary; the status is 1 if any is left."""
    if values.format not in ("text", "json"):
        raise CliError(f'invalid format "{values.format}": must be "text" or "json"')
    counts: dict[str, int] = {}
    problems: list[Problem] = app.engine.check(values.repair, counted=counts.__setitem__)
    for problem in problems:
        output.line(_json(problem) if values.format == "json" else _text(problem))
    if values.format == "text":
        output.line(_summary(problems, counts))
    return 1 if any(problem.is_left for problem in problems) else 0


def _text(problem: Problem) -> str:
    text = f"{problem.kind} {problem.what}: {problem.text}"
    if problem.repaired:
        return f"{text}: repaired"
    return f"{text}: {problem.hint}" if problem.hint else text


def _json(problem: Problem) -> str:
    import msgspec

    fields = {name: getattr(problem, name) for name in problem.__struct_fields__}
    return msgspec.json.encode(fields).decode()


def _summary(problems: list[Problem], counts: dict[str, int]) -> str:
    looked = ", ".join(_count(number, kind) for kind, number in counts.items())
    left = sum(problem.is_left for problem in problems)
    repaired = sum(problem.repaired for problem in problems)
    result = _count(left, "problem") if left else "no problems"
    if repaired:
        result += f", {repaired} repaired"
    return f"Checked {looked}: {result}"


def _count(number: int, kind: str) -> str:
    return f"{number} {kind}{'' if number == 1 else 's'}"


COMMAND = FlagCommand(
    "system_check",
    check,
    "",
    (
        Flag("--format", Text(), 'Format of the output ("text", "json")', default="text"),
        Flag("--repair", Switch(), "Put right what can be"),
    ),
    most=0,
)
