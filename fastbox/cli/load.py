"""``fastbox load``."""

from __future__ import annotations

import os
import sys

from ..oci.reference import parse
from . import output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Text, Values
from .progress import Progress


def load(app: App, values: Values, words: list[str]) -> int:
    """Load images; a line for each name."""
    source = values.input or "-"
    if not values.input and output.is_terminal(sys.stdin):
        raise CliError("requested load from stdin, but stdin is empty")
    if values.input and not os.path.exists(values.input):
        raise CliError(f"open {values.input}: no such file or directory")
    quiet = values.quiet or not output.is_terminal(sys.stdout)
    with Progress(sys.stdout, quiet=quiet) as progress:
        results = app.engine.load(
            source, platform=values.platform or None, progress=progress.update
        )
    for result in results:
        if not result.name:
            output.line(f"Loaded image ID: {result.image.id}")
            continue
        name = parse(result.name).familiar
        if result.replaced:
            output.line(
                f"The image {name} already exists, renaming the old one with ID"
                f" {result.replaced} to empty string"
            )
        output.line(f"Loaded image: {name}")
    return 0


COMMAND = FlagCommand(
    "load",
    load,
    "",
    (
        Flag("-i --input", Text(), "Read from a tar archive file or a layout's directory"),
        Flag("--platform", Text(), "Load only the given platform of an image for several"),
        Flag("-q --quiet", Switch(), "Suppress the load output"),
    ),
    most=0,
)
