"""Networks when something is killed, used up or missing: addresses, ports, rules and links are
given back by the next command, and never had by two."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.conftest import remove_networks
from tests.support.leaks import children
from tests.support.netns import HOST4, OUTSIDE4
from tests.support.site import Site
from tests.support.wait import wait_for

FIXED = ("--network", "one", "--ip", "10.7.0.50", "-p", "8080:80", "-p", "7000:70/sctp")
ROUNDS = 6


@pytest.fixture
def one(site: Site) -> Site:
    site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
    site.cli.ok("network", "create", "--subnet", "10.8.0.0/24", "two")
    return site


def kill(pid: int) -> None:
    """kill -9, until it is gone."""
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        assert select.select([fd], [], [], 30)[0]
    finally:
        os.close(fd)


def killed_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill it, unless it ended before; whether it was killed."""
    try:
        process.communicate(timeout=seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True


def delays(site: Site, *words: str) -> Iterator[float]:
    """Moments from the beginning of a command to its end, as long as that takes here."""
    start = time.monotonic()
    site.cli(*words)
    whole = time.monotonic() - start
    for number in range(ROUNDS):
        yield whole * (number + 1) / ROUNDS


def check_nothing_left(site: Site) -> None:
    """After the next command; a namespace takes its links along in its own time."""
    site.cli.ok("ps")
    wait_for(lambda: not site.left(), f"nothing to be left: {site.left()}")


# ---- killed --------------------------------------------------------------------------------------


def test_start_killed(one: Site) -> None:
    """At any moment: the same name, address and ports can be had at once."""
    site = one
    words = ("run", "-d", "--name", "web", *FIXED, "busybox", "sleep", "1000")
    killed = 0
    for delay in [*delays(site, *words)]:
        site.cli.ok("rm", "-f", "web")
        killed += killed_after(site.cli.popen(*words), delay)
    assert killed
    site.cli.ok("rm", "-f", "web")
    check_nothing_left(site)
    site.serve("web", *FIXED)
    assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4
    assert len(site.elements()) == 2 and len(site.links()) == 1


def test_another_start_killed(one: Site) -> None:
    """What a killed start has taken is in nobody's way: other containers get it."""
    site = one
    for number, delay in enumerate(delays(site, "run", "--rm", *FIXED, "busybox", "true")):
        words = ("create", "--name", f"box{number}", *FIXED, "busybox", "sleep", "1000")
        site.cli.ok(*words)
        killed_after(site.cli.popen("start", f"box{number}"), delay / 2)
        if site.inspect(f"box{number}", "{{.State.Running}}") == "true":
            site.cli.ok("kill", f"box{number}")
        out = site.cli.ok("run", "--rm", *FIXED, "busybox", "ip", "-o", "-4", "addr")
        assert "10.7.0.50" in out
    check_nothing_left(site)


def test_monitor_killed(one: Site) -> None:
    site = one
    made = [site.run(f"box{number}", "--network", "one", "-p", f"{8080 + number}:80")
            for number in range(3)]  # fmt: skip
    for number in range(3):
        kill(site.monitor(f"box{number}"))
    check_nothing_left(site)
    assert site.cli.ok("network", "rm", "one") == "one"  # nobody is on it
    assert len(made) == 3 and site.cli.ok("ps", "-q") == ""


def test_monitor_and_start_killed(one: Site) -> None:
    """The same container, again and again."""
    site = one
    site.serve("web", *FIXED)
    for _ in range(3):
        kill(site.monitor("web"))
        site.cli.ok("start", "web")
        site.wait_listening("web", [80])
        assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4
        assert len(site.elements()) == 2
    wait_for(lambda: len(site.links()) == 1)


# A process that ends where a function of fastbox's is called, as if it had been killed there.
DYING = """
import importlib, os, sys
from fastbox.engine import Engine
root, runtime, place, verb, *words = sys.argv[1:]
module, _, name = place.partition(":")
owner = importlib.import_module(module)
*parts, last = name.split(".")
for part in parts:
    owner = getattr(owner, part)
setattr(owner, last, lambda *a, **k: os._exit(9))
getattr(Engine(root, runtime), verb)(*words)
"""


def dying(site: Site, place: str, verb: str, *words: str) -> None:
    """Do something until a function is called."""
    argv = [*site.entering("host"), sys.executable, "-c", DYING, site.root, site.runtime_dir]
    done = subprocess.run([*argv, place, verb, *words], env=site.cli.env, capture_output=True)
    assert done.returncode == 9, (place, done)


CONNECTING = [
    "fastbox.network.ground:prepare",
    "fastbox.container.connecting:_Namespace.send",
    "fastbox.network.names:add",
    "fastbox.network.release:write",
    "fastbox.network.attach:save",
    "fastbox.network.names:write_configuration",
    "fastbox.network.names:write_ports",
    "fastbox.container.etc_files:update",
    "fastbox.container.store:ContainerStore.save_record",
]
DISCONNECTING = [
    "fastbox.container.store:ContainerStore.save_record",
    "fastbox.container.connecting:_Namespace.delete",
    "fastbox.container.connecting:_Namespace.route",
    "fastbox.network.release:run",
    "fastbox.network.release:write",
    "fastbox.network.attach:save",
    "fastbox.network.names:write_configuration",
    "fastbox.network.names:write_ports",
    "fastbox.container.etc_files:update",
]
STARTING = [
    "fastbox.network.ground:prepare",
    "fastbox.network.binding:reserve",
    "fastbox.network.release:write",
    "fastbox.network.names:add",
    "fastbox.network.names:write_configuration",
    "fastbox.network.attach:Host._open_ports",
    "fastbox.network.attach:save",
    "fastbox.network.endpoint:messages_of",
    "fastbox.container.etc_files:update",
    "fastbox.container.launch:start",
]


def test_start_killed_at(one: Site) -> None:
    """At each step: what it had taken can be had at once, by it and by others."""
    site = one
    mount = ("-v", f"{site.peer}:/peer:ro", "busybox", "/peer", "80")
    for place in STARTING:
        site.cli.ok("create", "--name", "web", *FIXED, *mount)
        dying(site, place, "start", "web")
        out = site.cli.ok("run", "--rm", *FIXED, "busybox", "ip", "-o", "-4", "addr")
        assert "10.7.0.50" in out, place
        dying(site, place, "start", "web")
        site.cli.ok("start", "web")
        site.wait_listening("web", [80])
        assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4, place
        assert len(site.elements()) == 2, place
        site.cli.ok("rm", "-f", "web")
    for place in STARTING[::3]:
        site.cli.ok("create", "--name", "web", *FIXED, *mount)
        dying(site, place, "start", "web")
        site.cli.ok("rm", "web")
        check_nothing_left(site)


BRIDGING = [
    "fastbox.network.device:_check_owner",
    "fastbox.network.device:_addresses",
    "fastbox.network.ground:_reconnect",
    "fastbox.network.device:enable_forwarding",
    "fastbox.network.device:set_up",
]


@pytest.mark.parametrize("network", ["bridge", "one"])
def test_bridge_killed_at(one: Site, network: str) -> None:
    """At each step of making it: the next start completes it, forwarding included."""
    site = one
    site.world.serve("outside", "0.0.0.0", 80)
    ask = ("busybox", "nc", "-w", "5", OUTSIDE4, "80")
    for place in BRIDGING:
        site.world.inside("host", lambda: remove_networks(site.root))
        site.world.sysctl("host", "net/ipv4/ip_forward", "0")
        site.cli.ok("create", "--name", "web", "--network", network, *ask)
        dying(site, place, "start", "web")
        assert site.cli.ok("run", "--rm", "--network", network, *ask) == HOST4, place
        assert site.world.sysctl("host", "net/ipv4/ip_forward") == "1"
        site.cli.ok("rm", "web")


def test_bridge_is_set_down(one: Site) -> None:
    """The next start sets it up again, for those that are on it too."""
    site = one
    site.serve("web", "--network", "one")
    (device,) = (name for name in site.interfaces() if name.startswith("fb-"))
    site.world.ip("host", f"link set {device} down")
    script = "echo | nc web 80"
    out = site.cli.ok("run", "--rm", "--network", "one", "busybox", "sh", "-c", script)
    assert out == "10.7.0.3"
    assert site.world.ask("host", site.address("web"), 80) == "10.7.0.1"


def test_removal_killed(one: Site) -> None:
    """Before the bridge was removed: the next command about networks removes it, and its subnet can
    be had at once. What is somebody's stays."""
    site = one
    other = "fb-" + "9" * 12
    named = ("--subnet", "10.9.0.0/24", "-o", "com.docker.network.bridge.name=mine", "named")
    site.cli.ok("network", "create", *named)
    for name in ("one", "two", "named"):
        site.cli.ok("run", "--rm", "--network", name, "busybox", "true")
    site.world.ip("host", f"link add {other} alias x type bridge")
    site.world.run("host", ["ip", "link", "set", other, "alias", f"fastbox 12345678 {'9' * 64}"])
    before = site.interfaces()
    for again in (("rm", "one"), ("prune", "-f"), ("create", "--subnet", "10.7.0.0/24", "new")):
        dying(site, "fastbox.network.ground:take_down", "remove_network", "one")
        assert site.interfaces() == before
        site.cli.ok("create", "--network", "two", "--name", "user", "busybox", "true")
        site.run("up", "--network", "two")
        site.run("up2", "--network", "named")
        assert site.cli("network", *again).code == (1 if again[0] == "rm" else 0), again
        gone = before - site.interfaces()
        assert len(gone) == 1 and gone.pop().startswith("fb-")
        site.cli.ok("rm", "-f", "up", "up2", "user")
        site.cli("network", "rm", "new")
        site.cli.ok("network", "create", "--subnet", "10.7.0.0/24", "one")
        site.cli.ok("run", "--rm", "--network", "one", "busybox", "true")
        before = site.interfaces()
    text = site.ruleset("set", "inet", site.table, "bridges")
    assert set(re.findall(r"fb-[0-9a-f]+", text)) <= before
    # One with a name of its own is found when it is in the way.
    dying(site, "fastbox.network.ground:take_down", "remove_network", "named")
    assert "mine" in site.interfaces()
    site.cli.ok("network", "create", *named)
    assert "mine" not in site.interfaces()
    site.world.ip("host", f"link del {other}")


def test_connect_killed_at(one: Site) -> None:
    """At each step: the next attempt does it; what is removed instead leaves nothing."""
    site = one
    site.run("client", "--network", "two")
    site.serve("web", "--network", "one", "-p", "8080:80")
    for place in CONNECTING:
        dying(site, place, "connect_network", "two", "web")
        site.cli.ok("network", "connect", "two", "web")
        check_on_both(site, place)
        site.cli.ok("network", "disconnect", "two", "web")
        check_on_one(site, place)
    for place in CONNECTING[::3]:
        dying(site, place, "connect_network", "two", "web")
        site.cli.ok("rm", "-f", "web")
        wait_for(lambda: site.cli.ok("ps") and len(site.links()) == 1, place)
        assert len([line for line in site.left() if line.startswith("address")]) == 1, place
        site.serve("web", "--network", "one", "-p", "8080:80")
    # The network is nobody's, although one that runs has an address of it.
    site.cli.ok("rm", "-f", "client")
    dying(site, CONNECTING[0], "connect_network", "two", "web")
    assert site.cli.ok("network", "rm", "two") == "two"
    site.cli.ok("rm", "-f", "web")
    check_nothing_left(site)


def test_disconnect_killed_at(one: Site) -> None:
    site = one
    site.run("client", "--network", "two")
    site.serve("web", "--network", "one", "-p", "8080:80")
    for place in DISCONNECTING:
        site.cli.ok("network", "connect", "two", "web")
        dying(site, place, "disconnect_network", "two", "web")
        site.cli("network", "disconnect", "two", "web")  # unless nothing was left to be done
        check_on_one(site, place)
        site.cli.ok("network", "connect", "two", "web")
        dying(site, place, "disconnect_network", "two", "web")
        if site.cli("network", "connect", "two", "web").code:
            site.cli.ok("network", "disconnect", "two", "web")  # it was not begun
            site.cli.ok("network", "connect", "two", "web")
        check_on_both(site, place)
        site.cli.ok("network", "disconnect", "two", "web")
    site.cli.ok("rm", "-f", "web", "client")
    check_nothing_left(site)


def networks_of(site: Site, name: str) -> set[str]:
    return set(json.loads(site.inspect(name, "{{json .NetworkSettings.Networks}}")))


def links(site: Site) -> list[str]:
    return site.world.inside("web", lambda: [name for _, name in socket.if_nameindex()])


def check_on_both(site: Site, about: str) -> None:
    assert networks_of(site, "web") == {"one", "two"}, about
    assert len(links(site)) == 3, (about, links(site))
    own = site.address("web", "two")
    assert site.resolve("client", "web") == [own], about
    assert site.world.ask("client", own, 80), about
    assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4, about


def check_on_one(site: Site, about: str) -> None:
    assert networks_of(site, "web") == {"one"}, about
    assert len(links(site)) == 2, (about, links(site))
    assert site.resolve("client", "web") == [], about
    assert site.world.ask("outside", HOST4, 8080) == OUTSIDE4, about
    assert len([line for line in site.left() if line.startswith("address")]) == 2, about


def test_connect_and_disconnect_killed(one: Site) -> None:
    """At any moment."""
    site = one
    site.serve("web", "--network", "one", "-p", "8080:80")
    site.run("client", "--network", "two")
    connect, disconnect = (("network", verb, "two", "web") for verb in ("connect", "disconnect"))
    for delay in [*delays(site, *connect)]:
        site.cli(*connect)
        killed_after(site.cli.popen(*disconnect), delay)
        site.cli(*disconnect)
        check_on_one(site, f"{delay}")
        killed_after(site.cli.popen(*connect), delay)
        again = site.cli(*connect)
        check_on_both(site, f"{delay} {again}")


def test_helper_killed(one: Site) -> None:
    """Who relays ports and answers names: another one does, at the next call."""
    site = one
    site.serve("web", "--network", "one", "-p", "8080:80")
    monitor = site.monitor("web")
    for _ in range(2):
        assert site.world.ask("host", "::1", 8080, timeout=30) == "10.7.0.1"
        (helper,) = (pid for pid in children(monitor) if pid != site.pid("web"))
        kill(helper)
    assert site.lookup("web", "web") == ["10.7.0.2"]


# ---- damaged -----------------------------------------------------------------------------


def test_a_damaged_network(one: Site) -> None:
    """It is in nobody's way, also when the rules must be loaded again."""
    site = one
    path = f"{site.root}/networks/two.json"
    with open(path, "w"):
        pass
    site.world.inside("host", lambda: remove_networks(site.root))
    site.cli.ok("run", "--rm", "--network", "one", "busybox", "true")
    listed = site.cli("network", "ls", "--format", "{{.Name}}")
    assert listed.code == 0 and listed.out.split() == ["bridge", "host", "none", "one"]
    assert listed.err.startswith(f"WARNING: {path} is damaged") and listed.err.count("\n") <= 1
    for words in (("network", "inspect", "two"), ("run", "--network", "two", "busybox", "true")):
        error = site.cli(*words).err
        assert f"{path} is damaged" in error and "fastbox network rm two" in error
    assert site.cli.ok("network", "rm", "two") == "two"
    assert site.cli("network", "ls").err == ""


def test_a_damaged_default_network(site: Site) -> None:
    """It is made again when it has been removed, and its bridge."""
    site.cli.ok("run", "--rm", "busybox", "true")
    for _ in range(2):
        with open(f"{site.root}/networks/bridge.json", "w"):
            pass
        assert "fastbox network rm bridge" in site.cli.fails(125, "run", "--rm", "busybox", "true")
        site.cli.ok("network", "rm", "bridge")
        site.run("up")
        # It was in use the second time.
        with open(f"{site.root}/networks/bridge.json", "w"):
            pass
        site.cli.ok("network", "rm", "bridge")
        assert site.world.inside("up", lambda: len(socket.if_nameindex())) == 2
        site.cli.ok("rm", "-f", "up")
        site.cli.ok("run", "--rm", "busybox", "true")


def test_a_damaged_container(one: Site) -> None:
    """It keeps its address while it lives."""
    site = one
    site.serve("web", "--network", "one", "--ip", "10.7.0.50")
    monitor, path = site.monitor("web"), f"{site.root}/containers/{site.inspect('web', '{{.Id}}')}"
    os.rename(f"{path}/container.json", f"{path}/kept")
    with open(f"{path}/container.json", "w"):
        pass
    words = ("run", "--rm", "--network", "one", "--ip", "10.7.0.50", "busybox", "true")
    for look in (("ps",), ("network", "ls"), ("network", "rm", "two")):
        site.cli.ok(*look)
    assert "Address already in use" in site.cli.fails(125, *words)
    kill(monitor)
    site.cli.ok("ps")
    site.cli.ok(*words)
    os.rename(f"{path}/kept", f"{path}/container.json")


# ---- used up, or missing -------------------------------------------------------------------------


def test_no_address_left(site: Site) -> None:
    made = site.cli.ok("network", "create", "--subnet", "10.9.0.0/30", "tiny")
    site.run("only", "--network", "tiny")
    for _ in range(2):
        error = site.cli.fails(125, "run", "--rm", "--network", "tiny", "busybox", "true")
        assert (
            f"no available IPv4 addresses on this network's address pools: tiny ({made})"
            in (error.splitlines()[0])
        )
    site.run("other")
    assert "no available IPv4 addresses" in site.cli.fails(1, "network", "connect", "tiny", "other")
    site.cli.ok("rm", "-f", "only")
    site.cli.ok("network", "connect", "tiny", "other")
    assert site.address("other", "tiny") == "10.9.0.2"
    site.cli.ok("network", "disconnect", "tiny", "other")
    # Of one whose monitor was killed, it is had too.
    site.run("again", "--network", "tiny")
    kill(site.monitor("again"))
    assert site.cli.ok("run", "--rm", "--network", "tiny", "busybox", "echo", "hi") == "hi"


def without(site: Site, *wrapper: str) -> subprocess.CompletedProcess[str]:
    """A run on the default network by a fastbox that lacks something."""
    enter, own = site.cli.argv[:3], site.cli.argv[3:]
    words = [*enter, *wrapper, *own, "run", "--rm", "-p", "8080:80", "busybox", "true"]
    return subprocess.run(words, capture_output=True, text=True, env=site.cli.env)


def check_lacking(site: Site, done: subprocess.CompletedProcess[str], why: str) -> None:
    assert done.returncode == 125, done
    assert why in done.stderr.splitlines()[0] and "Traceback" not in done.stderr
    assert site.settles([])
    assert site.cli.ok("ps", "-aq") == ""


def test_nft_is_missing(site: Site) -> None:
    site.world.inside("host", lambda: remove_networks(site.root))
    before = site.interfaces()
    places = "/usr/sbin/nft /sbin/nft /usr/bin/nft /usr/local/sbin/nft"
    script = f'for p in {places}; do [ ! -e $p ] || mount --bind /dev/null $p; done; exec "$@"'
    done = without(site, "unshare", "--mount", "sh", "-c", script, "sh")
    check_lacking(site, done, "the program nft is missing")
    assert "hint: install nftables" in done.stderr
    assert site.interfaces() == before
    out = site.cli.ok("run", "--rm", "--network", "none", "busybox", "echo", "hi")
    assert out == "hi"


def test_no_privilege(site: Site) -> None:
    site.world.inside("host", lambda: remove_networks(site.root))
    before = site.interfaces()
    done = without(site, "setpriv", "--bounding-set=-net_admin")
    check_lacking(site, done, "operation not permitted")
    assert "CAP_NET_ADMIN" in done.stderr
    assert site.interfaces() == before
    # Nor when everything is there already.
    site.cli.ok("run", "--rm", "busybox", "true")
    done = without(site, "setpriv", "--bounding-set=-net_admin")
    check_lacking(site, done, "operation not permitted")
