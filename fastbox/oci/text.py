"""Text that goes into JSON and URLs, which are UTF-8."""

from __future__ import annotations

from ..errors import InvalidArgument


def check(what: str, text: str) -> None:
    """Raises InvalidArgument if text has bytes of argv that are not UTF-8, or half a surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} is not UTF-8 text") from None


def replaced(text: str) -> str:
    """With U+FFFD for what is not UTF-8, as Go's encoder has it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
