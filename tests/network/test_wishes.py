"""What is asked of a container's networks, as a Python program would ask it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox.container.config import ContainerConfig
from fastbox.errors import InvalidArgument
from fastbox.network import texts, wishes
from fastbox.network.types import Attachment, Publish


def config(**fields: Any) -> ContainerConfig:
    return ContainerConfig(image="img", **fields)


def place(network: str = "net", **fields: Any) -> list[Attachment]:
    return [Attachment(network=network, **fields)]


GOOD: list[dict[str, Any]] = [
    {},
    {"network": "default"},
    {"network": "none"},
    {"network": "host", "hostname": "box", "dns": ["1.1.1.1"], "add_hosts": ["a:1.2.3.4"]},
    {"network": "host", "publish": [Publish(container=80)]},  # it is told, and goes on
    {"network": "container:web", "domainname": "d"},
    {"network": "net", "networks": place(ip="10.0.0.5", ip6="fd00::5", mac="02:42:ac:11:00:02")},
    {"network": "net", "networks": place(aliases=["db", "a_b.c-d"], links=["web", "web:w"])},
    {"networks": [*place("a"), *place("b", priority=-5)]},
    {"networks": place("bridge", mac="02-42-AC-11-00-02", links=["db:redis"])},
    {"dns": ["::1", "fe80::1"], "dns_search": [".", "example.com."], "dns_options": ["ndots:2"]},
    {"add_hosts": ["a:::1", "b:host-gateway"]},
    {"publish": [Publish(container=80, host=80), Publish(container=80, host=80, protocol="udp")]},
    {"publish": [Publish(container=80, host=80, host_end=90), Publish(container=81, host=80)]},
    {"publish": [Publish(container=1, host_ip=ip, host=80) for ip in ("", "127.0.0.1", "::1")]},
    {"expose": ["80", "53-54/udp"]},
]


@pytest.mark.parametrize("fields", GOOD, ids=[str(fields)[:60] for fields in GOOD])
def test_what_can_be_asked(fields: dict[str, Any]) -> None:
    wishes.check(config(**fields))


USER_ONLY = "user specified IP address is supported on user defined networks only"
ALIAS = "network-scoped alias is supported only for containers in user defined networks"
MIXED = "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
UNDEFINED = "This would result in undefined behavior"

BAD: list[tuple[dict[str, Any], str]] = [
    ({"network": ""}, "no name set for network"),
    ({"networks": place("")}, "no name set for network"),
    ({"network": "../x"}, "invalid network name: '../x'"),
    ({"network": "a\nb"}, r"invalid network name: 'a\nb'"),
    ({"networks": place("a/b")}, "invalid network name: 'a/b'"),
    (
        {"network": "container:"},
        "invalid network mode: invalid container format container:<name|id>",
    ),
    ({"networks": [*place("a"), *place("a")]}, 'network "a" is specified multiple times'),
    (
        {"networks": [*place("bridge"), *place("default")]},
        'network "bridge" is specified multiple times',
    ),
    ({"networks": [*place("a"), *place("none")]}, MIXED),
    ({"networks": [*place("bridge"), *place("a")]}, MIXED),
    (
        {"networks": [*place("none"), *place("host")]},
        "conflicting options: cannot attach both none and host",
    ),
    (
        {"network": "a", "networks": place("b")},
        "conflicting options: network a is not one of networks",
    ),
    (
        {"networks": place("container:x")},
        "conflicting options: container:NAME is no network that others can be added to",
    ),
    ({"networks": place("bridge", ip="172.17.0.9")}, USER_ONLY),
    ({"networks": place("host", ip6="fd00::1")}, USER_ONLY),
    ({"networks": place("none", ip="10.0.0.1")}, USER_ONLY),
    ({"networks": place("bridge", aliases=["a"])}, ALIAS),
    ({"networks": place("host", aliases=["a"])}, ALIAS),
    (
        {"networks": place("host", mac="02:42:ac:11:00:02")},
        "conflicting options: mac-address and the network mode",
    ),
    (
        {"networks": place("host", links=["a"])},
        f"conflicting options: host type networking can't be used with links. {UNDEFINED}",
    ),
    ({"networks": place(ip="1.2.3")}, "invalid IPv4 address: 1.2.3"),
    ({"networks": place(ip="::1")}, "invalid IPv4 address: ::1"),
    ({"networks": place(ip="0.0.0.0")}, "invalid IPv4 address: 0.0.0.0"),
    ({"networks": place(ip="224.0.0.1")}, "invalid IPv4 address: 224.0.0.1"),
    ({"networks": place(ip="127.0.0.1")}, "invalid IPv4 address: 127.0.0.1"),
    ({"networks": place(ip="10.0.0.5/24")}, "invalid IPv4 address: 10.0.0.5/24"),
    ({"networks": place(ip6="1.2.3.4")}, "invalid IPv6 address: 1.2.3.4"),
    ({"networks": place(ip6="fd00::5%eth0")}, "invalid IPv6 address: fd00::5%eth0"),
    ({"networks": place(mac="foo")}, "foo is not a valid mac address"),
    ({"networks": place(links=["a:b:c"])}, "bad format for links: a:b:c"),
    ({"networks": place(links=["a:../b"])}, "bad format for links: a:../b"),
    ({"networks": place(links=[""])}, "empty string specified for links"),
    *(
        ({"networks": place(aliases=[alias])}, f"invalid network alias: {alias!r}")
        for alias in ("", ".", "..", "a/b", "../../x", "a b", "a\nb", "a..b", "-a", "ä", "a" * 64,
                      "a.", "a\0", ".".join(["a" * 60] * 5))
    ),
    ({"dns": ["foo"]}, "IP address is not correctly formatted: 'foo'"),
    ({"dns": ["1.1.1.1\nsearch x"]}, r"IP address is not correctly formatted: '1.1.1.1\nsearch x'"),
    ({"dns_search": ["a b"]}, "'a b' is not a valid domain"),
    ({"dns_search": ["a\nb"]}, r"'a\nb' is not a valid domain"),
    ({"dns_search": [""]}, "'' is not a valid domain"),
    ({"dns_options": ["a\nserver ::1"]}, r"invalid dns-option format: 'a\nserver ::1'"),
    ({"dns_options": ["a b"]}, "invalid dns-option format: 'a b'"),
    ({"hostname": "a\nb"}, r"invalid hostname format: 'a\nb'"),
    ({"hostname": "a\x1b[2J"}, r"invalid hostname format: 'a\x1b[2J'"),
    ({"domainname": "a\rb"}, r"invalid domainname format: 'a\rb'"),
    ({"add_hosts": ["a\nb:1.2.3.4"]}, r"bad format for add-host: 'a\nb:1.2.3.4'"),
    ({"add_hosts": ["a:x"]}, "bad format for add-host: 'a:x'"),
    ({"add_hosts": [":1.2.3.4"]}, "bad format for add-host: ':1.2.3.4'"),
    ({"publish": [Publish(container=0)]}, "invalid containerPort: 0"),
    ({"publish": [Publish(container=65536)]}, "invalid containerPort: 65536"),
    ({"publish": [Publish(container=1, host=-1)]}, "invalid hostPort: -1"),
    ({"publish": [Publish(container=1, host=65536)]}, "invalid hostPort: 65536"),
    ({"publish": [Publish(container=1, host=9, host_end=8)]}, "invalid hostPort: 9-8"),
    ({"publish": [Publish(container=1, host_end=8)]}, "invalid hostPort: 0-8"),
    ({"publish": [Publish(container=1, protocol="TCP")]}, "invalid proto: TCP"),
    ({"publish": [Publish(container=1, host_ip="x")]}, "invalid IP address: x"),
    (
        {"publish": [Publish(container=1, host=80), Publish(container=2, host=80)]},
        "Bind for 0.0.0.0:80 failed: port is already allocated",
    ),
    ({"expose": ["x"]}, "invalid range format for --expose: x"),
    *(
        ({"network": "container:web", **fields}, f"conflicting options: {text}")
        for fields, text in (
            ({"hostname": "a"}, "hostname and the network mode"),
            ({"dns": ["1.1.1.1"]}, "dns and the network mode"),
            ({"dns_search": ["a"]}, "dns and the network mode"),
            ({"add_hosts": ["a:1.2.3.4"]}, "custom host-to-IP mapping and the network mode"),
            (
                {"publish": [Publish(container=1)]},
                "port publishing and the container type network mode",
            ),
            ({"publish_all": True}, "port publishing and the container type network mode"),
            ({"expose": ["80"]}, "port exposing and the container type network mode"),
            (
                {"networks": place(mac="02:42:ac:11:00:02")},
                "mac-address and the network mode",
            ),
            (
                {"networks": place(links=["a"])},
                f"container type network can't be used with links. {UNDEFINED}",
            ),
            (
                {"networks": place()},
                "cannot attach both user-defined and non-user-defined network-modes",
            ),
        )
    ),
    ({"network": "container:web", "networks": place(ip="10.0.0.1")}, USER_ONLY),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[str(bad[0])[:60] for bad in BAD])
def test_what_cannot_be_asked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        wishes.check(config(**fields))
    assert str(caught.value) == message
    assert "\n" not in str(caught.value)


def test_attachments() -> None:
    assert wishes.attachments(config()) == place("bridge")
    assert wishes.attachments(config(network="default")) == place("bridge")
    assert wishes.attachments(config(network="container:x")) == []
    assert wishes.joined(config(network="container:x")) == "x"
    assert wishes.joined(config()) == ""
    two = [*place("a", ip="10.0.0.1"), *place("b")]
    assert wishes.attachments(config(networks=two)) == two
    assert wishes.attachments(config(network="b", networks=two)) == two


def test_what_is_settled_is_in_the_form_in_which_it_is_stored() -> None:
    asked = Attachment(
        network="default", ip="::ffff:10.0.0.5", ip6="FD00::0:5", mac="02-42-AC-11-00-02",
        aliases=["a"], links=["b:c"], priority=3,
    )  # fmt: skip
    assert wishes.settled(asked) == Attachment(
        network="bridge", ip="10.0.0.5", ip6="fd00::5", mac="02:42:ac:11:00:02", aliases=["a"],
        links=["b:c"], priority=3,
    )  # fmt: skip
    with pytest.raises(InvalidArgument):
        wishes.settled(Attachment(network="net", aliases=["../../x"]))


def test_mode() -> None:
    two = [*place("a"), *place("b")]
    for fields, wanted in (
        ({}, "bridge"),
        ({"network": "default"}, "bridge"),
        ({"network": "container:x"}, "container:x"),
        ({"networks": place("host")}, "host"),
        ({"networks": two}, "a"),
        ({"network": "b", "networks": two}, "b"),
    ):
        assert wishes.mode(config(**fields)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("02:42:ac:11:00:02", "02:42:ac:11:00:02"),
        ("02-42-AC-11-00-02", "02:42:ac:11:00:02"),
        ("0242.AC11.0002", "02:42:ac:11:00:02"),
    ],
)
def test_macs(text: str, wanted: str) -> None:
    assert texts.mac(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "foo", "02:42:ac:11:00", "02:42:ac:11:00:0", "02:42:ac:11:00:02:03",
        "02:42-ac:11:00:02", "gg:42:ac:11:00:02", "0:42:ac:11:00:002", "01:00:5e:00:00:01",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff", "02:42:ac:11:00:02\n", "0242.ac11.00022", "+2:42:ac:11:00:02",
        "02:42:ac:11:00:02:aa:bb",
    ],
)  # fmt: skip
def test_what_is_no_mac(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid mac address"):
        texts.mac(text)


@given(st.text(max_size=20))
def test_a_name_never_leads_out_of_its_folder(text: str) -> None:
    if texts.is_name(text):
        assert "/" not in text
        assert text not in (".", "..", "")
        assert text.isascii()
        assert text.isprintable()


def test_links() -> None:
    assert texts.link("db") == ("db", "db")
    assert texts.link("a..b_:redis") == ("a..b_", "redis")
