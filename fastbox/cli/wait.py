"""``fastbox wait``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Values
from .several import each


def wait(app: App, values: Values, words: list[str]) -> int:
    """Print the exit status of each container when it has ended."""
    return each(words, lambda name: str(app.engine.wait(name)))


COMMAND = FlagCommand("wait", wait, "CONTAINER [CONTAINER...]", least=1)
