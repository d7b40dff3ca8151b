"""``fastbox restart``."""

from __future__ import annotations

from . import stop
from .command import App, FlagCommand
from .flags import Values
from .several import each


def restart(app: App, values: Values, words: list[str]) -> int:
    """Stop and start containers, one after the other."""
    timeout = stop.seconds(values)

    def act(name: str) -> str:
        app.engine.restart(name, timeout=timeout, signal=values.signal or None)
        return name

    return each(words, act)


COMMAND = FlagCommand("restart", restart, "CONTAINER [CONTAINER...]", stop.FLAGS, least=1)
