"""Tables of ``ps``, ``images`` and ``volume ls``: columns, ``--format`` templates, JSON rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .errors import TemplateError

MIN_WIDTH = 10
GAP = 3

Row = Mapping[str, Callable[[], Any]]


def render(
    rows: Iterable[Row],
    *,
    format: str,
    default: str,
    headers: Mapping[str, str],
    type_name: str,
    problem: str = "template parsing error",
) -> str | bytes:
    """What a list command prints.

    Args:
        rows: one mapping per line, field -> function.
        format: what ``--format`` said: ``""`` or ``table``, ``table TEMPLATE``, ``json``,
            ``TEMPLATE``.
        default: the template of the default table, fields separated by tabs.
        headers: field -> column header.
        type_name: what a template error calls a row.
        problem: how a template error begins.

    Raises:
        TemplateError: the template is malformed or asks for a field that is not there.
    """
    if format == "json":
        return _json(rows)
    if format in ("", "table"):
        return _default(rows, default, headers)
    from . import template

    table = format == "table" or format.startswith(("table ", "table\t"))
    text = unescape(format[5:].strip() if table else format)
    try:
        parsed = template.parse(text)
    except template.SyntaxProblem as error:
        raise TemplateError(f"{_parse_problem(problem)}: {error}") from None
    try:
        lines = [parsed.execute(template.Row(row, type_name)) for row in rows]
        head = parsed.execute(template.Header(headers, type_name)) if table else ""
    except template.ExecutionProblem as error:
        raise TemplateError(f"{problem}: {error}") from None
    if table:
        return align([head, *lines])
    return "".join(line + "\n" for line in lines)


def _parse_problem(problem: str) -> str:
    return "failed to parse template" if problem.startswith("failed") else problem


def unescape(text: str) -> str:
    """``\\t`` and ``\\n`` typed in a shell's single quotes mean tab and newline."""
    return text.replace("\\t", "\t").replace("\\n", "\n")


def _default(rows: Iterable[Row], default: str, headers: Mapping[str, str]) -> str:
    fields = default.split("\t")
    lines = ["\t".join(headers[field] for field in fields)]
    lines += ["\t".join(str(row[field]()) for field in fields) for row in rows]
    return align(lines)


def _json(rows: Iterable[Row]) -> bytes:
    import orjson

    lines = []
    for row in rows:
        values = {field: str(make()) for field, make in row.items() if not field.startswith("_")}
        lines.append(html_safe(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)) + b"\n")
    return b"".join(lines)


def html_safe(data: bytes) -> bytes:
    """JSON that is safe inside HTML, as Go's encoder makes it."""
    for char, escape in ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026")):
        data = data.replace(char, escape)
    return data


def align(lines: Sequence[str], minimum: int = MIN_WIDTH) -> str:
    """Tabs become columns: as wide as their widest cell and ``minimum``, three spaces between.

    The last cell of a line is not padded (as Go's text/tabwriter does it).
    """
    cells = [row.split("\t") for line in lines for row in line.split("\n")]
    count = len(cells[0]) if cells else 0
    if count and all(len(row) == count for row in cells):
        return _align_even(cells, minimum)
    result: list[list[str]] = [[] for _ in cells]
    _align_block(cells, 0, len(cells), 0, minimum, result)
    return "".join("".join(parts) + "\n" for parts in result)


def _align_even(cells: list[list[str]], minimum: int) -> str:
    """The most common table: each line has as many cells as the others."""
    columns: list[Iterable[str]] = []
    *padded, last = zip(*cells, strict=True)
    for column in padded:
        width = max(minimum, max(map(len, column)) + GAP)
        columns.append([cell.ljust(width) for cell in column])
    return "".join(["".join(row) + "\n" for row in zip(*columns, last, strict=True)])


def _align_block(
    cells: list[list[str]],
    start: int,
    end: int,
    column: int,
    minimum: int,
    result: list[list[str]],
) -> None:
    """A column is a run of lines that have a cell there which a tab ends."""
    index = start
    while index < end:
        if len(cells[index]) <= column + 1:
            if len(cells[index]) == column + 1:
                result[index].append(cells[index][column])
            index += 1
            continue
        last = index
        while last < end and len(cells[last]) > column + 1:
            last += 1
        width = max(len(cells[row][column]) for row in range(index, last)) + GAP
        width = max(width, minimum)
        for row in range(index, last):
            result[row].append(cells[row][column].ljust(width))
        _align_block(cells, index, last, column + 1, minimum, result)
        index = last
