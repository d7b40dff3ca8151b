"""How a command ends early: usage errors in Docker's shapes, errors of the client's own, help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import FastboxError, InvalidArgument

if TYPE_CHECKING:
    import click


class CliError(InvalidArgument):
    """An error that the command found itself, without asking the engine: printed as it is.

    Args:
        exit_code: status of the command.
        run_exit_code: status of ``run``, whatever ``exit_code`` says.
        option: an option of ``create`` is at fault, which then ends as ``run`` would.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        exit_code: int = 1,
        run_exit_code: int = 125,
        option: bool = True,
    ) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code
        self.run_exit_code = run_exit_code
        self.option = option


class TemplateError(CliError):
    """A ``--format`` template is malformed or does not fit the data."""


class FlagError(CliError):
    """A flag is unknown or its value is not acceptable: printed with the command's usage line."""

    def __init__(self, message: str, ctx: click.Context) -> None:
        super().__init__(message, exit_code=125)
        self.ctx = ctx


class ArgumentCount(CliError):
    """Too few or too many arguments."""

    def __init__(self, message: str, ctx: click.Context) -> None:
        super().__init__(message)
        self.ctx = ctx


class UnknownCommand(CliError):
    """``fastbox foo``, ``fastbox volume foo``."""

    def __init__(self, message: str, ctx: click.Context) -> None:
        super().__init__(message)
        self.ctx = ctx


class Finished(Exception):
    """Nothing is left to do; ends the command with ``status``, printing nothing more."""

    def __init__(self, status: int = 0) -> None:
        super().__init__(status)
        self.status = status


def message_of(error: FastboxError) -> str:
    """``Error: what happened``; what the command found itself goes without ``Error:``."""
    text = str(error) if isinstance(error, CliError) else f"Error: {error}"
    return f"{text}\nhint: {error.hint}" if error.hint else text
