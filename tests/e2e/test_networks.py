"""Networks, by the real command: made, shown, refused, removed; who reaches whom on them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.netns import HOST4, OUTSIDE4, OUTSIDE6
from tests.support.site import Site


def shown(site: Site, name: str) -> dict[str, Any]:
    (found,) = json.loads(site.cli.ok("network", "inspect", name))
    return dict(found)


def link(site: Site, name: str, where: str = "host") -> dict[str, Any]:
    (found,) = json.loads(site.world.ip(where, f"-d -j address show dev {name}"))
    return dict(found)


# ---- made and removed ----------------------------------------------------------------------------


def test_life(site: Site) -> None:
    made = site.cli.ok(
        "network", "create", "--subnet", "10.7.0.0/24", "--ip-range", "10.7.0.128/25",
        "--gateway", "10.7.0.254", "--aux-address", "router=10.7.0.128", "--label", "a=b", "one",
    )  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", made)
    row = site.cli.ok("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}")
    assert row.splitlines() == [
        "bridge bridge local", "host host local", "none null local", "one bridge local",
    ]  # fmt: skip
    assert site.cli.ok("network", "ls", "-q", "-f", "label=a=b") == made[:12]
    assert site.cli.ok("network", "ls", "-q", "-f", "dangling=true", "-f", "name=one") == made[:12]
    found = shown(site, "one")
    assert found["IPAM"]["Config"] == [
        {"Subnet": "10.7.0.0/24", "IPRange": "10.7.0.128/25", "Gateway": "10.7.0.254",
         "AuxiliaryAddresses": {"router": "10.7.0.128"}}
    ]  # fmt: skip
    assert (found["Id"], found["Labels"], found["Containers"]) == (made, {"a": "b"}, {})
    container = site.run("web", "--network", made[:7])
    assert site.address("web", "one") == "10.7.0.129"  # of the range, not the reserved one
    (inside,) = shown(site, "one")["Containers"].items()
    assert inside[0] == container
    assert (inside[1]["Name"], inside[1]["IPv4Address"]) == ("web", "10.7.0.129/24")
    assert site.cli.ok("network", "ls", "-q", "-f", "dangling=true", "-f", "name=one") == ""
    # In use: it stays, whatever else goes.
    site.cli.ok("network", "create", "unused")
    error = site.cli.fails(1, "network", "rm", "unused", "one")
    assert "error while removing network: network one has active endpoints" in error
    assert "web" in error
    site.cli.ok("network", "create", "unused2")
    assert site.cli.ok("network", "prune", "-f") == "Deleted Networks:\nunused2\n"
    device = f"fb-{made[:12]}"
    assert device in site.interfaces()
    site.cli.ok("stop", "-t", "0", "web")
    assert site.cli.ok("network", "rm", "one") == "one"
    assert device not in site.interfaces() and device not in site.ruleset()
    # Its container cannot start any more, and says why.
    error = site.cli.fails(1, "start", "web")
    assert "network one not found" in error.splitlines()[0]
    assert site.settles([])


def test_refused(site: Site) -> None:
    """One clear line, and nothing is made."""
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    before = site.cli.ok("network", "ls", "-q")
    refusals = [
        ("one", "network with name one already exists"),
        ("--subnet 10.7.0.128/25 two", "Pool overlaps with other one on this address space"),
        ("--subnet 10.0.0.0/8 two", "Pool overlaps with other one on this address space"),
        ("--subnet 192.0.2.0/25 two", "overlaps with route 192.0.2.0/24 of eth0"),
        ("--subnet 10.8.0.0/24 --gateway 10.9.0.1 two", "no matching subnet for gateway"),
        ("--subnet 10.8.0.0/24 --ip-range 10.9.0.0/25 two", "no matching subnet for range"),
        ("--subnet 10.8.0.0/24 --aux-address a=10.9.0.1 two", "no matching subnet"),
        ("--subnet 10.8.0.0/33 two", "invalid"),
        ("--subnet nonsense two", "invalid"),
        ("--subnet 127.0.0.0/24 two", "127.0.0.0/24"),
        ("--driver nonsense two", 'could not find network driver "nonsense"'),
        ("--opt nonsense=1 two", "nonsense"),
        ("--opt com.docker.network.driver.mtu=none two", "MTU"),
        ("--opt com.docker.network.bridge.name=much-too-long-name two", "much-too-long-name"),
        ("--driver macvlan two", "needs the interface that it is on"),
        ("--driver macvlan --opt parent=nope0 two", "nope0"),
        ("bridge", "operation is not permitted on predefined bridge network"),
        ("a/b", "invalid characters"),
    ]
    for words, why in refusals:
        error = site.cli.fails(1, "network", "create", *words.split())
        assert why in error.splitlines()[0], (words, error)
        assert len(error.splitlines()) <= 2 and "Traceback" not in error, (words, error)
    assert site.cli.ok("network", "ls", "-q") == before
    for words, why in (
        ("rm nope", "network nope not found"),
        ("rm bridge", "bridge is a pre-defined network and cannot be removed"),
        ("inspect nope", "network nope not found"),
        ("connect nope nope", "network nope not found"),
        ("connect one nope", "No such container: nope"),
        ("disconnect one nope", "No such container: nope"),
    ):
        assert why in site.cli.fails(1, "network", *words.split()).splitlines()[0]


def test_run_refused(site: Site) -> None:
    """Exit code 125, and no container, address or link is left."""
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    site.run("web", "--network", "one", "--ip", "10.7.0.9")
    left = site.left()
    refusals = [
        ("--network one --ip 10.7.0.9", "Address already in use"),
        ("--network one --ip 10.7.0.1", "Address already in use"),  # the gateway
        ("--network one --ip 10.7.1.9", "no configured subnet contains IP address 10.7.1.9"),
        ("--network one --ip 300.7.1.9", "invalid IPv4 address: 300.7.1.9"),
        ("--network one --ip6 fd00::9", "fd00::9"),
        ("--ip 172.17.0.9", "user specified IP address is supported on user defined networks only"),
        ("--network nope", "network nope not found"),
        ("--network one --network one", "one"),
        ("--mac-address nope", "nope is not a valid mac address"),
        ("--mac-address 01:00:00:00:00:01", "is not a valid mac address"),
        ("--network container:nope", "No such container: nope"),
        ("--network host --network one", "conflicting options"),
        ("--network container:web -p 80:80", "conflicting options"),
        ("--network container:web --hostname x", "conflicting options"),
        ("--network container:web --dns 1.1.1.1", "conflicting options"),
        ("--dns nonsense", "nonsense"),
        ("--dns-search ..", ".."),
        ("--add-host nonsense", "nonsense"),
        ("--link nope", "nope"),
    ]
    for words, why in refusals:
        error = site.cli.fails(125, "run", "--rm", *words.split(), "busybox", "true")
        assert why in error.splitlines()[0], (words, error)
        assert "Traceback" not in error
    assert site.settles(left)
    assert len(site.cli.ok("ps", "-aq").splitlines()) == 1


def test_options_of_a_bridge(site: Site) -> None:
    options = {"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.name": "br-mine"}
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    site.cli.ok("network", "create", *words, "one")
    assert shown(site, "one")["Options"] == options
    site.run("web", "--network", "one")
    assert link(site, "br-mine")["mtu"] == 1400
    assert link(site, "eth0", "web")["mtu"] == 1400
    site.cli.ok("rm", "-f", "web")
    site.cli.ok("network", "rm", "one")
    assert "br-mine" not in site.interfaces()
    # An interface of that name that is not ours is left alone.
    name = "com.docker.network.bridge.name=eth0"
    error = site.cli.fails(1, "network", "create", "-o", name, "two")
    assert "interface eth0 is there and not fastbox's" in error.splitlines()[0]


# ---- who reaches whom ----------------------------------------------------------------------------


def test_ways(site: Site) -> None:
    """Out, to one another, not to other networks; with the host's address outside."""
    site.cli.ok("network", "create", "one")
    site.cli.ok("network", "create", "two")
    site.serve("web", "--network", "one")
    site.serve("two", "--network", "two")
    site.run("client", "--network", "one")
    world = site.world
    world.serve("outside", "0.0.0.0", 7000)
    assert world.ask("client", site.address("web"), 80) == site.address("client")
    assert world.ask("client", OUTSIDE4, 7000) == HOST4  # masqueraded
    assert world.ask("host", site.address("web"), 80) == site.gateway("one")
    assert world.is_blocked("client", site.address("two"), 80)
    assert world.is_blocked("two", site.address("web"), 80)
    # The host's own services answer its containers.
    world.serve("host", "0.0.0.0", 7001)
    assert world.ask("client", site.gateway("one"), 7001) == site.address("client")


