"""Addresses and subnets as integers: no ``ipaddress``, whose import and objects cost more than the
rest of a start's address."""

from __future__ import annotations

import _socket as socket  # the module over it costs milliseconds
from collections.abc import Iterable, Iterator
from typing import NamedTuple

BITS = {4: 32, 6: 128}


class Block(NamedTuple):
    """A range of addresses that has a prefix.

    Attributes:
        family: 4 or 6.
        first: its lowest address.
        prefix: length of the prefix.
    """

    family: int
    first: int
    prefix: int

    @property
    def last(self) -> int:
        return self.first | ((1 << (BITS[self.family] - self.prefix)) - 1)

    def overlaps(self, other: Block) -> bool:
        return self.family == other.family and self.first <= other.last and other.first <= self.last

    def contains(self, address: int) -> bool:
        return self.first <= address <= self.last

    def __str__(self) -> str:
        return f"{text(self.family, self.first)}/{self.prefix}"


def parse(address: str) -> tuple[int, int]:
    """(family, number) of an address in text.

    Raises:
        ValueError: it is none.
    """
    try:
        if ":" in address:
            return 6, int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big")
        return 4, int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
    except (OSError, ValueError) as error:
        raise ValueError(f"{address[:100]!r} is no address") from error


def text(family: int, number: int) -> str:
    """An address in its canonical text (RFC 5952)."""
    if family == 4:
        return socket.inet_ntoa(number.to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, number.to_bytes(16, "big"))


def numbers(family: int, texts: Iterable[str]) -> Iterator[int]:
    """Those of a family; what is no address of it is passed over. (Quicker than ``parse``: of a
    thousand texts at each start.)"""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    pton, number = socket.inet_pton, int.from_bytes
    for address in texts:
        try:
            yield number(pton(kind, address), "big")
        except OSError:
            continue


def parse_prefix(subnet: str) -> tuple[Block, int]:
    """``172.18.0.5/16`` -> (its block, the address before the slash).

    Raises:
        ValueError: not ADDRESS/LENGTH.
    """
    address, slash, length = subnet.partition("/")
    family, number = parse(address)
    if not slash or not length.isdecimal() or not length.isascii() or len(length) > 3:
        raise ValueError(f"{subnet[:100]!r} has no prefix length")
    bits, prefix = BITS[family], int(length)
    if prefix > bits or (length != "0" and length[0] == "0"):
        raise ValueError(f"{subnet[:100]!r} has no possible prefix length")
    host = (1 << (bits - prefix)) - 1
    return Block(family, number & ~host, prefix), number
