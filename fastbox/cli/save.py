"""``fastbox save``."""

from __future__ import annotations

import sys

from . import output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Text, Values


def save(app: App, values: Values, words: list[str]) -> int:
    """Write images to an archive, or to standard output."""
    target: int | str = values.output or ""
    if not target:
        if output.is_terminal(sys.stdout):
            raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        if values.format == "oci-dir":
            raise CliError("oci-dir is a directory: name it with -o")
        target = 1
    app.engine.save(words, target, platform=values.platform or None, format=values.format or None)
    return 0


COMMAND = FlagCommand(
    "save",
    save,
    "IMAGE [IMAGE...]",
    (
        Flag(
            "--format",
            Text(),
            'Only "docker-archive", "oci-archive", or "oci-dir" (a directory); default: one archive'
            " that is both",
        ),
        Flag("-o --output", Text(), "Write to a file, instead of STDOUT"),
        Flag("--platform", Text(), "Save only the given platform of an image for several"),
    ),
    least=1,
)