def test_internal(site: Site) -> None:
    """No packet leaves, nothing comes in but from the host, nothing is published."""
    site.cli.ok("network", "create", "--internal", "in")
    site.serve("web", "--network", "in", "-p", "8080:80")
    site.run("client", "--network", "in")
    world = site.world
    world.serve("outside", "0.0.0.0", 7000)
    world.serve("outside", "0.0.0.0", 7000, "udp")
    assert world.ask("client", site.address("web"), 80) == site.address("client")
    assert "default" not in site.out("client", "ip route")
    assert site.elements() == []
    assert world.is_blocked("outside", HOST4, 8080)
    # Nor with a route that somebody with CAP_NET_ADMIN makes.
    world.ip("client", f"route add default via {site.gateway('in')}")
    for protocol in ("tcp", "udp"):
        assert world.is_blocked("client", OUTSIDE4, 7000, protocol)
    own = site.address("web")
    world.ip("outside", f"route add {own}/32 via {HOST4}")
    assert world.is_blocked("outside", own, 80)
    world.ip("outside", f"route del {own}/32 via {HOST4}")
    # Names: those of the network, none of others'.
    assert site.lookup("client", "web") == [own]
    assert "SERVFAIL" in site.sh("client", "nslookup example.org").out
    # On a second network that leads out, it gets out.
    site.cli.ok("network", "connect", "bridge", "client")
    assert world.ask("client", OUTSIDE4, 7000) == HOST4


