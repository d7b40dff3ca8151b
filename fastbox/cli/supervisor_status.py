"""``fastbox supervisor status``."""

from __future__ import annotations

import time
from typing import Any

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
    for pool in found.get("pools", []):
        output.line(_pool(pool))
    if found.get("pools_problem"):
        output.error(f"WARNING: {found['pools_problem']}")
    return 0


def _pool(pool: dict[str, Any]) -> str:
    """``Pool: redis (network none): 4 of 4 ready, 12 taken, 0 missed, 3.1MiB``"""
    options = ", ".join(f"{name} {value}" for name, value in pool["options"].items())
    about = f"Pool: {pool['image']}{f' ({options})' if options else ''}"
    if "ready" not in pool:
        return f"{about}: {pool['error']}"
    text = (
        f"{about}: {pool['ready']} of {pool['size']} ready, {pool['taken']} taken, "
        f"{pool['missed']} missed, {human.binary_size(pool['memory'])}"
    )
    return f"{text}; {pool['error']}" if pool["error"] else text


COMMAND = FlagCommand("supervisor_status", status, most=0)
