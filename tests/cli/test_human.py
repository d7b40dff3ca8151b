"""Sizes, durations and times."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fastbox.cli import human


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"), (999, "999B"), (1000, "1kB"), (1100, "1.1kB"), (77_800_000, "77.8MB"),
        (999_499, "999kB"), (1_234_567_890, "1.23GB"), (12_345_678, "12.3MB"), (10**24, "1YB"),
    ],
)  # fmt: skip
def test_size(count: int, text: str) -> None:
    assert human.size(count) == text


def test_size_with_four_digits_and_in_powers_of_1024() -> None:
    assert human.size(1840, 4) == "1.84kB"
    assert human.size(12_345_678, 4) == "12.35MB"
    assert human.binary_size(2 << 30) == "2GiB"
    assert human.binary_size(8_354_197_504) == "7.78GiB"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("6m", 6 << 20), ("1.5g", 3 << 29), ("10kb", 10240), ("10KiB", 10240), ("1 g", 1 << 30),
        (".5m", 1 << 19), ("1e3", 1000), ("1t", 1 << 40), ("1p", 1 << 50), ("5B", 5),
        ("+5m", 5 << 20),
        ("0", 0), ("7", 7), ("1_000", 1000),
    ],
)  # fmt: skip
def test_parse_size(text: str, count: int) -> None:
    assert human.parse_size(text) == count


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "invalid size: ''"),
        ("abc", "invalid size: 'abc'"),
        ("inf", "invalid size: 'inf'"),
        ("-1", "invalid size: '-1'"),
        ("10kx", "invalid suffix: 'kx'"),
        ("10xyzw", "invalid suffix: 'xyzw'"),
        ("1e", "invalid suffix: 'e'"),
        ("5bb", "invalid suffix: 'bb'"),
        ("1  g", 'strconv.ParseFloat: parsing "1 ": invalid syntax'),
        ("0x10", 'strconv.ParseFloat: parsing "0x10": invalid syntax'),
        ("9999999999g", "invalid size: '9999999999g': it is too large"),
        ("1e400", "invalid size: '1e400': it is too large"),
    ],
)
def test_what_is_no_size(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        human.parse_size(text)
    assert str(caught.value) == error


MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "Less than a second"), (0.9, "Less than a second"), (1, "1 second"), (1.9, "1 second"),
        (2, "2 seconds"), (59.9, "59 seconds"), (MINUTE, "About a minute"),
        (2 * MINUTE - 1, "About a minute"), (2 * MINUTE, "2 minutes"), (59 * MINUTE, "59 minutes"),
        (HOUR, "About an hour"), (1.49 * HOUR, "About an hour"), (1.51 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"), (2 * DAY, "2 days"), (13.9 * DAY, "13 days"),
        (14 * DAY, "2 weeks"), (59 * DAY, "8 weeks"), (60 * DAY, "2 months"),
        (729 * DAY, "24 months"), (730 * DAY, "2 years"), (20_000 * DAY, "54 years"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert human.duration(seconds) == text


def test_ago() -> None:
    assert human.ago("2026-01-02T03:04:05.5Z", now=1767323045.5 + 7) == "7 seconds ago"
    assert human.ago("") == human.ago("nonsense") == "N/A"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("10m", 600), ("1h30m", 5400), ("1.5s", 1.5), ("300ms", 0.3), ("-5m", -300),
        (".5h", 1800), ("1us", 1e-6), ("1µs", 1e-6), ("+2s", 2),
    ],
)  # fmt: skip
def test_parse_duration(text: str, seconds: float) -> None:
    assert human.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "-", "1d", "1.2.3s", ".s", "1h 2m", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        human.parse_duration(text)


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1767323045", 1767323045.0),
        ("1767323045.25", 1767323045.25),
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T03:04:05.5Z", 1767323045.5),
        ("2026-01-02T04:04:05+01:00", 1767323045.0),
        ("2026-01-01T22:04:05-05:00", 1767323045.0),
        ("2026-01-01T22:04:05", 1767323045.0),  # local
        ("2026-01-01T22:04", 1767323040.0),
        ("2026-01-01", 1767243600.0),
        ("2026-01-01Z", 1767225600.0),
        ("10m", 1000.0 - 600),
        ("-10m", 1000.0 + 600),
    ],
)
def test_parse_moment(new_york: None, text: str, moment: float) -> None:
    assert human.parse_moment(text, now=1000.0) == pytest.approx(moment)


@pytest.mark.parametrize(
    "text",
    ["x", "2026", "2026-13-01x", "2026-13-01", "2026-01-02T25:00:00", "2026-01-02T03:04:05:06",
     "1-2-3-4", "2026-1-٣", "1" * 30 + "-1-1", "--", "T", "2026-01-01T:"],
)  # fmt: skip
def test_what_is_no_moment(text: str) -> None:
    if text == "2026":  # a number is Unix time
        assert human.parse_moment(text) == 2026
        return
    with pytest.raises(ValueError, match="failed to parse value as time or duration"):
        human.parse_moment(text)


def test_local_time(new_york: None) -> None:
    assert human.local_time("2026-01-02T03:04:05.123Z") == "2026-01-01 22:04:05 -0500 EST"
    assert human.local_time("") == "0001-01-01 00:00:00 +0000 UTC"


def test_ellipsis() -> None:
    assert human.ellipsis("a" * 20, 20) == "a" * 20
    assert human.ellipsis("a" * 21, 20) == "a" * 19 + "…"