def test_icc(site: Site) -> None:
    """Without icc containers do not reach one another, but published ports, and the outside."""
    site.cli.ok("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart")
    site.serve("web", "--network", "apart", "-p", "8080:80")
    site.run("client", "--network", "apart")
    world = site.world
    world.serve("outside", "0.0.0.0", 7000)
    assert world.ask("client", OUTSIDE4, 7000) == HOST4
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4
    assert world.ask("client", HOST4, 8080) == site.gateway("apart")
    assert world.is_blocked("client", site.address("web"), 80)


def test_ipv6(site: Site) -> None:
    """A ULA network: addresses inside, traffic among containers, out (masqueraded), fixed ones."""
    site.cli.ok("network", "create", "--ipv6", "six")
    subnets = [item["Subnet"] for item in shown(site, "six")["IPAM"]["Config"]]
    assert any(re.match("fd.*::/64$", subnet) for subnet in subnets)
    site.serve("web", "--network", "six")
    site.run("client", "--network", "six")
    world = site.world
    mine, other = (site.address(name, ipv6=True) for name in ("client", "web"))
    assert world.ask("client", other, 80) == mine
    assert site.lookup("client", "web") == sorted([site.address("web"), other])
    world.serve("outside", "::", 7000)
    assert world.ask("client", OUTSIDE6, 7000) == "2001:db8::1"
    assert world.ask("host", other, 80)
    assert world.sysctl("client", "net/ipv6/conf/eth0/accept_ra") == "0"
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "--subnet", "fd00:7::/64", "--ipv6",
                "fixed")  # fmt: skip
    site.run("box", "--network", "fixed", "--ip", "10.7.0.77", "--ip6", "fd00:7::77",
             "--mac-address", "02:00:00:00:00:77")  # fmt: skip
    found = link(site, "eth0", "box")
    assert found["address"] == "02:00:00:00:00:77"
    assert {a["local"] for a in found["addr_info"]} >= {"10.7.0.77", "fd00:7::77"}
    assert site.inspect("box", "{{.NetworkSettings.Networks.fixed.MacAddress}}") == found["address"]
    # Without an IPv6 network there is no IPv6 inside.
    site.run("four")
    assert "inet6" not in site.out("four", "ip addr show eth0")


# ---- other drivers -------------------------------------------------------------------------------


def test_host(site: Site) -> None:
    done = site.cli("run", "--rm", "--network", "host", "-p", "1:1", "busybox", "ip", "-o", "link")
    assert "eth0" in done.out and done.code == 0
    assert "Published ports are discarded when using host network mode" in done.err
    site.serve("web", "--network", "host", ports=(7070,))
    assert site.world.ask("outside", HOST4, 7070) == OUTSIDE4
    assert site.settles([])


