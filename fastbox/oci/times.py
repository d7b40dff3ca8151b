"""Points in time as the formats and flags write them: RFC 3339, Unix seconds, Go durations."""

from __future__ import annotations

import re
import time

from ..errors import InvalidArgument

SECOND = 1_000_000_000  # nanoseconds
_UNITS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_MAX_DURATION = 2**63 - 1


def now() -> str:
    """The present in RFC 3339 with nanoseconds, UTC."""
    return format_ns(time.time_ns())


def format_ns(nanoseconds: int) -> str:
    """Nanoseconds since the epoch in RFC 3339 with nanoseconds, UTC."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def rfc3339(text: str) -> int | None:
    """Nanoseconds since the epoch of an RFC 3339 time, None if it is none.

    Date alone, and time without a zone, are taken as local time.
    """
    match = re.fullmatch(
        r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?"
        r"([Zz]|[+-]\d\d:\d\d)?",
        text,
        re.ASCII,
    )
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fraction, zone = match.group(7), match.group(8)
    days = _days(year, month, day)
    if days is None or hour > 23 or minute > 59 or second > 60:
        return None
    if zone is None:
        fields = (year, month, day, hour, minute, second, 0, 0, -1)
        try:
            total = int(time.mktime(fields))
        except (OverflowError, ValueError):
            return None
    else:
        total = ((days * 24 + hour) * 60 + minute) * 60 + second
        if zone not in "Zz":
            offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
            total += offset if zone[0] == "-" else -offset
    return total * SECOND + int((fraction or "0").ljust(9, "0"))


def _days(year: int, month: int, day: int) -> int | None:
    """Days since 1970-01-01 (proleptic Gregorian), None for no such day."""
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    lengths = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    if not 1 <= month <= 12 or not 1 <= day <= lengths[month - 1]:
        return None
    before = year - 1
    years = before * 365 + before // 4 - before // 100 + before // 400
    return years + sum(lengths[: month - 1]) + day - 1 - 719162


def duration(text: str) -> int:
    """Nanoseconds of a Go duration (``1h30m``, ``1.5s``, ``-3ms``, ``0``).

    Raises:
        InvalidArgument: with Go's text.
    """
    error = InvalidArgument(f'time: invalid duration "{text}"')
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    if not re.fullmatch(r"(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+", rest, re.ASCII):
        if re.fullmatch(r"\d+\.?\d*|\.\d+", rest, re.ASCII):
            raise InvalidArgument(f'time: missing unit in duration "{text}"')
        raise error
    if len(rest) > 200:
        raise error
    from fractions import Fraction

    total = Fraction(0)
    for number, unit in re.findall(r"([\d.]+)([a-zµμ]+)", rest):
        total += Fraction("0" + number.rstrip(".")) * _UNITS[unit]
    if total > _MAX_DURATION:
        raise error
    return sign * int(total)


def moment(text: str) -> int:
    """Nanoseconds since the epoch of what ``--since``, ``--until`` and filters take: RFC 3339, Unix
    seconds with a fraction, or a Go duration before now.

    Raises:
        InvalidArgument: none of these.
    """
    if re.fullmatch(r"-?\d+(?:\.\d{1,9})?", text, re.ASCII) and len(text) < 40:
        from fractions import Fraction

        return int(Fraction(text) * SECOND)
    found = rfc3339(text)
    if found is not None:
        return found
    try:
        return time.time_ns() - duration(text)
    except InvalidArgument:
        raise InvalidArgument(
            f'failed to parse value as time or duration: "{text}"',
            hint="for example 2026-01-02T03:04:05Z, 1767323045 or 10m",
        ) from None
