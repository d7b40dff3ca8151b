"""What is given back is still the container's own: addresses, names, ports and links, where
somebody else has them by then, or where a container ends in the middle of a change."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from fastbox.container import connecting
from fastbox.container.config import ContainerConfig
from fastbox.container.networking import ContainerNetworks
from fastbox.engine import Engine
from fastbox.errors import Conflict, NotRunning
from fastbox.network import conntrack, leases, messages, names, release
from tests.conftest import remove_networks, runtime_of
from tests.support.images import Templates
from tests.support.netns import HOST4, HOST6, OUTSIDE4, OUTSIDE6, World
from tests.support.site import Site
from tests.support.wait import wait_for

from .test_network_faults import dying, kill

T = TypeVar("T")
SERVICE = "com.docker.compose.service"
WEB = ("--network", "one", "--ip", "10.7.0.50", "-p", "8080:80")


@pytest.fixture
def one(site: Site) -> Site:
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    site.cli.ok("network", "create", "--subnet", "10.8.0.0/24", "two")
    return site


def on_host(site: Site, call: Callable[[Engine], T]) -> T:
    """Call something of an engine's on the host."""
    return site.world.inside("host", lambda: call(Engine(site.root, site.runtime_dir)))


def end(site: Site, name: str) -> None:
    """A container ends, and its monitor has given back what it had."""
    monitor = os.pidfd_open(site.monitor(name))
    try:
        kill(site.pid(name))
        assert select.select([monitor], [], [], 30)[0]
    finally:
        os.close(monitor)


def interfaces(site: Site, name: str) -> list[str]:
    return site.world.inside(name, lambda: sorted(name for _, name in socket.if_nameindex()))


def left_on(site: Site, network: str) -> list[str]:
    """Addresses and names that somebody has on a network."""
    made = site.cli.ok("network", "inspect", "-f", "{{.Id}}", network)
    return [line for line in site.left() if made in line]


