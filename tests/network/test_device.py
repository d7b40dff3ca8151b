"""Bridges: made, repaired, refused, removed; forwarding; names and options of devices."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fastbox.errors import Conflict, FastboxError, InvalidArgument, PermissionDenied, Unsupported
from fastbox.network import device, options
from fastbox.network.types import Network, Subnet
from tests.support.netns import World

ID = "0123456789ab" + "cd" * 26


def network(**more: object) -> Network:
    base: dict[str, Any] = {
        "id": ID,
        "name": "app",
        "device": f"fb-{ID[:12]}",
        "subnets": [
            Subnet(subnet="172.30.0.0/16", gateway="172.30.0.1"),
            Subnet(subnet="fd00:30::/64", gateway="fd00:30::1"),
        ],
        "ipv6": True,
    }
    return Network(**{**base, **more})


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


def shown(world: World, name: str) -> dict[str, Any]:
    (link,) = json.loads(world.run("host", ["ip", "-d", "-j", "address", "show", "dev", name]))
    return dict(link)


def addresses_of(link: dict[str, Any]) -> set[str]:
    return {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}


def test_made(world: World) -> None:
    net = network(options={"com.docker.network.driver.mtu": "1400"})
    index = world.inside("host", lambda: device.ensure_bridge(net))
    link = shown(world, net.device)
    assert index == link["ifindex"] and link["mtu"] == 1400 and "UP" in link["flags"]
    assert link["linkinfo"]["info_data"]["stp_state"] == 0
    assert addresses_of(link) == {"172.30.0.1/16", "fd00:30::1/64"}
    settings = {
        f"ipv4/conf/{net.device}/route_localnet": "1",
        f"ipv6/conf/{net.device}/accept_ra": "0",
        f"ipv6/conf/{net.device}/disable_ipv6": "0",
    }
    for key, value in settings.items():
        assert world.sysctl("host", f"net/{key}") == value
    assert world.inside("host", lambda: device.bridge_index(net.device)) == index
    assert device.bridge_index(net.device) is None
    # One that says no store is told later.
    assert world.inside("host", device.bridges) == {net.device: device.Bridge("", ID)}
    world.inside("host", lambda: device.ensure_bridge(net, "0a1b2c3d"))
    world.inside("host", lambda: device.ensure_bridge(net))
    world.join("host", "fbv9", [], "outside", "eth9", [])
    world.ip("host", f"link set fbv9 master {net.device}")
    expected = device.Bridge("0a1b2c3d", ID, True)
    assert world.inside("host", device.bridges) == {net.device: expected}


def test_without_ipv6(world: World) -> None:
    net = network(ipv6=False, subnets=network().subnets[:1])
    world.inside("host", lambda: device.ensure_bridge(net))
    assert world.sysctl("host", f"net/ipv6/conf/{net.device}/disable_ipv6") == "1"


def test_repaired(world: World) -> None:
    net = network()
    index = world.inside("host", lambda: device.ensure_bridge(net))
    world.ip("host", f"link set {net.device} down")
    world.ip("host", f"address flush dev {net.device}")
    world.sysctl("host", f"net/ipv6/conf/{net.device}/disable_ipv6", "1")
    world.sysctl("host", f"net/ipv4/conf/{net.device}/route_localnet", "0")
    world.ip("host", f"link set {net.device} alias mine")
    with pytest.raises(Conflict):
        world.inside("host", lambda: device.ensure_bridge(net))
    world.run("host", ["ip", "link", "set", net.device, "alias", f"fastbox {ID}"])
    world.ip("host", f"link set {net.device} down")
    assert world.inside("host", lambda: device.ensure_bridge(net)) == index
    link = shown(world, net.device)
    assert "UP" in link["flags"] and addresses_of(link) == {"172.30.0.1/16", "fd00:30::1/64"}
    assert world.sysctl("host", f"net/ipv4/conf/{net.device}/route_localnet") == "1"


def test_up_is_complete(world: World) -> None:
    """What is not complete is down."""
    net = network()

    def act() -> list[bool]:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as asking:
            found = [device.is_up(net.device, asking)]
            device.prepare_bridge(net)
            found.append(device.is_up(net.device, asking))
            device.set_up(net, asking)
            return [*found, device.is_up(net.device, asking)]

    assert world.inside("host", act) == [False, False, True]
    link = shown(world, net.device)
    assert "UP" in link["flags"] and addresses_of(link) == {"172.30.0.1/16", "fd00:30::1/64"}


def test_by_several_at_once(world: World) -> None:
    net = network()

    def race() -> set[int]:
        found: list[int] = []
        # Each its own lock: as processes are.
        threads = [
            threading.Thread(
                target=lambda: found.append(
                    device._with_iproute(lambda ip: device._ensure_bridge(ip, net))
                )
            )
            for _ in range(4)
        ]
        device.bridges()  # pyroute2 is loaded once
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        return set(found)

    assert len(world.inside("host", race)) == 1


@pytest.mark.parametrize("kind", ["veth", "bridge"])
def test_somebody_elses_interface(world: World, kind: str) -> None:
    net = network(device="br-mine")
    world.ip("host", f"link add br-mine type {kind}")
    with pytest.raises(Conflict, match="interface br-mine is there and not fastbox's") as caught:
        world.inside("host", lambda: device.ensure_bridge(net))
    assert "com.docker.network.bridge.name" in (caught.value.hint or "")
    assert not world.inside("host", lambda: device.remove_bridge("br-mine"))
    assert shown(world, "br-mine")["linkinfo"]["info_kind"] == kind


def test_another_networks_bridge(world: World) -> None:
    world.inside("host", lambda: device.ensure_bridge(network()))
    with pytest.raises(Conflict, match="is another network's bridge"):
        world.inside("host", lambda: device.ensure_bridge(network(id="ef" * 32)))


def test_removal(world: World) -> None:
    net = network()
    world.inside("host", lambda: device.ensure_bridge(net))
    assert world.inside("host", lambda: device.remove_bridge(net.device))
    assert not world.inside("host", lambda: device.remove_bridge(net.device))
    # Of a process that was killed before it said whose it is.
    world.ip("host", f"link add {net.device} type bridge")
    assert world.inside("host", device.bridges) == {net.device: device.Bridge("", "")}
    assert world.inside("host", lambda: device.remove_bridge(net.device))


PROGRAM = f"""
import asyncio, uvloop
from fastbox.network import device
from fastbox.network.types import Network

