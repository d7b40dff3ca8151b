"""``fastbox run``."""

from __future__ import annotations

from . import output, run_options
from .command import App, FlagCommand
from .create import create_container
from .flags import Flag, Switch, Values


def run(app: App, values: Values, words: list[str]) -> int:
    """Create and start; in the foreground the container's exit status, else print its id."""
    box = create_container(app, values, words, transient=True)
    if values.detach:
        try:
            app.engine.start(box.id)
        finally:
            # Also when it could not be started: it is there, unless --rm was given.
            output.line(box.id)
        return 0
    from .signals import Forwarding

    with Forwarding(app.engine, box.id, enabled=values.sig_proxy):
        status: int = app.engine.run_attached(
            box.id, stdin=0 if values.interactive else None, stdout=1, stderr=2
        )
    return status


COMMAND = FlagCommand(
    "run",
    run,
    "IMAGE [COMMAND] [ARG...]",
    (
        *run_options.FLAGS,
        Flag("-d --detach", Switch(), "Run container in background and print container ID"),
        Flag("--sig-proxy", Switch(), "Proxy received signals to the process", default=True),
    ),
    least=1,
    interspersed=False,
    wraps=True,
)
