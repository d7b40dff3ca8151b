"""Subnets of networks: chosen from pools, or checked when the user gives them.

The pools, their order and the errors are Docker's. What the host uses already is read from
``/proc/thread-self/net``, which is the calling thread's network namespace (``/proc/self`` is the
process's first thread's).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ..errors import Conflict, FastboxError, InvalidArgument
from . import addresses
from .addresses import Block
from .types import Network, Subnet

NET = "/proc/thread-self/net"
RESOLV_CONF = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
_MAX_TEXT = 16 << 20  # bytes: a full BGP table is larger, and no host for containers


class Pool(msgspec.Struct, frozen=True):
    """Where subnets of one size come from."""

    block: Block
    prefix: int


def _pool(subnet: str, prefix: int) -> Pool:
    return Pool(addresses.parse_prefix(subnet)[0], prefix)


POOLS = (
    *(_pool(f"172.{second}.0.0/16", 16) for second in range(17, 32)),
    _pool("192.168.0.0/16", 20),
)

# What no network of containers can have.
_IMPOSSIBLE = {
    "0.0.0.0/8": "is this host",
    "127.0.0.0/8": "is loopback",
    "224.0.0.0/4": "is multicast",
    "240.0.0.0/4": "is reserved",
    "::/127": "is loopback",
    "ff00::/8": "is multicast",
}


class Used(msgspec.Struct, frozen=True):
    """A range of addresses that the host has something to do with.

    Attributes:
        direct: the host has an address in it; not direct: behind a gateway.
        what: in words, for an error.
    """

    block: Block
    what: str
    direct: bool = True


# ---- what the host uses ------------------------------------------------------------------------


def of_host() -> list[Used]:
    """Routes, addresses and name servers of the host, without default routes."""
    return [*_routes4(), *_routes6(), *_addresses4(), *_name_servers()]


def _lines(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(_MAX_TEXT).splitlines()
    return []


def _routes4() -> Iterator[Used]:
    for line in _lines(f"{NET}/route")[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        device, target, gateway, _, _, _, _, mask = fields[:8]
        # The kernel prints what lies in memory, as a number of the host's byte order.
        first, length = _swapped(target), _swapped(mask).bit_count()
        if length > 1:  # 0: the default route; 1: halves of it, as VPNs set them
            block = Block(4, first, length)
            yield Used(block, f"route {block} of {device}", int(gateway, 16) == 0)


def _swapped(word: str) -> int:
    import sys

    return int.from_bytes(int(word, 16).to_bytes(4, sys.byteorder), "big")


def _routes6() -> Iterator[Used]:
    for line in _lines(f"{NET}/ipv6_route"):
        fields = line.split()
        if len(fields) < 10 or fields[9] == "lo":
            continue
        block = Block(6, int(fields[0], 16), int(fields[1], 16))
        link_local_or_multicast = block.first >> 118 == 0xFE80 >> 6 or block.first >> 120 == 0xFF
        if block.prefix > 1 and not link_local_or_multicast:
            yield Used(block, f"route {block} of {fields[9]}", int(fields[4], 16) == 0)


def _addresses4() -> Iterator[Used]:
    """Addresses of the host: one with /32 has no route in the main table."""
    address = ""
    for line in _lines(f"{NET}/fib_trie"):
        text = line.strip()
        if text.startswith("|-- "):
            address = text[4:]
        elif text == "/32 host LOCAL" and not address.startswith("127."):
            yield Used(Block(4, addresses.parse(address)[1], 32), f"address {address} of the host")


def _name_servers() -> Iterator[Used]:
    for path in RESOLV_CONF:
        for line in _lines(path):
            words = line.split()
            if len(words) < 2 or words[0] != "nameserver":
                continue
            with contextlib.suppress(ValueError):
                family, number = addresses.parse(words[1].partition("%")[0])
                block = Block(family, number, addresses.BITS[family])
                yield Used(block, f"name server {words[1]}", False)


def of_networks(networks: Iterable[Network]) -> list[Used]:
    """The subnets of networks."""
    found = []
    for network in networks:
        for subnet in network.subnets:
            with contextlib.suppress(ValueError):
                block, _ = addresses.parse_prefix(subnet.subnet)
                found.append(Used(block, f"network {network.name}"))
    return found


# ---- choosing ----------------------------------------------------------------------------------


def choose4(used: Sequence[Used], prefix: int = 0) -> Subnet:
    """The first free subnet of the pools, and its first address as the gateway.

    Args:
        used: what it must not overlap.
        prefix: length of its prefix, 0: the pool's.

    Raises:
        FastboxError: none is left (Docker's text).
    """
    blocks = [entry.block for entry in used if entry.block.family == 4]
    for pool in POOLS:
        size = prefix or pool.prefix
        if size < pool.block.prefix:
            continue
        found = _first_free(pool.block, size, blocks)
        if found is not None:
            return Subnet(subnet=str(found), gateway=addresses.text(4, found.first + 1))
    raise FastboxError(
        "all predefined address pools have been fully subnetted",
        hint="remove networks that are not used (fastbox network prune), or give --subnet",
    )


def _first_free(space: Block, prefix: int, used: list[Block]) -> Block | None:
    step = 1 << (addresses.BITS[space.family] - prefix)
    first = space.first
    while first <= space.last:
        candidate = Block(space.family, first, prefix)
        ends = [block.last for block in used if block.overlaps(candidate)]
        if not ends:
            return candidate
        first = (max(ends) // step + 1) * step
    return None


def choose6(network_id: str, used: Sequence[Used]) -> Subnet:
    """A unique local /64 (RFC 4193) that follows from a network's id, so that it stays the same.

    Args:
        network_id: 64 random hex digits.
    """
    for start in range(0, len(network_id) - 10, 2):
        first = ((0xFD << 40) | int(network_id[start : start + 10], 16)) << 80
        block = Block(6, first, 64)
        if not any(block.overlaps(entry.block) for entry in used):
            return Subnet(subnet=str(block), gateway=addresses.text(6, first + 1))
    raise FastboxError("no unique local IPv6 prefix is free", hint="give --subnet")


# ---- checking ----------------------------------------------------------------------------------


def check(subnet: Subnet, networks: Sequence[Used], host: Sequence[Used]) -> Subnet:
    """A subnet that the user gives, complete (its gateway named), addresses in canonical text.

    Args:
        networks: other networks' subnets.
        host: what the host uses; empty where an overlap is meant (macvlan).

    Raises:
        InvalidArgument: malformed, or its parts do not fit (Docker's texts).
        Conflict: it overlaps with something.
    """
    block = _parse_subnet(subnet.subnet)
    for entry in networks:
        if entry.block.overlaps(block):
            raise Conflict(
                "invalid pool request: Pool overlaps with other one on this address space",
                hint=f"{block} overlaps with {entry.block} of {entry.what}",
            )
    for entry in host:
        # A smaller part of what lies behind a gateway (10.0.0.0/8 of a company) may be taken.
        within = not entry.direct and entry.block.prefix < block.prefix
        if entry.block.overlaps(block) and not within:
            raise Conflict(f"subnet {block} overlaps with {entry.what}", hint="choose another")
    return Subnet(
        subnet=str(block),
        gateway=_gateway(subnet.gateway, block),
        ip_range=_ip_range(subnet.ip_range, block),
        reserved={
            name: _address(value, block, f"auxiliary address {name}")
            for name, value in subnet.reserved.items()
        },
    )


def _parse_subnet(text: str) -> Block:
    try:
        block, address = addresses.parse_prefix(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid subnet {text[:100]}: {error}") from error
    if address != block.first:
        raise InvalidArgument(
            f"invalid network config: invalid subnet {text}: it should be {block}"
        )
    # A /31 has two addresses (RFC 3021); the first of an IPv6 one is its routers' (RFC 4291 2.6.1).
    if block.prefix > (31 if block.family == 4 else 126):
        raise InvalidArgument(
            f"invalid subnet {block}: it has no room for a gateway and a container",
            hint="the longest prefixes are /31 (IPv4) and /126 (IPv6)",
        )
    for range_, why in _IMPOSSIBLE.items():
        if addresses.parse_prefix(range_)[0].overlaps(block):
            raise InvalidArgument(f"invalid subnet {block}: {range_} {why}")
    return block


def _gateway(text: str, block: Block) -> str:
    if not text:
        # The network's own address is no host's, but in a /31.
        small = block.family == 4 and block.prefix == 31
        return addresses.text(block.family, block.first + (0 if small else 1))
    found = _address(text, block, f"gateway {text[:100]}")
    number = addresses.parse(found)[1]
    if block.family == 4 and block.prefix < 31 and number in (block.first, block.last):
        raise InvalidArgument(f"invalid gateway {found}: it is {block}'s own or broadcast address")
    return found


def _address(text: str, block: Block, what: str) -> str:
    try:
        family, number = addresses.parse(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid {what}: {error}") from error
    if family != block.family:
        raise InvalidArgument(f"invalid {what}: parent subnet is an IPv{block.family} block")
    if not block.contains(number):
        raise InvalidArgument(f"invalid {what}: parent subnet {block} doesn't contain this address")
    return addresses.text(family, number)


def _ip_range(text: str, block: Block) -> str:
    if not text:
        return ""
    try:
        found, address = addresses.parse_prefix(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid ip-range {text[:100]}: {error}") from error
    start = f"invalid network config: invalid ip-range {text}:"
    if found.family != block.family:
        raise InvalidArgument(f"{start} parent subnet is an IPv{block.family} block")
    if found.prefix < block.prefix:
        raise InvalidArgument(f"{start} CIDR block is bigger than its parent subnet {block}")
    if address != found.first:
        raise InvalidArgument(f"{start} it should be {found}")
    if not found.overlaps(block):
        raise InvalidArgument(f"{start} parent subnet {block} doesn't contain ip-range")
    return str(found)


def plan(
    network_id: str,
    asked: Sequence[Subnet],
    *,
    ipv6: bool,
    networks: Sequence[Used],
    host: Sequence[Used],
    is_bridge: bool,
) -> list[Subnet]:
    """The subnets of a new network: those asked for, and chosen ones where a family has none.

    Args:
        networks: other networks' subnets (``of_networks``). host: ``of_host()``.

    Raises:
        InvalidArgument, Conflict: see ``check``.
        FastboxError: the pools are exhausted.
    """
    found: dict[int, Subnet] = {}
    used = [*networks, *host]
    for subnet in asked:
        size = _size_only(subnet)
        if size:
            family, checked = 4, choose4(used, size)
        else:
            checked = check(subnet, networks, host if is_bridge else ())
            family = 6 if ":" in checked.subnet else 4
        if family in found:
            raise InvalidArgument(f"a network has one IPv{family} subnet, two were given")
        if family == 6 and not ipv6:
            raise InvalidArgument(
                f"subnet {checked.subnet} is of IPv6, which the network does not have",
                hint="add --ipv6",
            )
        found[family] = checked
    if 4 not in found:
        found[4] = choose4(used)
    if ipv6 and 6 not in found:
        found[6] = choose6(network_id, used)
    return [found[family] for family in sorted(found)]


def _size_only(subnet: Subnet) -> int:
    """``0.0.0.0/24``: any subnet of that size, as Docker has it; 0: it is not that."""
    if not subnet.subnet.startswith("0.0.0.0/"):
        return 0
    block = addresses.parse_prefix(subnet.subnet)[0] if subnet.subnet[8:].isdecimal() else None
    return block.prefix if block is not None and 16 <= block.prefix <= 29 else 0
