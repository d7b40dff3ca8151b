"""``fastbox exec``."""

from __future__ import annotations

from ..errors import Detached, FastboxError
from . import output, parse_env, streams
from .command import App, FlagCommand
from .errors import message_of
from .flags import Flag, Switch, Text, Texts, Values


def exec_(app: App, values: Values, words: list[str]) -> int:
    """Run a command in a running container; its exit status."""
    env = parse_env.merged_variables(values.env_file or [], values.env or [])
    names = [] if values.detach else list(streams.NAMES)
    given = streams.descriptors(names, interactive=values.interactive)
    streams.check_terminal(values.tty, given["stdin"])
    options = streams.terminal_options(values, values.tty)
    try:
        status: int = app.engine.exec(
            words[0],
            words[1:],
            env=env,
            workdir=values.workdir or None,
            user=values.user or None,
            privileged=values.privileged,
            detach=values.detach,
            **({"tty": True} if values.tty else {}),
            **given,
            **options,
        )
    except Detached:
        raise streams.left() from None
    except FastboxError as error:
        # The command is missing or cannot be executed.
        if error.run_exit_code not in (126, 127):
            raise
        output.error(message_of(error))
        return error.run_exit_code
    return status


COMMAND = FlagCommand(
    "exec",
    exec_,
    "CONTAINER COMMAND [ARG...]",
    (
        Flag("-d --detach", Switch(), "Detached mode: run command in the background"),
        streams.DETACH_KEYS,
        Flag("-e --env", Texts(parse_env.variable), "Set environment variables"),
        Flag("--env-file", Texts(), "Read in a file of environment variables"),
        Flag("-i --interactive", Switch(), "Keep STDIN open even if not attached"),
        Flag("--privileged", Switch(), "Give extended privileges to the command"),
        Flag("-t --tty", Switch(), "Allocate a pseudo-TTY"),
        Flag("-u --user", Text(), 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
        Flag("-w --workdir", Text(), "Working directory inside the container"),
    ),
    least=2,
    interspersed=False,
)
