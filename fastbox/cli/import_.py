"""``fastbox import``."""

from __future__ import annotations

from . import output, references
from .command import App, FlagCommand
from .flags import Flag, Text, Texts, Values


def import_(app: App, values: Values, words: list[str]) -> int:
    """Make an image of a root filesystem's tar; print its id."""
    name = words[1] if len(words) > 1 else None
    if name is not None:
        references.read(name)
    image = app.engine.import_image(
        words[0],
        name,
        changes=values.change or [],
        message=values.message or "",
        platform=values.platform or None,
    )
    output.line(image.id)
    return 0


COMMAND = FlagCommand(
    "import_",
    import_,
    "file|URL|- [REPOSITORY[:TAG]]",
    (
        Flag("-c --change", Texts(), "Apply Dockerfile instruction to the created image"),
        Flag("-m --message", Text(), "Set commit message for imported image"),
        Flag("--platform", Text(), "Set the image's platform"),
    ),
    least=1,
    most=2,
)
