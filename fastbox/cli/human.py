"""Sizes, durations and times as Docker prints and reads them."""

from __future__ import annotations

import functools
import time

from ..container import logs
from . import gotext

# A list tells the same times again and again.
parse_time = functools.lru_cache(maxsize=2048)(logs.parse_time)

# Control characters in an image's or label's words shall neither drive the terminal nor look like a
# further line.
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_VISIBLE.update({ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"})
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_MULTIPLIERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION_UNITS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip


def size(count: float, precision: int = 3) -> str:
    """``77.8MB``: powers of 1000, ``precision`` significant digits."""
    return _scaled(count, 1000.0, _DECIMAL, precision)


def binary_size(count: float) -> str:
    """``1.944GiB``: powers of 1024, four significant digits."""
    return _scaled(count, 1024.0, _BINARY, 4)


def _scaled(count: float, base: float, units: tuple[str, ...], precision: int) -> str:
    index = 0
    while count >= base and index < len(units) - 1:
        count /= base
        index += 1
    return gotext.format_g(count, precision) + units[index]


def parse_size(text: str, base: int = 1024) -> int:
    """``64m``, ``1.5GiB``, ``10 kb`` … in bytes.

    Raises:
        ValueError: with the text of Docker's go-units.
    """
    last = max((text.rfind(char) for char in "0123456789. "), default=-1)
    if last < 0:
        raise ValueError(f"invalid size: '{text}'")
    number = text[:last] if text[last] == " " else text[: last + 1]
    suffix = text[last + 1 :]
    value = gotext.parse_float(number)
    if value < 0:
        raise ValueError(f"invalid size: '{text}'")
    bad = ValueError(f"invalid suffix: '{suffix}'")
    unit = suffix.lower()
    if unit in ("", "b"):
        power = 0
    elif len(unit) > 3 or unit[0] not in _MULTIPLIERS or unit[1:] not in ("", "b", "ib"):
        raise bad
    else:
        power = _MULTIPLIERS[unit[0]]
    scaled = value * base**power
    if scaled >= 1 << 63:
        raise ValueError(f"invalid size: '{text}': it is too large")
    return int(scaled)


def duration(seconds: float) -> str:
    """``About a minute``, ``2 hours``, ``3 weeks``."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = int(seconds / 60)
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for limit, unit, name in (
        (48, 1, "hours"),
        (24 * 14, 24, "days"),
        (24 * 60, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{int(seconds / 3600) // (24 * 365)} years"


def ago(timestamp: str, now: float | None = None) -> str:
    """``2 hours ago`` for an RFC 3339 time, ``N/A`` where there is none."""
    nanoseconds = parse_time(timestamp)
    if nanoseconds <= 0:
        return "N/A"
    return duration((time.time() if now is None else now) - nanoseconds / 1e9) + " ago"


def since(timestamp: str, now: float | None = None) -> str:
    """``2 hours``."""
    return duration((time.time() if now is None else now) - parse_time(timestamp) / 1e9)


def local_time(timestamp: str) -> str:
    """``2006-01-02 15:04:05 -0700 MST``."""
    nanoseconds = parse_time(timestamp)
    if nanoseconds <= 0 and not timestamp.startswith("1970-01-01"):
        return "0001-01-01 00:00:00 +0000 UTC"
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(nanoseconds // 1_000_000_000))


def rfc3339_local(timestamp: str) -> str:
    """``2006-01-02T15:04:05-07:00``, in the local zone; ``Z`` is UTC."""
    nanoseconds = parse_time(timestamp) if timestamp else -62135596800 * 1_000_000_000
    if nanoseconds <= 0 and not timestamp.startswith("1970-01-01"):
        return "0001-01-01T00:00:00Z"
    moment = time.localtime(nanoseconds // 1_000_000_000)
    zone = time.strftime("%z", moment)
    end = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + end


def parse_duration(text: str) -> float:
    """Go's ``1h30m``, ``1.5s``, ``-10m`` in seconds.

    Raises:
        ValueError: it is none.
    """
    error = ValueError(f"time: invalid duration {gotext.quote(text)}")
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    if not rest:
        raise error
    total = 0.0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: _unit_length(rest)]
        rest = rest[len(unit) :]
        digits = number.replace(".", "", 1)
        if not digits.isdecimal() or unit not in _DURATION_UNITS:
            raise error
        total += float(number) * _DURATION_UNITS[unit]
    return sign * total


def _unit_length(text: str) -> int:
    length = 0
    while length < len(text) and text[length] not in "0123456789.":
        length += 1
    return length


def parse_moment(text: str, now: float | None = None) -> float:
    """``--since``: a duration before now, Unix time, or a date with or without time and zone.

    Returns:
        Seconds since the epoch.

    Raises:
        ValueError: ``failed to parse value as time or duration: "x"``.
    """
    now = time.time() if now is None else now
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    whole, _, fraction = text.partition(".")
    if (
        whole.removeprefix("-").isdecimal()
        and text.isascii()
        and (not fraction or fraction.isdecimal())
    ):
        return float(text) if len(whole) < 13 else float(whole[:13])
    try:
        return _parse_date(text)
    except (ValueError, IndexError, OverflowError):
        quoted = gotext.quote(text)
        raise ValueError(f"failed to parse value as time or duration: {quoted}") from None


def _parse_date(text: str) -> float:
    date, _, clock = text.partition("T")
    zone = ""
    if clock:
        for index, char in enumerate(clock):
            if char in "Zz+-":
                clock, zone = clock[:index], clock[index:]
                break
    elif date.endswith(("Z", "z")):
        date, zone = date[:-1], "Z"
    year, month, day = (_digits(part) for part in date.split("-"))
    parts = clock.split(":") if clock else []
    if len(parts) > 3:
        raise ValueError
    second, _, fraction = (parts[2] if len(parts) == 3 else "0").partition(".")
    hour = _digits(parts[0]) if parts else 0
    minute = _digits(parts[1]) if len(parts) > 1 else 0
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60):
        raise ValueError
    moment = (year, month, day, hour, minute, _digits(second), 0, 0, -1)
    tail = float(f"0.{_digits(fraction):0{len(fraction)}d}") if fraction else 0.0
    if not zone:
        return time.mktime(moment) + tail
    import calendar

    seconds = calendar.timegm(moment)
    if zone not in "Zz":
        hours, _, minutes = zone[1:].partition(":")
        offset = _digits(hours) * 3600 + _digits(minutes) * 60
        seconds += -offset if zone[0] == "+" else offset
    return seconds + tail


def _digits(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise ValueError
    return int(text)


def ellipsis(text: str, width: int) -> str:
    """At most ``width`` characters, the last one ``…`` where something was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def visible(text: str) -> str:
    """The text with its control characters written out (``\\x1b``, ``\\n``)."""
    return text if text.isprintable() else text.translate(_VISIBLE)
