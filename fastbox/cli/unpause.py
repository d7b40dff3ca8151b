"""``fastbox unpause``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Values
from .several import each


def unpause(app: App, values: Values, words: list[str]) -> int:
    """Let paused containers go on."""

    def act(name: str) -> str:
        app.engine.unpause(name)
        return name

    return each(words, act, parallel=True)


COMMAND = FlagCommand("unpause", unpause, "CONTAINER [CONTAINER...]", least=1)