class Step:
    """A function that does something else first (or afterwards), once."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        self._patch, self._owner, self._name = patch, owner, name
        self.done = False

    def before(self, act: Callable[[], object]) -> None:
        self._replace(act, None)

    def after(self, act: Callable[[], object]) -> None:
        self._replace(None, act)

    def _replace(
        self, first: Callable[[], object] | None, last: Callable[[], object] | None
    ) -> None:
        real = getattr(self._owner, self._name)

        def step(*words: Any, **options: Any) -> Any:
            once, self.done = not self.done, True
            if first is not None and once:
                first()
            result = real(*words, **options)
            if last is not None and once:
                last()
            return result

        self._patch.setattr(self._owner, self._name, step)


# ---- ports ---------------------------------------------------------------------------------------


def test_a_port_of_a_killed_monitor(one: Site) -> None:
    """Who has it next keeps it when the first one is removed."""
    site = one
    site.serve("first", "-p", "8080:80", "-p", "8080:80/udp")
    kill(site.monitor("first"))
    # Of another address: by the same one, the same element would be its own.
    site.serve("second", "--network", "one", "-p", "8080:80", "-p", "8080:80/udp")
    site.cli.ok("rm", "first")
    own = site.address("second")
    assert site.elements() == [f"ports4: {kind} 8080 {own} 80" for kind in ("tcp", "udp")]
    for protocol in ("tcp", "udp"):
        assert site.world.ask("outside", HOST4, 8080, protocol) == OUTSIDE4


def test_an_internal_network_publishes_nothing(one: Site) -> None:
    """Also to one that had published ports before it came there."""
    site, ask, blocked = one, one.world.ask, one.world.is_blocked
    site.cli.ok("network", "create", "--internal", "inner")
    site.serve("web", "--network", "one", "-p", "8080:80")
    assert ask("outside", HOST4, 8080) == OUTSIDE4
    assert ask("outside", HOST6, 8080) == site.gateway("one")
    site.cli.ok("network", "disconnect", "one", "web")
    site.cli.ok("network", "connect", "inner", "web")
    assert site.elements() == []
    for address in (HOST4, HOST6):
        assert blocked("outside", address, 8080)
    site.cli.ok("network", "connect", "two", "web")
    assert ask("outside", HOST4, 8080) == OUTSIDE4
    assert ask("outside", HOST6, 8080) == site.gateway("two")


def test_sctp(site: Site) -> None:
    """Its ports are reserved where no other process can be in the way."""
    words = ("-p", "7000:70/sctp")
    site.run("first", *words)
    for spec in ("7000:71/sctp", "127.0.0.1:7000:70/sctp"):
        error = site.cli.fails(125, "run", "--rm", "-p", spec, "busybox", "true")
        assert "port is already allocated" in error.splitlines()[0]
        assert "hint: container first has it" in error
    with open(f"/proc/{site.world.pid('host')}/net/unix") as file:
        bound = [line.split()[-1] for line in file]
    assert not [name for name in bound if name.startswith("@") and "fastbox" in name]
    site.cli.ok("rm", "-f", "first")
    site.run("second", *words)
    assert site.elements() == [f"ports4: sctp 7000 {site.address('second')} 70"]


def flows(site: Site, port: int) -> set[str]:
    """Where the host remembers datagrams to a port to have gone."""

    def act() -> set[str]:
        found = set()
        for family, attribute in ((socket.AF_INET, 2), (socket.AF_INET6, 4)):
            with messages.open_socket(messages.NETLINK_NETFILTER) as asking:
                for data in conntrack._tuples(asking, family):
                    if conntrack._leads_to(data, conntrack.UDP, {port}):
                        addresses = messages.attributes(messages.attributes(data)[1])
                        found.add(socket.inet_ntop(family, addresses[attribute]))
        return found

    return site.world.inside("host", act)


def test_flows_of_others(site: Site) -> None:
    """A published UDP port is forgotten, but not the same port of another machine."""
    site.run("talker")
    ask, serve = site.world.ask, site.world.serve
    for where, address in (("outside", OUTSIDE4), ("outside", OUTSIDE6)):
        serve(where, address, 5300, "udp")
    for address in (HOST4, HOST6):
        server = serve("host", address, 5300, "udp")
        assert ask("outside", address, 5300, "udp")
        server.close()
    assert ask("talker", OUTSIDE4, 5300, "udp") == HOST4
    assert ask("host", OUTSIDE6, 5300, "udp") == HOST6
    assert flows(site, 5300) == {HOST4, HOST6, OUTSIDE4, OUTSIDE6}
    site.serve("web", "-p", "5300:80/udp")
    assert flows(site, 5300) == {OUTSIDE4, OUTSIDE6}


# ---- names ---------------------------------------------------------------------------------------


@pytest.fixture
def private(
    world: World, new_root: Callable[[str], str], templates: Templates, home: str
) -> Iterator[Site]:
    """A store whose fastbox has always had the umask 077."""
    root = new_root("private")
    templates.copy(["busybox"], root)
    site = Site(world, root, runtime_of(root), home)
    enter, own = site.cli.argv[:3], site.cli.argv[3:]
    site.cli.argv = [*enter, "sh", "-c", 'umask 077; exec "$@"', "sh", *own]
    yield site
    site.empty()
    world.inside("host", lambda: remove_networks(root))


def test_umask(private: Site) -> None:
    """Name servers and relays, which are nobody, read what they must."""
    site = private
    assert not os.path.exists(site.runtime_dir)
    site.cli.ok("network", "create", "--subnet", "10.17.0.0/24", "one")
    site.serve("web", "--network", "one", "-p", "8080:80")
    site.run("client", "--network", "one")
    assert site.resolve("client", "web") == ["10.17.0.2"]
    site.cli.ok("rename", "web", "shop")
    assert site.resolve("client", "shop") and not site.resolve("client", "web")
    assert site.world.ask("host", "::1", 8080) == "10.17.0.1"


def test_service_of_an_image(one: Site, busybox_tar: str) -> None:
    """Its label takes nobody's name; the user's gives one."""
    site = one
    site.cli.ok("import", "-c", f"LABEL {SERVICE}=redis", busybox_tar, "labelled")
    site.run("client", "--network", "one")
    site.cli.ok("run", "-d", "--name", "sneaky", "--network", "one", "labelled", "sleep", "1000")
    assert SERVICE in site.inspect("sneaky", "{{json .Config.Labels}}")
    assert site.resolve("client", "sneaky") == [site.address("sneaky")]
    assert site.resolve("client", "redis") == []
    site.run("real", "--network", "one", "-l", f"{SERVICE}=redis")
    assert site.resolve("client", "redis") == [site.address("real")]


def test_connected_for_the_first_time(one: Site) -> None:
    """A container that was started without any of its networks can look up names."""
    site = one
    site.run("other", "--network", "one")
    site.cli.ok("create", "--name", "web", "--network", "one", "busybox", "sleep", "1000")
    site.cli.ok("network", "disconnect", "one", "web")
    site.cli.ok("start", "web")
    site.adopt("web")
    assert interfaces(site, "web") == ["lo"]
    site.cli.ok("network", "connect", "one", "web")
    assert site.lookup("web", "other") == [site.address("other")]
    assert site.resolve("other", "web") == [site.address("web")]


def test_renamed(one: Site) -> None:
    """None of its names is left at its end, also where somebody was killed who changed them."""
    site = one
    site.run("client", "--network", "one")
    before = left_on(site, "one")
    site.run("web", "--network", "one", "--ip", "10.7.0.50")
    site.cli.ok("rename", "web", "shop")
    assert site.resolve("client", "shop") == ["10.7.0.50"] and not site.resolve("client", "web")
    dying(site, "fastbox.network.leases:rename", "rename", "shop", "store")
    end(site, "store")
    assert left_on(site, "one") == before
    assert site.resolve("client", "shop") == site.resolve("client", "store") == []


def test_renamed_while_it_ends(one: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody else got since stays that one's."""
    site = one
    site.run("client", "--network", "one")
    site.run("web", "--network", "one", "--ip", "10.7.0.50")

    def interrupt() -> None:
        end(site, "shop")
        site.run("next", "--network", "one", "--ip", "10.7.0.50")

    step = Step(monkeypatch, leases, "rename")
    step.before(interrupt)
    on_host(site, lambda engine: engine.rename("web", "shop"))
    assert step.done
    for _ in range(2):
        assert site.resolve("client", "next") == ["10.7.0.50"]
        assert site.resolve("client", "shop") == site.resolve("client", "web") == []
        (lease,) = (line for line in left_on(site, "one") if "leases/10.7.0.50" in line)
        assert lease.endswith("/next")
        site.cli("rm", "shop")


