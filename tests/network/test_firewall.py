"""The packet filter, with packets: a host with bridges, containers on them, a neighbour outside."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator

import pytest

from fastbox.errors import PermissionDenied, Unsupported
from fastbox.network import device, firewall, tables
from fastbox.network.types import Network, Subnet
from tests.support.netns import HOST4, HOST6, OUTSIDE4, OUTSIDE6, World

TABLE = "fastbox_test"
WEB, DB, OTHER = "172.30.0.2", "172.30.0.3", "172.31.0.2"
WEB6 = "fd00:30::2"


def network(name: str, number: int, **more: object) -> Network:
    subnets = [
        Subnet(subnet=f"172.{number}.0.0/16", gateway=f"172.{number}.0.1"),
        Subnet(subnet=f"fd00:{number}::/64", gateway=f"fd00:{number}::1"),
    ]
    return Network(
        id=f"{number:02x}" * 32, name=name, device=f"fbt-{name}", subnets=subnets,
        ipv6=True, **more,  # type: ignore[arg-type]
    )  # fmt: skip


class Net:
    """A world in which fastbox has set up networks."""

    def __init__(self, world: World, runtime: str) -> None:
        self.world = world
        self.runtime = runtime
        self.networks: list[Network] = []
        self.is_relayed = world.inside("host", firewall.sees_bridged)

    def up(self, *networks: Network) -> None:
        self.networks += networks
        self.world.inside("host", self._up)

    def _up(self) -> None:
        firewall.ensure(TABLE, self.networks)
        for network in self.networks:
            device.ensure_bridge(network)
            firewall.add_network(TABLE, network)
        device.enable_forwarding(
            self.runtime, True, lambda names: firewall.add_uplinks(TABLE, names)
        )

    def container(self, name: str, network: Network, last: int) -> None:
        number = network.device and network.subnets[0].subnet.split(".")[1]
        self.world.container(
            name,
            network.device,
            [f"172.{number}.0.{last}/16", f"fd00:{number}::{last}/64"],
            f"172.{number}.0.1 fd00:{number}::1",
        )

    def publish(self, port: int, to: str, at: str = "", protocol: str = "tcp") -> None:
        """As the netlink messages do."""
        family = "6" if ":" in to else "4"
        key = f"{protocol} . {port}"
        name = f"ports{family}"
        if at:
            name, key = f"{name}_at", f"{at} . {key}"
        self.nft(f"add element inet {TABLE} {name} {{ {key} : {to} . 80 }}")

    def nft(self, text: str) -> str:
        return self.world.run("host", ["nft", "-f", "-"], input=text + "\n")


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


@pytest.fixture(params=["bridged", "br_netfilter"])
def net(world: World, runtime_dir: str, request: pytest.FixtureRequest) -> Net:
    """With bridged packets shown to the filter, and without."""
    for name in ("iptables", "ip6tables"):
        path = f"/proc/sys/net/bridge/bridge-nf-call-{name}"
        if os.path.exists(path):
            value = "1" if request.param == "br_netfilter" else "0"
            world.sysctl("host", f"net/bridge/bridge-nf-call-{name}", value)
        else:
            assert request.param == "bridged", "no br_netfilter in this kernel"
    return Net(world, runtime_dir)


@pytest.fixture
def two(net: Net) -> Net:
    """Containers web and db on one network, other on another; each has a server at port 80."""
    one, other = network("one", 30), network("two", 31)
    net.up(one, other)
    for name, where, last in (("web", one, 2), ("db", one, 3), ("other", other, 2)):
        net.container(name, where, last)
        for address in ("0.0.0.0", "::"):
            net.world.serve(name, address, 80)
            net.world.serve(name, address, 80, "udp")
    return net


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_published(two: Net, protocol: str) -> None:
    world = two.world
    if two.is_relayed:  # in the monitor's place
        for address in (HOST4, HOST6, "172.30.0.1"):
            world.serve("host", address, 8080, protocol)
    two.publish(8080, WEB, protocol=protocol)
    two.publish(8080, WEB6, protocol=protocol)
    # From outside: the client's address stays.
    assert world.ask("outside", HOST4, 8080, protocol) == OUTSIDE4
    assert world.ask("outside", HOST6, 8080, protocol) == OUTSIDE6
    # From the host, by all of its addresses.
    assert world.ask("host", HOST4, 8080, protocol) == HOST4
    assert world.ask("host", "127.0.0.1", 8080, protocol) == "172.30.0.1"
    assert world.ask("host", "127.9.9.9", 8080, protocol) == "172.30.0.1"
    assert world.ask("host", HOST6, 8080, protocol) == HOST6
    assert world.is_blocked("host", "::1", 8080, protocol)  # the monitor's socket would answer
    # From containers: a neighbour, and one of another network, whose address stays.
    assert world.ask("db", HOST4, 8080, protocol)
    assert world.ask("db", "172.30.0.1", 8080, protocol)
    assert world.ask("other", HOST4, 8080, protocol) == OTHER
    assert world.ask("other", HOST6, 8080, protocol) == "fd00:31::2"
    # Other ports, and others' packets that pass through, are not touched.
    assert world.is_blocked("outside", HOST4, 8081, protocol)


def test_a_container_reaches_itself(two: Net) -> None:
    """By the filter, or by the monitor's socket: whose peer it is itself then."""
    two.publish(8080, WEB)
    if two.is_relayed:
        two.world.serve("host", HOST4, 8080)
    expected = WEB if two.is_relayed else "172.30.0.1"
    assert two.world.ask("web", HOST4, 8080) == expected


