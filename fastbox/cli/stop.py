"""``fastbox stop``."""

from __future__ import annotations

from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Integer, Text, Values
from .several import each


def stop(app: App, values: Values, words: list[str]) -> int:
    """Stop containers, all at the same time."""
    timeout = seconds(values)

    def act(name: str) -> str:
        app.engine.stop(name, timeout=timeout, signal=values.signal or None)
        return name

    return each(words, act, parallel=True)


def seconds(values: Values) -> int | None:
    """The time that a container has to end; None is its own."""
    if "timeout" in values.given and "time" in values.given:
        raise CliError("conflicting options: cannot specify both --timeout and --time")
    timeout: int | None = values.timeout if "timeout" in values.given else values.time
    return timeout


FLAGS = (
    Flag("-s --signal", Text(), "Signal to send to the container"),
    Flag("-t --timeout", Integer(), "Seconds to wait before killing the container"),
    Flag("--time", Integer(), deprecated="use --timeout instead"),
)
COMMAND = FlagCommand("stop", stop, "CONTAINER [CONTAINER...]", FLAGS, least=1)
