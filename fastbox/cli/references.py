"""Image names on the command line."""

from __future__ import annotations

from ..errors import InvalidArgument
from ..oci.reference import Reference, parse
from .errors import CliError


def read(text: str) -> Reference:
    """Parse a name. Docker's client finds malformed ones itself, without asking the engine.

    Raises:
        CliError: ``invalid reference format`` …
    """
    try:
        return parse(text)
    except InvalidArgument as error:
        raise CliError(str(error), hint=error.hint, option=False) from None


def check_image(text: str) -> None:
    """The image of ``run``: a name, or an id of any form.

    Raises:
        CliError
    """
    digits = text.removeprefix("sha256:")
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        read(text)
