"""network create, ls, connect …, port; networks and ports in ps and inspect."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from fastbox.container.filters import select
from fastbox.container.inspect import inspect
from fastbox.container.record import Container, Status
from fastbox.errors import Conflict, NotFound
from fastbox.network.inspect import inspect_network
from fastbox.network.types import (
    Attachment,
    BoundPort,
    Endpoint,
    Network,
    Networking,
    Publish,
    Subnet,
)
from tests.cli.conftest import Fastbox
from tests.cli.fake import ID, FakeEngine, box, network

MAC = "02:42:ac:12:00:05"


@pytest.fixture
def nets(fake: FakeEngine) -> list[Network]:
    fake.nets = [
        network("bridge", id="a1" * 32, options={"com.docker.network.bridge.name": "fb0"}),
        network("data", id="b2" * 32, labels={"b": "2", "a": "1"}, internal=True, ipv6=True),
        network("none", id="c3" * 32, driver="none"),
    ]
    return fake.nets


def endpoint(name: str = "data", **changes: Any) -> Endpoint:
    values = {
        "id": "e" * 64, "network": name, "network_id": "b2" * 32, "interface": "eth0",
        "host_interface": "fbv0", "address": "172.18.0.5", "prefix": 16, "gateway": "172.18.0.1",
        "mac": MAC, "names": ["web", "w", "0123456789ab"], **changes,
    }  # fmt: skip
    return Endpoint(**values)


def running(**changes: Any) -> Container:
    """web: on data, 8080 is its 80."""
    return box(
        status=Status.RUNNING, state_pid=12, exposed_ports=["80/tcp", "6379/tcp"],
        config_network="data",
        config_networks=[Attachment(network="data", ip="172.18.0.5", aliases=["w"])],
        config_publish=[Publish(container=80, host=8080)],
        networking=Networking(
            endpoints=[endpoint()],
            ports=[
                BoundPort(host_ip="::", host=8080, container=80),
                BoundPort(host_ip="0.0.0.0", host=8080, container=80),
            ],
        ),
        **changes,
    )  # fmt: skip


# ---- create ------------------------------------------------------------------------------------


def test_create(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("network", "create", "data")
    assert (result.code, result.out, result.err) == (0, "f" * 64 + "\n", "")
    assert fake.asked("create_network") == (
        ("data",),
        {
            "driver": "bridge", "subnets": [], "internal": False, "ipv6": False, "labels": {},
            "options": {},
        },
    )  # fmt: skip


def test_create_with_everything(fastbox: Fastbox, fake: FakeEngine) -> None:
    words = (
        "-d macvlan --internal --ipv6 --ipv4 --label a=1 --label b -o mtu=1400 --scope local "
        "--subnet fd00:1::/64,10.1.0.0/16 --gateway 10.1.0.1 --gateway fd00:1::0:1 "
        "--ip-range 10.1.5.0/24 --aux-address router=10.1.0.9 --ipam-driver default data"
    )
    assert fastbox("network", "create", *words.split(" ")).code == 0
    assert fake.asked("create_network")[1] == {
        "driver": "macvlan",
        "subnets": [
            Subnet(subnet="fd00:1::/64", gateway="fd00:1::1"),
            Subnet(
                subnet="10.1.0.0/16", gateway="10.1.0.1", ip_range="10.1.5.0/24",
                reserved={"router": "10.1.0.9"},
            ),
        ],
        "internal": True, "ipv6": True, "labels": {"a": "1", "b": ""}, "options": {"mtu": "1400"},
    }  # fmt: skip


CREATE_ERRORS = [
    ("--subnet foo", "invalid CIDR address: foo"),
    ("--subnet 10.0.0.0", "invalid CIDR address: 10.0.0.0"),
    ("--subnet 10.0.0.0/33", "invalid CIDR address: 10.0.0.0/33"),
    ("--subnet 10.0.0.5/24", "invalid subnet 10.0.0.5/24: it should be 10.0.0.0/24"),
    ("--subnet fd00::1/64", "invalid subnet fd00::1/64: it should be fd00::/64"),
    (
        "--subnet 10.0.0.0/24 --subnet 10.0.0.0/25",
        "multiple overlapping subnet configuration is not supported",
    ),
    ("--gateway 1.2.3.4", "every ip-range or gateway must have a corresponding subnet"),
    ("--ip-range 10.0.0.0/25", "every ip-range or gateway must have a corresponding subnet"),
    ("--subnet 10.0.0.0/24 --gateway 1.2.3.4", "no matching subnet for gateway 1.2.3.4"),
    ("--subnet 10.0.0.0/24 --gateway foo", "no matching subnet for gateway foo"),
    ("--subnet 10.0.0.0/24 --gateway fd00::1", "no matching subnet for gateway fd00::1"),
    ("--subnet 10.0.0.0/24 --ip-range foo", "invalid CIDR address: foo"),
    ("--subnet 10.0.0.0/24 --ip-range 10.1.0.0/25", "no matching subnet for range 10.1.0.0/25"),
    ("--subnet 10.0.0.0/24 --ip-range 10.0.0.0/16", "no matching subnet for range 10.0.0.0/16"),
    (
        "--subnet 10.0.0.0/24 --subnet 10.1.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2",
        "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/24)",
    ),
    (
        "--subnet 10.0.0.0/24,10.1.0.0/24 --ip-range 10.0.0.0/25,10.0.0.128/25",
        "cannot configure multiple ranges (10.0.0.128/25, 10.0.0.0/25) on the same subnet "
        "(10.0.0.0/24)",
    ),
    ("--aux-address a=1.2.3.4", "no matching subnet for aux-address 1.2.3.4"),
    ("--subnet 10.0.0.0/24 --aux-address a=foo", "no matching subnet for aux-address foo"),
]


@pytest.mark.parametrize(("flags", "message"), CREATE_ERRORS, ids=[c[0] for c in CREATE_ERRORS])
def test_subnets_that_do_not_fit(
    fastbox: Fastbox, fake: FakeEngine, flags: str, message: str
) -> None:
    result = fastbox("network", "create", *flags.split(" "), "data")
    assert (result.code, result.out, result.err) == (1, "", message + "\n")
    assert fake.calls == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--attachable", "--attachable is not supported"),
        ("--ingress", "--ingress is not supported"),
        ("--config-only", "--config-only is not supported"),
        ("--config-from x", "--config-from is not supported"),
        ("--ipam-opt a=b", "--ipam-opt is not supported"),
        ("--ipam-driver foo", "--ipam-driver foo is not supported"),
        ("--scope swarm", "--scope swarm is not supported"),
        ("--ipv4=false", "--ipv4=false is not supported"),
    ],
)
def test_what_a_network_cannot_be(
    fastbox: Fastbox, fake: FakeEngine, flags: str, message: str
) -> None:
    result = fastbox("network", "create", *flags.split(" "), "data")
    assert (result.code, result.out) == (1, "")
    first, hint, _ = result.err.split("\n")
    assert (first, hint[:6]) == (f"Error: {message}", "hint: ")
    assert fake.calls == []


def test_docker_calls_the_driver_of_none_null(fastbox: Fastbox, fake: FakeEngine) -> None:
    fastbox("network", "create", "-d", "null", "x")
    assert fake.asked("create_network")[1]["driver"] == "none"


def test_what_the_engine_says_is_passed_on(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["create_network"] = Conflict("network with name data already exists")
    result = fastbox("network", "create", "data")
    assert (result.code, result.err) == (1, "Error: network with name data already exists\n")


# ---- ls ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nets")
def test_ls(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("network", "ls", "-f", "driver=bridge", "--filter", "driver=null")
    assert result.out == (
        "NETWORK ID     NAME      DRIVER    SCOPE\n"
        "a1a1a1a1a1a1   bridge    bridge    local\n"
        "b2b2b2b2b2b2   data      bridge    local\n"
        "c3c3c3c3c3c3   none      null      local\n"
    )
    assert fake.asked("networks")[1] == {"filters": {"driver": ["bridge", "null"]}}
    assert fastbox("network", "list", "-q").out == "a1a1a1a1a1a1\nb2b2b2b2b2b2\nc3c3c3c3c3c3\n"
    assert fastbox("network", "ls", "-q", "--no-trunc").out.split("\n")[0] == "a1" * 32
    assert "b2" * 32 + "   data" in fastbox("network", "ls", "--no-trunc").out


@pytest.mark.usefixtures("nets")
def test_fields_of_ls(fastbox: Fastbox) -> None:
    row = json.loads(fastbox("network", "ls", "--format", "json").out.split("\n")[1])
    assert row == {
        "CreatedAt": "2026-01-02 03:04:05 +0000 UTC", "Driver": "bridge", "ID": "b2b2b2b2b2b2",
        "IPv4": "true", "IPv6": "true", "Internal": "true", "Labels": "a=1,b=2", "Name": "data",
        "Scope": "local",
    }  # fmt: skip
    result = fastbox("network", "ls", "--format", 'table {{.Name}}\t{{.Label "a"}}')
    assert result.out.split("\n")[2] == "data      1"
    result = fastbox("network", "ls", "--format", "{{.Foo}}")
    assert result.code == 1
    assert result.err.startswith("template parsing error: ")


# ---- the others --------------------------------------------------------------------------------


@pytest.mark.usefixtures("nets")
def test_rm_goes_on_after_errors(fastbox: Fastbox) -> None:
    result = fastbox("network", "rm", "x", "data", "y", "b2b2")
    assert (result.code, result.out) == (1, "data\nb2b2\n")
    assert result.err == "Error: network x not found\nError: network y not found\n"
    result = fastbox("network", "remove", "-f", "x", "data")
    assert (result.code, result.out, result.err) == (0, "data\n", "")


def test_force_is_for_missing_networks_only(fastbox: Fastbox, fake: FakeEngine) -> None:
    text = "bridge is a pre-defined network and cannot be removed"
    fake.errors["remove_network"] = Conflict(text)
    result = fastbox("network", "rm", "-f", "bridge")
    assert (result.code, result.out, result.err) == (1, "", f"Error: {text}\n")


@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize(("answer", "removes"), [("y", True), ("yes", False), ("", False)])
def test_prune_asks(
    fastbox: Fastbox, monkeypatch: pytest.MonkeyPatch, answer: str, removes: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{answer}\n" if answer else ""))
    result = fastbox("network", "prune")
    question = (
        "WARNING! This will remove all custom networks not used by at least one container.\n"
        "Are you sure you want to continue? [y/N] "
    )
    deleted = "Deleted Networks:\nbridge\ndata\nnone\n\n"
    assert (result.code, result.out) == (0, question + (deleted if removes else ""))


def test_prune_by_force(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("network", "prune", "-f", "--filter", "until=1h", "--filter", "label!=keep")
    assert (result.code, result.out) == (0, "")
    assert fake.asked("prune_networks")[1] == {"filters": {"until": ["1h"], "label!": ["keep"]}}


@pytest.mark.usefixtures("nets")
def test_connect(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("network", "connect", "data", "web")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert fake.asked("connect_network") == (("data", "web"), {})
    fake.calls.clear()
    words = "--ip 10.0.0.5 --ip6 FD00::5 --alias a --alias b --link db:x --gw-priority -3 data web"
    fastbox("network", "connect", *words.split(" "), "--mac-address", MAC.upper())
    assert fake.asked("connect_network")[1] == {
        "ip": "10.0.0.5", "ip6": "fd00::5", "mac": MAC, "aliases": ["a", "b"], "links": ["db:x"],
        "priority": -3,
    }  # fmt: skip
    fake.calls.clear()
    option = f"com.docker.network.endpoint.macaddress={MAC}"
    fastbox("network", "connect", "--driver-opt", option, "data", "web")
    assert fake.asked("connect_network")[1] == {"mac": MAC}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--ip foo", "Error: invalid IPv4 address: foo"),
        ("--ip6 1.2.3.4", "Error: invalid IPv6 address: 1.2.3.4"),
        ("--mac-address foo", "Error: foo is not a valid mac address"),
        ("--alias ../x", "Error: invalid network alias: '../x'"),
        ("--driver-opt foo", "invalid key/value pair format in driver options"),
        ("--driver-opt a=b", "Error: --driver-opt a is not supported"),
        ("--link-local-ip 169.254.1.1", "Error: --link-local-ip is not supported"),
    ],
)
def test_a_bad_wish_to_connect(
    fastbox: Fastbox, fake: FakeEngine, flags: str, message: str
) -> None:
    result = fastbox("network", "connect", *flags.split(" "), "data", "web")
    assert (result.code, result.out, result.err.split("\n")[0]) == (1, "", message)
    assert fake.calls == []


@pytest.mark.usefixtures("nets")
def test_disconnect(fastbox: Fastbox, fake: FakeEngine) -> None:
    assert fastbox("network", "disconnect", "-f", "data", "web").out == ""
    assert fake.asked("disconnect_network") == (("data", "web"), {"force": True})
    result = fastbox("network", "disconnect", "x", "web")
    assert (result.code, result.err) == (1, "Error: network x not found\n")


@pytest.mark.usefixtures("nets")
def test_inspect(fastbox: Fastbox, fake: FakeEngine) -> None:
    result = fastbox("network", "inspect", "-v", "data", "x")
    assert (result.code, result.err) == (1, "Error: network x not found\n")
    assert [found["Name"] for found in json.loads(result.out)] == ["data"]
    result = fastbox("network", "inspect", "-f", "{{.Driver}} {{.Internal}}", "none", "data")
    assert result.out == "null false\nbridge true\n"
    fake.boxes = [box("data")]
    assert fastbox("inspect", "-f", "{{.Name}}", "data", "none").out == "/data\nnone\n"
    assert fastbox("inspect", "--type", "network", "-f", "{{.Name}}", "data").out == "data\n"


USAGE = [
    ("network create", "requires 1 argument", "[OPTIONS] NETWORK"),
    ("network connect a", "requires 2 arguments", "[OPTIONS] NETWORK CONTAINER"),
    ("network disconnect a", "requires 2 arguments", "[OPTIONS] NETWORK CONTAINER"),
    ("network ls a", "accepts no arguments", "[OPTIONS]"),
    ("network prune a", "accepts no arguments", "[OPTIONS]"),
    ("network rm", "requires at least 1 argument", "[OPTIONS] NETWORK [NETWORK...]"),
    ("network inspect", "requires at least 1 argument", "[OPTIONS] NETWORK [NETWORK...]"),
    ("port", "requires at least 1 and at most 2 arguments", "CONTAINER [PRIVATE_PORT[/PROTO]]"),
    ("port a b c", "requires at least 1 and at most 2 arguments",
     "CONTAINER [PRIVATE_PORT[/PROTO]]"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "text", "usage"), USAGE, ids=[case[0] for case in USAGE])
def test_usage(fastbox: Fastbox, line: str, text: str, usage: str) -> None:
    words = line.split(" ")
    command = " ".join(["fastbox", *words[: 2 if words[0] == "network" else 1]])
    result = fastbox(*words)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"fastbox: '{command}' {text}\n\nUsage:  {command} {usage}\n")
    pointer = "See" if text == "requires at least 1 argument" else "Run"  # as Docker has it
    assert f"\n{pointer} '{command} --help'" in result.err


def test_help_of_the_group(fastbox: Fastbox) -> None:
    out = fastbox("network", "--help").out
    assert out.startswith("Usage:  fastbox network COMMAND\n\nManage networks\n")
    for verb in ("connect", "create", "disconnect", "inspect", "ls", "prune", "rm"):
        assert f"\n  {verb} " in out


# ---- port --------------------------------------------------------------------------------------


def test_port(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.boxes = [running(), box("idle", "9" * 64)]
    both = "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n"
    assert fastbox("port", "web").out == both
    assert fastbox("container", "port", "web").out == both
    for text in ("80", "80/tcp", "080"):
        assert fastbox("port", "web", text).out == "0.0.0.0:8080\n[::]:8080\n"
    assert (fastbox("port", "idle").code, fastbox("port", "idle").out) == (0, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("web", "80/udp"), "no public port '80/udp' published for web"),
        (("web", "6379"), "no public port '6379' published for web"),
        (("idle", "80/tcp"), "no public port '80/tcp' published for idle"),
        (("x",), "Error: No such container: x"),
        (
            ("web", "foo"),
            'invalid port (foo): strconv.ParseUint: parsing "foo": invalid syntax',
        ),
        (
            ("web", "99999"),
            'invalid port (99999): strconv.ParseUint: parsing "99999": value out of range',
        ),
        (
            ("web", "80/tcp/udp"),
            "no public port '80/tcp/udp' published for web",
        ),
    ],
)
def test_no_such_port(
    fastbox: Fastbox, fake: FakeEngine, words: tuple[str, ...], message: str
) -> None:
    fake.boxes = [running(), box("idle", "9" * 64)]
    result = fastbox("port", *words)
    assert (result.code, result.out, result.err) == (1, "", message + "\n")


# ---- ps ----------------------------------------------------------------------------------------


@pytest.fixture
def boxes(fake: FakeEngine) -> list[Container]:
    """Newest first."""
    fake.boxes = [
        running(),
        box("alone", "b" * 64, status=Status.RUNNING, config_network="none",
            exposed_ports=["80/tcp"], networking=Networking()),
        box("guest", "c" * 64, status=Status.RUNNING, config_network="container:web"),
        box("old", "d" * 64, status=Status.EXITED, exposed_ports=["53/udp"],
            config_publish=[Publish(container=53, protocol="udp")],
            networks=[Attachment(network="bridge"), Attachment(network="other")]),
        box("left", "e" * 64, status=Status.EXITED, networks=[]),
    ]  # fmt: skip
    return fake.boxes


@pytest.mark.usefixtures("boxes")
def test_ports_and_networks_of_ps(fastbox: Fastbox) -> None:
    format = "{{.Names}}|{{.Networks}}|{{.Ports}}"
    assert fastbox("ps", "-a", "--format", format).out.split("\n")[:-1] == [
        "web|data|6379/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
        "alone|none|",
        "guest||",
        "old|bridge,other|",
        "left||",
    ]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"network": ["data"]}, ["web"]),
        ({"network": ["b2" * 32]}, ["web"]),
        ({"network": ["b2" * 6]}, ["web"]),
        ({"network": ["b2"]}, []),
        ({"network": ["none", "other"]}, ["alone", "old"]),
        ({"publish": ["80"]}, ["web"]),
        ({"publish": ["8080"]}, []),  # Docker looks at the container's side
        ({"publish": ["50-60/udp"]}, ["old"]),
        ({"publish": ["6379"]}, []),
        ({"publish": ["x"]}, []),
        ({"expose": ["80"]}, ["web", "alone"]),
        ({"expose": ["6000-7000/tcp"]}, ["web"]),
    ],
)
def test_filters_of_ps(
    boxes: list[Container], filters: dict[str, list[str]], found: list[str]
) -> None:
    assert [each.name for each in select(boxes, all=True, filters=filters)] == found


# ---- inspect of containers ---------------------------------------------------------------------


def test_network_settings_of_a_running_container() -> None:
    settings = inspect(running())["NetworkSettings"]
    assert (settings["SandboxID"], settings["SandboxKey"]) == (ID, "/proc/12/ns/net")
    assert settings["Ports"] == {
        "80/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"},
        ],
        "6379/tcp": None,
    }  # fmt: skip
    assert settings["IPAddress"] == ""  # it is not on the default network
    assert settings["Networks"] == {
        "data": {
            "IPAMConfig": {"IPv4Address": "172.18.0.5"}, "Links": None, "Aliases": ["w"],
            "DriverOpts": None, "GwPriority": 0, "NetworkID": "b2" * 32, "EndpointID": "e" * 64,
            "Gateway": "172.18.0.1", "IPAddress": "172.18.0.5", "IPPrefixLen": 16,
            "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "MacAddress": MAC, "DNSNames": ["web", "w", "0123456789ab"],
        }
    }  # fmt: skip


def test_fields_of_the_default_network_are_beside_the_networks_too() -> None:
    place = endpoint("bridge", address6="fd00::2", prefix6=64, gateway6="fd00::1")
    settings = inspect(box(status=Status.RUNNING, networking=Networking(endpoints=[place])))[
        "NetworkSettings"
    ]
    for key in ("IPAddress", "Gateway", "MacAddress", "EndpointID", "GlobalIPv6Address"):
        assert settings[key] == settings["Networks"]["bridge"][key] != ""
    assert settings["Networks"]["bridge"]["DNSNames"] is None


def test_network_settings_of_a_stopped_container() -> None:
    settings = inspect(box(config_publish=[Publish(container=80)]))["NetworkSettings"]
    assert (settings["SandboxID"], settings["Ports"]) == ("", {})
    assert settings["Networks"]["bridge"]["IPAddress"] == ""


@pytest.mark.parametrize("mode", ["host", "none"])
def test_network_settings_without_a_network(mode: str) -> None:
    settings = inspect(box(status=Status.RUNNING, config_network=mode))["NetworkSettings"]
    assert list(settings["Networks"]) == [mode]
    assert settings["Networks"][mode]["IPAddress"] == ""
    assert settings["Ports"] == {}


def test_network_settings_of_a_guest() -> None:
    found = inspect(box(status=Status.RUNNING, config_network="container:web"))
    settings = found["NetworkSettings"]
    assert (settings["Networks"], settings["SandboxID"]) == ({}, "")
    assert found["HostConfig"]["NetworkMode"] == "container:web"


def test_host_config() -> None:
    host = inspect(
        box(
            config_publish=[
                Publish(container=80, host=8080), Publish(container=80, host_ip="::1"),
                Publish(container=53, host=50, host_end=60, protocol="udp"),
            ],
            config_publish_all=True, config_dns=["1.1.1.1"], config_dns_search=["a.b"],
            config_dns_options=["rotate"], config_add_hosts=["a:1.2.3.4"],
            config_networks=[Attachment(network="bridge", links=["db:redis", "cache"])],
        )
    )["HostConfig"]  # fmt: skip
    assert host["PortBindings"] == {
        "53/udp": [{"HostIp": "", "HostPort": "50-60"}],
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "::1", "HostPort": ""}],
    }
    assert host["PublishAllPorts"] is True
    assert (host["Dns"], host["DnsSearch"], host["DnsOptions"]) == (
        ["1.1.1.1"],
        ["a.b"],
        ["rotate"],
    )
    assert host["ExtraHosts"] == ["a:1.2.3.4"]
    assert host["Links"] == ["/db:/web/redis", "/cache:/web/cache"]


# ---- inspect of networks -----------------------------------------------------------------------


def test_inspect_of_a_network() -> None:
    made = network(
        "data", ipv6=True, labels={"b": "2", "a": "1"}, options={"mtu": "1400"}, device="fb-x",
        subnets=[
            Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1", ip_range="10.0.0.0/25",
                   reserved={"r": "10.0.0.9"}),
            Subnet(subnet="fd00::/64"),
        ],
    )  # fmt: skip
    guest = endpoint(address6="fd00::5", prefix6=64)
    found = inspect_network(made, [("2" * 64, "db", endpoint(mac="")), ("1" * 64, "web", guest)])
    assert found == {
        "Name": "data", "Id": "f" * 64, "Created": "2026-01-02T03:04:05Z", "Scope": "local",
        "Driver": "bridge", "EnableIPv4": True, "EnableIPv6": True,
        "IPAM": {
            "Driver": "default", "Options": {},
            "Config": [
                {
                    "Subnet": "10.0.0.0/24", "IPRange": "10.0.0.0/25", "Gateway": "10.0.0.1",
                    "AuxiliaryAddresses": {"r": "10.0.0.9"},
                },
                {"Subnet": "fd00::/64"},
            ],
        },
        "Internal": False, "Attachable": False, "Ingress": False, "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            "1" * 64: {
                "Name": "web", "EndpointID": "e" * 64, "MacAddress": MAC,
                "IPv4Address": "172.18.0.5/16", "IPv6Address": "fd00::5/64",
            },
            "2" * 64: {
                "Name": "db", "EndpointID": "e" * 64, "MacAddress": "",
                "IPv4Address": "172.18.0.5/16", "IPv6Address": "",
            },
        },
        "Options": {"mtu": "1400"}, "Labels": {"a": "1", "b": "2"},
    }  # fmt: skip
    assert list(found["Containers"]) == ["1" * 64, "2" * 64]


def test_inspect_of_built_in_networks() -> None:
    found = inspect_network(network("none", driver="none"), [])
    assert (found["Driver"], found["Containers"], found["IPAM"]["Options"]) == ("null", {}, None)


def test_a_missing_network_of_a_container(fastbox: Fastbox, fake: FakeEngine) -> None:
    fake.errors["create"] = NotFound("network foo not found")
    result = fastbox("run", "--network", "foo", "img")
    assert result.code == 125
    assert result.err.split("\n")[0] == "fastbox: Error: network foo not found"
