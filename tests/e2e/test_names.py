"""Names of containers, by the real command: who finds whom, and what happens to them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
from collections.abc import Iterator

import pytest

from fastbox import supervision
from fastbox.container import etc_files
from tests.support.netns import HOST4, OUTSIDE4
from tests.support.site import Site
from tests.support.upstream import ANSWER, Upstream
from tests.support.wait import wait_for

IMAGES = ["busybox", "redis"]


@pytest.fixture
def upstream(site: Site) -> Iterator[Upstream]:
    with Upstream(site.world, "outside", OUTSIDE4) as made:
        yield made


def names_of(site: Site, name: str) -> list[str]:
    """What a container's resolv.conf says."""
    return site.out(name, "cat /etc/resolv.conf").splitlines()


# ---- redis ---------------------------------------------------------------------------------------


def test_redis(site: Site) -> None:
    """Served to a client in another container by name, to the host and the outside by port."""
    site.cli.ok("network", "create", "app")
    words = ("run", "-d", "--name", "redis", "--network", "app", "--network-alias", "cache",
             "-p", "6379:6379", "--label", "com.docker.compose.service=store", "redis")  # fmt: skip
    made = site.cli.ok(*words)
    site.wait_listening("redis", [6379])
    names = ("redis", "cache", "store", made[:12], "redis.app", "REDIS")
    script = "".join(f"redis-cli -h {name} incr hits; " for name in names)
    out = site.cli.ok("run", "--rm", "--network", "app", "redis", "sh", "-c", script)
    assert out.split() == [str(number + 1) for number in range(len(names))]
    # By its published port: from the host's network, through the host, and from outside.
    for where, host in (("host", "127.0.0.1"), ("host", "::1"), ("app", HOST4), ("bridge", HOST4)):
        command = ("redis-cli", "-h", host, "get", "hits")
        out = site.cli.ok("run", "--rm", "--network", where, "redis", *command)
        assert out == str(len(names))
    assert redis_from_outside(site) == b"+PONG\r\n"


def redis_from_outside(site: Site) -> bytes:
    def act() -> bytes:
        with socket.create_connection((HOST4, 6379), timeout=10) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100)

    return site.world.inside("outside", act)


# ---- names ---------------------------------------------------------------------------------------


def test_a_new_address_is_known_at_once(site: Site) -> None:
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    site.run("web", "--network", "one")
    site.run("client", "--network", "one")
    assert site.lookup("client", "web") == ["10.7.0.2"]
    site.cli.ok("stop", "-t", "0", "web")
    assert site.lookup("client", "web") == []
    site.run("other", "--network", "one")
    site.cli.ok("start", "web")
    assert site.lookup("client", "other") == ["10.7.0.2"]
    assert site.lookup("client", "web") == [site.address("web", "one")] != ["10.7.0.2"]
    # Also by its new name, and no more by the old one.
    site.cli.ok("rename", "web", "site")
    assert site.lookup("client", "site") == [site.address("site", "one")]
    assert site.lookup("client", "web") == []


def test_several_of_one_name(site: Site) -> None:
    site.cli.ok("network", "create", "one")
    site.cli.ok("network", "create", "two")
    for name in ("web1", "web2", "client"):
        site.run(name, "--network", "one", *(["--network-alias", "web"] * (name != "client")))
    site.run("web3", "--network", "two", "--network-alias", "web")  # of another network
    both = sorted([site.address("web1"), site.address("web2")])
    assert site.lookup("client", "web") == both
    assert site.lookup("client", "web3") == []
    site.cli.ok("rm", "-f", "web1")
    assert site.lookup("client", "web") == [site.address("web2")]


def test_pointers(site: Site) -> None:
    site.cli.ok("network", "create", "--ipv6", "one")
    site.run("web", "--network", "one")
    site.run("client", "--network", "one")
    for address in (site.address("web"), site.address("web", ipv6=True)):
        assert "name = web.one" in site.out("client", f"nslookup {address}")


def test_forwarded(site: Site, upstream: Upstream) -> None:
    """What is nobody's name is asked of the servers that --dns names; names never are."""
    site.cli.ok("network", "create", "one")
    site.run("web", "--network", "one", "--dns", OUTSIDE4, "--dns-search", "example.org")
    assert names_of(site, "web") == ["nameserver 127.0.0.11", "search example.org",
                                     "options ndots:0"]  # fmt: skip
    assert site.lookup("web", "www.example.net") == [ANSWER]
    assert set(upstream.names) == {"www.example.net"}
    assert site.lookup("web", "web.") == [site.address("web")]
    assert not any(name.startswith("web") for name in upstream.names)
    # An --internal network forwards nothing (CVE-2024-29018).
    site.cli.ok("network", "create", "--internal", "in")
    site.run("inside", "--network", "in", "--dns", OUTSIDE4)
    assert site.lookup("inside", "secret.example.net") == []
    assert not any(name.startswith("secret") for name in upstream.names)
    # On the default network the servers are asked by the container itself.
    site.run("plain", "--dns", OUTSIDE4)
    assert names_of(site, "plain") == [f"nameserver {OUTSIDE4}"]
    assert site.lookup("plain", "a.example.net") == [ANSWER]
    assert site.lookup("plain", "web") == []  # nobody's name there
    assert "web" in upstream.names


