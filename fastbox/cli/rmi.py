"""``fastbox rmi``."""

from __future__ import annotations

from ..errors import FastboxError, NotFound
from . import output
from .command import App, FlagCommand
from .errors import message_of
from .flags import Flag, Switch, Values


def rmi(app: App, values: Values, words: list[str]) -> int:
    """Untag and delete images, from left to right."""
    errors: list[FastboxError] = []
    for name in words:
        try:
            removed = app.engine.remove_image(name, force=values.force)
        except FastboxError as error:
            errors.append(error)
            continue
        for item in removed:
            output.line(f"{item.kind.capitalize()}: {item.what}")
    for failure in errors:
        output.error(message_of(failure))
    # With -f, what is not there needs no removing.
    fatal = [error for error in errors if not (values.force and isinstance(error, NotFound))]
    return 1 if fatal else 0


COMMAND = FlagCommand(
    "rmi",
    rmi,
    "IMAGE [IMAGE...]",
    (Flag("-f --force", Switch(), "Force removal of the image"),),
    least=1,
)
