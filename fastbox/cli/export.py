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
        from ..container.export import check_output
        from ..errors import InvalidArgument

        try:
            check_output(values.output)
        except InvalidArgument as error:
            raise CliError(
                f"failed to export container: {error.message}", hint=error.hint
            ) from error
        app.engine.export(words[0], values.output)
        return 0
    if output.is_terminal(sys.stdout):
        raise CliError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    app.engine.export(words[0], 1)
    return 0


COMMAND = FlagCommand(
    "export",
    export,
    "CONTAINER",
    (Flag("-o --output", Text(), "Write to a file, instead of STDOUT"),),
    least=1,
    most=1,
)
