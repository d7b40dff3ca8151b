"""The grammar of -p and --expose, and how ports are shown (Docker's client 28 as the judge)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox.errors import InvalidArgument
from fastbox.network import ports
from fastbox.network.types import BoundPort, Publish


def one(**fields: object) -> list[Publish]:
    return [Publish(**fields)]  # type: ignore[arg-type]


GOOD = [
    ("80", one(container=80)),
    (":80", one(container=80)),
    ("80/tcp", one(container=80)),
    ("80/TCP", one(container=80)),
    ("80:80/", one(container=80, host=80)),
    ("53/udp", one(container=53, protocol="udp")),
    ("80:80/sctp", one(container=80, host=80, protocol="sctp")),
    ("8080:80", one(container=80, host=8080)),
    ("0:80", one(container=80)),
    ("0080:80", one(container=80, host=80)),
    ("65535:65535", one(container=65535, host=65535)),
    ("127.0.0.1:8080:80", one(container=80, host=8080, host_ip="127.0.0.1")),
    ("127.0.0.1::80", one(container=80, host_ip="127.0.0.1")),
    ("0.0.0.0:80:80/udp", one(container=80, host=80, host_ip="0.0.0.0", protocol="udp")),
    ("[::1]:80:80", one(container=80, host=80, host_ip="::1")),
    ("[::]::80", one(container=80, host_ip="::")),
    ("::1:80:80", one(container=80, host=80, host_ip="::1")),
    ("[2001:DB8:0::3]:80:80", one(container=80, host=80, host_ip="2001:db8::3")),
    ("[::ffff:1.2.3.4]:80:80", one(container=80, host=80, host_ip="1.2.3.4")),
    ("8000-8010:80", one(container=80, host=8000, host_end=8010)),
    ("80-80:90", one(container=90, host=80)),
    (
        "8000-8001:80-81/UDP",
        [
            Publish(container=80, host=8000, protocol="udp"),
            Publish(container=81, host=8001, protocol="udp"),
        ],
    ),
    ("80-81", [Publish(container=80), Publish(container=81)]),
    ("published=8080,target=80,protocol=tcp,mode=host", one(container=80, host=8080)),
    ("published=8080,target=80", one(container=80, host=8080)),
    ("target=80", one(container=80)),
    ("target=80,published=", one(container=80)),
    ("target=80,protocol=", one(container=80)),
    ("target=80,protocol=UDP,mode=ingress", one(container=80, protocol="udp")),
    ("target=80,published=8080-8081", one(container=80, host=8080, host_end=8081)),
    ("target=80,published=127.0.0.1:81", one(container=80, host=81, host_ip="127.0.0.1")),
    (
        "target=80-81,published=1-2",
        [Publish(container=80, host=1), Publish(container=81, host=2)],
    ),
]


@pytest.mark.parametrize(("text", "wanted"), GOOD, ids=[text for text, _ in GOOD])
def test_what_can_be_published(text: str, wanted: list[Publish]) -> None:
    assert ports.parse_publish(text) == wanted


BAD = [
    ("abc", "invalid containerPort: abc"),
    ("-1", "invalid containerPort: -1"),
    ("65536", "invalid containerPort: 65536"),
    ("80:0", "invalid containerPort: 0"),
    ("0", "invalid containerPort: 0"),
    ("80:99999", "invalid containerPort: 99999"),
    ("80:" + "9" * 5000, "invalid containerPort: " + "9" * 5000),
    ("90-80", "invalid containerPort: 90-80"),
    ("1-65536", "invalid containerPort: 1-65536"),
    ("1-2-3", "invalid containerPort: 1-2-3"),
    ("x:80", "invalid hostPort: x"),
    ("99999:80", "invalid hostPort: 99999"),
    (" 80:80", "invalid hostPort:  80"),
    ("80 :80", "invalid hostPort: 80 "),
    ("+80:80", "invalid hostPort: +80"),
    ("-80:80", "invalid hostPort: -80"),
    ("80-:80", "invalid hostPort: 80-"),
    ("0-5:80", "invalid hostPort: 0-5"),
    ("0x50:80", "invalid hostPort: 0x50"),
    ("\u0663:80", "invalid hostPort: \u0663"),
    ("1.2.3.4:80", "invalid hostPort: 1.2.3.4"),
    ("80/foo", "invalid proto: foo"),
    ("80/tcp/udp", "invalid proto: tcp/udp"),
    ("1.2.3:80:80", "invalid IP address: 1.2.3"),
    ("256.0.0.1:80:80", "invalid IP address: 256.0.0.1"),
    ("01.2.3.4:80:80", "invalid IP address: 01.2.3.4"),
    ("localhost:80:80", "invalid IP address: localhost"),
    ("fe80::1%eth0:80:80", "invalid IP address: fe80::1%eth0"),
    ("a:b:c:d", "invalid IP address: a:b"),
    ("[::1:80:80", "invalid IP address: [::1"),
    ("[::1]:80", "invalid IP address: [:"),
    ("1.2.3.4\0:80:80", "invalid IP address: 1.2.3.4\0"),
    ("", "no port specified: <empty>"),
    (":", "no port specified: :<empty>"),
    ("80:", "no port specified: 80:<empty>"),
    ("1.2.3.4:80:", "no port specified: 1.2.3.4:80:<empty>"),
    ("80-90:80-85", "invalid ranges specified for container and host Ports: 80-85 and 80-90"),
    ("80-85:80-90", "invalid ranges specified for container and host Ports: 80-90 and 80-85"),
    ("80:90-91", "invalid ranges specified for container and host Ports: 90-91 and 80"),
    ("published=80", "no port specified: 80:/tcp<empty>"),
    ("target=", "no port specified: :/tcp<empty>"),
    ("target=abc", "invalid containerPort: abc"),
    ("target=80,published=x", "invalid hostPort: x"),
    ("target=80,protocol=foo", "invalid proto: foo"),
    ("target=80,x", "invalid publish opts format (should be name=value but got 'x')"),
    ("target=80,=x", "invalid publish opts format (should be name=value but got '=x')"),
    ("target=80,foo=bar", "invalid publish opts format: unknown option 'foo'"),
    ("target=80,mode=foo", "invalid publish opts format: unknown mode 'foo'"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[repr(text[:40]) for text, _ in BAD])
def test_what_cannot_be_published(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ports.parse_publish(text)
    assert str(caught.value) == message


@given(st.text(alphabet="0123456789-:./[]abct=, \n\0", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = ports.parse_publish(text)
    except InvalidArgument:
        return
    for port in found:
        assert 0 < port.container <= 65535
        assert 0 <= port.host <= (port.host_end or 65535) <= 65535
        assert port.protocol in ports.PROTOCOLS


def test_a_whole_range_is_quick_to_read() -> None:
    found = ports.parse_publish("1-65535:1-65535")
    assert (len(found), found[-1]) == (65535, Publish(container=65535, host=65535))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("80", ["80/tcp"]),
        ("80/", ["80/tcp"]),
        ("53/UDP", ["53/udp"]),
        ("80-82/sctp", ["80/sctp", "81/sctp", "82/sctp"]),
    ],
)
def test_expose(text: str, wanted: list[str]) -> None:
    assert ports.parse_expose(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("80:80", "invalid port format for --expose: 80:80"),
        ("", "invalid range format for --expose: "),
        ("abc", "invalid range format for --expose: abc"),
        ("90-80", "invalid range format for --expose: 90-80"),
        ("80-", "invalid range format for --expose: 80-"),
        ("0", "invalid range format for --expose: 0"),
        ("1-99999", "invalid range format for --expose: 1-99999"),
        (" 80", "invalid range format for --expose:  80"),
        ("80/foo", "invalid proto: foo"),
    ],
)
def test_what_cannot_be_exposed(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ports.parse_expose(text)
    assert str(caught.value) == message


def test_exposed_ports_are_those_of_the_image_of_the_user_and_the_published_ones() -> None:
    image = {"6379/tcp": {}, "53/udp": {}, "80": {}, "../etc": {}, "99999/tcp": {}, "8000-8001": {}}
    found = ports.exposed(image, ["443"], [Publish(container=22), Publish(container=80)])
    assert found == [
        "22/tcp", "53/udp", "80/tcp", "443/tcp", "6379/tcp", "8000/tcp", "8001/tcp",
    ]  # fmt: skip
    with pytest.raises(InvalidArgument):
        ports.exposed([], ["x"], [])


def test_all_exposed_ports_are_published_once() -> None:
    asked = [Publish(container=80, host=8080)]
    exposed = ["53/udp", "80/tcp", "80/udp"]
    assert ports.to_publish(asked, exposed, everything=False) == asked
    assert ports.to_publish(asked, exposed, everything=True) == [
        *asked, Publish(container=53, protocol="udp"), Publish(container=80, protocol="udp"),
    ]  # fmt: skip


def everywhere(container: int, host: int, protocol: str = "tcp") -> list[BoundPort]:
    return [
        BoundPort(host_ip=address, host=host, container=container, protocol=protocol)
        for address in ("0.0.0.0", "::")
    ]


@pytest.mark.parametrize(
    ("exposed", "bound", "text"),
    [
        ([], [], ""),
        (["6379/tcp"], [], "6379/tcp"),
        (["80/tcp"], everywhere(80, 8080), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"),
        ([], everywhere(80, 80), "0.0.0.0:80->80/tcp, [::]:80->80/tcp"),
        (["6379/tcp", "80/tcp"], everywhere(80, 80)[:1], "0.0.0.0:80->80/tcp, 6379/tcp"),
        (["80/tcp", "81/tcp", "82/tcp", "90/tcp"], [], "80-82/tcp, 90/tcp"),
        (["80/tcp", "80/udp", "81/tcp"], [], "80-81/tcp, 80/udp"),
        (
            [],
            [port for number in (100, 101, 102) for port in everywhere(number, number)],
            "0.0.0.0:100-102->100-102/tcp, [::]:100-102->100-102/tcp",
        ),
        (
            ["53/udp"],
            [*everywhere(53, 53, "udp")[:1], *everywhere(53, 53)[:1], *everywhere(80, 9000)[:1]],
            "0.0.0.0:53->53/tcp, 0.0.0.0:53->53/udp, 0.0.0.0:9000->80/tcp",
        ),
        (
            [],
            [*everywhere(80, 9000)[:1], *everywhere(80, 8000)[:1]],
            "0.0.0.0:8000->80/tcp, 0.0.0.0:9000->80/tcp",
        ),
    ],
)
def test_how_ps_shows_ports(exposed: list[str], bound: list[BoundPort], text: str) -> None:
    assert ports.displayed(ports.by_container(exposed, bound)) == text


@pytest.mark.parametrize(
    ("port", "wanted", "result"),
    [
        ("80/tcp", "80", True),
        ("80/tcp", "80/tcp", True),
        ("80/tcp", "80/TCP", True),
        ("80/tcp", "80/udp", False),
        ("80/tcp", "70-90", True),
        ("80/tcp", "81-90", False),
        ("80/tcp", "", False),
        ("80/tcp", "x", False),
        ("80/tcp", "90-70", False),
    ],
)
def test_what_a_filter_wants(port: str, wanted: str, result: bool) -> None:
    assert ports.fits(port, wanted) is result
