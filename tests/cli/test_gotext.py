"""Numbers and quoting as in Go."""

from __future__ import annotations

import pytest

from fastbox.cli import gotext


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("abc", '"abc"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("\n\t\r\a", '"\\n\\t\\r\\a"'),
        ("\x00\x1b\x7f", '"\\x00\\x1b\\x7f"'),
        ("é…日", '"é…日"'),
        ("\u200b\U000e0001", '"\\u200b\\U000e0001"'),
        ("\udcff", '"\\xff"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert gotext.quote(text) == quoted


@pytest.mark.parametrize("char", "nz'\"\\\n")
def test_quote_char(char: str) -> None:
    expected = {"'": "'\\''", '"': "'\"'", "\\": "'\\\\'", "\n": "'\\n'"}
    assert gotext.quote_char(char) == expected.get(char, f"'{char}'")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("-0", 0), ("+5", 5), ("0x1F", 31), ("0b101", 5), ("0o17", 15), ("017", 15),
        ("1_000", 1000), ("0x_f", 15), ("9223372036854775807", (1 << 63) - 1),
        ("-9223372036854775808", -(1 << 63)),
    ],
)  # fmt: skip
def test_parse_int(text: str, value: int) -> None:
    assert gotext.parse_int(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 5",
        "5 ",
        "x",
        "-",
        "+",
        "--5",
        "1.5",
        "08",
        "1__0",
        "_1",
        "1_",
        "0x",
        "٣",
        "5\n",
        "1e3",
    ],
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        gotext.parse_int(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "9" * 5000])
def test_what_is_too_large(text: str) -> None:
    with pytest.raises(ValueError, match="value out of range"):
        gotext.parse_int(text)


def test_base_ten_knows_no_prefixes() -> None:
    assert gotext.parse_int("010", base=10) == 10
    for text in ("0x10", "1_0"):
        with pytest.raises(ValueError, match="invalid syntax"):
            gotext.parse_int(text, base=10)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.5, "1.5"), (3.0, "3"), (1e20, "100000000000000000000"), (1e21, "1e+21"),
        (1e22, "1e+22"), (0.0001, "0.0001"), (0.00001, "1e-05"), (-2.5, "-2.5"),
        (1.25e-7, "1.25e-07"), (float("inf"), "+Inf"), (float("nan"), "NaN"),
    ],
)  # fmt: skip
def test_format_float(value: float, text: str) -> None:
    assert gotext.format_float(value) == text
