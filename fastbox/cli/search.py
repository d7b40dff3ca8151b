"""``fastbox search``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import output
from .command import App, FlagCommand
from .flags import Flag, Integer, Switch, Text, Values
from .listing import filter_flag
from .tables import render

if TYPE_CHECKING:
    from ..registry.search import SearchResult

HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}
_WIDTH = 45  # of a description


def search(app: App, values: Values, words: list[str]) -> int:
    """List the repositories that a registry finds."""
    filters = values.filter or {}
    if "is-automated" in filters:
        output.error(
            'WARNING: the "is-automated" filter is deprecated, and searching for'
            ' "is-automated=true" will not yield any results in future.'
        )
    found = app.engine.search(words[0], limit=values.limit, filters=filters)
    output.write(
        render(
            [row(result, trunc=not values.no_trunc) for result in found],
            format=values.format or "",
            default="Name\tDescription\tStarCount\tIsOfficial",
            headers=HEADERS,
            type_name="*search.searchContext",
        )
    )
    return 0


def row(result: SearchResult, *, trunc: bool = True) -> dict[str, Callable[..., Any]]:
    """The fields of one line, in the order of ``{{json .}}`` (Docker's)."""
    return {
        "Description": lambda: _description(result.description or "", trunc),
        "IsAutomated": lambda: "[OK]" if result.is_automated else "",
        "IsOfficial": lambda: "[OK]" if result.is_official else "",
        "Name": lambda: result.name,
        "StarCount": lambda: str(result.star_count),
    }


def _description(text: str, trunc: bool) -> str:
    return text[: _WIDTH - 1] + "…" if trunc and len(text) > _WIDTH else text


COMMAND = FlagCommand(
    "search",
    search,
    "TERM",
    (
        filter_flag("-f --filter", "Filter output based on conditions provided"),
        Flag("--format", Text(), "Pretty-print search using a Go template"),
        Flag("--limit", Integer(), "Max number of search results", default=0),
        Flag("--no-trunc", Switch(), "Don't truncate output"),
    ),
    least=1,
    most=1,
)
