"""Other people's firewalls, and administrators: what is theirs stays as it is and works, what they
take from us comes back with the next start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import remove_networks
from tests.support.leaks import nft_tables
from tests.support.netns import HOST4, HOST6, OUTSIDE4
from tests.support.site import Site
from tests.support.wait import wait_for

# As a host's own firewall, and what iptables-nft makes of Docker's and Kubernetes' rules.
STRICT = """
table inet host_firewall {
	set allowed { type ipv4_addr; elements = { 192.0.2.77 } }
	chain forward {
		type filter hook forward priority filter; policy drop;
		ip saddr @allowed accept
	}
}
"""
LEGACY = """
table ip filter {
	chain DOCKER-USER {
		counter return
	}
	chain DOCKER {
		iifname != "docker0" oifname "docker0" tcp dport 80 accept
	}
	chain FORWARD {
		type filter hook forward priority filter; policy accept;
		jump DOCKER-USER
		jump DOCKER
	}
}
table ip nat {
	chain DOCKER {
		iifname != "docker0" tcp dport 18080 dnat to 172.99.0.2:80
	}
	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump DOCKER
	}
}
"""


@pytest.fixture
def foreign(site: Site) -> Iterator[Site]:
    """A site whose host's packet filter is only what the test makes it."""
    site.world.inside("host", lambda: remove_networks(site.root))
    assert site.ruleset() == ""
    yield site
    site.empty()
    site.nft("flush ruleset")
    site.world.inside("host", lambda: remove_networks(site.root))


def theirs(site: Site) -> str:
    """Other people's tables, without their counts."""
    import re

    found = ""
    for family, name in (("inet", "host_firewall"), ("ip", "filter"), ("ip", "nat")):
        if name in site.world.inside("host", nft_tables):
            found += site.ruleset("table", family, name)
    return re.sub(r"packets \d+ bytes \d+", "", found)


def test_a_strict_firewall_still_drops(foreign: Site) -> None:
    site, world = foreign, foreign.world
    site.nft(STRICT)
    before = theirs(site)
    site.cli.ok("network", "create", "one")
    site.serve("web", "--network", "one", "-p", "8080:80")
    world.serve("outside", "0.0.0.0", 7000)
    assert world.is_blocked("web", OUTSIDE4, 7000)
    assert world.is_blocked("outside", HOST4, 8080)
    # What does not pass through the host works: the host's own clients.
    assert world.ask("host", "127.0.0.1", 8080) == site.gateway("one")
    assert theirs(site) == before
    info = site.cli("info").err
    assert "host_firewall" in info and "forward" in info
    # Allowed by them, it does.
    site.nft("add rule inet host_firewall forward ct status dnat accept")
    site.nft("add rule inet host_firewall forward ct state established accept")
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4
    after = theirs(site)
    site.cli.ok("rm", "-f", "web")
    site.cli.ok("network", "rm", "one")
    assert theirs(site) == after


def test_tables_of_others_are_not_touched(foreign: Site) -> None:
    site = foreign
    site.nft(LEGACY)
    before = theirs(site)
    assert "DOCKER-USER" in before and "18080" in before
    site.cli.ok("network", "create", "--ipv6", "one")
    site.serve("web", "--network", "one", "-p", "8080:80")
    site.run("more")
    assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4
    site.cli.ok("network", "connect", "bridge", "web")
    site.cli.ok("network", "disconnect", "one", "web")
    assert theirs(site) == before
    site.cli.ok("rm", "-f", "web", "more")
    site.cli.ok("network", "rm", "one")
    assert theirs(site) == before
    assert sorted(site.world.inside("host", nft_tables)) == sorted(["filter", "nat", site.table])


def words(site: Site) -> list[str]:
    """Of our table; elements have no order."""
    return sorted(site.ruleset("table", "inet", site.table).replace(",", " ").split())


