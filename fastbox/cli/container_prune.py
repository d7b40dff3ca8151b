"""``fastbox container prune``."""

from __future__ import annotations

from . import human, output
from .command import App, FlagCommand
from .flags import Flag, Switch, Values
from .listing import filter_flag
from .prompt import confirm

_WARNING = "WARNING! This will remove all stopped containers."


def prune(app: App, values: Values, words: list[str]) -> int:
    """Remove the containers that do not run."""
    if not values.force and not confirm(_WARNING):
        return 0
    ids, freed = app.engine.prune_containers(filters=values.filter or {})
    if ids:
        output.write("Deleted Containers:\n" + "".join(f"{id}\n" for id in ids) + "\n")
    output.line(f"Total reclaimed space: {human.size(freed, 4)}")
    return 0


COMMAND = FlagCommand(
    "container_prune",
    prune,
    "",
    (
        filter_flag("--filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Flag("-f --force", Switch(), "Do not prompt for confirmation"),
    ),
    most=0,
)
