"""``fastbox export``."""

from __future__ import annotations

import sys

from . import output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Text, Values


def export(app: App, values: Values, words: list[str]) -> int:
    """Write a container's files as a tar archive."""
    if values.output:
        _check(values.output)
        app.engine.export(words[0], values.output)
        return 0
    if output.is_terminal(sys.stdout):
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    app.engine.export(words[0], 1)
    return 0


def _check(path: str) -> None:
    """Before the container is looked for, as Docker's client does.

    Raises:
        CliError
    """
    from ..errors import InvalidArgument
    from ..image.sink import check_path

    try:
        check_path(path)
    except InvalidArgument as error:
        raise CliError(f"failed to export container: {error.message}", hint=error.hint) from error


COMMAND = FlagCommand(
    "export",
    export,
    "CONTAINER",
    (Flag("-o --output", Text(), "Write to a file, instead of STDOUT"),),
    least=1,
    most=1,
)
