"""``fastbox volume prune``."""

from __future__ import annotations

from . import human, output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Values
from .listing import filter_flag
from .prompt import confirm


def prune(app: App, values: Values, words: list[str]) -> int:
    """Remove the volumes that no container has: anonymous ones, with ``-a`` all."""
    filters = values.filter or {}
    everything = values.all
    if "all" in filters:
        if values.all:
            raise CliError("conflicting options: cannot specify both --all and --filter all=1")
        everything = filters.pop("all")[-1].lower() in ("1", "true")
    which = "all" if everything else "anonymous"
    warning = f"WARNING! This will remove {which} local volumes not used by at least one container."
    if not values.force and not confirm(warning):
        return 0
    names, freed = app.engine.prune_volumes(all=everything, filters=filters)
    if names:
        output.write("Deleted Volumes:\n" + "".join(f"{name}\n" for name in names) + "\n")
    output.line(f"Total reclaimed space: {human.size(freed, 4)}")
    return 0


COMMAND = FlagCommand(
    "volume_prune",
    prune,
    "",
    (
        Flag("-a --all", Switch(), "Remove all unused volumes, not just anonymous ones"),
        filter_flag("--filter", 'Provide filter values (e.g. "label=<label>")'),
        Flag("-f --force", Switch(), "Do not prompt for confirmation"),
    ),
    most=0,
)
