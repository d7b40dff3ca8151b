"""``fastbox image prune``."""

from __future__ import annotations

from . import human, output
from .command import App, FlagCommand
from .flags import Flag, Switch, Values
from .listing import filter_flag
from .prompt import confirm

_DANGLING = "WARNING! This will remove all dangling images."
_ALL = "WARNING! This will remove all images without at least one container associated to them."


def prune(app: App, values: Values, words: list[str]) -> int:
    """Remove the images that have no tag and no container, with ``-a`` those with a tag too."""
    if not values.force and not confirm(_ALL if values.all else _DANGLING):
        return 0
    removed, freed = app.engine.prune_images(all=values.all, filters=values.filter or {})
    if removed:
        lines = "".join(f"{item.kind}: {item.what}\n" for item in removed)
        output.write(f"Deleted Images:\n{lines}\n")
    output.line(f"Total reclaimed space: {human.size(freed, 4)}")
    return 0


COMMAND = FlagCommand(
    "image_prune",
    prune,
    "",
    (
        Flag("-a --all", Switch(), "Remove all unused images, not just dangling ones"),
        filter_flag("--filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        Flag("-f --force", Switch(), "Do not prompt for confirmation"),
    ),
    most=0,
)
