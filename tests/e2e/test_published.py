"""Published ports, by the real command: who reaches them, whose address the server sees, who else
may not have them, and when they are free again."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.conftest import remove_networks
from tests.support.netns import HOST4, HOST6, OUTSIDE4, OUTSIDE6, World
from tests.support.site import Site

BRIDGED = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


@pytest.fixture(params=["bridged", "br_netfilter"])
def way(site: Site, world: World, request: pytest.FixtureRequest) -> Iterator[str]:
    """Whether br_netfilter shows bridged packets to the packet filter; as it was afterwards."""
    world.inside("host", lambda: remove_networks(site.root))  # it is looked at when they are made
    there = [key for key in BRIDGED if os.path.exists(f"/proc/sys/{key}")]
    assert there or request.param == "bridged", "no br_netfilter in this kernel"
    before = {key: world.sysctl("host", key) for key in there}
    for key in there:
        world.sysctl("host", key, "1" if request.param == "br_netfilter" else "0")
    yield request.param
    for key, value in before.items():
        world.sysctl("host", key, value)
    site.empty()
    world.inside("host", lambda: remove_networks(site.root))


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_from_outside_and_from_the_host(site: Site, protocol: str) -> None:
    site.serve("web", "-p", f"8080:80/{protocol}")
    ask, gateway = site.world.ask, site.gateway("bridge")
    assert ask("outside", HOST4, 8080, protocol) == OUTSIDE4  # the client's address is kept
    assert ask("host", HOST4, 8080, protocol) == HOST4
    assert ask("host", "127.0.0.1", 8080, protocol) == gateway
    assert ask("host", "127.9.9.9", 8080, protocol) == gateway
    assert ask("host", gateway, 8080, protocol) == gateway
    # The container has no IPv6: the monitor's socket takes it, and is the peer.
    for who, address in (("host", "::1"), ("host", HOST6), ("outside", HOST6)):
        assert ask(who, address, 8080, protocol) == gateway
    assert site.cli.ok("port", "web") == (
        f"80/{protocol} -> 0.0.0.0:8080\n80/{protocol} -> [::]:8080"
    )
    shown = site.cli.ok("ps", "--format", "{{.Ports}}")
    assert shown == f"0.0.0.0:8080->80/{protocol}, [::]:8080->80/{protocol}"
    # The other protocol's port of that number is nobody's.
    other = "udp" if protocol == "tcp" else "tcp"
    assert site.world.is_blocked("outside", HOST4, 8080, other)


BOTH = ("-p", "8080:80/tcp", "-p", "8080:80/udp")


def test_from_containers_through_the_host(site: Site, way: str) -> None:
    site.cli.ok("network", "create", "other")
    site.serve("web", *BOTH)
    site.run("neighbour")
    site.run("stranger", "--network", "other")
    ask, gateway = site.world.ask, site.gateway("bridge")
    own, stranger = site.address("web"), site.address("stranger")
    for protocol in ("tcp", "udp"):
        for address in (HOST4, gateway):
            assert ask("neighbour", address, 8080, protocol) == gateway
            assert ask("web", address, 8080, protocol) == gateway  # itself
        seen = ask("stranger", HOST4, 8080, protocol)
        # Where bridged packets come to the filter, the monitor's socket is what containers reach.
        assert seen == (gateway if way == "br_netfilter" else stranger)
        # Not by its own address: networks are apart.
        assert site.world.is_blocked("stranger", own, 80, protocol)


def test_ipv6(site: Site, way: str) -> None:
    """A container with an IPv6 address sees IPv6 clients' own addresses."""
    site.cli.ok("network", "create", "--ipv6", "--subnet", "fd00:77::/64", "six")
    site.serve("web", "--network", "six", *BOTH)
    site.run("neighbour", "--network", "six")
    ask, own, mine = (
        site.world.ask,
        *(site.address(name, "six", ipv6=True) for name in ("web", "neighbour")),
    )
    gateways = ("fd00:77::1", site.gateway("six"))
    for protocol in ("tcp", "udp"):
        assert ask("outside", HOST6, 8080, protocol) == OUTSIDE6
        assert ask("outside", HOST4, 8080, protocol) == OUTSIDE4
        assert ask("host", HOST6, 8080, protocol) == HOST6
        for who, address in (("host", "::1"), ("neighbour", HOST6), ("web", HOST6)):
            assert ask(who, address, 8080, protocol) in gateways
        assert ask("neighbour", own, 80, protocol) == mine  # directly


