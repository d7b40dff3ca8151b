"""--ulimit."""

from __future__ import annotations

import re
import resource

import pytest

from fastbox.container import rlimits
from fastbox.container.config import Ulimit
from fastbox.errors import InvalidArgument, PermissionDenied


def test_numbers_are_the_system_ones() -> None:
    for name, number in rlimits.NUMBERS.items():
        constant = getattr(resource, f"RLIMIT_{name.upper()}", number)
        assert number == constant, name
    assert len(rlimits.NAMES) == 16  # RLIM_NLIMITS


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("nofile=1024", (1024, 1024)),
        ("nofile=1024:2048", (1024, 2048)),
        ("core=-1", (-1, -1)),
        ("core=0:-1", (0, -1)),
        ("cpu=9223372036854775807", (2**63 - 1, 2**63 - 1)),
    ],
)
def test_parse(text: str, limits: tuple[int, int]) -> None:
    parsed = rlimits.parse(text)
    assert (parsed.name, parsed.soft, parsed.hard) == (text.split("=")[0], *limits)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nofile", "invalid ulimit argument: nofile"),
        ("nofile=", "invalid ulimit argument: nofile="),
        ("notafile=1", "invalid ulimit type: notafile"),
        ("NOFILE=1", "invalid ulimit type: NOFILE"),
        ("=1", "invalid ulimit type: "),
        ("nofile=a", "invalid ulimit argument: nofile=a"),
        ("nofile=1:", "invalid ulimit argument: nofile=1:"),
        ("nofile=:1", "invalid ulimit argument: nofile=:1"),
        ("nofile=-2", "invalid ulimit argument: nofile=-2"),
        ("nofile=1.5", "invalid ulimit argument: nofile=1.5"),
        ("nofile=+1", "invalid ulimit argument: nofile=+1"),
        ("nofile=1_0", "invalid ulimit argument: nofile=1_0"),
        ("nofile=１", "invalid ulimit argument: nofile=１"),  # noqa: RUF001
        ("nofile= 1", "invalid ulimit argument: nofile= 1"),
        ("nofile=9223372036854775808", "invalid ulimit argument: nofile=9223372036854775808"),
        (
            "nofile=1:2:3",
            "too many limit value arguments - 1:2:3, can only have up to two, `soft[:hard]`",
        ),
        (
            "nofile=2048:1024",
            "ulimit soft limit must be less than or equal to hard limit: 2048 > 1024",
        ),
        (
            "nofile=-1:1024",
            "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), "
            "hard: 1024",
        ),
    ],
)
def test_bad_texts(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{re.escape(message)}$"):
        rlimits.parse(text)


def test_resolve() -> None:
    limits = [rlimits.parse(text) for text in ("nofile=10:20", "core=-1", "nofile=5:6")]
    assert rlimits.resolve(limits, can_raise=True) == [
        (resource.RLIMIT_NOFILE, 5, 6),
        (resource.RLIMIT_CORE, rlimits.INFINITY, rlimits.INFINITY),
    ]


def test_raising_needs_privilege() -> None:
    own = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert own != resource.RLIM_INFINITY  # the kernel has none for this one
    assert rlimits.resolve([Ulimit(name="nofile", soft=1, hard=own)], can_raise=False)
    for hard in (own + 1, -1):
        asked = Ulimit(name="nofile", soft=1, hard=hard)
        with pytest.raises(PermissionDenied, match=rf"hard limit is {own}$"):
            rlimits.resolve([asked], can_raise=False)
        assert rlimits.resolve([asked], can_raise=True)


def test_limits_made_by_hand() -> None:
    for bad in (
        Ulimit(name="x", soft=1, hard=1),
        Ulimit(name="nofile", soft=-2, hard=1),
        Ulimit(name="nofile", soft=1, hard=1 << 63),
        Ulimit(name="nofile", soft=2, hard=1),
    ):
        with pytest.raises(InvalidArgument):
            rlimits.resolve([bad])
