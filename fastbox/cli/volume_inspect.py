"""``fastbox volume inspect``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Values
from .inspecting import FORMAT, show


def inspect(app: App, values: Values, words: list[str]) -> int:
    """Print volumes as JSON."""
    return show(words, app.engine.inspect_volume, values.format)


COMMAND = FlagCommand("volume_inspect", inspect, "VOLUME [VOLUME...]", (FORMAT,), least=1)
