"""Flags of run and create about networks, ports and names: the config they amount to, and what is
said about bad ones (taken from Docker's client 28)."""

from __future__ import annotations

from typing import Any

import pytest

from fastbox.container.config import ContainerConfig
from fastbox.network.types import Attachment, Publish
from tests.cli.conftest import Fastbox
from tests.cli.fake import FakeEngine


def place(network: str = "net", **fields: Any) -> Attachment:
    return Attachment(network=network, **fields)


MAC = "02:42:ac:11:00:02"
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("-p 8080:80", {"publish": [Publish(container=80, host=8080)]}),
    (
        "-p 80 --publish 127.0.0.1:53:53/udp",
        {
            "publish": [
                Publish(container=80),
                Publish(container=53, host=53, host_ip="127.0.0.1", protocol="udp"),
            ]
        },
    ),
    ("-p published=1,target=2", {"publish": [Publish(container=2, host=1)]}),
    ("-p 8000-8010:80", {"publish": [Publish(container=80, host=8000, host_end=8010)]}),
    ("-P", {"publish_all": True}),
    ("--publish-all=false", {}),
    ("--expose 80 --expose 53-54/udp", {"expose": ["80/tcp", "53/udp", "54/udp"]}),
    ("--network bridge", {}),
    ("--network default", {}),
    ("--network none", {"network": "none"}),
    ("--net host", {"network": "host"}),
    ("--network container:web", {"network": "container:web"}),
    ("--network net", {"network": "net"}),
    ("--network name=net", {"network": "net"}),
    ("--network NAME=net", {"network": "net"}),
    (
        "--network a --network b",
        {"network": "a", "networks": [place("a"), place("b")]},
    ),
    (
        f"--network name=net,alias=x,alias=y,ip=10.0.0.5,ip6=fd00::0:5,mac-address={MAC.upper()}",
        {
            "network": "net",
            "networks": [place(aliases=["x", "y"], ip="10.0.0.5", ip6="fd00::5", mac=MAC)],
        },
    ),
    (
        '--network "name=net","alias=x"',
        {"network": "net", "networks": [place(aliases=["x"])]},
    ),
    (
        "--network name=a,gw-priority=-5 --network b --ip 10.0.0.5",
        {"network": "a", "networks": [place("a", ip="10.0.0.5", priority=-5), place("b")]},
    ),
    (
        "--network net --network-alias x --net-alias y",
        {"network": "net", "networks": [place(aliases=["x", "y"])]},
    ),
    ("--network net --ip6 FD00::5", {"network": "net", "networks": [place(ip6="fd00::5")]}),
    ("--network net --ip=", {"network": "net"}),
    ("--mac-address 02-42-AC-11-00-02", {"networks": [place("bridge", mac=MAC)]}),
    ("--link db --link web:w", {"networks": [place("bridge", links=["db", "web:w"])]}),
    ("--network net --link db", {"network": "net", "networks": [place(links=["db"])]}),
    ("--dns 1.1.1.1 --dns ::1", {"dns": ["1.1.1.1", "::1"]}),
    ("--dns-search . --dns-search example.com.", {"dns_search": [".", "example.com."]}),
    ("--dns-option ndots:1 --dns-opt rotate", {"dns_options": ["ndots:1", "rotate"]}),
    ("--add-host a=::1 --add-host b:host-gateway", {"add_hosts": ["a:::1", "b:host-gateway"]}),
    ("-h box --domainname d.example", {"hostname": "box", "domainname": "d.example"}),
    ("--hostname=", {}),
]


@pytest.mark.parametrize(("flags", "fields"), GOOD, ids=[flags for flags, _ in GOOD])
def test_what_flags_amount_to(
    fastbox: Fastbox, fake: FakeEngine, flags: str, fields: dict[str, Any]
) -> None:
    result = fastbox("create", *flags.split(" "), "img")
    assert (result.code, result.err) == (0, "")
    assert fake.config == ContainerConfig(image="img", **fields)


@pytest.mark.parametrize("mode", ["host", "none"])
def test_published_ports_are_discarded_without_a_network(
    fastbox: Fastbox, fake: FakeEngine, mode: str
) -> None:
    result = fastbox("create", "--network", mode, "-p", "80:80", "img")
    assert result.code == 0
    assert result.err == f"WARNING: Published ports are discarded when using {mode} network mode\n"
    assert fake.config.publish == [Publish(container=80, host=80)]


