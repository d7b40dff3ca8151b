"""Times and durations as Go and RFC 3339 write them."""

from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox.errors import InvalidArgument
from fastbox.oci import times


@given(st.datetimes(timezones=st.just(datetime.timezone.utc)))
def test_rfc3339_agrees_with_datetime(moment: datetime.datetime) -> None:
    delta = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    expected = (delta.days * 86400 + delta.seconds) * 10**9 + delta.microseconds * 1000
    assert times.rfc3339(moment.isoformat().replace("+00:00", "Z")) == expected
    assert times.rfc3339(moment.isoformat()) == expected


def test_offsets_fractions_and_local_time() -> None:
    assert times.rfc3339("1970-01-01T01:00:00.123456789+01:00") == 123456789
    assert times.rfc3339("1969-12-31T23:59:59.5Z") == -500_000_000
    noon = times.rfc3339("2024-05-06T12:00:00")
    assert noon == int(time.mktime((2024, 5, 6, 12, 0, 0, 0, 0, -1))) * 10**9
    assert times.rfc3339("2024-02-29T00:00:00Z") is not None


@pytest.mark.parametrize(
    "text",
    ["", "now", "2024-13-01T00:00:00Z", "2023-02-29T00:00:00Z", "2024-01-01T24:00:00Z",
     "0001-01-01T00:00:00Z\n", "2024-01-01T00:00:00 Z", "\uff12024-01-01T00:00:00Z"],
)  # fmt: skip
def test_no_time(text: str) -> None:
    assert times.rfc3339(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("1s", 10**9), ("1h30m", 5400 * 10**9), ("1.5s", 1_500_000_000),
     ("-2ms", -2 * 10**6), (".5us", 500), ("1µs", 1000), ("100ns", 100), ("1.s", 10**9),
     ("+3m", 180 * 10**9)],
)  # fmt: skip
def test_duration(text: str, expected: int) -> None:
    assert times.duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "s", "1", "1.5", "1d", "1h-3m", "9" * 30 + "h", "1 s", "1s\n"]
)
def test_no_duration(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^time: (invalid|missing unit in) duration"):
        times.duration(text)


def test_moment() -> None:
    assert times.moment("1700000000.5") == 1_700_000_000_500_000_000
    assert times.moment("2024-01-01T00:00:00Z") == 1_704_067_200 * 10**9
    before = time.time_ns()
    assert before - 600 * 10**9 <= times.moment("10m") <= time.time_ns() - 600 * 10**9
    with pytest.raises(InvalidArgument, match=r'^failed to parse value as time or duration: "x"$'):
        times.moment("x")


def test_now_is_rfc3339() -> None:
    before = time.time_ns()
    now = times.rfc3339(times.now())
    assert now is not None and before <= now <= time.time_ns()
