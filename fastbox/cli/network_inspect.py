"""``fastbox network inspect``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Flag, Switch, Values
from .inspecting import FORMAT, show


def inspect(app: App, values: Values, words: list[str]) -> int:
    """Print networks as JSON. ``--verbose`` adds services in Docker; there are none."""
    return show(words, app.engine.inspect_network, values.format)


COMMAND = FlagCommand(
    "network_inspect",
    inspect,
    "NETWORK [NETWORK...]",
    (FORMAT, Flag("-v --verbose", Switch(), "Verbose output for diagnostics")),
    least=1,
)