async def main():
    return device.ensure_bridge(Network(id={ID!r}, name="app", device="fb-{ID[:12]}"))

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
print(asyncio.run(main()))
"""


def test_in_a_program_with_loops(world: World) -> None:
    """Within a running loop, and with uvloop, which refuses netlink, as the policy."""
    assert int(world.python("host", PROGRAM)) > 0


# ---- forwarding ----------------------------------------------------------------------------------


def test_forwarding_is_switched_on_once(world: World, runtime_dir: str) -> None:
    told: list[dict[int, list[str]]] = []

    def enable(ipv6: bool) -> dict[int, list[str]]:
        return world.inside(
            "host", lambda: device.enable_forwarding(runtime_dir, ipv6, told.append)
        )

    world.sysctl("host", "net/ipv4/ip_forward", "0")
    world.sysctl("host", "net/ipv6/conf/eth0/accept_ra", "1")
    assert device.uplinks(runtime_dir) == {}
    assert enable(False) == {4: ["eth0"]} == device.uplinks(runtime_dir)
    assert world.sysctl("host", "net/ipv4/ip_forward") == "1"
    assert world.sysctl("host", "net/ipv6/conf/all/forwarding") == "0"
    assert enable(False) == {4: ["eth0"]} and len(told) == 1
    world.inside("host", lambda: device.ensure_bridge(network()))
    assert enable(True) == {4: ["eth0"], 6: ["eth0"]}  # not the bridge
    assert world.sysctl("host", "net/ipv6/conf/all/forwarding") == "1"
    assert world.sysctl("host", "net/ipv6/conf/eth0/accept_ra") == "2"
    assert os.stat(f"{runtime_dir}/networks").st_mode & 0o777 == 0o755


def test_a_host_that_forwards_is_left_alone(world: World, runtime_dir: str) -> None:
    world.sysctl("host", "net/ipv4/ip_forward", "1")
    assert world.inside("host", lambda: device.enable_forwarding(runtime_dir, False)) == {}
    assert device.uplinks(runtime_dir) == {}


def test_what_cannot_be_set_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_SYS", "/nosuch")
    with pytest.raises(FastboxError, match=r"cannot set net/ipv4/conf/.*/route_localnet to 1"):
        world.inside("host", lambda: device.ensure_bridge(network()))


# ---- what the kernel refuses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EOPNOTSUPP, Unsupported),
        (errno.EPERM, PermissionDenied),
        (errno.ENOMEM, FastboxError),
    ],
)
def test_refused(number: int, kind: type[FastboxError], monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(Exception):
        code = number

    def refuse(*args: object) -> None:
        raise Refused

    monkeypatch.setattr(device, "_ensure_bridge", refuse)
    with pytest.raises(kind, match="cannot set up bridge fb-0123456789ab") as caught:
        device.ensure_bridge(network())
    assert bool(caught.value.hint) is (kind is not FastboxError)


def test_without_the_capability() -> None:
    """Really: in a network namespace that is another user namespace's."""
    import subprocess
    import sys

    code = (
        "from fastbox.network import device\n"
        "from fastbox.network.types import Network\n"
        f"net = Network(id={ID!r}, name='a', device='fb-{ID[:12]}')\n"
        "try:\n    device.ensure_bridge(net)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout.startswith("PermissionDenied cannot set up bridge fb-"), done.stderr


# ---- macvlan, names ------------------------------------------------------------------------------


def test_macvlan(world: World) -> None:
    net = network(driver="macvlan", device="eth0")
    assert world.inside("host", lambda: device.check_parent(net)) > 0
    assert world.inside("host", device.interfaces) == ["lo", "eth0"]
    with pytest.raises(InvalidArgument, match="there is no interface nosuch") as caught:
        world.inside("host", lambda: device.check_parent(network(device="nosuch")))
    assert caught.value.hint == "interfaces: lo, eth0"
    with pytest.raises(InvalidArgument, match="unknown macvlan mode"):
        options.check("macvlan", {"parent": "eth0", "macvlan_mode": "x"})
    options.check("macvlan", {"parent": "eth0", "macvlan_mode": "private"})


def test_names() -> None:
    def name(root: str, net: str, **more: str) -> str:
        chosen = {"com.docker.network.bridge.name": more["device"]} if more else {}
        return options.device_of(root, ID, net, "bridge", chosen)

    assert name("/var/lib/fastbox", "bridge") == "fastbox0"
    assert name("/var/lib/fastbox", "app") == "fb-0123456789ab"
    other = name("/x", "bridge")
    assert other.startswith("fb0-") and len(other) == 12 and other != name("/y", "bridge")
    assert name("/x", "app", device="br0") == "br0"
    for bad in ("", "x" * 16, "a/b", "a b", ".", "..", "all", 'a"b', "ä", "a\n", "a%d"):
        with pytest.raises(InvalidArgument):
            options.check_interface_name(bad)