def test_links_on_the_default_network(site: Site, upstream: Upstream) -> None:
    site.run("database")
    site.run("web", "--link", "database:db", "--link", "database", "--dns", OUTSIDE4)
    site.run("stranger", "--dns", OUTSIDE4)
    own = site.address("database")
    assert site.lookup("web", "db") == site.lookup("web", "database") == [own]
    assert site.lookup("stranger", "db") == []
    assert site.world.is_blocked("stranger", own, 1)
    # It follows: the record is what is looked up, not an address that was right once.
    site.cli.ok("stop", "-t", "0", "database")
    site.run("other")
    site.cli.ok("start", "database")
    assert site.address("database") != own
    assert site.lookup("web", "db") == [site.address("database")]


def test_links_on_a_users_network(site: Site) -> None:
    site.cli.ok("network", "create", "one")
    site.run("database", "--network", "one")
    site.run("web", "--network", "one", "--link", "database:db")
    site.run("stranger", "--network", "one")
    assert site.lookup("web", "db") == [site.address("database")]
    assert site.lookup("stranger", "db") == []


# ---- who answers ---------------------------------------------------------------------------------


def test_supervisor_killed(site: Site) -> None:
    """Nobody's names depend on it."""
    site.cli.ok("network", "create", "one")
    site.run("web", "--network", "one", "--restart", "always")
    site.run("client", "--network", "one")
    own = site.address("web")
    assert site.lookup("client", "web") == [own]
    supervisor = wait_for(lambda: supervision.owner(site.runtime_dir), "the supervisor")
    os.kill(supervisor, signal.SIGKILL)
    assert site.lookup("client", "web") == [own]
    # The one that its monitor starts, when the container ends, brings it back, name and all.
    os.kill(site.pid("web"), signal.SIGKILL)
    wait_for(lambda: site.inspect("web", "{{.RestartCount}} {{.State.Status}}") == "1 running",
             "the container to be back")  # fmt: skip
    assert site.lookup("client", "web") == [site.address("web")]


def test_own_server_at_port_53(site: Site) -> None:
    """A container may serve names itself, on all of its addresses."""
    site.cli.ok("network", "create", "one")
    site.serve("dns", "--network", "one", "-p", "5353:53/udp", ports=(53,))
    site.run("client", "--network", "one")
    for protocol in ("udp", "tcp"):
        seen = site.world.ask("client", site.address("dns"), 53, protocol)
        assert seen == site.address("client")
    assert site.world.ask("outside", HOST4, 5353, "udp") == OUTSIDE4
    assert site.lookup("dns", "client") == [site.address("client")]
    assert site.lookup("client", "dns") == [site.address("dns")]


def test_garbage(site: Site) -> None:
    """What one container sends to its name server is its own affair."""
    site.cli.ok("network", "create", "one")
    site.run("web", "--network", "one")
    site.run("rude", "--network", "one")
    rng = random.Random(84)
    own = site.address("web")

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("127.0.0.11", 53))
            for number in range(3000):
                data = rng.randbytes(rng.randrange(600))
                if number % 2:  # a header that is right, up to a point
                    data = b"ab\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + data
                s.send(data)
        with socket.create_connection(("127.0.0.11", 53), timeout=10) as connection:
            connection.sendall(rng.randbytes(70000))

    with contextlib.suppress(ConnectionError):
        site.world.inside("rude", send)
    assert site.lookup("web", "rude") == [site.address("rude")]
    assert site.lookup("rude", "web") == [own]


# ---- files ---------------------------------------------------------------------------------------


def test_an_edited_resolv_conf_stays(site: Site) -> None:
    site.cli.ok("network", "create", "one")
    site.run("web", "--network", "one")
    site.run("plain", "--network", "one")
    site.out("web", "echo nameserver 192.0.2.53 > /etc/resolv.conf")
    for action in ("restart", "connect"):
        if action == "restart":
            site.cli.ok("restart", "-t", "0", "web", "plain")
        else:
            site.cli.ok("network", "connect", "bridge", "web")
        assert names_of(site, "web") == ["nameserver 192.0.2.53"]
    assert names_of(site, "plain") == ["nameserver 127.0.0.11", "options ndots:0"]


STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"
BEHIND = "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch lan\n"


@pytest.mark.parametrize(
    ("host", "behind", "servers"),
    [
        (STUB, BEHIND, ["192.0.2.53", "2001:db8::53"]),
        (STUB, "", ["8.8.8.8", "8.8.4.4"]),
        ("nameserver 127.0.0.1\nnameserver 192.0.2.9\n", BEHIND, ["192.0.2.9"]),
        ("nameserver ::1\n", BEHIND, ["8.8.8.8", "8.8.4.4"]),
        ("", BEHIND, ["8.8.8.8", "8.8.4.4"]),
        ("# nothing\n;\nnameserver\n", BEHIND, ["8.8.8.8", "8.8.4.4"]),
    ],
)
def test_stub_of_the_host(
    monkeypatch: pytest.MonkeyPatch, host: str, behind: str, servers: list[str]
) -> None:
    """systemd-resolved's 127.0.0.53 is no server to a container: those behind it are."""
    files = {"/etc/resolv.conf": host, "/run/systemd/resolve/resolv.conf": behind}
    monkeypatch.setattr(etc_files, "_parsed", None)  # what it knows of this host
    monkeypatch.setattr(etc_files, "_read", lambda path, default: files.get(path) or default)
    assert etc_files._host_resolvers(own=False)[0] == servers
    if host == STUB:  # in the host's own network it answers
        assert etc_files._host_resolvers(own=True)[0] == ["127.0.0.53"]
