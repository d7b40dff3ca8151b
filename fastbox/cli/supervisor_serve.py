"""``fastbox supervisor serve``: what the supervisor starts to run commands of the native client."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Flag, Text, Values


def run(app: App, values: Values, words: list[str]) -> int:
    """Be the command server's master."""
    from .serving import master

    return master.serve(int(values.listener), int(values.board), int(values.life))


COMMAND = FlagCommand(
    "supervisor_serve",
    run,
    "",
    tuple(
        Flag(f"--{name}", Text(), "A descriptor", hidden=True)
        for name in ("listener", "board", "life")
    ),
    most=0,
)