def test_published_at_one_address(two: Net) -> None:
    world = two.world
    world.ip("host", "address add 192.0.2.9/24 dev eth0")
    two.publish(8080, WEB, at="192.0.2.9")
    two.publish(8080, DB)
    two.publish(9090, WEB6, at=HOST6)
    assert world.ask("outside", "192.0.2.9", 8080) == OUTSIDE4
    assert world.ask("outside", HOST6, 9090) == OUTSIDE6
    world.run("web", ["ip", "link", "set", "eth0", "down"])
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4  # db's
    assert world.is_blocked("outside", "192.0.2.9", 8080)  # and it is web's


def test_a_port_at_127_0_0_1_is_the_hosts_alone(two: Net) -> None:
    world = two.world
    two.publish(8080, WEB, at="127.0.0.1")
    assert world.ask("host", "127.0.0.1", 8080) == "172.30.0.1"
    assert world.is_blocked("host", HOST4, 8080)
    # A neighbour that has routes, to the container and to the host's loopback.
    world.ip("outside", f"route add 172.30.0.0/16 via {HOST4}")
    world.ip("outside", "address del 127.0.0.1/8 dev lo")
    world.ip("outside", "route flush table local 127.0.0.0/8")
    world.sysctl("outside", "net/ipv4/conf/all/route_localnet", "1")
    world.ip("outside", f"route add 127.0.0.1/32 via {HOST4} src {OUTSIDE4}")
    for target, port in ((HOST4, 8080), ("127.0.0.1", 8080), (WEB, 80), (WEB, 8080)):
        assert world.is_blocked("outside", target, port)
    # Even where the host has been told to take loopback addresses from outside.
    world.sysctl("host", "net/ipv4/conf/eth0/route_localnet", "1")
    assert world.is_blocked("outside", "127.0.0.1", 8080)


def test_containers_do_not_reach_the_hosts_loopback(two: Net) -> None:
    world = two.world
    world.serve("host", "127.0.0.1", 5000)
    world.serve("host", "0.0.0.0", 5001)
    assert world.ask("web", "172.30.0.1", 5001) == WEB  # the host itself is reachable
    world.ip("web", "address del 127.0.0.1/8 dev lo")
    world.ip("web", "route flush table local 127.0.0.0/8")
    world.sysctl("web", "net/ipv4/conf/all/route_localnet", "1")
    world.ip("web", f"route add 127.0.0.1/32 via 172.30.0.1 src {WEB}")
    assert world.is_blocked("web", "127.0.0.1", 5000)


