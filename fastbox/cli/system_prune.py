"""``fastbox system prune``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import human, output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Values
from .listing import filter_flag
from .prompt import confirm

if TYPE_CHECKING:
    from ..image.types import Removed


def prune(app: App, values: Values, words: list[str]) -> int:
    """Remove containers, networks, volumes and images that nothing uses."""
    filters = values.filter or {}
    if values.volumes and "until" in filters:
        raise CliError('ERROR: The "until" filter is not supported with "--volumes"')
    if not values.force and not confirm(_warning(values, filters)):
        return 0
    done = app.engine.prune_system(
        all=values.all, volumes=values.volumes, filters=filters, told=_tell
    )
    output.line(f"Total reclaimed space: {human.size(done.freed, 4)}")
    return 0


def _warning(values: Values, filters: dict[str, list[str]]) -> str:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if values.volumes:
        lines.append("all anonymous volumes not used by at least one container")
    if values.all:
        lines.append("all images without at least one container associated to them")
    else:
        lines.append("all dangling images")
    lines.append("all build cache" if values.all else "unused build cache")
    text = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in lines)
    shown = sorted(f"{key}={value}" for key, values in filters.items() for value in values)
    if shown:
        text += "\n  Items to be pruned will be filtered with:\n"
        text += "".join(f"  - {line}\n" for line in shown)
    return text


def _tell(kind: str, what: Sequence[str | Removed]) -> None:
    if what:
        lines = [item if isinstance(item, str) else f"{item.kind}: {item.what}" for item in what]
        output.write(f"Deleted {kind}:\n" + "".join(f"{line}\n" for line in lines) + "\n")


COMMAND = FlagCommand(
    "system_prune",
    prune,
    "",
    (
        Flag("-a --all", Switch(), "Remove all unused images not just dangling ones"),
        filter_flag("--filter", 'Provide filter values (e.g. "label=<key>=<value>")'),
        Flag("-f --force", Switch(), "Do not prompt for confirmation"),
        Flag("--volumes", Switch(), "Prune anonymous volumes"),
    ),
    most=0,
)
