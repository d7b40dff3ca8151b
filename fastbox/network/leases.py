"""Addresses given out: ``RUNTIME/networks/NETID/leases/ADDRESS`` is a symlink to its holder.

symlink(2) fails where there is one, so two processes never have the same address. Who takes one
holds the directory's lock shared, who takes one away exclusively: what has been found to be stale
is still what it was when it goes. (The end of a run gives back what is its own, without a lock.)
The directory is in the runtime directory: after a reboot all are free.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Container
from typing import NamedTuple, TypeAlias

from .. import locks
from ..errors import Conflict, InvalidArgument
from . import addresses
from .types import Network

Stale: TypeAlias = "Callable[[str], bool]"


class _Space(NamedTuple):
    """What of a network may be given out: numbers ``first`` to ``last`` but ``never``."""

    first: int
    last: int
    never: frozenset[int]


def directory(runtime: str, network_id: str) -> str:
    """Where a network's leases are."""
    return f"{runtime}/networks/{network_id}/leases"


def take(
    runtime: str,
    network: Network,
    holder: str,
    *,
    ip: str = "",
    family: int = 4,
    stale: Stale | None = None,
) -> str:
    """Take an address of a network.

    Args:
        holder: ``CONTAINERID/NAME``; the part before the slash is what tells holders apart.
        ip: the one that is wanted, ``""``: the lowest that is free.
        stale: whether a holder is gone; asked only where its address is wanted or none is left.
            It must not say so while anything may still free the address on the holder's behalf.

    Returns:
        The address in canonical text.

    Raises:
        InvalidArgument: ``ip`` is not of the network (Docker's text).
        Conflict: it is taken, or all are (Docker's texts).
    """
    block, space = _space(network, family)
    where = directory(runtime, network.id)
    if ip:
        address = _asked(network, ip, family, block, space)
        if _make(where, address, holder) or _renew(where, address, holder):
            return address
        if stale is not None and _take_over(where, address, holder, stale):
            return address
        raise Conflict("Address already in use", hint=f"{address} is {_whose(where, address)}")
    address = _lowest(where, family, space, holder)
    if not address and stale is not None:
        _free_stale(where, stale, family)
        address = _lowest(where, family, space, holder)  # also what another process has freed
    if not address:
        raise Conflict(
            f"no available IPv{family} addresses on this network's address pools:"
            f" {network.name} ({network.id})"
        )
    return address


def free(runtime: str, network_id: str, address: str, holder: str) -> bool:
    """Give an address back, if it is the holder's; whether it was."""
    where = directory(runtime, network_id)
    with contextlib.suppress(FileNotFoundError), locks.lock(where):
        if _is_mine(where, address, holder):
            os.unlink(f"{where}/{address}")
            return True
    return False


def free_stale(runtime: str, network_id: str, up: Container[str], stale: Stale) -> None:
    """Free the addresses of holders that are gone, see ``take``.

    Args:
        up: ids of containers that run: about them, ``stale`` is not asked.
    """
    where = directory(runtime, network_id)
    with contextlib.suppress(FileNotFoundError):
        for address in os.listdir(where):
            holder = _holder(where, address)
            if holder and holder.partition("/")[0] not in up:
                _free_if_stale(where, address, stale)


def rename(runtime: str, network_id: str, address: str, holder: str) -> None:
    """Give a lease's holder another name."""
    _renew(directory(runtime, network_id), address, holder)


def holders(runtime: str, network_id: str) -> dict[str, str]:
    """Address -> holder of all that are taken."""
    where = directory(runtime, network_id)
    found: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for address in os.listdir(where):
            holder = _holder(where, address)
            if holder:
                found[address] = holder
    return found


# ---- what may be given out -----------------------------------------------------------------------


def _space(network: Network, family: int) -> tuple[addresses.Block, _Space]:
    for subnet in network.subnets:
        if (":" in subnet.subnet) != (family == 6):
            continue
        block, _ = addresses.parse_prefix(subnet.subnet)
        part = addresses.parse_prefix(subnet.ip_range)[0] if subnet.ip_range else block
        never = {addresses.parse(address)[1] for address in subnet.reserved.values()}
        never.add(addresses.parse(subnet.gateway)[1] if subnet.gateway else block.first + 1)
        if family == 6 or block.prefix < 31:
            never.add(block.first)  # the network's; IPv6: its routers' (RFC 4291 2.6.1)
        if family == 4 and block.prefix < 31:
            never.add(block.last)  # broadcast
        return block, _Space(part.first, part.last, frozenset(never))
    raise InvalidArgument(f"network {network.name} has no IPv{family} addresses")