def test_who_reaches_whom(two: Net) -> None:
    world = two.world
    assert world.ask("web", DB, 80) == WEB and world.ask("web", "fd00:30::3", 80) == WEB6
    assert world.is_blocked("web", OTHER, 80) and world.is_blocked("web", "fd00:31::2", 80)
    assert world.ask("host", WEB, 80) == "172.30.0.1"
    world.ip("outside", f"route add 172.30.0.0/16 via {HOST4}")
    world.ip("outside", f"route add fd00:30::/64 via {HOST6}")
    assert world.is_blocked("outside", WEB, 80) and world.is_blocked("outside", WEB6, 80)


def test_the_way_out(two: Net) -> None:
    world = two.world
    world.serve("outside", "0.0.0.0", 80)
    world.serve("outside", "::", 80)
    assert world.ask("web", OUTSIDE4, 80) == HOST4
    assert world.ask("web", OUTSIDE6, 80) == HOST6
    # Not hidden where that was asked for.
    firewall_options = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    plain = network("plain", 29, options=firewall_options)
    two.up(plain)
    two.container("seen", plain, 2)
    world.ip("outside", f"route add 172.29.0.0/16 via {HOST4}")
    assert world.ask("seen", OUTSIDE4, 80) == "172.29.0.2"


def test_internal(two: Net) -> None:
    world = two.world
    inner = network("inner", 28, internal=True)
    two.up(inner)
    two.container("a", inner, 2)
    two.container("b", inner, 3)
    for name in ("a", "b"):
        world.serve(name, "0.0.0.0", 80)
    world.serve("outside", "0.0.0.0", 80)
    world.serve("host", "0.0.0.0", 5000)
    two.publish(8080, WEB)
    two.publish(8081, "172.28.0.2")
    assert world.ask("a", "172.28.0.3", 80) == "172.28.0.2"
    assert world.ask("a", "172.28.0.1", 5000) == "172.28.0.2"
    assert world.ask("host", "172.28.0.2", 80) == "172.28.0.1"
    for target, port in ((OUTSIDE4, 80), (WEB, 80), (HOST4, 8080)):
        assert world.is_blocked("a", target, port)
    assert world.is_blocked("web", "172.28.0.2", 80)
    assert world.is_blocked("outside", HOST4, 8081)


def test_containers_that_may_not_talk(net: Net) -> None:
    """Routed packets and, with br_netfilter, bridged ones; without, the ports are isolated."""
    world = net.world
    quiet = network("quiet", 27, options={"com.docker.network.bridge.enable_icc": "false"})
    net.up(quiet)
    for name, last in (("a", 2), ("b", 3)):
        net.container(name, quiet, last)
        world.serve(name, "0.0.0.0", 80)
    for port in ports_of(world, quiet):
        world.run("host", ["bridge", "link", "set", "dev", port, "isolated", "on"])
    assert world.is_blocked("a", "172.27.0.3", 80)
    assert world.ask("host", "172.27.0.3", 80) == "172.27.0.1"
    world.serve("outside", "0.0.0.0", 80)
    assert world.ask("a", OUTSIDE4, 80) == HOST4
    net.publish(8080, "172.27.0.3")
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4


def test_the_filter_keeps_those_apart_that_share_no_port_flag(net: Net) -> None:
    if not net.is_relayed:
        return  # bridged packets are not seen
    quiet = network("quiet", 27, options={"com.docker.network.bridge.enable_icc": "false"})
    net.up(quiet)
    for name, last in (("a", 2), ("b", 3)):
        net.container(name, quiet, last)
        net.world.serve(name, "0.0.0.0", 80)
    assert net.world.is_blocked("a", "172.27.0.3", 80)


def ports_of(world: World, network: Network) -> list[str]:
    found = world.run("host", ["ip", "-j", "link", "show", "master", network.device])
    return [link["ifname"] for link in json.loads(found)]


@pytest.mark.parametrize("before", ["0", "1"])
def test_the_host_becomes_nobodys_router(net: Net, before: str) -> None:
    world = net.world
    world.add("far")
    world.join("host", "eth1", ["198.51.100.1/24"], "far", "eth0", ["198.51.100.2/24"])
    world.ip("outside", f"route add 198.51.100.0/24 via {HOST4}")
    world.ip("far", "route add default via 198.51.100.1")
    world.serve("far", "0.0.0.0", 80)
    world.sysctl("host", "net/ipv4/ip_forward", before)
    one = network("one", 30)
    net.up(one)
    assert world.sysctl("host", "net/ipv4/ip_forward") == "1"
    assert world.is_blocked("outside", "198.51.100.2", 80) is (before == "0")
    if before == "1":
        assert world.ask("outside", "198.51.100.2", 80) == OUTSIDE4
    net.container("web", one, 2)
    assert world.ask("web", "198.51.100.2", 80) == "198.51.100.1"


