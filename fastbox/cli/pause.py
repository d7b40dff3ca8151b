"""``fastbox pause``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Values
from .several import each


def pause(app: App, values: Values, words: list[str]) -> int:
    """Stop the processes of containers where they are."""

    def act(name: str) -> str:
        app.engine.pause(name)
        return name

    return each(words, act, parallel=True)


COMMAND = FlagCommand("pause", pause, "CONTAINER [CONTAINER...]", least=1)
