"""``fastbox login``."""

from __future__ import annotations

import os
import sys
from typing import Any

from ..errors import AuthError, NotFound
from . import output, prompt
from .command import App, FlagCommand
from .errors import CliError
from .flags import Flag, Switch, Text, Values

_MAX_PASSWORD = 1 << 20


def login(app: App, values: Values, words: list[str]) -> int:
    """Check and keep the credentials for a registry."""
    server = words[0] if words else None
    _check(values)
    username, password = values.username or "", values.password or ""
    if values.password_stdin:
        password = _from_input()
    if not username and not password:
        done = _known(app, server)
        if done is not None:
            return _succeeded(done)
    if not username or not password:
        username, password = _ask(username, password)
    return _succeeded(app.engine.login(server, username=username, password=password))


def _check(values: Values) -> None:
    """What of the flags does not go together."""
    if values.password is not None:
        output.error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
        if values.password_stdin:
            raise CliError(
                "conflicting options: cannot specify both --password and --password-stdin"
            )
    if values.username == "":
        raise CliError("username is empty")
    if values.password == "":
        raise CliError("password is empty")
    if values.password_stdin and not values.username:
        raise CliError("the --password-stdin option requires --username to be set")


def _from_input() -> str:
    data = b"" if sys.stdin is None else sys.stdin.buffer.read(_MAX_PASSWORD)
    try:
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise CliError("the password on standard input is not UTF-8") from None
    if not text:
        raise CliError("password is empty")
    return text


def _known(app: App, server: str | None) -> Any:
    """Try what is kept already; None if there is nothing, or it is out of date."""
    try:
        done = app.engine.login(server)
    except NotFound:
        return None
    except AuthError as error:
        output.error(f"Login did not succeed, error: {error}")
        return None
    user = f" [Username: {done.username}]" if done.username else ""
    output.line(f"Authenticating with existing credentials...{user}")
    return done


def _ask(username: str, password: str) -> tuple[str, str]:
    if not (os.isatty(0) and output.is_terminal(sys.stdin)):
        raise CliError(
            "error: cannot perform an interactive login from a non-TTY device",
            hint="use --username with --password-stdin",
        )
    if not username:
        username = prompt.ask("Username: ").strip()
        if not username:
            raise CliError("error: non-null username required")
    if not password:
        password = prompt.ask_secret("Password: ")
        if not password:
            raise CliError("error: password required")
    return username, password


def _succeeded(done: Any) -> int:
    if done.plain:
        output.error(
            f"\nWARNING! Your credentials are stored unencrypted in '{done.place}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n"
        )
    output.line("Login Succeeded")
    return 0


COMMAND = FlagCommand(
    "login",
    login,
    "[SERVER]",
    (
        Flag("-p --password", Text(), "Password or Personal Access Token (PAT)"),
        Flag("--password-stdin", Switch(), "Take the Password or Personal Access Token from stdin"),
        Flag("-u --username", Text(), "Username"),
    ),
    most=1,
)
