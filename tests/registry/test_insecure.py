"""``insecure-registries``: what is excepted from verified TLS, and what is not."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from fastbox.errors import RegistryError
from fastbox.image.store import ImageStore
from fastbox.registry import dial as dialing
from fastbox.registry import hosts
from fastbox.registry.insecure import Insecure

from .conftest import Puller, Secrets, layer
from .server import FaultyRegistry, error_body, status
from .test_mirrors import Configure, configure
from .world import World

__all__ = ["configure"]
REGISTRY = "registry.example"


@pytest.fixture
def pull(store: ImageStore) -> Puller:
    return Puller(store, f"{REGISTRY}:5000")


def origin(text: str) -> hosts.Origin:
    return hosts.origin(f"https://{text}")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names resolve to; addresses are themselves."""
    table: dict[str, list[str]] = {}
    literal = dialing.resolve

    def resolve(host: str, port: int, check: Callable[[], None]) -> Any:
        if host not in table:
            try:
                socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
            except OSError:
                raise socket.gaierror(socket.EAI_NONAME, "no such host") from None
            return literal(host, port, check)
        return [(socket.AF_INET, (address, port)) for address in table[host]]

    monkeypatch.setattr(dialing, "resolve", resolve)
    return table


@pytest.mark.parametrize(
    ("entries", "host", "expected"),
    [
        (["reg.example"], "reg.example", True),
        (["reg.example"], "reg.example:5000", False),
        (["reg.example:5000"], "reg.example", False),
        (["reg.example:5000"], "reg.example:5000", True),
        (["reg.example:5000"], "REG.example:5000", True),
        (["reg.example"], "sub.reg.example", False),
        (["10.0.0.0/8"], "10.1.2.3:5000", True),
        (["10.0.0.0/8"], "11.1.2.3:5000", False),
        (["10.0.0.0/8"], "inside.example", True),
        (["10.0.0.0/8"], "outside.example", False),
        (["10.0.0.0/8"], "unknown.example", False),
        (["fd00::/8"], "[fd00::1]:5000", True),
        (["[fd00::1]"], "[fd00::1]", True),
        (["0.0.0.0/0", "docker.io", "registry-1.docker.io"], "registry-1.docker.io", False),
        ([], "reg.example", False),
    ],
)
def test_what_is_covered(
    names: dict[str, list[str]], entries: list[str], host: str, expected: bool
) -> None:
    names |= {"inside.example": ["192.0.2.1", "10.0.0.1"], "outside.example": ["192.0.2.1"]}
    assert Insecure(entries).covers(origin(host)) is expected


def test_names_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def resolve(host: str, port: int, check: Callable[[], None]) -> Any:
        asked.append(host)
        return []

    monkeypatch.setattr(dialing, "resolve", resolve)
    insecure = Insecure(["10.0.0.0/8"])
    assert not insecure.covers(origin("a.example"))
    assert not insecure.covers(origin("a.example:5000"))
    assert asked == ["a.example"]
    assert not Insecure(["a.example"]).covers(origin("b.example"))
    assert asked == ["a.example"]


def test_plain_http_for_what_is_listed(world: World, configure: Configure, pull: Puller) -> None:
    plain = world.server(REGISTRY, port=5000, tls=False)
    plain.add_image("app", [layer("a")])
    with pytest.raises(RegistryError) as caught:
        pull("app")
    assert str(caught.value) == (
        f'Get "https://{REGISTRY}:5000/v2/": http: server gave HTTP response to HTTPS client'
    )
    assert "insecure-registries" in (caught.value.hint or "")
    configure([], [f"{REGISTRY}:5000"])
    assert pull("app").status == "downloaded"
    assert world.connections.count((REGISTRY, 5000)) <= 4  # TLS is tried once, not each time


def test_an_unverified_certificate_for_what_is_listed(
    world: World, configure: Configure, pull: Puller
) -> None:
    server = FaultyRegistry(world.authority.context("other.example"))
    world._stack.callback(server.stop)
    world._places[REGISTRY, 5000] = server.port
    server.add_image("app", [layer("a")])
    with pytest.raises(RegistryError, match="certificate verification failed"):
        pull("app")
    configure([], [f"{REGISTRY}:5000"])
    assert pull("app").status == "downloaded"


