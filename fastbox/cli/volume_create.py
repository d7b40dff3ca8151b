"""``fastbox volume create``."""

from __future__ import annotations

from ..errors import InvalidArgument
from . import gotext, output, parse_env
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Mapping, Text, Texts, Values


def create(app: App, values: Values, words: list[str]) -> int:
    """Make a volume, or find the one of that name; print its name."""
    if words and values.volume_name:
        raise CliError(
            "conflicting options: cannot specify a volume-name through both --name and as a "
            "positional arg"
        )
    if values.driver not in ("", "local"):
        raise InvalidArgument(
            f"error looking up volume plugin {values.driver}: plugin {gotext.quote(values.driver)} "
            "not found",
            hint='"local" is the only volume driver',
        )
    name = words[0] if words else values.volume_name
    labels = parse_env.merged_labels([], values.label or [])
    volume = app.engine.create_volume(name or None, labels=labels, options=values.opt or {})
    output.line(volume.name)
    return 0


COMMAND = FlagCommand(
    "volume_create",
    create,
    "[VOLUME]",
    (
        Flag("-d --driver", Text(), "Specify volume driver name", default="local"),
        Flag("--label", Texts(parse_env.label), "Set metadata for a volume"),
        Flag("--name", Text(), hidden=True, dest="volume_name"),
        Flag("-o --opt", Mapping(), "Set driver specific options"),
    ),
    most=1,
)