def _asked(network: Network, ip: str, family: int, block: addresses.Block, space: _Space) -> str:
    try:
        found, number = addresses.parse(ip)
    except ValueError as error:
        raise InvalidArgument(f"invalid IPv{family} address: {ip[:100]}") from error
    if found != family:
        raise InvalidArgument(f"invalid IPv{family} address: {ip}")
    if not network.is_user_defined:
        raise InvalidArgument(
            "user-specified IP address is supported on user-defined networks only",
            hint="fastbox network create",
        )
    if not block.contains(number):
        raise InvalidArgument(
            f"no configured subnet contains IP address {ip}",
            hint=f"network {network.name} has {block}",
        )
    address = addresses.text(family, number)
    if number in space.never:
        raise Conflict("Address already in use", hint=f"{address} is not for containers")
    return address


# ---- taking --------------------------------------------------------------------------------------


def _make(where: str, address: str, holder: str) -> bool:
    while True:
        try:
            with locks.lock(where, shared=True):
                os.symlink(holder, f"{where}/{address}")
            return True
        except FileExistsError:
            return False
        except FileNotFoundError:
            network = os.path.dirname(where)
            for needed in (os.path.dirname(network), network, where):
                make_directory(needed)


def _renew(where: str, address: str, holder: str) -> bool:
    """Make a lease again that its holder has, left over from another run; whether it has it. Who
    finds the old one stale must not take the new one."""
    temporary = f"{where}/.{address}"
    with locks.lock(where):
        if not _is_mine(where, address, holder):
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(holder, temporary)
        os.rename(temporary, f"{where}/{address}")
        return True


def make_directory(path: str) -> None:
    """Make a directory of RUNTIME/networks: it can be read by the name server, which is nobody."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)  # whatever the umask is


def _lowest(where: str, family: int, space: _Space, holder: str) -> str:
    """Take the lowest free address; ``""``: there is none."""
    try:
        names = os.listdir(where)
    except FileNotFoundError:
        names = []
    passed = {*addresses.numbers(family, names), *space.never}
    # At most all of the taken ones are passed over: of a /64 no more is looked at than there is.
    for number in range(space.first, space.last + 1):
        if number not in passed:
            address = addresses.text(family, number)
            # What another process took since: the next one.
            if _make(where, address, holder):
                return address
    return ""


# ---- holders -------------------------------------------------------------------------------------


def _holder(where: str, address: str) -> str:
    try:
        return os.readlink(f"{where}/{address}")
    except OSError:  # free
        return ""


def _is_mine(where: str, address: str, holder: str) -> bool:
    return _holder(where, address).partition("/")[0] == holder.partition("/")[0]


def _whose(where: str, address: str) -> str:
    _, _, name = _holder(where, address).partition("/")
    return f"container {name}'s" if name else "another container's"


def _take_over(where: str, address: str, holder: str, stale: Stale) -> bool:
    """Take an address from a holder that is gone."""
    before = _found(where, address)
    if before is not None:
        if not stale(before.holder):
            return False
        _unlink(where, address, before)
    return _make(where, address, holder)


def _free_stale(where: str, stale: Stale, family: int = 0) -> None:
    """Free the addresses of holders that are gone, of one family: of the other one, who asks may
    have taken his own a moment ago."""
    try:
        names = os.listdir(where)
    except FileNotFoundError:
        return
    for address in names:
        if family and (":" in address) != (family == 6):
            continue
        _free_if_stale(where, address, stale)


def _free_if_stale(where: str, address: str, stale: Stale) -> None:
    before = _found(where, address)
    if before is not None and stale(before.holder):
        _unlink(where, address, before)


class _Lease(NamedTuple):
    """A lease as it was found. By its number and time: the same container may have it again."""

    holder: str
    inode: int
    changed: int


def _found(where: str, address: str) -> _Lease | None:
    path = f"{where}/{address}"
    try:
        # In this order: one that is replaced in between is no more the one that was found.
        info = os.lstat(path)
        return _Lease(os.readlink(path), info.st_ino, info.st_ctime_ns)
    except OSError:  # free
        return None


def _unlink(where: str, address: str, before: _Lease) -> None:
    """Free an address whose holder was found to be gone, unless somebody else has it by now: who
    found that may have given it back, and another process have taken it."""
    with contextlib.suppress(FileNotFoundError), locks.lock(where):
        if _found(where, address) == before:
            os.unlink(f"{where}/{address}")
