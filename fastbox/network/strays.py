"""Bridges whose network is gone: who removed it was killed before the bridge, too, was removed.
Such a one keeps its subnet from being used again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import FastboxError
from . import device, firewall, leases, options

if TYPE_CHECKING:
    from .store import NetworkStore


def likely(store: NetworkStore) -> bool:
    """Whether there is an interface that is called as bridges are and is none of the store's
    networks'. Quick; it may be another store's."""
    found = {name for name in device.interfaces() if name.startswith(options.BRIDGE_PREFIX)}
    return bool(found) and not found <= {network.device for network in store.stored()}


def sweep(store: NetworkStore, *, thorough: bool = False) -> bool:
    """Remove the bridges of networks that the store has no more; whether there were any. Those that
    something is on stay, and those that do not say whose they are. Failures are passed over: what
    this is done for may work all the same.

    Args:
        thorough: look also where nothing is likely: a bridge may have been given any name. (That
            takes the time of importing pyroute2.)
    """
    if not thorough and not likely(store):
        return False
    owner, table = options.store_hash(store.root), firewall.table_name(store.root)
    is_removed = False
    try:
        found = device.bridges()
        # After that: a network's file is there before its bridge.
        known = {network.id for network in store.stored()}
        if store.damaged():
            return False  # any of them may be that one's
        for name, bridge in found.items():
            if bridge.owner != owner or bridge.network in known or bridge.is_used:
                continue
            if leases.holders(os.path.dirname(store.runtime), bridge.network):
                continue  # a container's that is being started
            firewall.remove_device(table, name)
            is_removed |= device.remove_bridge(name)
    except FastboxError:
        pass
    return is_removed