REFUSED_BY_FLAG = [
    ("--dns foo", "IP address is not correctly formatted: foo"),
    ("--dns ", "IP address is not correctly formatted: "),
    ("--dns [::1]", "IP address is not correctly formatted: [::1]"),
    ("--dns fe80::1%eth0", "IP address is not correctly formatted: fe80::1%eth0"),
    ("--dns 01.1.1.1", "IP address is not correctly formatted: 01.1.1.1"),
    ("--dns-search -x", "-x is not a valid domain"),
    ("--dns-search foo_bar.com", "foo_bar.com is not a valid domain"),
    ("--dns-search a..b", "a..b is not a valid domain"),
    ("--dns-search *.com", "*.com is not a valid domain"),
    ("--dns-search a\nb", r"'a\nb' is not a valid domain"),
    ("--dns-option a\nb", r"'a\nb' is no option of resolv.conf"),
    ("--dns-opt ", "'' is no option of resolv.conf"),
    ("--add-host a\nb:1.2.3.4", r'bad format for add-host: "a\nb:1.2.3.4"'),
    ("--link ", "empty string specified for links"),
    ("--link a:b:c", "bad format for links: a:b:c"),
    ("--link :b", "bad format for links: :b"),
    ("--link a:", "bad format for links: a:"),
    ("--network foo=bar", "invalid field key foo"),
    ("--network foo,alias=x", "invalid field foo"),
    ("--network name=foo,foo", "invalid field foo"),
    ("--network alias=x", "network name/id is not specified"),
    ("--network name=foo,gw-priority=foo", "invalid gw-priority (foo): invalid syntax"),
    (
        "--network name=foo,driver-opt=a=b",
        "driver-opt is not supported: the driver has none for a single container",
    ),
    (
        "--network name=foo,link-local-ip=169.254.1.1",
        "link-local-ip is not supported: the kernel gives each interface one itself",
    ),
]


@pytest.mark.parametrize(
    ("flags", "message"), REFUSED_BY_FLAG, ids=[case[0] for case in REFUSED_BY_FLAG]
)
def test_a_value_that_the_flag_refuses(
    fastbox: Fastbox, fake: FakeEngine, flags: str, message: str
) -> None:
    result = fastbox("run", *flags.split(" "), "img")
    assert (result.code, result.out) == (125, "")
    first, *rest = result.err.split("\n")
    assert first.startswith('invalid argument "')
    assert first.endswith(f" flag: {message}")
    assert rest[1].startswith("Usage:  fastbox run ")
    assert fake.calls == []


MIXED = "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
BY_CLIENT = [
    ("-p abc", "invalid containerPort: abc"),
    ("-p x:80", "invalid hostPort: x"),
    ("-p 99999:80", "invalid hostPort: 99999"),
    ("-p 80/foo", "invalid proto: foo"),
    ("-p 1.2.3:80:80", "invalid IP address: 1.2.3"),
    ("-p 80:0", "invalid containerPort: 0"),
    ("-p ", "no port specified: <empty>"),
    (
        "-p 80-90:80-85",
        "invalid ranges specified for container and host Ports: 80-85 and 80-90",
    ),
    ("--expose 80:80", "invalid port format for --expose: 80:80"),
    ("--expose 90-80", "invalid range format for --expose: 90-80"),
    ("--mac-address foo", "foo is not a valid mac address"),
    ("--network name=foo,mac-address=foo", "foo is not a valid mac address"),
    ("--mac-address 01:00:5e:00:00:01", "01:00:5e:00:00:01 is not a valid mac address"),
    ("--network ", "no name set for network"),
    ("--network name=", "no name set for network"),
    ("--network foo --network foo", 'network "foo" is specified multiple times'),
    ("--network default --network bridge", 'network "bridge" is specified multiple times'),
    ("--network foo --network none", MIXED),
    ("--network bridge --network foo", MIXED),
    ("--network container:x --network foo", MIXED),
    (
        "--network name=foo,ip=10.0.0.1 --ip 10.0.0.1",
        "conflicting options: cannot specify both --ip and per-network IPv4 address",
    ),
    (
        "--network name=foo,ip6=fd00::1 --ip6 fd00::1",
        "conflicting options: cannot specify both --ip6 and per-network IPv6 address",
    ),
    (
        "--network name=foo,alias=x --network-alias y",
        "conflicting options: cannot specify both --network-alias and per-network alias",
    ),
    (
        f"--network name=foo,mac-address={MAC} --mac-address {MAC}",
        "conflicting options: cannot specify both --mac-address and per-network MAC address",
    ),
    *(
        (flags, "network-scoped aliases are only supported for user-defined networks")
        for flags in (
            "--network-alias a",
            "--network bridge --net-alias a",
            "--network host --network-alias a",
            "--network container:x --network-alias a",
            "--network name=none,alias=x",
        )
    ),
    (
        "--link-local-ip 169.254.1.1",
        "--link-local-ip is not supported: the kernel gives each interface one itself",
    ),
]


