"""``fastbox run``."""

from __future__ import annotations

from . import output, run_options, streams
from .command import App, FlagCommand
from .create import create_container
from .errors import CliError
from .flags import Flag, Switch, Values


def run(app: App, values: Values, words: list[str]) -> int:
    """Create and start; in the foreground the container's exit status, else print its id."""
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
    ),
    least=1,
    interspersed=False,
    wraps=True,
)
