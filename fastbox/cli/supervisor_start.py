"""``fastbox supervisor start``."""

from __future__ import annotations

from . import output
from .command import App, FlagCommand
from .flags import Flag, Switch, Values


def start(app: App, values: Values, words: list[str]) -> int:
    """Start the supervisor, if there is none."""
    status = app.engine.start_supervisor()
    if not values.quiet:
        output.line(f"supervisor is running (pid {status['pid']})")
    return 0


COMMAND = FlagCommand(
    "supervisor_start",
    start,
    "",
    (Flag("-q --quiet", Switch(), "Print nothing"),),
    most=0,
)
