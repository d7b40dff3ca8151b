"""``fastbox commit``."""

from __future__ import annotations

from . import output, references
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Text, Texts, Values


def commit(app: App, values: Values, words: list[str]) -> int:
    """Make an image of a container's changes; print its id."""
    name = words[1] if len(words) > 1 else None
    if {"pause", "no_pause"} <= values.given:
        raise CliError(
            "conflicting options: --no-pause and --pause cannot be used together", option=False
        )
    if name and references.read(name).digest:
        raise CliError("refusing to create a tag with a digest reference", option=False)
    image = app.engine.commit(
        words[0],
        name,
        message=values.message or "",
        author=values.author or "",
        changes=values.change or [],
        pause=values.pause and not values.no_pause,
    )
    output.line(image.id)
    return 0


COMMAND = FlagCommand(
    "commit",
    commit,
    "CONTAINER [REPOSITORY[:TAG]]",
    (
        Flag("-a --author", Text(), 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        Flag("-c --change", Texts(), "Apply Dockerfile instruction to the created image"),
        Flag("-m --message", Text(), "Commit message"),
        Flag("--no-pause", Switch(), "Disable pausing container during commit"),
        Flag("-p --pause", Switch(), "Pause container during commit", default=True),
    ),
    least=1,
    most=2,
)