@pytest.mark.parametrize("what", ["flush ruleset", "delete table inet {}"])
def test_rules_come_back(foreign: Site, what: str) -> None:
    """Flushed by an administrator or a firewall's reload: the next start has all of them again,
    those of the running containers too."""
    site, world = foreign, foreign.world
    site.cli.ok("network", "create", "--internal", "in")
    site.cli.ok("network", "create", "--ipv6", "one")
    site.serve("web", "--network", "one", "-p", "8080:80", "-p", "127.0.0.1:8081:80/udp")
    site.run("shut", "--network", "in")
    rules, elements = words(site), site.elements()
    assert len(elements) == 3
    site.nft(what.format(site.table))
    assert site.elements() == []
    # Meanwhile the monitor's sockets answer.
    assert world.ask("host", "127.0.0.1", 8080) == site.gateway("one")
    assert world.ask("outside", HOST4, 8080) == site.gateway("one")
    site.run("next", "--network", "one")
    assert site.elements() == elements
    assert words(site) == rules
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4
    world.serve("outside", "0.0.0.0", 7000)
    assert world.ask("next", OUTSIDE4, 7000) == HOST4
    assert world.is_blocked("shut", OUTSIDE4, 7000)


def test_a_deleted_bridge_comes_back(foreign: Site) -> None:
    """With the next start, and who was on it."""
    site, world = foreign, foreign.world
    made = site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    site.serve("web", "--network", "one", "-p", "8080:80")
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4
    world.ip("host", f"link del fb-{made[:12]}")
    site.serve("next", "--network", "one", "-p", "8081:80")
    assert world.ask("outside", HOST4, 8081) == OUTSIDE4
    assert world.ask("outside", HOST4, 8080) == OUTSIDE4
    assert world.ask("next", site.address("web"), 80) == site.address("next")
    # Gone when the network is removed: that is no error.
    site.cli.ok("rm", "-f", "web", "next")
    world.ip("host", f"link del fb-{made[:12]}")
    site.cli.ok("network", "rm", "one")


def test_a_bridge_that_is_something_else(foreign: Site) -> None:
    """One clear line: that it is not ours; or, where it looks as if it were, that the kernel
    refuses the link, as one without veth does."""
    site, world = foreign, foreign.world
    made = site.cli.ok("network", "create", "one")
    site.cli.ok("run", "--rm", "--network", "one", "busybox", "true")
    device = f"fb-{made[:12]}"
    world.ip("host", f"link del {device}")
    world.ip("host", f"link add {device} type veth peer name other0")
    try:
        for why in (f"interface {device} is there and not fastbox's", "joining network one"):
            error = site.cli.fails(125, "run", "--rm", "--network", "one", "busybox", "true")
            assert why in error.splitlines()[0]
            assert "Traceback" not in error
            assert site.settles([])
            assert site.cli.ok("ps", "-aq") == ""
            world.ip("host", f"link set {device} up")
    finally:
        world.ip("host", f"link del {device}")
    assert site.cli.ok("run", "--rm", "--network", "one", "busybox", "echo", "hi") == "hi"


def test_forwarding_switched_off(foreign: Site) -> None:
    """By somebody else, later: ``info`` says what to do."""
    site = foreign
    site.serve("web", "-p", "8080:80")
    assert "ip_forward" not in site.cli("info").err
    site.world.sysctl("host", "net/ipv4/ip_forward", "0")
    assert "sysctl -w net.ipv4.ip_forward=1" in site.cli("info").err
    site.world.sysctl("host", "net/ipv4/ip_forward", "1")
    wait_for(lambda: site.world.ask("outside", HOST4, 8080) == OUTSIDE4)


def test_ipv6_switched_off(foreign: Site) -> None:
    """On the whole host: IPv4 works, a network with IPv6 does or gives one clear line."""
    site, world = foreign, foreign.world
    world.sysctl("host", "net/ipv6/conf/all/disable_ipv6", "1")
    world.sysctl("host", "net/ipv6/conf/default/disable_ipv6", "1")
    try:
        site.serve("web", "-p", "8080:80")
        assert world.ask("outside", HOST4, 8080) == OUTSIDE4
        assert world.ask("host", "127.0.0.1", 8080) == site.gateway("bridge")
        site.cli.ok("network", "create", "--ipv6", "six")
        done = site.cli("run", "--rm", "--network", "six", "busybox", "ip", "-6", "addr")
        assert (done.code, "fd" in done.out) == (0, True) or (
            done.code == 125 and "six" in done.err.splitlines()[0]
        ), done
        assert "Traceback" not in done.err
    finally:
        site.empty()
        world.sysctl("host", "net/ipv6/conf/all/disable_ipv6", "0")
        world.sysctl("host", "net/ipv6/conf/default/disable_ipv6", "0")
        world.ip("host", f"address add {HOST6}/64 dev eth0 nodad")
