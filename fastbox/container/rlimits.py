"""``--ulimit``: names, numbers and values of resource limits (getrlimit(2))."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import InvalidArgument, PermissionDenied
from . import capabilities
from .config import Ulimit

# asm-generic/resource.h: the index is the number. The same on x86 and ARM.
NAMES = (
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}
INFINITY = (1 << 64) - 1
_MAX = (1 << 63) - 1


def parse(text: str) -> Ulimit:
    """``NAME=SOFT[:HARD]`` of ``--ulimit``; -1 is unlimited.

    Raises:
        InvalidArgument: with the texts of Docker's go-units.
    """
    name, separator, values = text.partition("=")
    if not separator:
        raise InvalidArgument(f"invalid ulimit argument: {text}")
    if name not in NUMBERS:
        raise InvalidArgument(f"invalid ulimit type: {name}", hint="known: " + ", ".join(NAMES))
    parts = values.split(":")
    if not values:
        raise InvalidArgument(f"invalid ulimit argument: {text}")
    if len(parts) > 2:
        raise InvalidArgument(
            f"too many limit value arguments - {values}, can only have up to two, `soft[:hard]`"
        )
    limits = [_value(part, text) for part in parts]
    limit = Ulimit(name=name, soft=limits[0], hard=limits[-1])
    check(limit)
    return limit


def _value(part: str, text: str) -> int:
    digits = part[1:] if part.startswith("-") else part
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19 or int(digits) > _MAX:
        raise InvalidArgument(f"invalid ulimit argument: {text}", hint=f"{part!r} is not a number")
    value = int(part)
    if value < -1:
        raise InvalidArgument(f"invalid ulimit argument: {text}", hint="-1 means unlimited")
    return value


def check(limit: Ulimit) -> None:
    """Check a limit made by hand.

    Raises:
        InvalidArgument: an unknown name, a value out of range, soft above hard.
    """
    if limit.name not in NUMBERS:
        raise InvalidArgument(
            f"invalid ulimit type: {limit.name}", hint="known: " + ", ".join(NAMES)
        )
    for value in (limit.soft, limit.hard):
        if not -1 <= value <= _MAX:
            raise InvalidArgument(f"invalid ulimit argument: {limit.name}={value}")
    if limit.hard != -1 and limit.soft == -1:
        raise InvalidArgument(
            f"ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), "
            f"hard: {limit.hard}"
        )
    if limit.hard != -1 and limit.soft > limit.hard:
        raise InvalidArgument(
            "ulimit soft limit must be less than or equal to hard limit: "
            f"{limit.soft} > {limit.hard}"
        )


def resolve(
    limits: Iterable[Ulimit], *, can_raise: bool | None = None
) -> list[tuple[int, int, int]]:
    """What to give prlimit(2): (resource number, soft, hard), unlimited as 2**64-1.

    The last entry of a name counts.

    Args:
        can_raise: whether hard limits may be raised above the engine's own; None = whether it
            has CAP_SYS_RESOURCE.

    Raises:
        InvalidArgument: see ``check``.
        PermissionDenied: a hard limit above the engine's own, which it may not raise.
    """
    import resource

    if can_raise is None:
        mask = capabilities.to_mask(["CAP_SYS_RESOURCE"])
        can_raise = bool(capabilities.own_bounding_set() & mask)
    result: dict[int, tuple[int, int, int]] = {}
    for limit in limits:
        check(limit)
        number = NUMBERS[limit.name]
        soft = INFINITY if limit.soft == -1 else limit.soft
        hard = INFINITY if limit.hard == -1 else limit.hard
        if not can_raise:
            own = resource.getrlimit(number)[1]
            if own != resource.RLIM_INFINITY and hard > own:
                asked = "unlimited" if limit.hard == -1 else str(limit.hard)
                raise PermissionDenied(
                    f"setting ulimit {limit.name} to {asked} is not permitted: the engine's own "
                    f"hard limit is {own}",
                    hint="without CAP_SYS_RESOURCE a limit can only be lowered",
                )
        result[number] = number, soft, hard
    return list(result.values())
