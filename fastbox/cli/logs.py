"""``fastbox logs``."""

from __future__ import annotations

import sys
from typing import IO

from . import gotext, output
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Text, Values
from .human import parse_moment


def logs(app: App, values: Values, words: list[str]) -> int:
    """Copy a container's output to where it went: stdout to stdout, stderr to stderr."""
    lines = app.engine.logs(
        words[0],
        follow=values.follow,
        tail=_tail(values.tail),
        since=_moment("since", values.since),
        until=_moment("until", values.until),
    )
    details = _details(app, words[0]) if values.details else b""
    # Whether the next piece of a stream begins a line.
    fresh = {"stdout": True, "stderr": True}
    streams: dict[str, IO[bytes] | None] = {
        "stdout": getattr(sys.stdout, "buffer", None),
        "stderr": getattr(sys.stderr, "buffer", None),
    }
    for line in lines:
        stream = streams[line.stream]
        if stream is None:
            continue
        data = line.data if line.partial else line.data + b"\n"
        if fresh[line.stream]:
            time = line.time.encode() + b" " if values.timestamps else b""
            data = time + details + data
        fresh[line.stream] = not line.partial
        # At once: a follower's reader wants each line now, and the two streams keep their order.
        output.copy(stream, data)
    output.write("")
    return 0


def _tail(text: str) -> int | None:
    """A number of lines; ``all``, and whatever is no number, means all."""
    try:
        count = gotext.parse_int(text, base=10)
    except ValueError:
        return None
    return count if count >= 0 else None


def _moment(name: str, text: str | None) -> float | None:
    if not text:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        raise CliError(f'invalid value for "{name}": {error}') from None


def _details(app: App, name: str) -> bytes:
    """What Docker prints before each line: the labels and variables that --log-opt chose."""
    from ..container import logging

    chosen = logging.details(app.engine.container(name).record)
    return ",".join(f"{key}={chosen[key]}" for key in sorted(chosen)).encode() + b" "


COMMAND = FlagCommand(
    "logs",
    logs,
    "CONTAINER",
    (
        Flag("--details", Switch(), "Show extra details provided to logs"),
        Flag("-f --follow", Switch(), "Follow log output"),
        Flag(
            "--since",
            Text(),
            'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for '
            "42 minutes)",
        ),
        Flag(
            "-n --tail",
            Text(),
            "Number of lines to show from the end of the logs",
            default="all",
        ),
        Flag("-t --timestamps", Switch(), "Show timestamps"),
        Flag(
            "--until",
            Text(),
            'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" '
            "for 42 minutes)",
        ),
    ),
    least=1,
    most=1,
)
