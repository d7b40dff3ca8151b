"""``fastbox volume ls``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import output
from .command import App, FlagCommand
from .flags import Flag, Switch, Values
from .listing import FORMAT, filter_flag
from .tables import render

if TYPE_CHECKING:
    from ..image.types import Volume

HEADERS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}


def ls(app: App, values: Values, words: list[str]) -> int:
    """List volumes by name."""
    volumes = app.engine.volumes(filters=values.filter or {})
    if values.quiet:
        output.write("".join(volume.name + "\n" for volume in volumes))
        return 0
    output.write(
        render(
            [row(volume) for volume in volumes],
            format=values.format or "",
            default="Driver\tName",
            headers=HEADERS,
            type_name="*formatter.volumeContext",
        )
    )
    return 0


def row(volume: Volume) -> dict[str, Callable[..., Any]]:
    """The fields of one line."""
    return {
        "Availability": lambda: "N/A",
        "Driver": lambda: volume.driver,
        "Group": lambda: "N/A",
        "_Label": lambda name: volume.labels.get(name, ""),
        "Labels": lambda: ",".join(f"{key}={value}" for key, value in volume.labels.items()),
        "Links": lambda: "N/A",
        "Mountpoint": lambda: volume.mountpoint,
        "Name": lambda: volume.name,
        "Scope": lambda: "local",
        "Size": lambda: "N/A",
        "Status": lambda: "N/A",
    }


COMMAND = FlagCommand(
    "volume_ls",
    ls,
    "",
    (
        filter_flag("-f --filter", 'Provide filter values (e.g. "dangling=true")'),
        FORMAT,
        Flag("-q --quiet", Switch(), "Only display volume names"),
    ),
    most=0,
)
