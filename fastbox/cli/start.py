"""``fastbox start``."""

from __future__ import annotations

from ..container.record import Status
from ..errors import FastboxError
from . import output
from .command import App, FlagCommand
from .errors import CliError, message_of
from .flags import Flag, Switch, Values


def start(app: App, values: Values, words: list[str]) -> int:
    """Start containers in the background, or one attached."""
    if values.attach or values.interactive:
        return _attached(app, values, words)
    failed = []
    for name in words:
        try:
            app.engine.start(name)
        except FastboxError as error:
            output.error(message_of(error))
            failed.append(name)
        else:
            output.line(name)
    if failed:
        raise CliError(f"failed to start containers: {', '.join(failed)}")
    return 0


def _attached(app: App, values: Values, words: list[str]) -> int:
    if len(words) > 1:
        raise CliError("you cannot start and attach multiple containers at once")
    box = app.engine.container(words[0])
    if box.state.status is Status.RUNNING:
        raise CliError(
            f"container {words[0]} is running already, and attaching to it is not supported yet",
            hint=f"`fastbox logs -f {words[0]}` shows its output",
        )
    from .signals import Forwarding

    # Standard input only for a container that was made with -i.
    stdin = 0 if values.interactive and box.record.config.interactive else None
    with Forwarding(app.engine, box.id):
        status: int = app.engine.run_attached(box.id, stdin=stdin, stdout=1, stderr=2)
    return status


COMMAND = FlagCommand(
    "start",
    start,
    "CONTAINER [CONTAINER...]",
    (
        Flag("-a --attach", Switch(), "Attach STDOUT/STDERR and forward signals"),
        Flag("-i --interactive", Switch(), "Attach container's STDIN"),
    ),
    least=1,
)
