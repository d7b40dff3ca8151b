"""``fastbox ps``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..container import networks
from ..container.record import Status
from ..network import ports
from . import gotext, human, output
from .command import App, FlagCommand
from .errors import TemplateError
from .flags import Flag, Integer, Switch, Values
from .listing import FORMAT, filter_flag
from .tables import render, unescape

if TYPE_CHECKING:
    from ..container.record import Container

HEADERS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "HealthStatus": "HEALTH STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
TYPE = "*formatter.ContainerContext"
DEFAULT = "ID\tImage\tCommand\tRunningFor\tStatus\tPorts\tNames"


def ps(app: App, values: Values, words: list[str]) -> int:
    """List containers, newest first."""
    format = "" if values.quiet else values.format or ""
    uses_size = _check(format)
    last = 1 if values.latest and values.last < 0 else values.last
    boxes = app.engine.containers(
        all=values.all or last > 0, filters=values.filter or {}, size=values.size or uses_size
    )
    if last > 0:
        boxes = boxes[:last]
    if values.quiet:
        for box in boxes:
            output.line(box.id if values.no_trunc else box.short_id)
        return 0
    output.write(
        render(
            [row(box, trunc=not values.no_trunc) for box in boxes],
            format=format,
            default=DEFAULT + ("\tSize" if values.size else ""),
            headers=HEADERS,
            type_name=TYPE,
            problem="failed to execute template",
        )
    )
    return 0


def _check(format: str) -> bool:
    """Try a template before the engine is asked; whether it wants sizes, which cost time.

    Raises:
        TemplateError
    """
    if format in ("", "table", "json"):
        return False
    from . import template

    asked: set[str] = set()

    def note(field: str) -> Callable[..., str]:
        def make(*_: object) -> str:
            asked.add(field)
            return ""

        return make

    fields = {field: note(field) for field in (*HEADERS, "_Label")}
    try:
        template.parse(unescape(format)).execute(template.Row(fields, TYPE))
    except template.SyntaxProblem as error:
        raise TemplateError(f"failed to parse template: {error}") from None
    except template.ExecutionProblem as error:
        raise TemplateError(f"failed to execute template: {error}") from None
    return "Size" in asked


class _Line(Mapping[str, Callable[..., Any]]):
    """``FIELDS`` of one container; only what is asked for is made."""

    def __init__(self, box: Container, trunc: bool) -> None:
        self.box = box
        self.trunc = trunc

    def __getitem__(self, field: str) -> Callable[..., Any]:
        return partial(FIELDS[field], self.box, self.trunc)

    def __contains__(self, field: object) -> bool:
        return field in FIELDS

    def __iter__(self) -> Iterator[str]:
        return iter(FIELDS)

    def __len__(self) -> int:
        return len(FIELDS)


def row(box: Container, *, trunc: bool = True) -> Mapping[str, Callable[..., Any]]:
    """The fields of one line."""
    return _Line(box, trunc)


def _cut(text: str, width: int, trunc: bool) -> str:
    return human.ellipsis(text, width) if trunc else text


def command_line(box: Container) -> str:
    """Path and arguments; those with a space in quotes."""
    words = [f"'{word}'" if " " in word else word for word in box.record.args]
    return " ".join([box.record.path, *words])


def image_name(box: Container, trunc: bool) -> str:
    """As it was asked for; the id where that was an id."""
    name = box.record.config.image
    if not name:
        return "<no image>"
    digits = name.removeprefix("sha256:")
    if (
        trunc
        and len(digits) > 12
        and box.record.image_id.removeprefix("sha256:").startswith(digits)
    ):
        return digits[:12]
    return name


def size_text(box: Container) -> str:
    """``1.1kB (virtual 77.8MB)``."""
    if box.size_rw is None:
        return "0B"
    text = human.size(box.size_rw)
    if box.size_root:
        text += f" (virtual {human.size(box.size_root)})"
    return text


def status_text(box: Container) -> str:
    """``Up 3 seconds``, ``Exited (0) 5 minutes ago`` …"""
    state = box.state
    if state.status is Status.RUNNING:
        return f"Up {human.since(state.started_at)}{_health_text(box)}"
    if state.status is Status.PAUSED:
        return f"Up {human.since(state.started_at)} (Paused)"
    if state.status is Status.RESTARTING:
        return f"Restarting ({state.exit_code}) {human.ago(state.finished_at)}"
    if state.status is Status.REMOVING:
        return "Removal In Progress"
    if state.status is Status.DEAD:
        return "Dead"
    if state.status is Status.CREATED:
        return "Created"
    if not state.finished_at:  # nobody saw it
        return f"Exited ({state.exit_code})"
    return f"Exited ({state.exit_code}) {human.ago(state.finished_at)}"


def _health_text(box: Container) -> str:
    if box.state.health is None:
        return ""
    status = box.state.health.status
    return " (health: starting)" if status == "starting" else f" ({status})"


# Field -> its text, of a container and whether long texts are cut; ``_Label`` is a method.
FIELDS: dict[str, Callable[..., Any]] = {
    "Command": lambda box, trunc: gotext.quote(_cut(command_line(box), 20, trunc)),
    "CreatedAt": lambda box, trunc: human.local_time(box.record.created),
    "HealthStatus": lambda box, trunc: box.state.health.status if box.state.health else "",
    "ID": lambda box, trunc: box.short_id if trunc else box.id,
    "Image": image_name,
    "_Label": lambda box, trunc, name: box.record.labels.get(name, ""),
    "Labels": lambda box, trunc: ",".join(
        f"{key}={value}" for key, value in sorted(box.record.labels.items())
    ),
    "LocalVolumes": lambda box, trunc: str(
        sum(point.type == "volume" for point in box.record.mounts)
    ),
    "Mounts": lambda box, trunc: ",".join(
        _cut(point.name or point.source, 15, trunc) for point in box.record.mounts
    ),
    "Names": lambda box, trunc: box.name,
    "Networks": lambda box, trunc: ",".join(networks.names(box)),
    "Platform": lambda box, trunc: "",
    "Ports": lambda box, trunc: ports.displayed(networks.ports_of(box)),
    "RunningFor": lambda box, trunc: human.ago(box.record.created),
    "Size": lambda box, trunc: size_text(box),
    "State": lambda box, trunc: box.state.status.value,
    "Status": lambda box, trunc: status_text(box),
}


COMMAND = FlagCommand(
    "ps",
    ps,
    "",
    (
        Flag("-a --all", Switch(), "Show all containers (default shows just running)"),
        filter_flag("-f --filter", "Filter output based on conditions provided"),
        FORMAT,
        Flag(
            "-n --last",
            Integer(),
            "Show n last created containers (includes all states)",
            default=-1,
        ),
        Flag(
            "-l --latest",
            Switch(),
            "Show the latest created container (includes all states)",
        ),
        Flag("--no-trunc", Switch(), "Don't truncate output"),
        Flag("-q --quiet", Switch(), "Only display container IDs"),
        Flag("-s --size", Switch(), "Display total file sizes"),
    ),
    most=0,
)