# ---- links ---------------------------------------------------------------------------------------


def test_a_link_with_another_name(one: Site) -> None:
    """disconnect takes a link away whatever the container calls it."""
    site = one
    site.run("web", "--network", "one", "--cap-add", "NET_ADMIN")
    site.cli.ok("network", "connect", "--ip", "10.8.0.50", "two", "web")
    assert interfaces(site, "web") == ["eth0", "eth1", "lo"]
    site.out("web", "ip link set eth1 down; ip link set eth1 name mine; ip link set mine up")
    site.cli.ok("network", "disconnect", "two", "web")
    assert interfaces(site, "web") == ["eth0", "lo"]
    assert len(site.links()) == 1
    assert left_on(site, "two") == []


def test_looked_at_while_it_is_connected(one: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is not told of yet is nobody's to sweep."""
    site = one
    site.serve("web", "--network", "one")
    site.run("client", "--network", "two")

    def look() -> None:
        engine = Engine(site.root, site.runtime_dir)
        assert {"one", "two"} <= {network.name for network in engine.networks()}
        assert len(engine.containers()) == 2

    step = Step(monkeypatch, connecting._Namespace, "send")
    step.after(look)
    on_host(site, lambda engine: engine.connect_network("two", "web"))
    assert step.done
    assert interfaces(site, "web") == ["eth0", "eth1", "lo"] and len(site.links()) == 3
    own = site.address("web", "two")
    assert site.world.ask("client", own, 80) == site.address("client")
    assert site.resolve("client", "web") == [own]


def test_macvlan_restarts(site: Site) -> None:
    """An older link, which the kernel destroys in its own time, is not in the way."""
    site.cli.ok("network", "create", "-d", "macvlan", "--subnet", "198.51.100.0/24",
                "-o", "parent=eth0", "lan")  # fmt: skip
    site.run("web", "--network", "lan", "--ip", "198.51.100.50")
    for _ in range(5):
        site.cli.ok("restart", "-t", "0", "web")
    assert "198.51.100.50" in site.out("web", "ip -o -4 addr show dev eth0")


# ---- ended in the middle -------------------------------------------------------------------------

CONNECTING = [
    (release, "write"),
    (connecting._Namespace, "send"),
    (names, "write_ports"),
]


@pytest.mark.parametrize("owner, name", CONNECTING, ids=["before", "link", "settled"])
def test_connected_while_it_ends(
    one: Site, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """It is on no network then, and what it had is somebody else's."""
    site = one
    site.serve("web", *WEB, *(["--rm"] if owner is release else []))

    def interrupt() -> None:
        end(site, "web")
        site.serve("next", *WEB[:-1], "8080:81", ports=(81,))

    step = Step(monkeypatch, owner, name)
    step.before(interrupt)
    with pytest.raises(NotRunning):
        on_host(site, lambda engine: engine.connect_network("two", "web"))
    assert step.done
    for _ in range(2):
        assert left_on(site, "two") == []
        (lease,) = (line for line in left_on(site, "one") if "leases/" in line)
        assert "10.7.0.50" in lease and lease.endswith("/next")
        assert site.elements() == ["ports4: tcp 8080 10.7.0.50 81"]
        assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4
        assert site.resolve("next", "next") == ["10.7.0.50"]
        assert site.resolve("next", "web") == []
        site.cli("rm", "web")


def test_joined_while_it_ends(site: Site) -> None:
    """A namespace that nobody looks after is not joined."""
    for network in ("bridge", "none"):
        site.run(f"first-{network}", "--network", network)
        check_not_joined(site, f"first-{network}")


def check_not_joined(site: Site, first: str) -> None:
    name = f"second-{first}"
    config = ContainerConfig(
        image="busybox", name=name, command=["sleep", "1000"], network=f"container:{first}"
    )
    on_host(site, lambda engine: engine.create(config))
    with pytest.MonkeyPatch.context() as patch:
        step = Step(patch, ContainerNetworks, "_share")
        step.before(lambda: end(site, first))
        with pytest.raises(Conflict, match="cannot join network of a non running container"):
            on_host(site, lambda engine: engine.start(name))
        assert step.done
    assert site.inspect(name, "{{.State.Running}}") == "false"
    wait_for(lambda: not site.left(), "nothing to be left")
