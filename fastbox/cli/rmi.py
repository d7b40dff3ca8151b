"""``fastbox rmi``."""

from __future__ import annotations

from ..errors import FastboxError, NotFound
from . import output
from .command import App, FlagCommand
from .errors import message_of
from .flags import Flag, Switch, Texts, Values


def rmi(app: App, values: Values, words: list[str]) -> int:
    """Untag and delete images, from left to right."""
    errors: list[FastboxError] = []
    platforms = [one for text in values.platform or () for one in text.split(",")]
    for name in words:
        try:
            removed = app.engine.remove_image(
                name,
                force=values.force,
                prune=not values.no_prune,
                platforms=platforms,
            )
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
    (
        Flag("-f --force", Switch(), "Force removal of the image"),
        Flag("--no-prune", Switch(), "Do not delete untagged parents"),
        Flag(
            "--platform",
            Texts(name="strings"),
            'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g.,'
            ' "linux/amd64")',
        ),
    ),
    least=1,
)
