"""Error answers of registries and token services (distribution-spec "Error Codes") as text."""

from __future__ import annotations

import msgspec

from ..errors import AuthError, RegistryError
from . import hosts
from .retry import RETRIED_STATUS, Transient, parse_retry_after
from .text import clean
from .transport import Response

MAX_ERROR_BODY = 1024 * 1024
_MOST_ITEMS = 1000


class _Item(msgspec.Struct):
    code: str = ""
    message: str = ""
    detail: msgspec.Raw = msgspec.Raw()


class _Errors(msgspec.Struct):
    errors: list[_Item] = []
    # Token services have their own habits.
    error: str = ""
    details: str = ""
    message: str = ""


# Made with the module: two threads must not be the first to use a type at the same time.
_errors_decoder: msgspec.json.Decoder[_Errors] = msgspec.json.Decoder(_Errors)


class Failure(msgspec.Struct, frozen=True):
    """What an error answer says; ``text`` is Docker's ``code: message``, safe to print.

    Attributes:
        digests: those that the details of all errors with the first one's code name.
    """

    status: int
    code: str = ""
    text: str = ""
    digests: list[str] = []


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
        document = _errors_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Failure(status, "", f"HTTP status {status}")
    if document.errors:
        first = document.errors[0]
        code = first.code.lower().replace("_", " ")
        message = clean(first.message) or code
        text = f"{clean(code)}: {message}" if code else message
        items = [item for item in document.errors[:_MOST_ITEMS] if item.code == first.code]
        named = [digest for item in items for digest in _digests_in(bytes(item.detail))]
        return Failure(status, clean(first.code), text, named)
    message = clean(document.details or document.message or document.error)
    return Failure(status, "", message or f"HTTP status {status}")


def _digests_in(detail: bytes) -> list[str]:
    """A detail is a digest, or an object with one; nobody specifies it."""
    import re

    return [found.decode() for found in re.findall(rb"\bsha256:[0-9a-f]{64}\b", detail)]


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


def denied(name: str, text: str, status: int, domain: str, note: str | None = None) -> AuthError:
    """Docker's error for a repository that is private or absent: registries do not tell which.

    Args:
        note: why there were no credentials, as hint.
    """
    return AuthError(
        f"pull access denied for {name}, repository does not exist or may require"
        f" 'docker login': {text}",
        hint=note or login_hint(domain),
        status=status,
    )


def push_denied(name: str, failure: Failure, domain: str, note: str | None = None) -> AuthError:
    """Docker's error for a repository into which we may not write, or that cannot be made."""
    return AuthError(
        "push access denied, repository does not exist or may require authorization:"
        f" {name}: {failure.text}",
        hint=note or login_hint(domain),
        status=failure.status,
    )


def login_hint(domain: str) -> str:
    """What to type before the next try."""
    server = "" if hosts.is_docker_hub(domain) else f" {domain}"
    return f"log in with: fastbox login{server}"
