"""``--help`` in Docker's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .flags import Flag

# Below that many columns a text is not worth wrapping beside its flag.
_NARROW = 24
# A line may be that much longer if the text then ends with it: no orphans.
_SLOP = 5


def command_help(
    usage: str, summary: str, aliases: Sequence[str], flags: Sequence[Flag], width: int
) -> str:
    """The whole text of one command, without the last newline."""
    parts = [f"Usage:  {usage}\n\n{summary}"]
    if aliases:
        parts.append("Aliases:\n  " + ", ".join(aliases))
    if flags:
        parts.append("Options:\n" + flag_table(flags, width))
    return "\n\n".join(parts)


def flag_table(flags: Sequence[Flag], width: int) -> str:
    """One line per flag, sorted by long name; help wrapped to ``width`` - 1 columns."""
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.long):
        if flag.hidden or flag.advice:
            continue
        left = f"  -{flag.short}, {flag.long}" if flag.short else f"      {flag.long}"
        if flag.kind.name:
            left += " " + flag.kind.name
        text = flag.help or ""
        default = flag.kind.default_text(flag.given_default)
        if default:
            text += f" (default {default})"
        rows.append((left, text))
    column = max((len(left) for left, _ in rows), default=0) + 3
    return "\n".join(left.ljust(column) + wrap(text, column, width - 1) for left, text in rows)


def wrap(text: str, indent: int, width: int) -> str:
    """Break at spaces; following lines are indented. Too narrow a column starts below the flag."""
    prefix = ""
    if width - indent < _NARROW:
        indent = 16
        prefix = "\n" + " " * indent
        if width - indent < _NARROW:
            return text.replace("\n", prefix)
    room = width - indent - _SLOP
    lines = []
    while True:
        line, text = _first_line(text, room)
        lines += line.split("\n")
        if not text:
            return prefix + ("\n" + " " * indent).join(lines)


def _first_line(text: str, room: int) -> tuple[str, str]:
    if len(text) < room + _SLOP:
        return text, ""
    head = text[:room]
    space = max(head.rfind(char) for char in " \t\n")
    if space <= 0:
        return text, ""
    newline = head.rfind("\n")
    cut = newline if 0 < newline < space else space
    return text[:cut], text[cut + 1 :]


def command_table(rows: Sequence[tuple[str, str]], column: int = 0) -> str:
    """``  name   summary`` lines."""
    column = column or max(len(name) for name, _ in rows)
    return "\n".join(f"  {name.ljust(column)}  {summary}" for name, summary in rows)
