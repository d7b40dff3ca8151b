"""Addresses, MACs and names as people write them: read, and in the one form that is stored."""

from __future__ import annotations

MAX_NAME = 253
MAX_LABEL = 63
_DIGITS = "0123456789"
_HEX = frozenset(_DIGITS + "abcdefABCDEF")
_FIRST = frozenset(_DIGITS + "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_NAME = _FIRST | {"-", "."}


def address(text: str, version: int = 0) -> str:
    """An IP address in its usual form; ``::ffff:1.2.3.4`` is ``1.2.3.4``.

    Args:
        version: 4 or 6, 0: either.

    Raises:
        ValueError: it is none (or of the other version), or has a zone (``fe80::1%eth0``).
    """
    import _socket as socket

    for family, number in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
        try:
            packed = socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        if len(packed) == 16 and packed.startswith(b"\0" * 10 + b"\xff\xff"):
            family, number, packed = socket.AF_INET, 4, packed[12:]  # noqa: PLW2901
        if version in (0, number):
            return socket.inet_ntop(family, packed)
    raise ValueError(f"invalid IP address: {text}")


def host_address(text: str, version: int) -> str:
    """The address of one host: not ``0.0.0.0``, not multicast, not loopback, not broadcast.

    Raises:
        ValueError: with Docker's text.
    """
    problem = ValueError(f"invalid IPv{version} address: {text}")
    try:
        found = address(text, version)
    except ValueError:
        raise problem from None
    import ipaddress

    value = ipaddress.ip_address(found)
    if value.is_unspecified or value.is_multicast or value.is_loopback:
        raise problem
    if found == "255.255.255.255":
        raise problem
    return found


def mac(text: str) -> str:
    """``02:42:ac:11:00:02``, also with ``-``, or as ``0242.ac11.0002``: lower case with colons.

    Raises:
        ValueError: it is none, or no network interface can have it (zero, multicast).
    """
    problem = ValueError(f"{text} is not a valid mac address")
    if len(text) == 14 and text[4] == text[9] == ".":
        digits = text.replace(".", "")
    elif len(text) == 17 and text[2] in ":-" and set(text[2::3]) == {text[2]}:
        digits = text.replace(text[2], "")
    else:
        raise problem
    if len(digits) != 12 or not _HEX.issuperset(digits):
        raise problem
    digits = digits.lower()
    if int(digits, 16) == 0 or int(digits[:2], 16) & 1:
        raise problem
    return ":".join(digits[place : place + 2] for place in range(0, 12, 2))


def is_plain(text: str) -> bool:
    """Whether a container or a network could be called so: never a path, never a second line."""
    return bool(text) and text[0] in _FIRST and _NAME.issuperset(text)


def is_name(text: str) -> bool:
    """Whether a container can be found by it: letters, digits, ``_``, ``-`` and ``.``, as a name in
    DNS is long. Such a name is also a file's (``networks/ID/names``), so it never leads elsewhere.
    """
    return (
        is_plain(text)
        and len(text) <= MAX_NAME
        and all(0 < len(label) <= MAX_LABEL for label in text.split("."))
    )


def is_domain(text: str) -> bool:
    """What ``--dns-search`` takes: ``example.com``, with or without a dot at its end, or ``.``."""
    if text == ".":
        return True
    text = text.removesuffix(".")
    return (
        is_name(text)
        and "_" not in text
        and not any(label.startswith("-") or label.endswith("-") for label in text.split("."))
    )


def is_line(text: str) -> bool:
    """Whether it stays one word on one line of a file of /etc."""
    return bool(text) and text.isprintable() and not any(char.isspace() for char in text)


def link(text: str) -> tuple[str, str]:
    """``CONTAINER[:ALIAS]``: both; without an alias it is the container's name.

    Raises:
        ValueError: with Docker's text.
    """
    if not text:
        raise ValueError("empty string specified for links")
    name, colon, alias = text.partition(":")
    alias = alias if colon else name
    if not is_plain(name) or not is_name(alias):
        raise ValueError(f"bad format for links: {text}")
    return name, alias
