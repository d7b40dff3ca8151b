"""--user: numbers are checked, names are left to the container's files (CVE-2024-40635)."""

from __future__ import annotations

import pytest

from fastbox.container import users
from fastbox.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("", users.UserSpec("", 0, "", None, False)),
        ("0", users.UserSpec("", 0, "", None, False)),
        ("1000", users.UserSpec("", 1000, "", None, False)),
        ("1:2", users.UserSpec("", 1, "", 2, True)),
        ("redis", users.UserSpec("redis", None, "", None, False)),
        ("redis:wheel", users.UserSpec("redis", None, "wheel", None, True)),
        (":5", users.UserSpec("", 0, "", 5, True)),
        ("2147483647", users.UserSpec("", 2147483647, "", None, False)),
    ],
)
def test_good(text: str, spec: users.UserSpec) -> None:
    assert users.parse(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "-1",
        "0x0",
        "1e3",
        "01",
        " 0",
        "1:4294967296",
        "+1",
        "\uff11",  # a full-width digit
        "a\nb",
        "a:b:c",
        ":",
        "root\0",
        "a/b",
    ],
)
def test_bad(text: str) -> None:
    with pytest.raises(InvalidArgument):
        users.parse(text)


def test_groups() -> None:
    assert users.parse_group("7") == (7, "")
    assert users.parse_group("wheel") == (None, "wheel")
    for bad in ("", "-1", "4294967296", "a:b", "a\n"):
        with pytest.raises(InvalidArgument):
            users.parse_group(bad)
