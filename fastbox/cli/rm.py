"""``fastbox rm``."""

from __future__ import annotations

from ..errors import NotFound
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Values
from .several import each


def rm(app: App, values: Values, words: list[str]) -> int:
    """Remove containers; with ``-f`` one that is not there is no error."""

    def act(name: str) -> str | None:
        name = name.strip("/")
        if not name:
            raise CliError("Container name cannot be empty")
        try:
            app.engine.remove(name, force=values.force, volumes=values.volumes)
        except NotFound:
            if not values.force:
                raise
            return None
        return name

    return each(words, act, parallel=True)


COMMAND = FlagCommand(
    "rm",
    rm,
    "CONTAINER [CONTAINER...]",
    (
        Flag("-f --force", Switch(), "Force the removal of a running container (uses SIGKILL)"),
        Flag(
            "-v --volumes",
            Switch(),
            "Remove anonymous volumes associated with the container",
        ),
    ),
    least=1,
)
