"""Foreign text in our messages: one line, nothing that a terminal would obey, not too long."""

from __future__ import annotations

_MOST = 300  # characters


def clean(text: str) -> str:
    """``text`` without line breaks, control and invisible characters, shortened."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _MOST]).split())
    return line if len(line) <= _MOST else line[:_MOST] + "…"