# ---- the table -----------------------------------------------------------------------------------


def test_loaded_once_and_found_damaged(world: World) -> None:
    one, two = network("one", 30), network("two", 31, internal=True)

    def check() -> None:
        world_before = tables.generation()
        assert firewall.missing(TABLE) and not firewall.intact(TABLE)
        assert firewall.ensure(TABLE, [one], {4: ["eth0"]})
        assert not firewall.ensure(TABLE, [one]) and firewall.exists(TABLE)
        assert firewall.generation() > world_before
        firewall.add_network(TABLE, two)
        firewall.add_network(TABLE, two)
        firewall.remove_network(TABLE, one)
        firewall.remove_network(TABLE, one)
        listed = firewall.run(["list", "table", "inet", TABLE])
        assert "fbt-two" in listed and "fbt-one" not in listed and '"eth0"' in listed
        firewall.run(["flush", "chain", "inet", TABLE, "forward"])
        assert firewall.exists(TABLE) and not firewall.intact(TABLE)
        assert firewall.ensure(TABLE, [one]) and firewall.intact(TABLE)
        firewall.run(["flush", "ruleset"])
        assert firewall.missing(TABLE) and firewall.ensure(TABLE, [one])
        firewall.remove(TABLE)
        firewall.remove(TABLE)
        firewall.remove_network(TABLE, one)
        assert firewall.missing(TABLE)

    world.inside("host", check)


def test_br_netfilter_comes_and_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = network("one", 30), network("two", 31)

    def relayed(now: bool) -> set[bool]:
        monkeypatch.setattr(firewall, "sees_bridged", lambda: now)
        firewall.update_relayed(TABLE, [one, two])
        text = firewall.run(["list", "set", "inet", TABLE, "relayed"])
        return {net.device in text for net in (one, two)}

    def act() -> list[set[bool]]:
        firewall.update_relayed(TABLE, [one])  # there is no table
        firewall.ensure(TABLE, [one, two])
        return [relayed(now) for now in (True, True, False, False)]

    assert world.inside("host", act) == [{True}, {True}, {False}, {False}]


def test_loaded_by_several_at_once(world: World) -> None:
    networks = [network("one", 30)]

    def race() -> list[bool]:
        loaded: list[bool] = []
        threads = [
            threading.Thread(target=lambda: loaded.append(firewall.ensure(TABLE, networks)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert firewall.intact(TABLE)
        return loaded

    assert len(world.inside("host", race)) == 6


def test_others_tables_are_not_touched(world: World) -> None:
    text = "table ip filter { chain FORWARD { type filter hook forward priority filter; }; }\n"
    world.run("host", ["nft", "-f", "-"], input=text)
    before = world.run("host", ["nft", "list", "ruleset"])

    def act() -> None:
        firewall.ensure(TABLE, [network("one", 30)])
        firewall.remove(TABLE)

    world.inside("host", act)
    assert world.run("host", ["nft", "list", "ruleset"]) == before


def test_no_nft(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: object, **more: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "nft")

    monkeypatch.setattr("subprocess.run", none)
    with pytest.raises(Unsupported, match="nft is missing") as caught:
        world.inside("host", lambda: firewall.ensure(TABLE, []))
    assert "nftables" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("number", "kind"), [(22, Unsupported), (93, Unsupported), (1, PermissionDenied)]
)
def test_no_nf_tables(number: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tables, "_ask", refuse)
    for look in (firewall.missing, firewall.intact):
        with pytest.raises(kind) as caught:
            look(TABLE)
        assert caught.value.hint  # type: ignore[attr-defined]


def test_names() -> None:
    assert firewall.table_name("/var/lib/fastbox") == "fastbox"
    assert firewall.table_name("/x").startswith("fastbox_")
