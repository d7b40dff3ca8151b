"""``fastbox container cleanup ID``: run by the monitor of a container that has ended."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Values
from .several import each


def cleanup(app: App, values: Values, words: list[str]) -> int:
    """Remove what is left of containers that were to be removed at their end."""

    def act(name: str) -> None:
        app.engine.cleanup(name)

    return each(words, act)


COMMAND = FlagCommand("cleanup", cleanup, "CONTAINER [CONTAINER...]", least=1)
