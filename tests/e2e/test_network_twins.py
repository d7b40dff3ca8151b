"""Networks and published ports, the same commands to fastbox and, where one answers, to docker:
equal output, equal codes (docs/from-docker.md has what differs)."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator

import pytest

from tests.e2e.test_twins import IMAGE, last_line
from tests.support.command import Command

ONE, TWO, BOX, OTHER = (f"fastbox-twin-{name}" for name in ("one", "two", "box", "other"))


@pytest.fixture
def both(twin: Command) -> Iterator[Command]:
    """A twin whose networks and containers of these names are removed."""
    yield twin
    twin("rm", "-f", BOX, OTHER)
    for name in (ONE, TWO):
        twin("network", "rm", name)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("", 0))
        return int(s.getsockname()[1])


def test_life(both: Command) -> None:
    made = both.ok("network", "create", "--subnet", "10.77.0.0/24", "--label", "a=b", ONE)
    assert re.fullmatch("[0-9a-f]{64}", made)
    assert both.ok("network", "ls", "-f", f"name={ONE}", "--format", "{{.Name}} {{.Driver}}") == (
        f"{ONE} bridge"
    )
    assert both.ok("network", "ls", "-q", "-f", "label=a=b") == made[:12]
    assert both.ok("network", "ls", "-q", "--no-trunc", "-f", f"id={made[:9]}") == made
    for name, driver in (("bridge", "bridge"), ("host", "host"), ("none", "null")):
        assert both.ok("network", "inspect", "-f", "{{.Driver}} {{.Scope}}", name) == (
            f"{driver} local"
        )
    both.ok("run", "-d", "--name", BOX, "--network", ONE, "--ip", "10.77.0.9", IMAGE, "sleep",
              "1000")  # fmt: skip
    (found,) = json.loads(both.ok("network", "inspect", ONE))
    keys = {"Name", "Id", "Created", "Scope", "Driver", "EnableIPv6", "IPAM", "Internal",
            "Attachable", "Ingress", "ConfigFrom", "ConfigOnly", "Containers", "Options",
            "Labels"}  # fmt: skip
    assert keys <= set(found)
    assert found["Labels"] == {"a": "b"} and not found["Internal"] and not found["EnableIPv6"]
    config = found["IPAM"]["Config"][0]
    assert (config["Subnet"], config.get("Gateway", "10.77.0.1")) == ("10.77.0.0/24", "10.77.0.1")
    (inside,) = found["Containers"].values()
    assert set(inside) == {"Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address"}
    assert (inside["Name"], inside["IPv4Address"]) == (BOX, "10.77.0.9/24")
    refused = both("network", "rm", ONE)
    assert refused.code == 1 and "has active endpoints" in refused.err
    places = json.loads(both.ok("inspect", "-f", "{{json .NetworkSettings.Networks}}", BOX))
    keys = {"IPAMConfig", "Links", "Aliases", "MacAddress", "NetworkID", "EndpointID", "Gateway",
            "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address"}  # fmt: skip
    assert keys <= set(places[ONE])
    assert places[ONE]["IPAddress"] == "10.77.0.9"
    both.ok("rm", "-f", BOX)
    assert both.ok("network", "rm", ONE) == ONE
    assert both("network", "inspect", ONE).code == 1


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ("network rm nosuch", 1, "Error: network nosuch not found"),
        ("network rm -f nosuch", 0, ""),
        ("network inspect nosuch", 1, "Error: network nosuch not found"),
        ("network rm bridge", 1, "Error: bridge is a pre-defined network and cannot be removed"),
        ("network create bridge", 1,
         "Error: operation is not permitted on predefined bridge network"),
        ("network create --subnet 10.77.0.0/24 --gateway 10.78.0.1 x", 1,
         "no matching subnet for gateway 10.78.0.1"),
        ("network create -d nosuchdriver x", 1, None),
        ("network create", 1, None),
        ("network connect nosuch nosuch", 1, None),
        ("network disconnect nosuch nosuch", 1, None),
        ("network ls -f foo=bar", 1, None),
        ("port nosuch", 1, "Error: No such container: nosuch"),
        (f"run --rm --network nosuch {IMAGE} true", 125, None),
        (f"run --rm -p 99999:80 {IMAGE} true", 125, None),
        (f"run --rm -p 80-90:80-85 {IMAGE} true", 125, None),
        (f"run --rm --mac-address nonsense {IMAGE} true", 125, None),
        (f"run --rm --ip 1.2.3.4 {IMAGE} true", 125, None),
        (f"run --rm --network container:nosuch {IMAGE} true", 125, None),
        (f"run --rm --network host --network bridge {IMAGE} true", 125, None),
        (f"run --rm --dns nonsense {IMAGE} true", 125, None),
        (f"run --rm --add-host nonsense {IMAGE} true", 125, None),
    ],
)  # fmt: skip
def test_refusals(both: Command, words: str, code: int, line: str | None) -> None:
    result = both(*words.split())
    assert result.code == code, result
    if line is not None:
        assert last_line(result) == line


def test_overlap_and_use(both: Command) -> None:
    both.ok("network", "create", "--subnet", "10.77.0.0/24", ONE)
    result = both("network", "create", ONE)
    assert (result.code, last_line(result)) == (1, f"Error: network with name {ONE} already exists")
    result = both("network", "create", "--subnet", "10.77.0.128/25", TWO)
    assert result.code == 1
    assert "Pool overlaps with other one on this address space" in last_line(result)
    both.ok("run", "-d", "--name", BOX, "--network", ONE, "--ip", "10.77.0.9", IMAGE, "sleep",
              "1000")  # fmt: skip
    result = both("run", "--rm", "--network", ONE, "--ip", "10.77.0.9", IMAGE, "true")
    assert (result.code, "Address already in use" in result.err) == (125, True)
    result = both("run", "--rm", "--network", ONE, "--ip", "10.88.0.9", IMAGE, "true")
    assert (result.code, "10.88.0.9" in last_line(result)) == (125, True), result
    result = both("network", "connect", ONE, BOX)
    assert result.code == 1
    assert f"endpoint with name {BOX} already exists in network {ONE}" in last_line(result)
    result = both("network", "disconnect", "bridge", BOX)
    assert (result.code, "is not connected to" in last_line(result)) == (1, True)


def test_ports(both: Command) -> None:
    port, other = free_port(), free_port()
    both.ok("run", "-d", "--name", BOX, "-p", f"{port}:80", "-p", f"127.0.0.1:{other}:81/udp",
              IMAGE, "sleep", "1000")  # fmt: skip
    assert both.ok("port", BOX).splitlines() == [
        f"80/tcp -> 0.0.0.0:{port}", f"80/tcp -> [::]:{port}", f"81/udp -> 127.0.0.1:{other}",
    ]  # fmt: skip
    assert both.ok("port", BOX, "80").splitlines() == [f"0.0.0.0:{port}", f"[::]:{port}"]
    assert both.ok("port", BOX, "81/udp") == f"127.0.0.1:{other}"
    assert both("port", BOX, "82").code == 1
    shown = both.ok("ps", "-f", f"name={BOX}", "--format", "{{.Ports}}")
    assert shown == (f"0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp, 127.0.0.1:{other}->81/udp")
    result = both("run", "-d", "--name", OTHER, "-p", f"{port}:80", IMAGE, "sleep", "1000")
    assert result.code == 125
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in result.err
    assert both.ok("inspect", "-f", "{{.State.Status}}", OTHER) == "created"
    both.ok("rm", "-f", BOX)
    assert both.ok("start", OTHER) == OTHER
    both.ok("rm", "-f", OTHER)
    with contextlib.closing(socket.create_server(("0.0.0.0", port))):
        result = both("run", "--rm", "-p", f"{port}:80", IMAGE, "true")
        assert (result.code, "address already in use" in result.err) == (125, True), result


def test_names_and_connect(both: Command) -> None:
    for name in (ONE, TWO):
        both.ok("network", "create", name)
    run = ("run", "-d", IMAGE, "sleep", "1000")
    both.ok(*run[:2], "--name", BOX, "--network", ONE, "--network-alias", "alias", *run[2:])
    both.ok(*run[:2], "--name", OTHER, "--network", TWO, *run[2:])
    assert both("exec", OTHER, "nslookup", BOX).code == 1
    both.ok("network", "connect", ONE, OTHER)
    for name in (BOX, "alias", f"{BOX}.{ONE}"):
        assert both("exec", OTHER, "ping", "-c1", name).code == 0, name
    assert both.ok("exec", OTHER, "sh", "-c", "ip -o link | wc -l") == "3"
    resolv = both.ok("exec", OTHER, "grep", "-v", "#", "/etc/resolv.conf")
    assert "nameserver 127.0.0.11" in resolv and "ndots:0" in resolv
    both.ok("network", "disconnect", ONE, OTHER)
    assert both.ok("exec", OTHER, "sh", "-c", "ip -o link | wc -l") == "2"
    assert both("exec", OTHER, "nslookup", BOX).code == 1