def test_without_a_port_443_and_80(world: World, configure: Configure, store: ImageStore) -> None:
    plain = world.server(REGISTRY, port=80, tls=False)
    plain.add_image("app", [layer("a")])
    world._places[REGISTRY, 443] = 1  # nobody listens
    configure([], [REGISTRY])
    assert Puller(store, REGISTRY)("app").status == "downloaded"
    assert [port for _, port in world.connections][:2] == [443, 80]


def test_by_network(
    world: World,
    configure: Configure,
    pull: Puller,
    names: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network is trusted; an address outside of it is not dialled."""
    plain = world.server(REGISTRY, port=5000, tls=False)
    plain.add_image("app", [layer("a")])
    names[REGISTRY] = ["10.1.1.1", "192.0.2.9"]
    configure([], ["10.0.0.0/8"])
    allowed = []
    inner = world.dial

    def dial(*arguments: Any, **keywords: Any) -> Any:
        allowed.append(keywords["allowed"])
        return inner(*arguments, **keywords)

    from fastbox.registry import transport

    monkeypatch.setattr(transport, "dial", dial)
    assert pull("app").status == "downloaded"
    assert all(test("10.1.1.1") and not test("192.0.2.9") for test in allowed)


def test_where_it_sends_us_is_verified(world: World, configure: Configure, pull: Puller) -> None:
    """A redirect from a listed registry to a host that is not listed."""
    plain = world.server(REGISTRY, port=5000, tls=False)
    plain.add_image("app", [layer("a")])
    storage = FaultyRegistry(world.authority.context("wrong.example"))
    world._stack.callback(storage.stop)
    world._places["storage.test", 443] = storage.port
    plain.on("/blobs/", status(307, headers={"Location": "https://storage.test/x"}), times=-1)
    configure([], [f"{REGISTRY}:5000"])
    with pytest.raises(RegistryError, match="certificate verification failed"):
        pull("app")
    assert storage.seen == []


def test_where_it_sends_us_is_not_this_machine(
    configure: Configure, pull: Puller, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though people list 127.0.0.0/8, as Docker shows it."""
    from fastbox.registry import transport
    from fastbox.registry.guard import Guard
    from fastbox.registry.retry import Policy

    asked = []

    def dial(*arguments: Any, **keywords: Any) -> Any:
        asked.append(keywords["allowed"])
        raise ConnectionRefusedError

    monkeypatch.setattr(transport, "dial", dial)
    names |= {"listed.example": ["10.0.0.1"], "evil.example": ["127.0.0.1"]}
    listed = Insecure(["127.0.0.0/8", "10.0.0.0/8"])
    guard = Guard()
    ours = transport.Transport(REGISTRY, guard, Policy(), insecure=listed)
    ours.registry = origin(REGISTRY)
    for name in ("listed.example", "evil.example"):
        with pytest.raises(ConnectionRefusedError):
            ours._dial(origin(name), name, 443, 1)
    ours.registry = origin("evil.example")  # the user's own word for it
    with pytest.raises(ConnectionRefusedError):
        ours._dial(origin("evil.example"), "evil.example", 443, 1)
    guard.close()
    assert [test("127.0.0.1") for test in asked] == [False, False, True]
    assert [test("10.0.0.1") for test in asked] == [True, True, True]


def test_its_token_service_may_be_plain_too(
    world: World, configure: Configure, pull: Puller, secrets: Secrets
) -> None:
    plain = world.server(REGISTRY, port=5000, tls=False)
    plain.add_image("app", [layer("a")])
    service = world.server(REGISTRY, port=5001, tls=False)
    service.on("/token", status(200, json.dumps({"token": "good"}).encode()), times=-1)

    def action(handler: Any) -> None:
        if handler.headers.get("Authorization") == "Bearer good":
            handler.honest()
        else:
            realm = f'Bearer realm="http://{REGISTRY}:5001/token",service="x"'
            body = error_body("UNAUTHORIZED", "no")
            handler.reply(401, body, {"WWW-Authenticate": realm})

    plain.on("/v2/", action, times=-1)
    configure([], [f"{REGISTRY}:5000"])
    secrets.login(f"{REGISTRY}:5000")
    assert pull("app").status == "downloaded"
    assert service.seen[0].headers["authorization"].startswith("Basic ")


def test_a_broken_configuration_is_told_before_anything_is_asked(
    world: World, configure: Configure, pull: Puller
) -> None:
    server = world.server(REGISTRY, port=5000)
    configure(["nonsense"])
    with pytest.raises(Exception, match=r"config.toml:2: registry-mirrors: invalid mirror"):
        pull("app")
    assert server.seen == []
