"""Subnets: what the host uses, choosing, checking."""

from __future__ import annotations

import ipaddress
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox.errors import Conflict, FastboxError, InvalidArgument
from fastbox.network import addresses, pools
from fastbox.network.pools import Used
from fastbox.network.types import Network, Subnet


def used(*subnets: str, direct: bool = True) -> list[Used]:
    return [Used(addresses.parse_prefix(s)[0], f"route {s} of eth0", direct) for s in subnets]


def check(subnet: str, **more: object) -> Subnet:
    networks = more.pop("networks", [])
    host = more.pop("host", [])
    return pools.check(Subnet(subnet=subnet, **more), networks, host)  # type: ignore[arg-type]


# ---- addresses ---------------------------------------------------------------------------------


@given(st.ip_addresses())
def test_addresses_are_those_of_ipaddress(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert addresses.parse(str(address)) == (address.version, int(address))
    back = addresses.text(address.version, int(address))
    assert ipaddress.ip_address(back) == address


@pytest.mark.parametrize(
    "text", ["", "1", "1.2.3", "1.2.3.4.5", "01.2.3.4", "::1%lo", "x", "é", "1\0"]
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        addresses.parse(text)


@pytest.mark.parametrize("text", ["1.2.3.4", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/-1", "::/129",
                                  "1.2.3.4/08", "1.2.3.4/8/8", "1.2.3.4/²"])  # fmt: skip
def test_no_prefixes(text: str) -> None:
    with pytest.raises(ValueError, match=r"prefix"):
        addresses.parse_prefix(text)


# ---- choosing ----------------------------------------------------------------------------------


def test_the_first_free_one() -> None:
    assert pools.choose4([]) == Subnet(subnet="172.17.0.0/16", gateway="172.17.0.1")
    assert pools.choose4(used("172.17.200.0/24")).subnet == "172.18.0.0/16"
    assert pools.choose4(used("172.16.0.0/12")).subnet == "192.168.0.0/20"
    home = used("172.16.0.0/12", "192.168.0.0/24", "192.168.17.0/24")
    assert pools.choose4(home).subnet == "192.168.32.0/20"
    assert pools.choose4(used("172.17.0.0/24"), 24).subnet == "172.17.1.0/24"


def test_none_left() -> None:
    taken: list[Used] = []
    for _ in range(15 + 16):
        taken += used(pools.choose4(taken).subnet)
    blocks = [ipaddress.ip_network(str(entry.block)) for entry in taken]
    assert not any(a.overlaps(b) for a in blocks for b in blocks if a is not b)
    with pytest.raises(
        FastboxError, match=r"^all predefined address pools have been fully subnett"
    ):
        pools.choose4(taken)


def test_unique_local_prefix_follows_from_the_id() -> None:
    first = pools.choose6("0123456789" + "ab" * 27, [])
    assert first == Subnet(subnet="fd01:2345:6789::/64", gateway="fd01:2345:6789::1")
    other = pools.choose6("0123456789" + "ab" * 27, used(first.subnet))
    assert other.subnet != first.subnet and other.subnet.startswith("fd")


# ---- checking ----------------------------------------------------------------------------------


def test_a_complete_subnet() -> None:
    assert check("10.1.0.0/16") == Subnet(subnet="10.1.0.0/16", gateway="10.1.0.1")
    full = check(
        "10.1.0.0/24", gateway="10.1.0.254", ip_range="10.1.0.64/26", reserved={"a": "10.1.0.7"}
    )
    assert full.gateway == "10.1.0.254" and full.ip_range == "10.1.0.64/26"
    assert check("FD00:0::/64", gateway="fd00:0:0::00a").gateway == "fd00::a"
    assert check("10.1.0.0/31").gateway == "10.1.0.0" and check("fd00::/126").gateway == "fd00::1"


@pytest.mark.parametrize(
    ("subnet", "more", "text"),
    [
        ("10.1.0.5/16", {}, "config: invalid subnet 10.1.0.5/16: it should be 10.1.0.0/16"),
        ("10.1.0.0", {}, "prefix length"),
        ("x/8", {}, "no address"),
        ("10.1.0.0/32", {}, "no room"),
        ("fd00::/127", {}, "no room"),
        ("127.1.0.0/16", {}, "loopback"),
        ("224.1.0.0/16", {}, "multicast"),
        ("0.0.0.0/0", {}, "is this host"),
        ("10.1.0.0/16", {"gateway": "10.2.0.1"}, "doesn't contain this address"),
        ("10.1.0.0/16", {"gateway": "fd00::1"}, "parent subnet is an IPv4 block"),
        ("10.1.0.0/16", {"gateway": "10.1.255.255"}, "broadcast"),
        ("10.1.0.0/16", {"gateway": "x"}, "no address"),
        ("10.1.0.0/16", {"ip_range": "10.1.1.1/24"}, "it should be 10.1.1.0/24"),
        ("10.1.0.0/16", {"ip_range": "10.2.1.0/24"}, "doesn't contain ip-range"),
        ("10.1.0.0/16", {"ip_range": "10.0.0.0/8"}, "bigger than its parent subnet"),
        ("10.1.0.0/16", {"ip_range": "fd00::/64"}, "IPv4 block"),
        ("10.1.0.0/16", {"ip_range": "x"}, "invalid ip-range x"),
        ("10.1.0.0/16", {"reserved": {"a": "10.2.0.1"}}, "invalid auxiliary address a"),
    ],
)  # fmt: skip
def test_refused(subnet: str, more: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(subnet, **more)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_overlaps() -> None:
    network = Network(id="0" * 64, name="app", subnets=[Subnet(subnet="10.1.0.0/16")])
    with pytest.raises(Conflict) as caught:
        check("10.1.128.0/17", networks=pools.of_networks([network]))
    assert str(caught.value) == (
        "invalid pool request: Pool overlaps with other one on this address space"
    )
    assert "network app" in (caught.value.hint or "")
    with pytest.raises(
        Conflict, match=r"subnet 10.1.0.0/16 overlaps with route 10.1.2.0/24 of eth0"
    ):
        check("10.1.0.0/16", host=used("10.1.2.0/24", direct=False))
    with pytest.raises(Conflict):
        check("10.1.0.0/16", host=used("10.0.0.0/8"))
    assert check("10.1.0.0/16", host=used("10.0.0.0/8", direct=False))  # a part of a company's net
    assert check("fd00::/64", host=used("10.0.0.0/8"))


def plan(asked: list[str], **more: object) -> list[str]:
    base: dict[str, object] = {"ipv6": False, "networks": [], "host": [], "is_bridge": True}
    subnets = [Subnet(subnet=text) for text in asked]
    return [s.subnet for s in pools.plan("ab" * 32, subnets, **{**base, **more})]  # type: ignore[arg-type]


def test_plan() -> None:
    assert plan([]) == ["172.17.0.0/16"]
    assert plan([], ipv6=True) == ["172.17.0.0/16", "fdab:abab:abab::/64"]
    assert plan(["fd01::/64"], ipv6=True) == ["172.17.0.0/16", "fd01::/64"]
    assert plan(["0.0.0.0/24"], networks=used("172.17.0.0/24")) == ["172.17.1.0/24"]
    assert plan(["10.0.0.0/24"], host=used("10.0.0.0/8"), is_bridge=False) == ["10.0.0.0/24"]
    with pytest.raises(InvalidArgument) as caught:
        plan(["fd01::/64"])
    assert caught.value.hint == "add --ipv6"
    with pytest.raises(InvalidArgument, match="one IPv4 subnet"):
        plan(["10.0.0.0/24", "10.0.1.0/24"])


# ---- the host ----------------------------------------------------------------------------------


def test_what_the_kernel_tells(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "tun0\t00000080\t010200C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "vpn\t0000000A\t010200C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\nbroken\n",
        "fib_trie": "Main:\n  +-- 0.0.0.0/0 3 0 5\nLocal:\n     |-- 10.9.9.9\n"
        "        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n",
        "ipv6_route": f"fd{'0' * 30} 40 {'0' * 32} 00 {'0' * 32} 00000100 1 0 00000001     eth0\n"
        f"fe8{'0' * 29} 40 {'0' * 32} 00 {'0' * 32} 00000100 1 0 00000001     eth0\n",
        "resolv": "# x\nnameserver 172.20.0.2\nnameserver fe80::1%eth0\nnameserver nonsense\n",
    }
    for name, text in files.items():
        with open(f"{base}/{name}", "w") as file:
            file.write(text)
    monkeypatch.setattr(pools, "NET", base)
    monkeypatch.setattr(pools, "RESOLV_CONF", (f"{base}/resolv",))
    found = {(str(entry.block), entry.direct) for entry in pools.of_host()}
    assert found == {
        ("192.0.2.0/24", True),
        ("10.0.0.0/8", False),
        ("10.9.9.9/32", True),
        ("fd00::/64", True),
        ("172.20.0.2/32", False),
        ("fe80::1/128", False),
    }


def test_this_host() -> None:
    for entry in pools.of_host():
        assert entry.block.prefix > 1 and entry.what
    assert os.path.exists(f"{pools.NET}/route")
