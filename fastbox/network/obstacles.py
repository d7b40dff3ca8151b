"""What of the host keeps containers' packets from being forwarded, in words: for ``fastbox info``.

nftables lets each base chain of a hook drop; an accept of ours overrules nobody. fastbox changes no
table of others, it says what would have to be changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ..errors import FastboxError
from . import device, firewall


def find(bridges: Sequence[str], own: str = "") -> list[str]:
    """One line for each obstacle, with the command that removes it.

    Args:
        bridges: the store's bridges that there are.
        own: the store's table.
    """
    if not bridges:
        return []
    found = []
    if not device.is_forwarding():
        found.append(
            "net.ipv4.ip_forward is 0, containers reach only the host:"
            " sysctl -w net.ipv4.ip_forward=1"
        )
    found += _nftables(bridges, own)
    found += _legacy(bridges)
    return found


# ---- nftables (and iptables-nft, firewalld, ufw on top of it) ------------------------------------


def _nftables(bridges: Sequence[str], own: str) -> list[str]:
    try:
        text = firewall.run(["-j", "list", "ruleset"])
        entries = msgspec.json.decode(text)["nftables"]
    except (FastboxError, msgspec.MsgspecError, KeyError, TypeError):
        return []
    chains = [e["chain"] for e in entries if isinstance(e, dict) and "chain" in e]
    rules = [e["rule"] for e in entries if isinstance(e, dict) and "rule" in e]
    found = []
    for chain in chains:
        if chain.get("hook") != "forward" or chain.get("family") not in ("inet", "ip", "ip6"):
            continue
        if chain["table"].startswith("fastbox") or chain["table"] == own:
            continue
        mine = [r for r in rules if (r["family"], r["table"]) == (chain["family"], chain["table"])]
        if _blocks(chain, mine):
            closed = [b for b in bridges if not _is_allowed(b, mine)]
            found += [_words(chain, bridge, chains) for bridge in closed]
    return found


def _blocks(chain: dict[str, Any], rules: Iterable[dict[str, Any]]) -> bool:
    """Whether what no rule accepts is dropped: by policy, or by a last rule without a condition."""
    if chain.get("policy") == "drop":
        return True
    last: list[Any] = []
    for rule in rules:
        if rule["chain"] == chain["name"]:
            last = rule.get("expr", [])
    words = [next(iter(entry), "") if isinstance(entry, dict) else "" for entry in last]
    return bool(words) and words[-1] in ("drop", "reject") and set(words[:-1]) <= {"counter", "log"}


def _is_allowed(bridge: str, rules: Iterable[dict[str, Any]]) -> bool:
    """Whether some rules of the table accept the bridge's packets, in and out."""
    ways = set()
    for rule in rules:
        if not any(isinstance(e, dict) and "accept" in e for e in rule.get("expr", [])):
            continue
        for entry in rule.get("expr", []):
            match = entry.get("match") if isinstance(entry, dict) else None
            if isinstance(match, dict) and _names(match.get("right"), bridge):
                ways.add(str(match.get("left")))
    return any("iifname" in way for way in ways) and any("oifname" in way for way in ways)


def _names(right: object, bridge: str) -> bool:
    if isinstance(right, dict):
        right = right.get("set", [])
    names = right if isinstance(right, list) else [right]
    return any(
        name == bridge
        or (isinstance(name, str) and name.endswith("*") and bridge.startswith(name[:-1]))
        for name in names
    )


def _words(chain: dict[str, Any], bridge: str, chains: Iterable[dict[str, Any]]) -> str:
    family, table, name = chain["family"], chain["table"], chain["name"]
    where = f"nftables: table {family} {table}, chain {name} drops what {bridge} forwards"
    if table == "firewalld":
        return (
            f"firewalld: chain {name} drops what {bridge} forwards: firewall-cmd --permanent"
            f" --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
        )
    if table == "filter" and name == "FORWARD" and family in ("ip", "ip6"):
        program = "iptables" if family == "ip" else "ip6tables"
        there = {c["name"] for c in chains if (c["family"], c["table"]) == (family, table)}
        # Docker's own chain for such rules is kept when it sets up its others anew.
        target = "DOCKER-USER" if "DOCKER-USER" in there else "FORWARD"
        return f"{where}: {_iptables(program, target, bridge)}"
    insert = f"nft insert rule {family} {table} {name}"
    return f"{where}: {insert} iifname {bridge} accept; {insert} oifname {bridge} accept"


def _iptables(program: str, chain: str, bridge: str) -> str:
    insert = f"{program} -I {chain}"
    return f"{insert} -i {bridge} -j ACCEPT; {insert} -o {bridge} -j ACCEPT"


# ---- iptables-legacy -----------------------------------------------------------------------------


def _legacy(bridges: Sequence[str]) -> list[str]:
    """The old iptables' rules, which nft does not show."""
    found = []
    for names, program in (("ip_tables_names", "iptables"), ("ip6_tables_names", "ip6tables")):
        try:
            with open(f"/proc/thread-self/net/{names}") as file:
                tables = file.read().split()
        except OSError:
            continue
        rules = _listed(f"{program}-legacy") if "filter" in tables else []
        if "-P FORWARD DROP" not in rules:
            continue
        target = "DOCKER-USER" if "-N DOCKER-USER" in rules else "FORWARD"
        for bridge in bridges:
            accepts = [r for r in rules if r.endswith("-j ACCEPT")]
            ways = [w for w in ("-i", "-o") if any(f" {w} {bridge} " in r for r in accepts)]
            if len(ways) < 2:
                found.append(
                    f"{program}: chain FORWARD drops what {bridge} forwards:"
                    f" {_iptables(f'{program}-legacy', target, bridge)}"
                )
    return found


def _listed(program: str) -> list[str]:
    import subprocess

    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin"
    try:
        done = subprocess.run(
            [program, "-S"], capture_output=True, text=True, timeout=30,
            env={"PATH": path, "LC_ALL": "C"}, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()
