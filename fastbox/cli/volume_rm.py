"""``fastbox volume rm``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Flag, Switch, Values
from .several import each


def rm(app: App, values: Values, words: list[str]) -> int:
    """Remove volumes with their data."""

    def act(name: str) -> str:
        app.engine.remove_volume(name, force=values.force)
        return name

    return each(words, act)


COMMAND = FlagCommand(
    "volume_rm",
    rm,
    "VOLUME [VOLUME...]",
    (Flag("-f --force", Switch(), "Force the removal of one or more volumes"),),
    least=1,
)
