"""``[[pool]]`` in ``config.toml``: what the supervisor keeps prepared."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

_LARGEST = 1024
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_BYTES = re.compile(r"([0-9]+)([bkmgt]?)b?", re.ASCII | re.IGNORECASE)
_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*[\"']?pool[\"']?[ \t]*\]\]", re.MULTILINE)


class PoolSetting(msgspec.Struct, frozen=True, kw_only=True):
    """One pool.

    Attributes:
        max_memory: bytes, None: as much as ``size`` takes.
        options: attributes of ``ContainerConfig``.
    """

    image: str
    size: int
    max_memory: int | None = None
    options: dict[str, Any] = {}


class BadKey(Exception):
    """A table that cannot be used.

    Attributes:
        table: which one, from 0; key: of which of its keys, "": of a missing one.
    """

    def __init__(self, table: int, key: str, why: str, hint: str | None = None) -> None:
        super().__init__(why)
        self.table, self.key, self.hint = table, key, hint


def parse(value: Any) -> list[PoolSetting]:
    """The tables' settings.

    Raises:
        BadKey; ValueError: there are no tables.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("it has to be tables: [[pool]]")
    return [_one(number, table) for number, table in enumerate(value)]


def _one(number: int, table: dict[str, Any]) -> PoolSetting:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if key not in KEYS:
            import difflib

            close = difflib.get_close_matches(key, KEYS, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(KEYS)}"
            raise BadKey(number, key, "unknown key", hint)
        name, check = KEYS[key]
        try:
            found[name] = check(value)
        except ValueError as error:
            raise BadKey(number, key, str(error)) from None
    for key in ("image", "size"):
        if key not in found:
            raise BadKey(number, "", f"a pool needs {key}")
    image, size = found.pop("image"), found.pop("size")
    limit = found.pop("max_memory", None)
    return PoolSetting(image=image, size=size, max_memory=limit, options=found)


def line_of(text: str, table: int, key: str) -> int:
    """The line on which a key of a table stands, in the text of a TOML file; else the table's."""
    headers = list(_HEADER.finditer(text))
    if table >= len(headers):
        return 1
    start = headers[table].end()
    end = text.find("\n[", start)
    name = re.escape(key)
    pattern = re.compile(rf"^[ \t]*[\"']?{name}[\"']?[ \t]*=", re.MULTILINE)
    found = pattern.search(text, start, end if end >= 0 else len(text)) if key else None
    return text.count("\n", 0, found.start() if found else headers[table].start()) + 1


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("it has to be a text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it has to be true or false")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise ValueError(f"it has to be a number from 1 to {_LARGEST}")
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value < 1 << 31:
        raise ValueError("it has to be a number")
    return value


def _bytes(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _BYTES.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError('it has to be a number of bytes, or a text as "256m"')
    return int(match[1]) * _UNITS[match[2].lower()]


def _cpus(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1 << 16:
        raise ValueError("it has to be a number of processors, as 0.5")
    return int(value * 1_000_000_000)


def _words(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("it has to be a list of texts")
    return value


KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "image": ("image", _text),
    "size": ("size", _count),
    "max-memory": ("max_memory", _bytes),
    "network": ("network", _text),
    "memory": ("memory", _bytes),
    "cpus": ("nano_cpus", _cpus),
    "pids-limit": ("pids_limit", _number),
    "user": ("user", _text),
    "workdir": ("workdir", _text),
    "read-only": ("read_only", _flag),
    "init": ("init", _flag),
    "cap-add": ("cap_add", _words),
    "cap-drop": ("cap_drop", _words),
}