def test_ranges(site: Site) -> None:
    site.serve("all", "-p", "9000-9002:80-82", ports=(80, 81, 82))
    for number in range(3):
        assert site.world.ask("outside", HOST4, 9000 + number) == OUTSIDE4
    # One of a range: the first that is free.
    for name, port in (("one", 9100), ("two", 9101)):
        site.serve(name, "-p", "9100-9101:80")
        assert site.cli.ok("port", name, "80").splitlines()[0] == f"0.0.0.0:{port}"
        assert site.world.ask("outside", HOST4, port) == OUTSIDE4
    error = site.cli.fails(125, "run", "--name", "three", "-p", "9100-9101:80", "busybox", "true")
    assert "failed to set up container networking" in error


def test_publish_all(site: Site) -> None:
    site.serve("web", "-P", "--expose", "80", "--expose", "53/udp", ports=(80, 53))
    ports = json.loads(site.inspect("web", "{{json .NetworkSettings.Ports}}"))
    assert set(ports) == {"80/tcp", "53/udp"}
    low, high = map(int, site.world.sysctl("host", "net/ipv4/ip_local_port_range").split())
    for key, protocol in (("80/tcp", "tcp"), ("53/udp", "udp")):
        port = int(ports[key][0]["HostPort"])
        assert low <= port <= high
        assert site.world.ask("outside", HOST4, port, protocol) == OUTSIDE4
    # A free port is chosen: not one that a process of the host has.
    site.serve("more", "-p", "80")
    assert site.cli.ok("port", "more", "80") != site.cli.ok("port", "web", "80")


def test_at_one_address(site: Site) -> None:
    site.world.ip("host", "address add 192.0.2.9/24 dev eth0")
    try:
        site.serve("one", "-p", "192.0.2.9:8080:80")
        site.serve("two", "-p", f"{HOST4}:8080:80")  # another address: no conflict
        for address in ("192.0.2.9", HOST4):
            assert site.world.ask("outside", address, 8080) == OUTSIDE4
        assert site.world.is_blocked("host", "127.0.0.1", 8080)
        assert site.world.is_blocked("host", "::1", 8080)
        one, two = site.address("one"), site.address("two")
        assert site.elements() == [
            f"ports4_at: 192.0.2.1 tcp 8080 {two} 80",
            f"ports4_at: 192.0.2.9 tcp 8080 {one} 80",
        ]
    finally:
        site.world.ip("host", "address del 192.0.2.9/24 dev eth0")
    error = site.cli.fails(125, "run", "--rm", "-p", "192.0.2.77:1:1", "busybox", "true")
    assert "cannot assign requested address" in error and "Traceback" not in error


# ---- 127.0.0.1 is the host's alone ---------------------------------------------------------------


def frame(target: bytes, source: bytes, to: str, port: int, *, tcp: bool) -> bytes:
    """An Ethernet frame for a port of the host, made by hand: a SYN, or a datagram."""
    first, last = socket.inet_aton(OUTSIDE4), socket.inet_aton(to)
    if tcp:
        body = struct.pack(">HHIIBBHHH", 40000, port, 1, 0, 5 << 4, 2, 65535, 0, 0)
    else:
        body = struct.pack(">HHHH", 40000, port, 9, 0) + b"?"
    protocol = 6 if tcp else 17
    pseudo = first + last + struct.pack(">BBH", 0, protocol, len(body))
    at = 16 if tcp else 6
    body = body[:at] + checksum(pseudo + body) + body[at + 2 :]
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + first + last
    header = header[:10] + checksum(header) + header[12:]
    return target + source + b"\x08\x00" + header + body


