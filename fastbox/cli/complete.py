"""``fastbox __complete``: what the word at the end of a command line can become, one a line."""

from __future__ import annotations

from . import output
from .command import App, FlagCommand
from .flags import Values


def complete(app: App, values: Values, words: list[str]) -> int:
    """Print the candidates."""
    from .completing import candidates

    for word in candidates(app, words):
        output.line(word)
    return 0


COMMAND = FlagCommand("complete", complete, "-- [WORD...]", interspersed=False)