@pytest.mark.parametrize(("flags", "message"), BY_CLIENT, ids=[case[0] for case in BY_CLIENT])
def test_what_dockers_client_refuses(
    fastbox: Fastbox, fake: FakeEngine, flags: str, message: str
) -> None:
    for command in ("run", "create"):
        result = fastbox(command, *flags.split(" "), "img")
        assert (result.code, result.out) == (125, "")
        assert result.err.split("\n")[0] == f"fastbox: {message}"
    assert fake.calls == []


X = "--network container:x"
USER_ONLY = "user specified IP address is supported on user defined networks only"
BY_ENGINE = [
    ("--ip 172.17.0.9", USER_ONLY),
    ("--network bridge --ip6 fd00::5", USER_ONLY),
    ("--network host --ip 10.0.0.1", USER_ONLY),
    (f"{X} --ip 10.0.0.1", USER_ONLY),
    ("--network foo --ip 1.2.3", "invalid IPv4 address: 1.2.3"),
    ("--network name=foo,ip=::1", "invalid IPv4 address: ::1"),
    ("--network foo --ip6 1.2.3.4", "invalid IPv6 address: 1.2.3.4"),
    ("--network foo --network-alias a/b", "invalid network alias: 'a/b'"),
    ("--network foo --network-alias a\nb", r"invalid network alias: 'a\nb'"),
    ("--network container:", "invalid network mode: invalid container format container:<name|id>"),
    (f"{X} --hostname a", "conflicting options: hostname and the network mode"),
    (f"{X} --dns 1.1.1.1", "conflicting options: dns and the network mode"),
    (
        f"{X} --add-host a:1.2.3.4",
        "conflicting options: custom host-to-IP mapping and the network mode",
    ),
    (f"{X} --mac-address {MAC}", "conflicting options: mac-address and the network mode"),
    (
        f"--network host --mac-address {MAC}",
        "conflicting options: mac-address and the network mode",
    ),
    (
        f"{X} -p 80:80",
        "conflicting options: port publishing and the container type network mode",
    ),
    (f"{X} -P", "conflicting options: port publishing and the container type network mode"),
    (f"{X} --expose 80", "conflicting options: port exposing and the container type network mode"),
    (
        f"{X} --link a",
        "conflicting options: container type network can't be used with links. This would result "
        "in undefined behavior",
    ),
    (
        "--network none --network host",
        "conflicting options: cannot attach both none and host",
    ),
    ("-p 80:80 -p 80:81", "Bind for 0.0.0.0:80 failed: port is already allocated"),
    ("--hostname a\nb", r"invalid hostname format: 'a\nb'"),
    ("--domainname a\nb", r"invalid domainname format: 'a\nb'"),
]


@pytest.mark.parametrize(("flags", "message"), BY_ENGINE, ids=[case[0] for case in BY_ENGINE])
def test_what_the_engine_would_refuse(
    fastbox: Fastbox, fake: FakeEngine, flags: str, message: str
) -> None:
    result = fastbox("run", *flags.split(" "), "img")
    assert (result.code, result.out) == (125, "")
    assert result.err.split("\n")[0] == f"fastbox: Error: {message}"
    result = fastbox("create", *flags.split(" "), "img")
    assert (result.code, result.err.split("\n")[0]) == (1, f"Error: {message}")
    assert fake.calls == []
