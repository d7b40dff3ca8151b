"""``fastbox attach``."""

from __future__ import annotations

from ..errors import Conflict, Detached
from . import streams
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Values


def attach(app: App, values: Values, words: list[str]) -> int:
    """Connect to a running container's streams; the container's exit status."""
    box = app.engine.container(words[0])
    from .signals import Forwarding

    config = box.record.config
    given = streams.descriptors(
        list(streams.NAMES), interactive=config.interactive and not values.no_stdin
    )
    if box.state.status.is_up:
        streams.check_terminal(config.tty, given["stdin"])
    options = streams.terminal_options(values, config.tty)
    proxied = values.sig_proxy and not config.tty
    with Forwarding(app.engine, box.id, enabled=proxied):
        try:
            status: int = app.engine.attach(box.id, **given, **options)
        except Detached:
            raise streams.left() from None
        except Conflict as error:
            raise CliError(error.message, hint=error.hint) from error
    return status


COMMAND = FlagCommand(
    "attach",
    attach,
    "CONTAINER",
    (
        streams.DETACH_KEYS,
        Flag("--no-stdin", Switch(), "Do not attach STDIN"),
        Flag("--sig-proxy", Switch(), "Proxy all received signals to the process", default=True),
    ),
    least=1,
    most=1,
)
