"""``fastbox image settle``: run in the background after a commit, and by the supervisor."""

from __future__ import annotations

import os
import signal

from .command import App, FlagCommand
from .flags import Flag, Switch, Values


def settle(app: App, values: Values, words: list[str]) -> int:
    """Bring the layers that commits have made to the disk."""
    if not values.seal:
        # It is a matter of seconds; the machine may be about to be shut down, which is when it
        # matters.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(19)
    app.engine.settle_images(seal=values.seal)
    return 0


COMMAND = FlagCommand(
    "image_settle",
    settle,
    "",
    (Flag("--seal", Switch(), "Make their archives, too"),),
    most=0,
)
