"""The packet filter's rules, as text for ``nft -f``: fixed; networks and ports are set elements.

One table of the family ``inet`` for each store. Nothing here touches another table, so what a host
firewall drops stays dropped: of all base chains at a hook each may drop, none can overrule another
(``obstacles.find`` looks for those that do).

**The types of the port maps are an interface**: network/messages.py adds their elements by netlink
messages, key and data laid out as these types have them (each part of a concatenation padded to 4
bytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import options
from .types import Network

# name -> type. What is a map has " : ".
SETS = {
    # Bridges of all of the store's networks.
    "bridges": "ifname",
    # Those of --internal networks.
    "internal": "ifname",
    # Those whose traffic leaves with the host's address.
    "masqueraded": "ifname",
    # (bridge, the same bridge) where containers may talk to one another.
    "same": "ifname . ifname",
    # (bridge, its subnet): where a container reaches itself, or a neighbour, by a published port.
    "hairpin4": "ifname . ipv4_addr",
    "hairpin6": "ifname . ipv6_addr",
    # What was there when fastbox switched forwarding on: the host does not become their router.
    "uplinks4": "ifname",
    "uplinks6": "ifname",
    # Bridges whose containers reach published ports through the monitor's sockets, see prerouting.
    "relayed": "ifname",
    # Published ports: on all addresses, and on one.
    "ports4": "inet_proto . inet_service : ipv4_addr . inet_service",
    "ports4_at": "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
    "ports6": "inet_proto . inet_service : ipv6_addr . inet_service",
    "ports6_at": "ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
}
_INTERVALS = ("hairpin4", "hairpin6")

_PORTS = (
    "dnat ip to ip daddr . meta l4proto . th dport map @ports4_at",
    "dnat ip to meta l4proto . th dport map @ports4",
    "dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6_at",
    "dnat ip6 to meta l4proto . th dport map @ports6",
)

# chain -> (type and place, rules). Rules only: no comments, no empty lines; they are counted.
CHAINS: dict[str, tuple[str, tuple[str, ...]]] = {
    # The bridges have route_localnet, so that 127.0.0.1 of the host can be translated to a
    # container's address. What comes from a container is neither to loopback (CVE-2020-8558) nor
    # from it: services trust such a source.
    "raw": (
        "type filter hook prerouting priority raw; policy accept;",
        (
            "iifname @bridges ip daddr 127.0.0.0/8 drop",
            "iifname @bridges ip saddr 127.0.0.0/8 drop",
        ),
    ),
    # Only what is for this host (CVE-2025-67499). Routing, which drops loopback addresses that come
    # from outside, is later: without the first rule a port at 127.0.0.1 would be the neighbours'.
    # Where br_netfilter brings bridged packets here, one whose translated destination is on the
    # bridge that it came from does not get routed but bridged, and a bridge sends nothing back to
    # the port it came from, nor from an isolated port to another: those are left to the monitor.
    "prerouting": (
        "type nat hook prerouting priority dstnat; policy accept;",
        (
            "ip daddr 127.0.0.0/8 return",
            "ip6 daddr ::1 return",
            "iifname @relayed return",
            "fib daddr type != local return",
            *_PORTS,
        ),
    ),
    # What the host itself sends. ::1 cannot be translated (there is no route_localnet of IPv6): the
    # monitor's socket answers.
    "output": (
        "type nat hook output priority -100; policy accept;",
        ("ip6 daddr ::1 return", "fib daddr type != local return", *_PORTS),
    ),
    # Only where it must be is a source replaced: the client's address stays (CVE-2021-20199).
    "postrouting": (
        "type nat hook postrouting priority srcnat; policy accept;",
        (
            "oifname @bridges ip saddr 127.0.0.0/8 masquerade",
            # The answer would go to the neighbour directly. Told by the subnet, not by iifname:
            # packets that br_netfilter brings here have none.
            "ct status dnat oifname . ip saddr @hairpin4 masquerade",
            "ct status dnat oifname . ip6 saddr @hairpin6 masquerade",
            "iifname @masqueraded oifname != @bridges masquerade",
        ),
    ),
    "forward": (
        "type filter hook forward priority filter; policy accept;",
        (
            "meta nfproto ipv4 iifname @uplinks4 oifname @uplinks4 drop",
            "meta nfproto ipv6 iifname @uplinks6 oifname @uplinks6 drop",
            "iifname != @bridges oifname != @bridges accept",
            # With br_netfilter, bridged packets come here too.
            "iifname . oifname @same accept",
            "iifname @internal drop",
            "oifname @internal drop",
            "ct state established,related accept",
            # Published: also to a neighbour that cannot be reached otherwise.
            "ct status dnat accept",
            "iifname @bridges oifname @bridges drop",
            "iifname @bridges accept",
            # To a container's own address, from somebody who has a route to it.
            "drop",
        ),
    ),
}

# chain -> number of its rules: what ``tables.rules`` finds when nobody has changed them.
RULES = {name: len(rules) for name, (_, rules) in CHAINS.items()}


def definition(table: str) -> str:
    """The table, without elements. ``create``: of two processes the second fails as a whole, rather
    than add all rules once more."""
    lines = [f"create table inet {table}", f"table inet {table} {{"]
    for name, kind in SETS.items():
        word = "map" if " : " in kind else "set"
        flags = "flags interval; " if name in _INTERVALS else ""
        lines.append(f"\t{word} {name} {{ type {kind}; {flags}}}")
    for name, (place, rules) in CHAINS.items():
        lines += [f"\tchain {name} {{", f"\t\t{place}", *(f"\t\t{rule}" for rule in rules), "\t}"]
    return "\n".join([*lines, "}", ""])


def elements(network: Network, relayed: bool = False) -> list[tuple[str, str]]:
    """(set, element) of a network.

    Args:
        relayed: br_netfilter is at work.
    """
    if network.driver != "bridge" or not network.device:
        return []
    device = f'"{network.device}"'
    found = [("bridges", device)]
    if network.internal:
        found.append(("internal", device))
    if options.masquerades(network):
        found.append(("masqueraded", device))
    if relayed:
        found.append(("relayed", device))
    if options.allows_icc(network):
        found.append(("same", f"{device} . {device}"))
    for subnet in network.subnets:
        found.append(("hairpin6" if ":" in subnet.subnet else "hairpin4",
                      f"{device} . {subnet.subnet}"))  # fmt: skip
    return found


def of_device(device: str) -> list[tuple[str, str]]:
    """(set, element) of all that a bridge alone may have: without its network's subnets."""
    sets = ("bridges", "internal", "masqueraded", "relayed")
    return [*((name, f'"{device}"') for name in sets), ("same", f'"{device}" . "{device}"')]


def uplinks(names: Mapping[int, Sequence[str]]) -> list[tuple[str, str]]:
    """(set, element) of interfaces, by family."""
    return [(f"uplinks{family}", f'"{name}"') for family in names for name in names[family]]


def add(table: str, entries: Sequence[tuple[str, str]]) -> str:
    """What adds elements; those that are there stay."""
    return "".join(f"add element inet {table} {name} {{ {what} }}\n" for name, what in entries)


def delete(table: str, entries: Sequence[tuple[str, str]]) -> str:
    """What deletes elements. ``add`` first: deleting one that is not there would be an error."""
    return add(table, entries) + "".join(
        f"delete element inet {table} {name} {{ {what} }}\n" for name, what in entries
    )
