"""``fastbox logout``."""

from __future__ import annotations

from . import output
from .command import App, FlagCommand
from .flags import Values


def logout(app: App, values: Values, words: list[str]) -> int:
    """Forget the credentials for a registry; there being none is no error."""
    done = app.engine.logout(words[0] if words else None)
    if done.problems:
        output.error("WARNING: could not erase credentials:")
        for problem in done.problems:
            output.error(f"{done.server}: {problem}")
    elif done.found:
        output.line(f"Removing login credentials for {done.server}")
    else:
        output.line(f"Not logged in to {done.server}")
    if done.elsewhere:
        output.error(
            f"WARNING: {done.elsewhere} has credentials for {done.server} too, and keeps them"
        )
    return 0


COMMAND = FlagCommand("logout", logout, "[SERVER]", most=1)
