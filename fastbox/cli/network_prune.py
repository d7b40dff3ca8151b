"""``fastbox network prune``."""

from __future__ import annotations

from . import output
from .command import App, FlagCommand
from .flags import Flag, Switch, Values
from .listing import filter_flag
from .prompt import confirm

WARNING = "WARNING! This will remove all custom networks not used by at least one container."


def prune(app: App, values: Values, words: list[str]) -> int:
    """Remove the networks that somebody made and no container is on."""
    if not values.force and not confirm(WARNING):
        return 0
    names = app.engine.prune_networks(filters=values.filter or {})
    if names:
        output.write("Deleted Networks:\n" + "".join(f"{name}\n" for name in names) + "\n")
    return 0


COMMAND = FlagCommand(
    "network_prune",
    prune,
    "",
    (
        filter_flag("--filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Flag("-f --force", Switch(), "Do not prompt for confirmation"),
    ),
    most=0,
)
