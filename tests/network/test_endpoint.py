"""A container's place on a network: whose neighbours are told its MAC."""

from __future__ import annotations

import os

from fastbox.network import endpoint
from fastbox.network.types import Attachment, Endpoint, Network


def test_who_is_announced(base: str) -> None:
    """Each address has one MAC, until somebody on the network brings his own."""
    networks = os.path.join(base, "networks")
    bridge, other = Network(id="1" * 64, name="a"), Network(id="2" * 64, name="b")
    macvlan = Network(id="3" * 64, name="c", driver="macvlan")
    for network in (bridge, other):
        os.makedirs(f"{networks}/{network.id}")
    plain = Attachment(network="a")
    place = Endpoint(id="e", network="a", network_id="1" * 64, mac="02:42:0a:00:00:02")
    assert not endpoint.is_announced(networks, bridge, plain, place)
    assert endpoint.is_announced(networks, macvlan, plain, place)
    assert endpoint.is_announced(
        networks, bridge, Attachment(network="a", mac="02:00:00:00:00:01"), place
    )
    # From then on neighbours may know that one for whatever address it had.
    assert endpoint.is_announced(networks, bridge, plain, place)
    assert not endpoint.is_announced(networks, other, plain, place)