def checksum(data: bytes) -> bytes:
    """RFC 1071."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def mac(world: World, name: str) -> bytes:
    (link,) = json.loads(world.ip(name, "-j link show dev eth0"))
    return bytes.fromhex(link["address"].replace(":", ""))


def received(site: Site, name: str) -> dict[str, int]:
    """Counters of what a container has received."""
    with open(f"/proc/{site.pid(name)}/net/snmp") as file:
        lines = [line.split() for line in file]
    found: dict[str, int] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        found |= {
            f"{names[0]}{key}": int(value) for key, value in zip(names[1:], values[1:], strict=True)
        }
    return {key: found[key] for key in ("Tcp:PassiveOpens", "Tcp:InSegs", "Udp:InDatagrams")}


def test_loopback_is_not_the_neighbours(site: Site, way: str) -> None:
    """``-p 127.0.0.1:…``: not from outside, whatever is sent to the host's MAC
    (CVE-2025-67499, CVE-2020-8558)."""
    world = site.world
    site.serve("web", "-p", "127.0.0.1:8080:80", "-p", "127.0.0.1:8080:80/udp", "-p", "9000:81/udp",
               ports=(80, 81))  # fmt: skip
    site.run("neighbour")
    for protocol in ("tcp", "udp"):
        assert world.ask("host", "127.0.0.1", 8080, protocol) == site.gateway("bridge")
        for who, address in (("outside", HOST4), ("neighbour", HOST4), ("host", HOST4),
                             ("neighbour", site.gateway("bridge")), ("host", "::1")):  # fmt: skip
            assert world.is_blocked(who, address, 8080, protocol)
    # By hand: to the loopback address, to the container's, to the bridge's.
    own = site.address("web")
    before = received(site, "web")
    target, source = mac(world, "host"), mac(world, "outside")

    for to, port in (("127.0.0.1", 8080), (own, 80), (site.gateway("bridge"), 8080)):
        for tcp in (True, False):
            crafted = frame(target, source, to, port, tcp=tcp)
            world.inside("outside", lambda data=crafted: send_one(data))  # type: ignore[misc]
    # What comes later on the same wire has arrived: so has the rest, or never will.
    assert world.ask("outside", HOST4, 9000, "udp") == OUTSIDE4
    after = received(site, "web")
    arrived = after.pop("Udp:InDatagrams")
    assert arrived == before.pop("Udp:InDatagrams") + 1
    assert after == before
    # (Such a frame does arrive where it may.)
    world.inside("outside", lambda: send_one(frame(target, source, HOST4, 9000, tcp=False)))
    assert world.ask("outside", HOST4, 9000, "udp") == OUTSIDE4
    assert received(site, "web")["Udp:InDatagrams"] == arrived + 2


def send_one(data: bytes) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        raw.send(data)


def test_not_by_a_route_to_the_container(site: Site) -> None:
    site.serve("web", "-p", "8080:80")
    own = site.address("web")
    site.world.ip("outside", f"route add {own}/32 via {HOST4}")
    try:
        assert site.world.is_blocked("outside", own, 80)
        assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4
    finally:
        site.world.ip("outside", f"route del {own}/32 via {HOST4}")


# ---- whose port it is ----------------------------------------------------------------------------

DRIVER = r"driver failed programming external connectivity on endpoint \w+ \([0-9a-f]{64}\): "


def check_refused(site: Site, name: str, error: str, why: str) -> None:
    """One line, and nothing of the container's is left but itself, created."""
    first = error.splitlines()[0]
    assert re.search(f"failed to set up container networking: {DRIVER}{re.escape(why)}", first)
    assert "Traceback" not in error
    if name:
        assert site.inspect(name, "{{.State.Status}}") == "created"
        site.cli.ok("rm", name)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "::"])
def test_a_process_of_the_host_has_it(site: Site, address: str, protocol: str) -> None:
    with site.holding(address, 8080, protocol):
        error = site.cli.fails(
            125, "run", "-d", "--name", "web", "-p", f"8080:80/{protocol}", "busybox", "sleep", "9"
        )
        check_refused(
            site, "web", error,
            f"failed to bind host port 0.0.0.0:8080/{protocol}: address already in use",
        )  # fmt: skip
        assert site.settles([])
        site.serve("other", "-p", f"192.0.2.1:8081:80/{protocol}")  # another one works


