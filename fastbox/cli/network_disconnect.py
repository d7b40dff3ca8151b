"""``fastbox network disconnect``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Flag, Switch, Values


def disconnect(app: App, values: Values, words: list[str]) -> int:
    """Take a container off a network; prints nothing."""
    network, container = words
    app.engine.disconnect_network(network, container, force=values.force)
    return 0


COMMAND = FlagCommand(
    "network_disconnect",
    disconnect,
    "NETWORK CONTAINER",
    (Flag("-f --force", Switch(), "Force the container to disconnect from a network"),),
    least=2,
    most=2,
)
