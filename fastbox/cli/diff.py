"""``fastbox diff``."""

from __future__ import annotations

from . import output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Values


def diff(app: App, values: Values, words: list[str]) -> int:
    """What a container changed of its image's files."""
    if not words[0]:
        raise CliError("Container name cannot be empty")
    changes = app.engine.changes(words[0])
    output.write("".join(f"{change.kind} {change.path}\n" for change in changes))
    return 0


COMMAND = FlagCommand("diff", diff, "CONTAINER", least=1, most=1)