def test_another_container_has_it(site: Site) -> None:
    site.serve("first", "-p", "8080:80")
    left = site.left()
    error = site.cli.fails(125, "run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep",
                           "9")  # fmt: skip
    check_refused(site, "web", error, "Bind for 0.0.0.0:8080 failed: port is already allocated")
    assert "hint: container first has it" in error
    error = site.cli.fails(125, "run", "--rm", "-p", "1:1", "-p", "127.0.0.1:8080:80", "busybox",
                           "true")  # fmt: skip
    check_refused(site, "", error, "Bind for 127.0.0.1:8080 failed: port is already allocated")
    assert site.settles(left)
    assert site.cli.ok("ps", "-aq").count("\n") == 0
    # A created one gets it once it is free, and tells 1 until then.
    words = ("-v", f"{site.peer}:/peer:ro", "busybox", "/peer", "80")
    site.cli.ok("create", "--name", "web", "-p", "8080:80", *words)
    assert "port is already allocated" in site.cli.fails(1, "start", "web")
    assert site.settles(left)
    site.cli.ok("stop", "-t", "0", "first")
    site.cli.ok("start", "web")
    site.wait_listening("web", [80])
    assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4
    assert "port is already allocated" in site.cli.fails(1, "start", "first")


def test_two_race_for_a_port(site: Site) -> None:
    site.run("warm")  # the bridge is there
    quiet = site.left()
    for number in range(4):
        words = ("run", "-d", "-p", "8080:80", "busybox", "sleep", "1000")
        racing = [site.cli.popen(*words) for _ in range(4)]
        ends = [(process.communicate(), process.returncode) for process in racing]
        assert sorted(code for _, code in ends) == [0, 125, 125, 125], (number, ends)
        won = next(out for (out, _), code in ends if code == 0).decode().strip()
        assert len(site.elements()) == 1
        site.cli.ok("rm", "-f", won)
        assert site.settles(quiet)


@pytest.mark.parametrize("how", ["stop", "kill", "rm", "kill -9 of the monitor", "exit"])
def test_free_at_once(site: Site, how: str) -> None:
    ports = ("-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:9000-9003:80-83")
    site.serve("first", *ports)
    for protocol in ("tcp", "udp"):  # its helper runs, and has the sockets too
        assert site.world.ask("host", "::1", 8080, protocol)
    if how == "stop":
        site.cli.ok("stop", "first")
    elif how == "kill":
        site.cli.ok("kill", "first")
        site.cli.ok("wait", "first")
    elif how == "rm":
        site.cli.ok("rm", "-f", "first")
    elif how == "exit":
        site.cli("exec", "first", "kill", "1")  # it may be killed with the rest
        site.cli.ok("wait", "first")
    else:
        kill_and_wait(site.monitor("first"))
    if how != "kill -9 of the monitor":
        assert site.settles([])
    site.serve("second", *ports)
    assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4
    assert len(site.elements()) == 6
    site.cli.ok("rm", "-f", "second")
    site.cli.ok("ps")
    assert site.settles([])


def kill_and_wait(pid: int) -> None:
    """kill -9, until it is gone."""
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        import select

        assert select.select([fd], [], [], 30)[0]
    finally:
        os.close(fd)


def test_sctp(site: Site) -> None:
    """The kernel's own protocol for it may be missing: the rule is what counts."""
    site.run("first", "-p", "7000:70/sctp", "-p", "127.0.0.1:7001:71/sctp")
    own = site.address("first")
    elements = [f"ports4: sctp 7000 {own} 70", f"ports4_at: 127.0.0.1 sctp 7001 {own} 71"]
    assert site.elements() == elements
    assert "70/sctp -> 0.0.0.0:7000" in site.cli.ok("port", "first")
    error = site.cli.fails(
        125, "run", "-d", "--name", "web", "-p", "7000:70/sctp", "busybox", "true"
    )
    check_refused(site, "web", error, "Bind for 0.0.0.0:7000 failed: port is already allocated")
    assert site.elements() == elements
    site.serve("tcp", "-p", "7000:80")  # the number is another protocol's too
    site.cli.ok("rm", "-f", "first")
    assert site.elements() == [f"ports4: tcp 7000 {site.address('tcp')} 80"]


def test_bad_specs(site: Site) -> None:
    specs = (
        "99999:80 80-90:80-85 0-5:0-5 80: :80: 80/xtp 1.2.3:80:80 a:80 80:a [::1:80:80 -1:80 80:0"
    )
    for spec in [*specs.split(), "127.0.0.1:80:80:80", ""]:
        error = site.cli.fails(125, "run", "--rm", "-p", spec, "busybox", "true")
        assert error.strip() and "Traceback" not in error
        assert len(error.splitlines()) <= 4, error
    assert site.settles([])
    assert site.cli.ok("ps", "-aq") == ""
