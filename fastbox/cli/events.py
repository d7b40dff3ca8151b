"""``fastbox events``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from . import human, output
from .command import App, FlagCommand
from .errors import TemplateError
from .flags import Flag, Text, Values
from .inspecting import FORMAT as INSPECT_FORMAT
from .inspecting import SYNTAX_ERROR
from .listing import filter_flag

if TYPE_CHECKING:
    from ..events.event import Event
    from .template import Row

FORMAT = Flag("--format", Text(), INSPECT_FORMAT.help or "")


def events(app: App, values: Values, words: list[str]) -> int:
    """Print events as they happen, one a line, each at once."""
    show = _formatter(values.format or "")
    with app.engine.events(
        values.since or None, values.until or None, values.filter or {}
    ) as found:
        for event in found:
            output.line(show(event))
    return 0


def _formatter(format: str) -> Any:
    """What makes a line of an event.

    Raises:
        TemplateError: a template that is malformed, or asks for what no event has.
    """
    if not format:
        return line
    if format == "json":
        from .template_functions import to_json

        return lambda event: to_json(event.to_docker())
    from ..events.event import Event
    from . import template

    try:
        parsed = template.parse(format)
        parsed.execute(row(Event(type="", action="", id="")))
    except (template.SyntaxProblem, template.ExecutionProblem) as error:
        raise TemplateError(f"Error parsing format: {error}", exit_code=SYNTAX_ERROR) from None

    def fill(event: Event) -> str:
        try:
            return parsed.execute(row(event))
        except template.ExecutionProblem as error:
            raise TemplateError(str(error)) from None

    return fill


def line(event: Event) -> str:
    """``2017-01-05T00:35:58.859401177+08:00 container create ID (image=redis, name=web)``."""
    text = f"{_time(event.time_ns)} {event.type} {event.action} {event.id}"
    if event.attributes:
        pairs = [f"{key}={event.attributes[key]}" for key in sorted(event.attributes)]
        text += f" ({', '.join(pairs)})"
    return human.visible(text)  # a label's, too


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:5]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{rest:09d}{zone}"


def row(event: Event) -> Row:
    """The event for a template: Go's names of the fields; as JSON, Docker's."""
    from . import template

    message = event.to_docker()

    class Attributes(dict[str, str]):
        """A map whose other keys have no value, instead of being an error."""

        def __contains__(self, key: object) -> bool:
            return True

        def __missing__(self, key: str) -> None:
            return None

    class Message(template.Row):
        def plain(self) -> Any:
            return message

    actor = message["Actor"]
    fields = {
        "Status": lambda: message.get("status", ""),
        "ID": lambda: message.get("id", ""),
        "From": lambda: message.get("from", ""),
        "Type": lambda: event.type,
        "Action": lambda: event.action,
        "Actor": lambda: {"ID": event.id, "Attributes": Attributes(actor["Attributes"])},
        "Scope": lambda: event.scope,
        "Time": lambda: message["time"],
        "TimeNano": lambda: event.time_ns,
    }
    return Message(fields, "*events.Message")


COMMAND = FlagCommand(
    "events",
    events,
    "",
    (
        filter_flag("-f --filter", "Filter output based on conditions provided"),
        FORMAT,
        Flag("--since", Text(), "Show all events created since timestamp"),
        Flag("--until", Text(), "Stream events until this timestamp"),
    ),
    most=0,
)
