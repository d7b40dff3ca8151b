"""``fastbox supervisor stop``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Values


def stop(app: App, values: Values, words: list[str]) -> int:
    """End the supervisor; containers go on running."""
    app.engine.stop_supervisor()
    return 0


COMMAND = FlagCommand("supervisor_stop", stop, most=0)
