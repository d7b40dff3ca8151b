"""``fastbox history``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import human, output
from .command import App, FlagCommand
from .flags import Flag, Switch, Text, Values
from .listing import FORMAT
from .tables import render

if TYPE_CHECKING:
    from ..image.history import HistoryEntry

HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
WIDTH = 45  # of CREATED BY


def history(app: App, values: Values, words: list[str]) -> int:
    """Show how an image came about."""
    if values.platform:
        app.engine.check_platform(words[0], values.platform)
    steps = app.engine.history(words[0])
    trunc = not values.no_trunc
    if values.quiet and not values.format:
        output.write("".join(f"{_identity(step, trunc)}\n" for step in steps))
        return 0
    output.write(
        render(
            [_row(step, trunc, values.human) for step in steps],
            format=values.format or "",
            default="ID\t"
            + ("CreatedSince" if values.human else "CreatedAt")
            + "\tCreatedBy\tSize\tComment",
            headers=HEADERS,
            type_name="*formatter.historyContext",
        )
    )
    return 0


def _identity(step: HistoryEntry, trunc: bool) -> str:
    return step.id.removeprefix("sha256:")[:12] if trunc else step.id


def _row(step: HistoryEntry, trunc: bool, for_people: bool) -> dict[str, Callable[..., Any]]:
    def created_by() -> str:
        text = human.visible(step.created_by.replace("\t", " "))
        return human.ellipsis(text, WIDTH) if trunc else text

    def created_at() -> str:
        return human.rfc3339_local(step.created)

    return {
        "Comment": lambda: human.visible(step.comment),
        "CreatedAt": created_at,
        "CreatedBy": created_by,
        "CreatedSince": lambda: human.ago(step.created) if for_people else created_at(),
        "ID": lambda: _identity(step, trunc),
        "Size": lambda: human.size(step.size) if for_people else str(step.size),
    }


COMMAND = FlagCommand(
    "history",
    history,
    "IMAGE",
    (
        FORMAT,
        Flag("-H --human", Switch(), "Print sizes and dates in human readable format",
             default=True),
        Flag("--no-trunc", Switch(), "Don't truncate output"),
        Flag("--platform", Text(), "Show history for the given platform. Formatted as"
             ' "os[/arch[/variant]]" (e.g., "linux/amd64")'),
        Flag("-q --quiet", Switch(), "Only show image IDs"),
    ),
    least=1,
    most=1,
)  # fmt: skip
