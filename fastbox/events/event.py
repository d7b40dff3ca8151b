"""An event, as it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

# What a line begins with; see journal.py for why this can be nothing else.
BEGIN = b'{"Type":'


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened.

    Attributes:
        type: ``container``, ``image``, ``volume``, ``network``, ``daemon``.
        action: ``start``, ``die``, ``exec_create: sh -c true`` …
        id: of what it happened to: a container's id, an image's id (or the reference that was
            pulled), a volume's name.
        attributes: image, name, labels, and what the action has (``exitCode``, ``signal`` …).
        time_ns: nanoseconds since the epoch.
    """

    type: str
    action: str
    id: str
    attributes: dict[str, str] = {}
    time_ns: int = 0
    scope: str = "local"

    @property
    def time(self) -> float:
        """Seconds since the epoch."""
        return self.time_ns / 1e9

    @property
    def name(self) -> str:
        """Of what it happened to, ``""`` if it has none."""
        return self.attributes.get("name", "")

    def to_docker(self) -> dict[str, Any]:
        """The event as Docker's API sends it."""
        old: dict[str, Any] = {}
        if self.type in ("container", "image"):
            old = {"status": self.action, "id": self.id}
        if self.type == "container" and self.attributes.get("image"):
            old["from"] = self.attributes["image"]
        return {
            **old,
            "Type": self.type,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": dict(sorted(self.attributes.items()))},
            "scope": self.scope,
            "time": self.time_ns // 1_000_000_000,
            "timeNano": self.time_ns,
        }


class _Actor(msgspec.Struct, gc=False):
    ID: str
    Attributes: dict[str, str] = {}


class _Line(msgspec.Struct, gc=False):
    Type: str
    Action: str
    Actor: _Actor
    timeNano: int
    scope: str = "local"


_decoder: msgspec.json.Decoder[_Line] = msgspec.json.Decoder(_Line)


def parse(line: bytes) -> Iterator[Event]:
    """The events of a line: one; or, where a writer was killed or the disk was full, what can be
    read of those that are on it."""
    event = _decoded(line)
    if event is not None:
        yield event
        return
    for part in line.split(BEGIN)[1:]:
        event = _decoded(BEGIN + part)
        if event is not None:
            yield event


def _decoded(text: bytes) -> Event | None:
    try:
        line = _decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return Event(
        type=line.Type,
        action=line.Action,
        id=line.Actor.ID,
        attributes=line.Actor.Attributes,
        time_ns=line.timeNano,
        scope=line.scope,
    )
