"""``fastbox image inspect``."""

from __future__ import annotations

from .command import App, FlagCommand
from .flags import Values
from .inspecting import FORMAT, show


def inspect(app: App, values: Values, words: list[str]) -> int:
    """Print images as JSON."""
    return show(words, app.engine.inspect_image, values.format)


COMMAND = FlagCommand("image_inspect", inspect, "IMAGE [IMAGE...]", (FORMAT,), least=1)
