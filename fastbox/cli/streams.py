"""What the commands that attach have in common: which streams, the terminal, the detach keys."""

from __future__ import annotations

import os
from typing import Any

from .errors import CliError
from .flags import Flag, Text, Values

NAMES = ("stdin", "stdout", "stderr")
DETACH_KEYS = Flag("--detach-keys", Text(), "Override the key sequence for detaching a container")


def stream(text: str) -> str:
    """One value of ``-a/--attach``.

    Raises:
        ValueError
    """
    name = text.lower()
    if name not in NAMES:
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return name


def attached(values: Values) -> list[str]:
    """The streams that ``run`` and ``create`` attach, in the order of their numbers."""
    chosen = set(values.attach or ())
    if not chosen and not getattr(values, "detach", False):
        chosen = {"stdout", "stderr", *(["stdin"] if values.interactive else [])}
    return [name for name in NAMES if name in chosen]


def descriptors(names: list[str], *, interactive: bool) -> dict[str, int | None]:
    """This process's standard streams, as arguments of the engine's attaching verbs."""
    wanted = {name for name in names if name != "stdin" or interactive}
    return {name: number if name in wanted else None for number, name in enumerate(NAMES)}


def check_terminal(tty: bool, stdin: int | None) -> None:
    """Keys can only come from a terminal.

    Raises:
        CliError
    """
    if tty and stdin is not None and not os.isatty(stdin):
        raise CliError("the input device is not a TTY", run_exit_code=1, option=False)


def terminal_options(values: Values, tty: bool) -> dict[str, Any]:
    """The detach keys, where there is a terminal: the flag's, else Docker's ``detachKeys``, else
    ``ctrl-p,ctrl-q``.

    Raises:
        InvalidArgument: they are no keys.
    """
    from ..container import detach

    text = values.detach_keys or ""
    if text:
        detach.parse(text)  # also without a terminal: a bad value is told
    return {"detach_keys": text or _configured() or detach.DEFAULT} if tty else {}


def _configured() -> str:
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    try:
        with open(os.path.join(directory, "config.json"), "rb") as file:
            data = file.read(1 << 20)
    except OSError:
        return ""
    import orjson

    try:
        config = orjson.loads(data)
    except ValueError:
        return ""  # whoever needs it says so
    keys = config.get("detachKeys") if isinstance(config, dict) else None
    return keys if isinstance(keys, str) else ""


def left() -> CliError:
    """What ``attach`` and ``exec`` end with when the user has detached."""
    return CliError("read escape sequence")
