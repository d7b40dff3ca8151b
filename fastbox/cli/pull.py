"""``fastbox pull``."""

from __future__ import annotations

import os
import sys

from . import output, references
from .command import App, FlagCommand
from .flags import Flag, Switch, Text, Values
from .progress import Progress


def pull(app: App, values: Values, words: list[str]) -> int:
    """Download an image; its full name is the last line."""
    reference = references.read(words[0])
    if not values.quiet:
        if reference.tag is None and reference.digest is None:
            output.line(f"Using default tag: {reference.tag_or_default}")
        what = reference.digest or reference.tag_or_default
        output.line(f"{what}: Pulling from {reference.path}")
    platform = values.platform or os.environ.get("DOCKER_DEFAULT_PLATFORM") or None
    with Progress(sys.stdout, quiet=values.quiet) as progress:
        result = app.engine.pull(words[0], platform=platform, progress=progress.update)
    if not values.quiet:
        progress.summary(result)
    output.line(reference.tagged().canonical)
    return 0


COMMAND = FlagCommand(
    "pull",
    pull,
    "NAME[:TAG|@DIGEST]",
    (
        Flag("--platform", Text(), "Set platform if the image is for several"),
        Flag("-q --quiet", Switch(), "Suppress verbose output"),
    ),
    least=1,
    most=1,
)
