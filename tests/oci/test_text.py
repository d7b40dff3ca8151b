"""Bytes of argv that are not UTF-8: told of in one line, wherever JSON or a URL would be made."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastbox.errors import InvalidArgument
from fastbox.image import changes
from fastbox.oci import text
from fastbox.registry.login import login
from fastbox.registry.search import search

BAD = "a\udcffb"  # what Python makes of the bytes a 0xff b


@pytest.mark.parametrize(
    ("what", "use"),
    [
        ("a change", lambda: changes.apply(None, ["ENV A=1", f"LABEL l={BAD}"])),
        ("the term", lambda: search(BAD)),
        ("the user name", lambda: login("127.0.0.1:1", BAD, "secret")),
        ("the password", lambda: login("127.0.0.1:1", "ann", BAD)),
    ],
)
def test_refused(what: str, use: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgument, match=f"^{what} is not UTF-8 text$"):
        use()


def test_replaced() -> None:
    assert text.replaced(f"中文 {BAD}") == "中文 a\ufffdb"
    text.check("this", "中文")
