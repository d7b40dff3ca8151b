"""``fastbox kill``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Flag, Text, Values
from .several import each


def kill(app: App, values: Values, words: list[str]) -> int:
    """Send a signal."""

    def act(name: str) -> str:
        app.engine.kill(name, signal=values.signal or "SIGKILL")
        return name

    return each(words, act)


COMMAND = FlagCommand(
    "kill",
    kill,
    "CONTAINER [CONTAINER...]",
    (Flag("-s --signal", Text(), "Signal to send to the container"),),
    least=1,
)
