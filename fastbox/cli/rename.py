"""``fastbox rename``."""

from __future__ import annotations

from ..errors import FastboxError
from .command import App, FlagCommand
from .flags import Values


def rename(app: App, values: Values, words: list[str]) -> int:
    """Give a container another name; prints nothing."""
    try:
        app.engine.rename(words[0].strip(), words[1].strip())
    except FastboxError as error:
        error.message = f"failed to rename container: {error.message}"
        raise
    return 0


COMMAND = FlagCommand("rename", rename, "CONTAINER NEW_NAME", least=2, most=2)
