"""``fastbox inspect``: containers, images, networks and volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import InvalidArgument, NotFound
from . import gotext
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Text, Values
from .inspecting import FORMAT, missing, show


def inspect(app: App, values: Values, words: list[str]) -> int:
    """Print objects as JSON; a name may be that of a container, an image, a network or a volume."""
    kinds = _kinds(app, values.size)
    if values.type:
        if values.type not in kinds:
            known = ", ".join(gotext.quote(kind) for kind in kinds)
            raise CliError(f"unknown type: {gotext.quote(values.type)}: must be one of {known}")
        kinds = {values.type: kinds[values.type]}

    def find(name: str) -> Any:
        for kind, look_up in kinds.items():
            try:
                return look_up(name)
            except NotFound:
                if values.type:
                    raise
            except InvalidArgument:
                # "Foo" is no image's name, but may be a volume's.
                if values.type or kind == "container":
                    raise
        raise missing(name)

    return show(words, find, values.format)


def _kinds(app: App, size: bool) -> dict[str, Callable[[str], Any]]:
    """In the order in which they are tried."""
    return {
        "container": lambda name: app.engine.inspect_container(name, size=size),
        "image": app.engine.inspect_image,
        "network": app.engine.inspect_network,
        "volume": app.engine.inspect_volume,
    }


COMMAND = FlagCommand(
    "inspect",
    inspect,
    "NAME|ID [NAME|ID...]",
    (
        FORMAT,
        Flag("-s --size", Switch(), "Display total file sizes if the type is container"),
        Flag("--type", Text(), "Only inspect objects of the given type"),
    ),
    least=1,
)
