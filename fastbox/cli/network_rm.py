"""``fastbox network rm``."""

from __future__ import annotations

from ..errors import NotFound
from .command import App, FlagCommand
from .flags import Flag, Switch, Values
from .several import each


def rm(app: App, values: Values, words: list[str]) -> int:
    """Remove networks that no container is on."""

    def act(name: str) -> str | None:
        try:
            app.engine.remove_network(name)
        except NotFound:
            if values.force:
                return None
            raise
        return name

    return each(words, act)


COMMAND = FlagCommand(
    "network_rm",
    rm,
    "NETWORK [NETWORK...]",
    (Flag("-f --force", Switch(), "Do not error if the network does not exist"),),
    least=1,
)
