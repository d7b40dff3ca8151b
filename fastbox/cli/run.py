"""``fastbox run``."""

from __future__ import annotations

from .. import tracing
from ..errors import FastboxError
from . import output, run_options, streams
from .command import App, FlagCommand
from .create import create_container
from .errors import CliError
from .flags import Flag, Switch, Text, Values


def run(app: App, values: Values, words: list[str]) -> int:
    """Create and start; in the foreground the container's exit status, else print its id."""
    return _run(app, values, words) if values.trace is None else _traced(app, values, words)


def _traced(app: App, values: Values, words: list[str]) -> int:
    """The same, with a trace of it; when that cannot be written, the status is still the run's."""
    status = None
    try:
        with tracing.Trace(values.trace, began=app.began):
            status = _run(app, values, words)
    except FastboxError as error:
        if status is None:
            raise
        output.error(f"WARNING: {error}")
    return status


def _run(app: App, values: Values, words: list[str]) -> int:
    if values.detach:
        return _detached(app, values, words)
    given = streams.descriptors(streams.attached(values), interactive=values.interactive)
    app.wraps = ""  # these are told as Docker tells them
    streams.check_terminal(values.tty, given["stdin"])
    app.wraps = "run"
    options = streams.terminal_options(values, values.tty)
    box = create_container(app, values, words, transient=True)
    if given["stdout"] is None and given["stderr"] is None:
        output.line(box.id)
    from ..errors import Detached
    from .signals import Forwarding

    with Forwarding(app.engine, box.id, enabled=values.sig_proxy):
        try:
            status: int = app.engine.run_attached(box.id, **given, **options)
        except Detached:
            return 0
    return status


def _detached(app: App, values: Values, words: list[str]) -> int:
    if values.attach:
        app.wraps = ""
        raise CliError("conflicting options: cannot specify both --attach and --detach")
    box = create_container(app, values, words, transient=True)
    try:
        app.engine.start(box.id)
    finally:
        # Also when it could not be started: it is there, unless --rm was given.
        output.line(box.id)
    return 0


COMMAND = FlagCommand(
    "run",
    run,
    "IMAGE [COMMAND] [ARG...]",
    (
        *run_options.FLAGS,
        Flag("-d --detach", Switch(), "Run container in background and print container ID"),
        streams.DETACH_KEYS,
        Flag("--sig-proxy", Switch(), "Proxy received signals to the process", default=True),
        Flag("--trace", Text(), "Write where the time went to a file (Chrome trace format)"),
    ),
    least=1,
    interspersed=False,
    wraps=True,
)
