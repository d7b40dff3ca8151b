"""The store's packet filter: one nftables table with fixed rules, in which networks and published
ports are elements of sets (``ruleset``).

Loading the rules is rare and done by ``nft``, in one transaction; elements of ports are added by
netlink messages (network/messages.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import FastboxError, PermissionDenied, Unsupported
from . import options, ruleset, tables
from .tables import exists, generation
from .types import Network

__all__ = [
    "add_network", "add_uplinks", "ensure", "exists", "generation", "intact", "missing",
    "remove", "remove_network", "table_name",
]  # fmt: skip

_TIMEOUT = 60  # seconds; nft waits for no one, but a rule set of 100,000 elements takes a while


def table_name(root: str) -> str:
    """Name of a store's table."""
    if root == options.DEFAULT_ROOT:
        return "fastbox"
    return f"fastbox_{options.store_hash(root)}"


def missing(table: str) -> bool:
    """Whether the table has to be loaded. Quick: one netlink request; see ``generation`` for not
    having to ask at all.

    Raises:
        Unsupported: the kernel has no nf_tables.
        PermissionDenied: no CAP_NET_ADMIN.
    """
    try:
        return not exists(table)
    except OSError as error:
        raise _refused(error) from error


def intact(table: str) -> bool:
    """Whether the table is there and has all of its rules (not: all of its elements)."""
    try:
        return tables.rules(table) == ruleset.RULES
    except OSError as error:
        raise _refused(error) from error


def ensure(table: str, networks: Sequence[Network], uplinks: Sequence[str] = ()) -> bool:
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
    entries = [entry for network in networks for entry in ruleset.elements(network)]
    entries += [("uplinks", f'"{name}"') for name in uplinks]
    # What is there but damaged goes in the same transaction, so that no packet meets half of it.
    before = f"delete table inet {table}\n" if not missing(table) else ""
    try:
        _load(before + ruleset.definition(table) + ruleset.add(table, entries))
    except FastboxError:
        if not intact(table):  # otherwise another process was faster
            raise
        _load(ruleset.add(table, entries))
    return True


def add_network(table: str, network: Network) -> None:
    """Add a network's elements; those that are there stay. Raises as ``ensure``."""
    entries = ruleset.elements(network)
    if entries:
        _load(ruleset.add(table, entries))


def add_uplinks(table: str, names: Sequence[str]) -> None:
    """Forward nothing between these interfaces. Raises as ``ensure``."""
    if names:
        _load(ruleset.add(table, [("uplinks", f'"{name}"') for name in names]))


def remove_network(table: str, network: Network) -> None:
    """Delete a network's elements, if there are any. Raises as ``ensure``."""
    entries = ruleset.elements(network)
    if entries and not missing(table):
        _load(ruleset.delete(table, entries))


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
