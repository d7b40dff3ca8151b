"""What of a host keeps containers' packets from being forwarded."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fastbox.network import firewall, obstacles
from tests.support.netns import World

BRIDGE = "fbt-one"


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        made.sysctl("host", "net/ipv4/ip_forward", "1")
        yield made


def found(world: World, rules: str = "", own: str = "fastbox_x") -> list[str]:
    if rules:
        world.run("host", ["nft", "-f", "-"], input=rules)
    return world.inside("host", lambda: obstacles.find([BRIDGE], own))


def chain(family: str, table: str, name: str, policy: str, *rules: str) -> str:
    lines = "\n".join(rules)
    return (
        f"table {family} {table} {{ chain {name} {{\n"
        f"type filter hook forward priority 0; policy {policy};\n{lines}\n}}\n}}\n"
    )


def test_nothing_in_the_way(world: World) -> None:
    world.inside("host", lambda: firewall.ensure("fastbox_x", []))
    assert found(world, chain("inet", "other", "way", "accept", "counter")) == []
    world.sysctl("host", "net/ipv4/ip_forward", "0")
    (line,) = found(world)
    assert "ip_forward is 0" in line
    assert world.inside("host", lambda: obstacles.find([])) == []


@pytest.mark.parametrize(
    ("family", "table", "name", "policy", "rules", "words"),
    [
        ("inet", "guard", "way", "drop", (), f"nft insert rule inet guard way iifname {BRIDGE}"),
        ("inet", "guard", "way", "accept", ("counter drop",), "nft insert rule inet guard way"),
        ("inet", "firewalld", "filter_FORWARD", "accept", ("reject with icmpx admin-prohibited",),
         f"--zone=trusted --add-interface={BRIDGE}"),
        ("ip", "filter", "FORWARD", "drop", (), f"iptables -I FORWARD -i {BRIDGE} -j ACCEPT"),
        ("ip6", "filter", "FORWARD", "drop", (), f"ip6tables -I FORWARD -i {BRIDGE} -j ACCEPT"),
    ],
)  # fmt: skip
def test_named_with_the_way_out(
    world: World, family: str, table: str, name: str, policy: str, rules: tuple[str], words: str
) -> None:
    (line,) = found(world, chain(family, table, name, policy, *rules))
    assert name in line and words in line and "\n" not in line
    # What it says helps, where it is nft that it says.
    command = line.partition(": nft ")[2]
    if command:
        world.run("host", ["sh", "-c", f"nft {command}"])
        assert found(world) == []


def test_docker_is_there(world: World) -> None:
    rules = chain("ip", "filter", "FORWARD", "drop") + "add chain ip filter DOCKER-USER\n"
    (line,) = found(world, rules)
    assert f"iptables -I DOCKER-USER -i {BRIDGE} -j ACCEPT" in line
    allow = "".join(
        f"add rule ip filter DOCKER-USER {way} {BRIDGE} accept\n" for way in ("iifname", "oifname")
    )
    assert found(world, allow) == []


def test_old_iptables(world: World, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["-P FORWARD DROP", "-N DOCKER-USER"]
    monkeypatch.setattr(obstacles, "_listed", lambda program: listed)
    names = f"{base}/names"
    with open(names, "w") as file:
        file.write("filter\n")
    real = open

    def opened(path: str, *args: str, **more: str) -> object:
        is_names = str(path).endswith("/ip_tables_names")
        return real(names if is_names else path, *args, **more)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", opened)
    (line,) = world.inside("host", lambda: obstacles._legacy([BRIDGE]))
    assert f"iptables-legacy -I DOCKER-USER -i {BRIDGE} -j ACCEPT" in line
    listed += [f"-A DOCKER-USER -i {BRIDGE} -j ACCEPT", f"-A DOCKER-USER -o {BRIDGE} -j ACCEPT"]
    assert world.inside("host", lambda: obstacles._legacy([BRIDGE])) == []
    assert os.path.exists(names)
