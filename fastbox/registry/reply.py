"""Error answers of registries and token services (distribution-spec "Error Codes") as text."""

from __future__ import annotations

import msgspec

from ..errors import AuthError, RegistryError
from . import hosts
from .retry import RETRIED_STATUS, Transient, parse_retry_after
from .text import clean
from .transport import Response

MAX_ERROR_BODY = 1024 * 1024
LOGIN_HINT = (
    "there is no 'fastbox login' yet: credentials are read from docker's config.json"
    " (docker login, skopeo login)"
)


class _Item(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Errors(msgspec.Struct):
    errors: list[_Item] = []
    # Token services have their own habits.
    error: str = ""
    details: str = ""
    message: str = ""


class Failure(msgspec.Struct, frozen=True):
    """What an error answer says; ``text`` is Docker's ``code: message``, safe to print."""

    status: int
    code: str = ""
    text: str = ""


def read(response: Response) -> Failure:
    """Read and close an error answer.

    Raises:
        Transient: the body did not come.
        RegistryError: it is endless.
    """
    with response:
        data = response.read_all(MAX_ERROR_BODY, "an error message")
    status = response.status
    try:
        document = msgspec.json.decode(data, type=_Errors)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Failure(status, "", f"HTTP status {status}")
    if document.errors:
        first = document.errors[0]
        code = first.code.lower().replace("_", " ")
        message = clean(first.message) or code
        return Failure(status, clean(first.code), f"{clean(code)}: {message}" if code else message)
    message = clean(document.details or document.message or document.error)
    return Failure(status, "", message or f"HTTP status {status}")


def transient(response: Response, what: str) -> Transient | None:
    """The failure to retry that this answer is, read and closed; None if it is no such thing.

    Args:
        what: what was being done, ``"fetching the manifest of redis:latest"``.
    """
    if response.status not in RETRIED_STATUS:
        return None
    wait = parse_retry_after(response.headers.get("Retry-After"))
    failure = read(response)
    host = hosts.origin(response.url)
    busy = failure.status == 429
    error = RegistryError(
        f"{what} failed: {host} answers {failure.text}"
        + ("" if str(failure.status) in failure.text else f" (HTTP status {failure.status})"),
        hint="the registry limits requests; wait, or use credentials" if busy else None,
        status=failure.status,
    )
    return Transient(error, retry_after=wait, busy=busy)


def final(failure: Failure, host: object, what: str) -> RegistryError:
    """The error for an answer that nothing can be done about."""
    kind = AuthError if failure.status in (401, 403) else RegistryError
    text = failure.text
    if str(failure.status) not in text:
        text += f" (HTTP status {failure.status})"
    return kind(f"{what} failed: {host} answers {text}", status=failure.status)


def denied(name: str, text: str, status: int, note: str | None = None) -> AuthError:
    """Docker's error for a repository that is private or absent: registries do not tell which.

    Args:
        note: why there were no credentials, as hint.
    """
    return AuthError(
        f"pull access denied for {name}, repository does not exist or may require"
        f" 'docker login': {text}",
        hint=note or LOGIN_HINT,
        status=status,
    )
