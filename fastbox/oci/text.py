"""Others' text: what goes into JSON and URLs is UTF-8, what is shown drives no terminal."""

from __future__ import annotations

from ..errors import InvalidArgument


def check(what: str, text: str) -> None:
    """Raises InvalidArgument if text has bytes of argv that are not UTF-8, or half a surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} is not UTF-8 text") from None


def printable(text: str) -> str:
    """On one line, with ``?`` for what a terminal would obey or not show."""
    return "".join(c if c.isprintable() else "?" for c in text)


def replaced(text: str) -> str:
    """With U+FFFD for what is not UTF-8, as Go's encoder has it."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
