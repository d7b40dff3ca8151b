"""``fastbox bootstrap``: an image without any registry."""

from __future__ import annotations

from . import output, references
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Kind, Switch, Text, Texts, Values


class _Packages(Kind):
    """``a,b``, several times."""

    name = "list"

    def add(self, old: list[str] | None, text: str) -> list[str]:
        return [*(old or ()), *(word for word in text.replace(" ", ",").split(",") if word)]


def bootstrap(app: App, values: Values, words: list[str]) -> int:
    """Assemble an image; print its id. What mmdebstrap says goes to standard error."""
    if not values.tag:
        raise CliError("no name for the image", hint="give one with -t NAME")
    references.read(values.tag)
    image = app.engine.bootstrap(
        values.tag,
        include=values.include or [],
        suite=values.suite or None,
        changes=values.change or [],
        variant=values.variant,
        output=None if values.quiet else output.error,
    )
    output.line(image.id)
    return 0


COMMAND = FlagCommand(
    "bootstrap",
    bootstrap,
    "",
    (
        Flag("-c --change", Texts(), "Apply Dockerfile instruction to the created image"),
        Flag("--include", _Packages(), "Packages to install, separated by commas"),
        Flag("-q --quiet", Switch(), "Suppress verbose output"),
        Flag("--suite", Text(), "Release of the distribution (default: this system's)"),
        Flag("-t --tag", Text(), "Name of the image"),
        Flag("--variant", Text(), "Which packages to begin with", default="minbase"),
    ),
    most=0,
)