def test_none(site: Site) -> None:
    out = site.cli.ok("run", "--rm", "--network", "none", "busybox", "ip", "-o", "link")
    assert [line.split()[1] for line in out.splitlines()] == ["lo:"]
    site.run("box", "--network", "none")
    assert "none" in site.cli.fails(1, "network", "connect", "bridge", "box")
    assert site.settles([])


def test_of_another_container(site: Site) -> None:
    """One network for two: addresses, ports, files; and after the first one's restart."""
    site.cli.ok("network", "create", "one")
    site.run("pod", "--network", "one", "-p", "8080:80", "--hostname", "pod-host")
    site.serve("web", "--network", "container:pod")
    world = site.world
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4
    assert world.ask("pod", "127.0.0.1", 80) == "127.0.0.1"
    for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
        assert site.out("web", f"cat {path}") == site.out("pod", f"cat {path}")
    assert site.out("web", "hostname") == "pod-host"
    # What is exec'd there is in that network as well, not in the host's.
    namespaces = {site.out(name, "readlink /proc/self/ns/net") for name in ("web", "pod")}
    assert len(namespaces) == 1
    assert site.lookup("web", "pod") == [site.address("pod", "one")]
    # The first ends: its links do, whoever is still there.
    left = site.left()
    site.cli.ok("stop", "-t", "0", "pod")
    assert left
    assert site.settles([])
    assert "eth0" not in site.out("web", "ip -o link")
    error = site.cli.fails(125, "run", "--rm", "--network", "container:pod", "busybox", "true")
    assert "cannot join network of a non running container" in error.splitlines()[0]
    site.cli.ok("start", "pod")
    site.cli.ok("restart", "-t", "0", "web")
    site.wait_listening("web", [80])
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4


def test_macvlan(site: Site) -> None:
    """A container is a neighbour of the outside host's, with an address of its network."""
    site.world.ip("host", "address flush dev eth0 to 198.51.100.0/24")
    site.world.ip("outside", "address add 198.51.100.1/24 dev eth0")
    try:
        site.cli.ok("network", "create", "-d", "macvlan", "--subnet", "198.51.100.0/24",
                    "--gateway", "198.51.100.1", "-o", "parent=eth0", "lan")  # fmt: skip
        site.serve("web", "--network", "lan", "--ip", "198.51.100.50")
        assert link(site, "eth0", "web")["linkinfo"]["info_kind"] == "macvlan"
        assert site.world.ask("outside", "198.51.100.50", 80) == "198.51.100.1"
        site.world.serve("outside", "198.51.100.1", 7000)
        assert site.world.ask("web", "198.51.100.1", 7000) == "198.51.100.50"
        site.run("client", "--network", "lan")
        assert site.world.ask("client", "198.51.100.50", 80) == site.address("client")
        assert site.lookup("client", "web") == ["198.51.100.50"]
        assert site.cli.fails(1, "network", "rm", "lan")
        site.cli.ok("rm", "-f", "web", "client")
        site.cli.ok("network", "rm", "lan")
        assert site.settles([])
    finally:
        site.world.ip("outside", "address del 198.51.100.1/24 dev eth0")


# ---- connect and disconnect ----------------------------------------------------------------------


def routes(site: Site, name: str) -> list[str]:
    found = site.out(name, "ip route").splitlines()
    return sorted(" ".join(line.split()[:5]) for line in found if line.startswith("default"))


