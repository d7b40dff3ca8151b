"""``fastbox supervisor run``: what ``supervisor start`` and the systemd unit execute."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Flag, Switch, Values


def run(app: App, values: Values, words: list[str]) -> int:
    """Be the supervisor until told to end."""
    from ..supervisor import process

    return process.run(app.engine, detached=values.detach, unasked=values.unasked)


COMMAND = FlagCommand(
    "supervisor_run",
    run,
    "",
    (
        Flag("-d --detach", Switch(), "Go on in the background"),
        Flag("--unasked", Switch(), "Not if it was told to stop", hidden=True),
    ),
    most=0,
)
