"""WWW-Authenticate (RFC 9110 section 11.6.1): several challenges, in one header or in several."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MAX_LENGTH = 16384
_MAX_CHALLENGES = 16


class Challenge(msgspec.Struct):
    """One way to authenticate; scheme and parameter names in lower case."""

    scheme: str
    parameters: dict[str, str] = {}

    def get(self, name: str) -> str:
        """A parameter, ``""`` if absent."""
        return self.parameters.get(name, "")


def parse(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of the given header values; what cannot be read ends its header."""
    found: list[Challenge] = []
    for header in headers:
        if len(header) <= _MAX_LENGTH:
            _parse(header, found)
    return found[:_MAX_CHALLENGES]


def choose(challenges: list[Challenge]) -> Challenge | None:
    """The one to answer: Bearer, else Basic."""
    for scheme in ("bearer", "basic"):
        for challenge in challenges:
            if challenge.scheme == scheme:
                return challenge
    return None


def _parse(text: str, found: list[Challenge]) -> None:
    at = 0
    current: Challenge | None = None
    while True:
        at = _skip(text, at, " \t,")
        word, at = _token(text, at)
        if not word:
            return
        after = _skip(text, at, " \t")
        # A word before "=" is a parameter, any other word begins a challenge.
        if text[after : after + 1] == "=" and current is not None:
            value, at = _value(text, _skip(text, after + 1, " \t"))
            if value is None:
                return
            current.parameters.setdefault(word.lower(), value)
        else:
            current = Challenge(word.lower())
            found.append(current)


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at


def _token(text: str, at: int) -> tuple[str, int]:
    start = at
    while at < len(text) and text[at] in _TOKEN:
        at += 1
    return text[start:at], at


def _value(text: str, at: int) -> tuple[str | None, int]:
    """A token or a quoted string; None when it does not end."""
    if text[at : at + 1] != '"':
        return _token(text, at)
    at += 1
    parts: list[str] = []
    while at < len(text):
        if text[at] == '"':
            return "".join(parts), at + 1
        if text[at] == "\\":
            at += 1
        parts.append(text[at : at + 1])
        at += 1
    return None, at
