"""``fastbox supervisor uninstall``."""

from __future__ import annotations

from . import output
from .command import App, FlagCommand
from .flags import Values


def uninstall(app: App, values: Values, words: list[str]) -> int:
    """Stop, disable and remove the systemd units."""
    from ..supervisor import units

    for line in units.uninstall():
        output.line(line)
    return 0


COMMAND = FlagCommand("supervisor_uninstall", uninstall, most=0)
