"""``fastbox start``."""

from __future__ import annotations

from ..container.record import Status
from ..errors import Detached, FastboxError
from . import output, streams
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
    config = box.record.config
    # Standard input only for a container that was made with -i.
    interactive = values.interactive and config.interactive
    given = streams.descriptors(list(streams.NAMES), interactive=interactive)
    options = streams.terminal_options(values, config.tty)
    verb = app.engine.attach if box.state.status is Status.RUNNING else app.engine.run_attached
    from .signals import Forwarding

    with Forwarding(app.engine, box.id):
        try:
            status: int = verb(box.id, **given, **options)
        except Detached:
            return 0
    return status


COMMAND = FlagCommand(
    "start",
    start,
    "CONTAINER [CONTAINER...]",
    (
        Flag("-a --attach", Switch(), "Attach STDOUT/STDERR and forward signals"),
        streams.DETACH_KEYS,
        Flag("-i --interactive", Switch(), "Attach container's STDIN"),
    ),
    least=1,
)
