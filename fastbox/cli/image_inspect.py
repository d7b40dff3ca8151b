"""``fastbox image inspect``."""

from __future__ import annotations

from typing import Any

from .command import App, FlagCommand
from .flags import Flag, Text, Values
from .inspecting import FORMAT, show


def inspect(app: App, values: Values, words: list[str]) -> int:
    """Print images as JSON."""

    def find(name: str) -> Any:
        if values.platform:
            app.engine.check_platform(name, values.platform)
        return app.engine.inspect_image(name)

    return show(words, find, values.format)


COMMAND = FlagCommand(
    "image_inspect",
    inspect,
    "IMAGE [IMAGE...]",
    (
        FORMAT,
        Flag("--platform", Text(), "Inspect a specific platform of the multi-platform image"),
    ),
    least=1,
)
