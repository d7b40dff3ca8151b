"""Appending to the journal. This is on the way of every start: it is one write, and never fails.

A line is

    {"Type":"container","Action":"start","Actor":{"ID":"…","Attributes":{…}},"timeNano":1…}

``"Type"`` comes first. In JSON text a quote inside of a string is escaped, so ``{"Type":`` can be
nothing but the beginning of an event: a reader finds it behind what a killed writer or a full disk
left of another line. So no writer has to look at what is there.

The file is opened for each event, so nobody who holds it open has to find out that it was renamed
(to ``journal.1``, when it has grown to ``LIMIT``), and a process that embeds fastbox keeps no
descriptor. The native monitor does the same for its few events, and leaves the renaming to others.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Protocol

import orjson

from ..locks import lock

LIMIT = 8 << 20  # bytes of a file; there are two
MAX_ATTRIBUTES = 64 << 10  # bytes; where an event's would be more, labels are left out
MAX_ACTION = 16 << 10  # characters; ``exec_create`` tells the whole command line
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

Labels = dict[str, str]


class _Config(Protocol):
    @property
    def image(self) -> str: ...


class _Record(Protocol):
    """What is told of a container (``container.record.ContainerRecord``, which lies above)."""

    id: str
    name: str
    labels: Labels

    @property
    def config(self) -> _Config: ...


def directory_of(root: str) -> str:
    """Where the journal of a store is."""
    return f"{root}/events"


def container_attributes(record: _Record) -> str:
    """What every event of a container tells of it: image, name and labels, as the inside of a JSON
    object: ``"com.example":"x","image":"redis","name":"web"``.

    UTF-8 without NUL, newline or control characters, ``MAX_ATTRIBUTES`` bytes at most; never empty.
    The native monitor is given it as an argument, and adds its own (``,"exitCode":"0"``) behind it:
    of two values with one name the last counts.
    """
    return _fragment(_about(record), record.labels).decode()


def _about(record: _Record) -> Labels:
    about = {"name": record.name}
    if record.config.image:
        about["image"] = record.config.image
    return about


def _fragment(about: Labels, labels: Labels) -> bytes:
    """The inside of an object with both; ``about`` wins."""
    text = orjson.dumps({**labels, **about} if labels else about)
    if len(text) > MAX_ATTRIBUTES:
        text = orjson.dumps(about)
    return text[1:-1]


def _clean_fragment(attributes: Labels) -> bytes:
    return _fragment({key: _text(value) for key, value in attributes.items()}, {})


def _line(kind: str, action: str, actor: str, fragment: bytes) -> bytes:
    """An event of now."""
    try:
        what = orjson.dumps(action)
    except (TypeError, ValueError):
        what = orjson.dumps(_text(action))
    return b'{"Type":"%b","Action":%b,"Actor":{"ID":%b,"Attributes":{%b}},"timeNano":%d}\n' % (
        kind.encode(),
        what,
        orjson.dumps(actor),
        fragment,
        time.time_ns(),
    )


class Journal:
    """The writing end of a store's journal. Threads and processes may share one.

    What cannot be written (a full or read-only disk) is not: the verb that it tells of has been
    done, and failing it would help nobody.

    Args:
        root: the store.
    """

    def __init__(self, root: str) -> None:
        self.directory = directory_of(root)
        self.path = f"{self.directory}/journal"

    def container(self, action: str, record: _Record, **extra: str) -> None:
        """Something happened to a container.

        Args:
            extra: further attributes.
        """
        self.containers((action,), record, **extra)

    def containers(self, actions: tuple[str, ...], record: _Record, **extra: str) -> None:
        """The same for what happened one right after the other."""
        try:
            about = {**_about(record), **extra} if extra else _about(record)
            fragment = _fragment(about, record.labels)
        except (TypeError, ValueError):  # not UTF-8
            fragment = _clean_fragment({"name": record.name, **extra})
        lines = [_line("container", action, record.id, fragment) for action in actions]
        self._append(b"".join(lines))

    def image(
        self, action: str, image: str, name: str, config: dict[str, object] | None = None
    ) -> None:
        """Something happened to an image.

        Args:
            image: its id, or the reference by which it was pulled.
            config: the image's (its labels are told).
        """
        section = (config or {}).get("config")
        labels = section.get("Labels") if isinstance(section, dict) else None
        self.emit("image", action, image, {"name": name}, labels)

    def volume(self, action: str, name: str, **extra: str) -> None:
        """Something happened to a volume."""
        self.emit("volume", action, name, {"driver": "local", **extra})

    def emit(
        self,
        kind: str,
        action: str,
        actor: str,
        attributes: Labels,
        labels: Labels | None = None,
    ) -> None:
        """Any event.

        Args:
            kind: ``container``, ``image``, ``volume``, ``network`` or ``daemon``.
            labels: further attributes, left out where there are too many.
        """
        try:
            fragment = _fragment(attributes, labels or {})
        except (TypeError, ValueError):  # not UTF-8
            fragment = _clean_fragment(attributes)
        self._append(_line(kind, action, actor, fragment))

    def _append(self, lines: bytes) -> None:
        with contextlib.suppress(OSError):
            fd = self._open()
            try:
                found = os.fstat(fd)
                if found.st_size >= LIMIT and self._rotate(found):
                    os.close(fd)
                    fd = -1
                    fd = self._open()
                os.write(fd, lines)
            finally:
                if fd >= 0:
                    os.close(fd)

    def _open(self) -> int:
        try:
            return os.open(self.path, _FLAGS, 0o600)
        except FileNotFoundError:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            return os.open(self.path, _FLAGS, 0o600)

    def _rotate(self, mine: os.stat_result) -> bool:
        """Rename the full file, if nobody else is doing that: who finds the lock taken appends to
        the full file. Whether there is another file now."""
        try:
            with lock(self.directory, blocking=False):
                there = os.stat(self.path)
                if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                    os.rename(self.path, f"{self.path}.1")
                return True
        except FileNotFoundError:
            return True
        except OSError:
            return False


def _text(value: str) -> str:
    """What is not UTF-8 (bytes of argv, for example) as question marks."""
    return value.encode("utf-8", "replace").decode()


def command_line(action: str, args: list[str]) -> str:
    """``exec_create: sh -c true``, shortened where nobody would read it."""
    text = f"{action}: {' '.join(args)}"
    return text if len(text) <= MAX_ACTION else text[: MAX_ACTION - 1] + "…"