def test_connect(site: Site) -> None:
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    site.cli.ok("network", "create", "--subnet", "10.8.0.0/24", "--ipv6", "two")
    site.serve("web", "--network", "one", "-p", "8080:80")
    site.run("client", "--network", "two")
    world = site.world
    assert world.is_blocked("client", site.address("web", "one"), 80)
    before = site.left()
    site.cli.ok("network", "connect", "--ip", "10.8.0.50", "--alias", "other-name", "two", "web")
    assert world.ask("client", "10.8.0.50", 80) == site.address("client")
    for name in ("web", "other-name", "web.two"):
        assert "10.8.0.50" in site.lookup("client", name)
    assert site.lookup("web", "client")
    assert site.address("web", "two") == "10.8.0.50"
    assert routes(site, "web") == ["default via 10.7.0.1 dev eth0"]
    hosts = site.out("web", "cat /etc/hosts")
    assert "10.8.0.50" in hosts and "10.7.0.2" in hosts
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4
    error = site.cli.fails(1, "network", "connect", "two", "web")
    assert "endpoint with name web already exists in network two" in error
    # The network of the ports and of the default route goes: the other one takes both.
    site.cli.ok("network", "disconnect", "one", "web")
    assert routes(site, "web") == ["default via 10.8.0.1 dev eth1"]
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4
    assert "10.7.0.2" not in site.out("web", "cat /etc/hosts")
    error = site.cli.fails(1, "network", "disconnect", "one", "web")
    assert "is not connected to network one" in error
    # None is left: nothing is published, but it is not refused for long either.
    site.cli.ok("network", "disconnect", "two", "web")
    assert site.elements() == []
    assert site.out("web", "ip -o link").count("\n") == 0
    site.cli.ok("network", "connect", "one", "web")
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4
    assert sorted(re.sub("(fb.{6}).*", r"\1", line) for line in site.left()) == sorted(
        re.sub("(fb.{6}).*", r"\1", line) for line in before
    )


def test_connect_while_stopped(site: Site) -> None:
    """What it is on when it starts next."""
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    site.cli.ok("create", "--name", "box", "busybox", "sleep", "1000")
    site.cli.ok("network", "connect", "--ip", "10.7.0.7", "one", "box")
    site.cli.ok("network", "disconnect", "bridge", "box")
    site.cli.ok("start", "box")
    site.adopt("box")
    assert site.address("box", "one") == "10.7.0.7"
    assert site.out("box", "ip -o -4 addr").count("inet ") == 2
    site.cli.ok("restart", "-t", "0", "box")
    assert site.address("box", "one") == "10.7.0.7"


def test_several_networks(site: Site) -> None:
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    site.cli.ok("network", "create", "--subnet", "10.8.0.0/24", "two")
    site.run("box", "--network", "name=two,ip=10.8.0.9,alias=x", "--network",
             "name=one,mac-address=02:00:00:00:00:09,gw-priority=1")  # fmt: skip
    assert routes(site, "box") == ["default via 10.7.0.1 dev eth1"]
    assert link(site, "eth1", "box")["address"] == "02:00:00:00:00:09"
    assert site.lookup("box", "x") == ["10.8.0.9"]
    # Byte counts and addresses are shown.
    stats = json.loads(site.cli.ok("stats", "--no-stream", "--format", "{{json .}}", "box"))
    assert re.fullmatch(r"[\d.]+\w+ / [\d.]+\w+", stats["NetIO"])


# ---- files ---------------------------------------------------------------------------------------

NAMES = ("--add-host", "db:1.2.3.4", "--hostname", "box",
         "--domainname", "example.org", "--dns", "9.9.9.9", "--dns", "2620:fe::9",
         "--dns-search", "a.org", "--dns-search", "b.org", "--dns-option", "ndots:3")  # fmt: skip
SHOW = "cat /etc/hosts; echo --; cat /etc/resolv.conf; echo --; cat /etc/hostname; hostname -f || :"


@pytest.mark.parametrize("network", ["bridge", "one", "none", "host"])
def test_files(site: Site, network: str) -> None:
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    # Without a network there is no gateway that a name could stand for.
    gate = ("--add-host", "gate:127.0.0.1" if network == "none" else "gate:host-gateway")
    words = (*NAMES, *gate)
    out = site.cli.ok("run", "--rm", "--network", network, *words, "busybox", "sh", "-c", SHOW)
    hosts, resolv, rest = out.split("--\n")
    gateway = {"bridge": site.gateway("bridge"), "one": "10.7.0.1"}.get(network, "127.0.0.1")
    own = {"bridge": site.gateway("bridge")[:-1] + "2", "one": "10.7.0.2"}.get(network)
    lines = [line.split() for line in hosts.splitlines()]
    assert ["1.2.3.4", "db"] in lines and [gateway, "gate"] in lines
    if own is not None:
        assert [own, "box.example.org", "box"] in lines
    servers = ["127.0.0.11"] if network == "one" else ["9.9.9.9", "2620:fe::9"]
    assert resolv.splitlines() == [
        *(f"nameserver {server}" for server in servers), "search a.org b.org", "options ndots:3",
    ]  # fmt: skip
    if network in ("bridge", "one"):
        assert rest.splitlines() == ["box", "box.example.org"]
