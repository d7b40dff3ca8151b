"""``fastbox tag``."""

from __future__ import annotations

from . import gotext, references
from .command import App, FlagCommand
from .errors import CliError
from .flags import Values


def tag(app: App, values: Values, words: list[str]) -> int:
    """Give an image another name; prints nothing."""
    source, target = words
    try:
        reference = references.read(target)
    except CliError as error:
        quoted = gotext.quote(target)
        raise CliError(
            f"error parsing reference: {quoted} is not a valid repository/tag: {error}",
            hint=error.hint,
        ) from None
    if reference.digest:
        raise CliError("refusing to create a tag with a digest reference")
    app.engine.tag(source, target)
    return 0


COMMAND = FlagCommand("tag", tag, "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", least=2, most=2)
