"""Addresses: lowest first, never twice, errors, holders that are gone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from fastbox.errors import Conflict, InvalidArgument
from fastbox.network import leases
from fastbox.network.types import Network, Subnet

ID = "ab" * 32


def network(subnet: str = "10.5.0.0/24", name: str = "app", **more: object) -> Network:
    return Network(id=ID, name=name, subnets=[Subnet(subnet=subnet, **more)])  # type: ignore[arg-type]


def test_lowest_first_and_again_when_free(runtime_dir: str) -> None:
    net = network(gateway="10.5.0.2", reserved={"printer": "10.5.0.4"})
    got = [leases.take(runtime_dir, net, f"id{n}/n{n}") for n in range(3)]
    assert got == ["10.5.0.1", "10.5.0.3", "10.5.0.5"]
    assert leases.holders(runtime_dir, ID) == dict(
        zip(got, ["id0/n0", "id1/n1", "id2/n2"], strict=True)
    )
    assert not leases.free(runtime_dir, ID, "10.5.0.3", "id0/n0")
    assert leases.free(runtime_dir, ID, "10.5.0.3", "id1/renamed")
    assert not leases.free(runtime_dir, ID, "10.5.0.3", "id1/n1")
    assert leases.take(runtime_dir, net, "id9/n9") == "10.5.0.3"
    assert leases.holders(runtime_dir, "cd" * 32) == {}
    for path in ("networks", f"networks/{ID}", f"networks/{ID}/leases"):
        assert stat.S_IMODE(os.stat(f"{runtime_dir}/{path}").st_mode) == 0o755


def test_ip_range_and_ipv6(runtime_dir: str) -> None:
    net = network(gateway="10.5.0.1", ip_range="10.5.0.252/30")
    net.subnets.append(Subnet(subnet="fd00:1::/64", gateway="fd00:1::1"))
    four = [leases.take(runtime_dir, net, f"i{n}/x") for n in range(3)]
    assert four == ["10.5.0.252", "10.5.0.253", "10.5.0.254"]  # .255 is broadcast
    six = [leases.take(runtime_dir, net, f"i{n}/x", family=6) for n in range(2)]
    assert six == ["fd00:1::2", "fd00:1::3"]
    assert leases.take(runtime_dir, net, "x/x", ip="FD00:1::0:3:4", family=6) == "fd00:1::3:4"
    with pytest.raises(Conflict) as caught:
        leases.take(runtime_dir, net, "i9/x")
    assert str(caught.value) == (
        f"no available IPv4 addresses on this network's address pools: app ({ID})"
    )
    with pytest.raises(InvalidArgument, match="has no IPv6"):
        leases.take(runtime_dir, network(), "x/x", family=6)


def test_point_to_point(runtime_dir: str) -> None:
    net = network("10.5.0.0/31", gateway="10.5.0.0")
    assert leases.take(runtime_dir, net, "a/a") == "10.5.0.1"
    with pytest.raises(Conflict, match="no available IPv4"):
        leases.take(runtime_dir, net, "b/b")


def test_a_fixed_address(runtime_dir: str) -> None:
    net = network(gateway="10.5.0.1", ip_range="10.5.0.128/25", reserved={"x": "10.5.0.9"})
    assert leases.take(runtime_dir, net, "a/web", ip="10.5.0.7") == "10.5.0.7"  # out of ip-range
    assert (
        leases.take(runtime_dir, net, "a/web2", ip="10.5.0.7") == "10.5.0.7"
    )  # its own, left over
    with pytest.raises(Conflict, match=r"^Address already in use$") as caught:
        leases.take(runtime_dir, net, "b/b", ip="10.5.0.7", stale=lambda holder: False)
    assert caught.value.hint == "10.5.0.7 is container web2's"
    for never in ("10.5.0.0", "10.5.0.1", "10.5.0.9", "10.5.0.255"):
        with pytest.raises(Conflict, match="Address already in use"):
            leases.take(runtime_dir, net, "b/b", ip=never)
    with pytest.raises(
        InvalidArgument, match=r"^no configured subnet contains IP address 10.6.0.1"
    ):
        leases.take(runtime_dir, net, "b/b", ip="10.6.0.1")
    for bad in ("x", "fd00::1", "../../x", "10.5.0.300"):
        with pytest.raises(InvalidArgument, match="invalid IPv4 address"):
            leases.take(runtime_dir, net, "b/b", ip=bad)
    with pytest.raises(InvalidArgument, match="supported on user-defined networks only"):
        leases.take(runtime_dir, network(name="bridge"), "b/b", ip="10.5.0.8")


def test_holders_that_are_gone(runtime_dir: str) -> None:
    net = network("10.5.0.0/29", gateway="10.5.0.1")
    asked: list[str] = []

    def stale(holder: str) -> bool:
        asked.append(holder)
        return holder.startswith("gone")

    for n in range(4):
        leases.take(runtime_dir, net, f"{'gone' if n % 2 else 'up'}{n}/x", stale=stale)
    assert asked == []
    assert leases.take(runtime_dir, net, "new/x", ip="10.5.0.3", stale=stale) == "10.5.0.3"
    assert asked == ["gone1/x"]
    leases.take(runtime_dir, net, "up5/x", stale=stale)
    assert leases.take(runtime_dir, net, "up6/x", stale=stale) == "10.5.0.5"  # gone3's
    with pytest.raises(Conflict):
        leases.take(runtime_dir, net, "up7/x", stale=stale)
    assert leases.free(runtime_dir, ID, "10.5.0.2", "up0/x")
    assert leases.take(runtime_dir, net, "up7/x", stale=stale) == "10.5.0.2"


@pytest.mark.parametrize("asked", ["", "10.5.0.2"])
@pytest.mark.parametrize("again", ["other/x", "gone/x"])
def test_taken_by_another_while_it_is_found_stale(runtime_dir: str, asked: str, again: str) -> None:
    """Finding out gives the lease back; whoever is faster then, the same one too, keeps it."""
    net = network("10.5.0.0/30", gateway="10.5.0.1")
    leases.take(runtime_dir, net, "gone/x")

    def stale(holder: str) -> bool:
        if holder == "gone/x":
            if again == holder:  # its own fixed address
                assert leases.take(runtime_dir, net, again, ip="10.5.0.2") == "10.5.0.2"
            else:
                assert leases.free(runtime_dir, ID, "10.5.0.2", holder)
                assert leases.take(runtime_dir, net, again) == "10.5.0.2"
        return True

    with pytest.raises(Conflict):
        leases.take(runtime_dir, net, "late/x", ip=asked, stale=stale)
    assert leases.holders(runtime_dir, ID) == {"10.5.0.2": again}


def test_the_other_family_is_left_alone(runtime_dir: str) -> None:
    """A start calls what its own container has stale, and may have taken its IPv4 address just
    now."""
    net = network(gateway="10.5.0.1")
    net.subnets.append(Subnet(subnet="fd00:1::/126", gateway="fd00:1::1"))
    for n in (2, 3):
        leases.take(runtime_dir, net, f"up{n}/x", family=6)
    assert leases.take(runtime_dir, net, "me/x") == "10.5.0.2"
    with pytest.raises(Conflict, match="no available IPv6"):
        leases.take(runtime_dir, net, "me/x", family=6, stale=lambda holder: holder == "me/x")
    assert leases.holders(runtime_dir, ID)["10.5.0.2"] == "me/x"


def test_gone_while_it_is_found_stale(runtime_dir: str) -> None:
    """As after a give_back, which unlinks them itself: the others are looked at all the same."""
    net = network("10.5.0.0/28", gateway="10.5.0.1")
    for n in range(13):
        leases.take(runtime_dir, net, f"gone{n}/x")
    asked: list[str] = []

    def stale(holder: str) -> bool:
        asked.append(holder)
        leases.free(runtime_dir, ID, f"10.5.0.{int(holder[4:-2]) + 2}", holder)
        return True

    assert leases.take(runtime_dir, net, "new/x", stale=stale) == "10.5.0.2"
    assert len(asked) == 13 and leases.holders(runtime_dir, ID) == {"10.5.0.2": "new/x"}
    leases.free_stale(runtime_dir, ID, (), lambda holder: holder == "new/x")
    assert leases.holders(runtime_dir, ID) == {}


CHILD = """
import sys
from fastbox.errors import Conflict
from fastbox.network import leases
from fastbox.network.types import Network, Subnet
runtime, me = sys.argv[1:]
net = Network(id="ab" * 32, name="app", subnets=[Subnet(subnet="10.5.0.0/24", gateway="10.5.0.1")])
sys.stdin.read(1)
for n in range(80):
    try:
        print(leases.take(runtime, net, f"{me}-{n}/x", stale=lambda h: h.startswith("gone")))
    except Conflict:
        break
"""


def test_processes_at_once(runtime_dir: str) -> None:
    """Four take what three times 80 and a bit would be: each address is given to one of them, those
    of holders that are gone included."""
    net = network(gateway="10.5.0.1")
    for n in range(100):
        leases.take(runtime_dir, net, f"gone{n}/x")
    argv = [sys.executable, "-c", CHILD, runtime_dir]
    children = [
        subprocess.Popen([*argv, f"p{n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("x")
        child.stdin.flush()
    got: list[str] = []
    for child in children:
        out, _ = child.communicate()
        assert child.returncode == 0
        got += out.split()
    assert len(got) == len(set(got)) == 253
    assert set(leases.holders(runtime_dir, ID)) == set(got)


def test_a_thousand(runtime_dir: str) -> None:
    net = network("10.5.0.0/20", gateway="10.5.0.1")
    got = [leases.take(runtime_dir, net, f"id{n}/n{n}") for n in range(1000)]
    assert len(set(got)) == 1000 and got[-1] == "10.5.3.233"
