"""The entry point: argv in, exit status out, every error as Docker shapes it."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

from ..errors import FastboxError
from . import output
from .errors import ArgumentCount, CliError, Finished, FlagError, UnknownCommand, message_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .command import App

INTERRUPTED = 130
mistakes = 0  # of ours, in this process; see ``serving``
BROKEN_PIPE = 141  # 128 + SIGPIPE, as a program in C ends


def main(
    argv: list[str] | None = None,
    *,
    engine: Any = None,
    engines: Callable[..., Any] | None = None,
) -> int:
    """Run one command line.

    Args:
        argv: arguments without the program's name; None = ``sys.argv[1:]``.
        engine, engines: see ``App``.

    Returns:
        The exit status.
    """
    _occupy_standard_streams()
    if argv is None:
        # A process of our own, most often a short one: going through what it has imported for
        # garbage takes 4 ms of a `run`.
        gc.set_threshold(50_000, 20, 100)
    from .command import App, Program

    app = App(engine, engines)
    try:
        return _run(app, Program(), sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _broken_pipe()


def _run(app: App, program: Any, words: list[str]) -> int:
    try:
        with program.make_context("fastbox", list(words), obj=app) as ctx:
            status: int = program.invoke(ctx)
            return status
    except Finished as finished:
        return finished.status
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except FastboxError as error:
        return _report(error, app)
    except OSError as error:
        return _report(_from_system(error), app)
    except Exception as error:  # a mistake of ours: one line all the same
        global mistakes
        mistakes += 1
        bug = FastboxError(
            f"internal error: {type(error).__name__}: {error}",
            hint="this is a bug in fastbox; --debug shows where it happened",
        )
        return _report(bug, app)


def _report(error: FastboxError, app: App) -> int:
    """Print an error; the exit status that goes with it."""
    if isinstance(error, FlagError):
        output.error(_with_usage(error, error.ctx))
        return error.exit_code
    if isinstance(error, (ArgumentCount, UnknownCommand)):
        output.error("fastbox: " + _with_usage(error, error.ctx))
        return error.exit_code
    if app.debug:
        import traceback

        traceback.print_exc()
    if app.wraps == "run" or (app.wraps and isinstance(error, CliError) and error.option):
        output.error(
            f"fastbox: {message_of(error)}\n\nRun 'fastbox {app.wraps} --help' for more information"
        )
        return error.run_exit_code
    output.error(message_of(error))
    return error.exit_code


def _with_usage(error: FlagError | ArgumentCount | UnknownCommand, ctx: Any) -> str:
    least_only = " at least " in str(error) and " at most " not in str(error)
    verb = "See" if isinstance(error, ArgumentCount) and least_only else "Run"
    pointer = f"{verb} '{ctx.command_path} --help' for more information"
    if ctx.parent is None:
        if isinstance(error, UnknownCommand):
            return f"{error}\n\n{pointer}"
        return f"{error}\n\nUsage:  {ctx.command.get_usage(ctx)} [ARG...]\n\n{pointer}"
    return f"{error}\n\nUsage:  {ctx.command.get_usage(ctx)}\n\n{pointer}"


def _from_system(error: OSError) -> FastboxError:
    """A failed system call that nobody put into words (a full disk under our own output …)."""
    what = error.strerror or str(error)
    path = f"{error.filename}: " if error.filename else ""
    return FastboxError(f"{path}{what}")


def _broken_pipe() -> int:
    """Who read our output has gone (``fastbox ps | head -1``): no message, and none at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream, fd in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(null, fd)
    os.close(null)
    return BROKEN_PIPE


def _occupy_standard_streams() -> None:
    """Put /dev/null where a standard descriptor is closed, so that no file of ours gets its number
    and a container's output never goes into a file of the store."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is fd
