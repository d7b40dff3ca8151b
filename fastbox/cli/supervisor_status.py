"""``fastbox supervisor status``."""

from __future__ import annotations

import time

from . import human, output
from .command import App, FlagCommand
from .flags import Values

NOT_RUNNING = 3  # as systemctl has it


def status(app: App, values: Values, words: list[str]) -> int:
    """Show whether the supervisor runs, and what it looks after."""
    found = app.engine.supervisor_status()
    if found is None:
        output.line("Active: inactive")
        return NOT_RUNNING
    ago = human.duration(time.time() - found["since"]).lower()
    for name, value in (
        ("Active", f"active (running) since {ago} ago"),
        ("PID", found["pid"]),
        ("Version", found["version"]),
        ("Root", found["root"]),
        ("Socket", found["socket"]),
        ("Containers", found["watched"]),
        ("Health checks", found["probed"]),
        ("Workers", found.get("workers", 0)),
        ("Commands served", found.get("commands", 0)),
    ):
        output.line(f"{name}: {value}")
    return 0


COMMAND = FlagCommand("supervisor_status", status, most=0)
