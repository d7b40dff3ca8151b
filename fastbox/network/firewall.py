"""The store's packet filter: one nftables table with fixed rules, in which networks and published
ports are elements of sets (``ruleset``).

Loading the rules is rare and done by ``nft``, in one transaction; elements of ports are added by
netlink messages (network/messages.py).
"""

from __future__ import annotations

import _socket as socket  # the module over it costs milliseconds
import os
from collections.abc import Mapping, Sequence

from ..errors import FastboxError, PermissionDenied, Unsupported
from . import messages, options, ruleset, tables
from .tables import exists, generation
from .types import Network

__all__ = [
    "add_network", "add_uplinks", "ensure", "exists", "generation", "intact", "missing",
    "open_socket", "remove", "remove_device", "remove_network", "sees_bridged", "table_name",
    "update_relayed",
]  # fmt: skip

_TIMEOUT = 60  # seconds; nft waits for no one, but a rule set of 100,000 elements takes a while
_ATTEMPTS = 3


def table_name(root: str) -> str:
    """Name of a store's table."""
    if root == options.DEFAULT_ROOT:
        return "fastbox"
    return f"fastbox_{options.store_hash(root)}"


def open_socket() -> socket.socket:
    """An nfnetlink socket. Raises as ``missing``."""
    try:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        return socket.socket(socket.AF_NETLINK, kind, messages.NETLINK_NETFILTER)
    except OSError as error:
        raise _refused(error) from error


def missing(table: str, netfilter: socket.socket | None = None) -> bool:
    """Whether the table has to be loaded. Quick: one netlink request; see ``generation`` for not
    having to ask at all.

    Args:
        netfilter: the socket to ask over.

    Raises:
        Unsupported: the kernel has no nf_tables.
        PermissionDenied: no CAP_NET_ADMIN.
    """
    try:
        return not exists(table, netfilter)
    except OSError as error:
        raise _refused(error) from error


def intact(table: str) -> bool:
    """Whether the table is there and has all of its rules (not: all of its elements)."""
    try:
        return tables.rules(table) == ruleset.RULES
    except OSError as error:
        raise _refused(error) from error


def ensure(
    table: str, networks: Sequence[Network], uplinks: Mapping[int, Sequence[str]] | None = None
) -> bool:
    """Load the rules, if they are not there as they should be: an administrator's flush, a reload
    of the host's firewall.

    Args:
        networks: all of the store's.
        uplinks: interfaces between which the host must not forward (``device.uplinks``).

    Returns:
        Whether they were loaded: then published ports have to be added again.

    Raises:
        Unsupported: no ``nft``, or no nf_tables in the kernel.
        PermissionDenied: no CAP_NET_ADMIN.
        FastboxError: nft's words.
    """
    if intact(table):
        return False
    relayed = sees_bridged()
    entries = [entry for network in networks for entry in ruleset.elements(network, relayed)]
    entries += ruleset.uplinks(uplinks or {})
    for attempt in range(_ATTEMPTS):
        # What is there but damaged goes in the same transaction: no packet meets half of it.
        before = f"delete table inet {table}\n" if not missing(table) else ""
        try:
            _load(before + ruleset.definition(table) + ruleset.add(table, entries))
            return True
        except FastboxError:
            if intact(table):  # another process was faster
                break
            # It may just be replacing them: rules are counted less before they are gone.
            if attempt + 1 == _ATTEMPTS:
                raise
    _load(ruleset.add(table, entries))
    return True


def add_network(table: str, network: Network) -> None:
    """Add a network's elements; those that are there stay. Raises as ``ensure``."""
    relayed = sees_bridged()
    entries = ruleset.elements(network, relayed)
    if not entries:
        return
    text = ruleset.add(table, entries)
    if not relayed:
        text += ruleset.delete(table, [("relayed", f'"{network.device}"')])
    _load(text)


def update_relayed(table: str, networks: Sequence[Network]) -> None:
    """Let what depends on ``sees_bridged`` be as it is now: br_netfilter may come, and go, at any
    time. Raises as ``ensure``."""
    bridges = [network.device for network in networks if network.driver == "bridge"]
    entries = [("relayed", f'"{device}"') for device in bridges]
    if entries and not missing(table):
        _load((ruleset.add if sees_bridged() else ruleset.delete)(table, entries))


def add_uplinks(table: str, names: Mapping[int, Sequence[str]]) -> None:
    """Forward nothing between these interfaces, by family. Raises as ``ensure``."""
    if any(names.values()):
        _load(ruleset.add(table, ruleset.uplinks(names)))


def remove_network(table: str, network: Network) -> None:
    """Delete a network's elements, if there are any. Raises as ``ensure``."""
    entries = ruleset.elements(network, relayed=True)
    if entries and not missing(table):
        _load(ruleset.delete(table, entries))


def remove_device(table: str, device: str) -> None:
    """Delete the elements of a bridge of which no more is known. Raises as ``ensure``."""
    if not missing(table):
        _load(ruleset.delete(table, ruleset.of_device(device)))


def sees_bridged() -> bool:
    """Whether br_netfilter shows bridged packets to the filter (Kubernetes, Docker without icc)."""
    for name in ("iptables", "ip6tables"):
        try:
            with open(f"/proc/sys/net/bridge/bridge-nf-call-{name}") as file:
                if file.read().strip() != "0":
                    return True
        except OSError:
            continue  # not loaded
    return False


def remove(table: str) -> None:
    """Delete the table, if there is one."""
    if not missing(table):
        try:
            _load(f"delete table inet {table}\n")
        except FastboxError:
            if not missing(table):
                raise


def run(argv: list[str], text: str = "") -> str:
    """What ``nft`` answers.

    Raises:
        Unsupported: there is no such program.
        PermissionDenied: it must not.
        FastboxError: its first line of complaint.
    """
    import subprocess

    # A user's PATH may lack the sbin directories.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin"
    environment = {"PATH": path, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["nft", *argv], input=text, capture_output=True, text=True, errors="replace",
            env=environment, timeout=_TIMEOUT, cwd="/",
        )  # fmt: skip
    except (FileNotFoundError, PermissionError) as error:
        raise Unsupported(
            "the program nft is missing, which sets the packet filter up",
            hint="install nftables (apt-get install nftables), or use --network none or host",
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FastboxError(f"cannot run nft: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        if "Operation not permitted" in done.stderr:
            raise _no_privilege()
        raise FastboxError(f"cannot set up the packet filter: nft: {lines[0][:300]}")
    return done.stdout


def _load(text: str) -> None:
    run(["-f", "-"], text)


def _refused(error: OSError) -> FastboxError:
    if error.errno in tables.ABSENT:
        return Unsupported(
            "the kernel has no nf_tables, which networks need",
            hint="modprobe nf_tables, or use --network none or host",
        )
    if isinstance(error, PermissionError):
        return _no_privilege()
    return FastboxError(f"cannot look at the packet filter: {(error.strerror or '').lower()}")


def _no_privilege() -> PermissionDenied:
    return PermissionDenied(
        "cannot set up the packet filter: operation not permitted",
        hint="networks need root's CAP_NET_ADMIN; --network none or host do without",
    )
