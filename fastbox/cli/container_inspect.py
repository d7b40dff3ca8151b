"""``fastbox container inspect``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Flag, Switch, Values
from .inspecting import FORMAT, show


def inspect(app: App, values: Values, words: list[str]) -> int:
    """Print containers as JSON."""
    size = values.size
    return show(words, lambda name: app.engine.inspect_container(name, size=size), values.format)


COMMAND = FlagCommand(
    "container_inspect",
    inspect,
    "CONTAINER [CONTAINER...]",
    (FORMAT, Flag("-s --size", Switch(), "Display total file sizes")),
    least=1,
)
