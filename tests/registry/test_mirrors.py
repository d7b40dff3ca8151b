"""Mirrors of Docker Hub: in turn, not for long, and trusted with nothing."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

import pytest

from fastbox.errors import DigestMismatch, NotFound, RegistryError
from fastbox.image.pull import pull
from fastbox.image.store import ImageStore
from fastbox.image.types import PullResult
from fastbox.oci import reference as references
from fastbox.registry import mirrors
from fastbox.registry.guard import Guard
from fastbox.registry.retry import Policy, Transient
from fastbox.registry.transport import Transport

from .conftest import QUICK, Secrets, encoded, layer
from .server import FaultyRegistry, Handler, cut_after, error_body, status
from .world import World

NAME = "library/app"
LAYERS = [layer("a", size=5000), layer("b", size=5000)]
Configure = Callable[..., None]


@pytest.fixture
def configure(base: str, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Write a configuration with lists of mirrors and insecure registries."""
    path = os.path.join(base, "config.toml")
    monkeypatch.setenv("FASTBOX_CONFIG", path)

    def write(mirrors: list[str], insecure: list[str] | None = None) -> None:
        with open(path, "w") as file:
            file.write(f'daemon-json = ""\nregistry-mirrors = {mirrors!r}\n')
            file.write(f"insecure-registries = {insecure or []!r}\n")

    write([])
    return write


@pytest.fixture
def hub(world: World) -> FaultyRegistry:
    server = world.server("registry-1.docker.io")
    server.add_image(NAME, LAYERS)
    return server


@pytest.fixture
def mirror(world: World, configure: Configure) -> FaultyRegistry:
    """The first of two mirrors; nothing is known of the second."""
    configure(["https://mirror.example", "https://second.example"])
    server = world.server("mirror.example")
    server.add_image(NAME, LAYERS)
    return server


@pytest.fixture
def app(store: ImageStore) -> Callable[[], PullResult]:
    return lambda: pull(store, "app", policy=QUICK, max_parallel=1)


App = Callable[[], PullResult]


def dialled(world: World) -> list[str]:
    """The hosts in the order of the first connection to each."""
    return list(dict.fromkeys(host for host, _ in world.connections))


def test_the_mirror_has_everything(
    world: World, hub: FaultyRegistry, mirror: FaultyRegistry, app: App
) -> None:
    result = app()
    assert result.name == "docker.io/library/app:latest"
    assert dialled(world) == ["mirror.example"]
    assert app().status == "up-to-date"
    assert dialled(world) == ["mirror.example"]


def test_only_docker_hub_has_mirrors(
    world: World, mirror: FaultyRegistry, store: ImageStore
) -> None:
    world.server("other.example").add_image(NAME, LAYERS)
    pull(store, f"other.example/{NAME}", policy=QUICK)
    assert dialled(world) == ["other.example"]


def test_in_turn(world: World, hub: FaultyRegistry, mirror: FaultyRegistry, app: App) -> None:
    """The first has nothing, the second does not exist, the Hub has it."""
    mirror.manifests.clear()
    mirror.blobs.clear()
    app()
    assert dialled(world) == ["mirror.example", "second.example", "registry-1.docker.io"]


@pytest.mark.parametrize("code", [401, 403, 429, 500, 502, 503])
def test_a_mirror_that_fails_is_asked_once(
    world: World, hub: FaultyRegistry, mirror: FaultyRegistry, app: App, code: int
) -> None:
    mirror.on("", status(code, headers={"Retry-After": "9"}), times=-1)
    app()
    assert len(mirror.seen) == 1
    assert world.connections.count(("second.example", 443)) == 1


def test_a_mirror_that_fails_in_the_middle_is_left_alone(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App
) -> None:
    mirror.on("/blobs/", status(503), times=-1)
    app()
    assert len(mirror.requests("/blobs/")) == 1
    assert len(hub.requests("/blobs/")) == 3
    assert hub.requests("/manifests/") == []


def test_a_mirror_without_some_blobs_gives_the_others(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App
) -> None:
    gone = list(mirror.blobs)[1]
    del mirror.blobs[gone]
    app()
    assert [s.path.rpartition("/")[2] for s in hub.requests("/blobs/")] == [gone]
    assert len(mirror.requests("/blobs/")) == 3


def test_a_mirror_without_tls(
    world: World, hub: FaultyRegistry, configure: Configure, app: App
) -> None:
    """What is configured as https stays that, even where plain HTTP is allowed."""
    configure(["https://mirror.example"], ["mirror.example"])
    plain = world.server("mirror.example", tls=False)
    app()
    assert not [s for s in plain.seen if s.path.startswith("/v2")]
    assert len(hub.requests("/blobs/")) == 3


def test_a_plain_http_mirror_below_a_path(
    world: World, hub: FaultyRegistry, configure: Configure, app: App
) -> None:
    configure(["http://mirror.example:5000/hub/"])
    plain = world.server("mirror.example", port=5000, tls=False)

    def action(handler: Handler) -> None:
        assert handler.path.startswith("/hub/v2/")
        handler.path = handler.path.removeprefix("/hub")
        handler.honest()

    plain.add_image(NAME, LAYERS)
    plain.on("", action, times=-1)
    app()
    assert hub.seen == []


def test_how_long_a_mirror_is_waited_for(configure: Configure) -> None:
    configure(["https://mirror.example"])
    guard = Guard()
    client = mirrors.connect(references.parse("app"), guard)
    assert isinstance(client, mirrors.Sources)
    patience = client._mirrors[0].policy
    assert (patience.attempts, patience.fresh_attempts) == (1, 1)
    assert patience.connect + patience.stall < 15
    client.close()
    guard.close()


def test_a_name_that_does_not_resolve_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library may ask its servers for half a minute."""
    enough = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: enough.wait(60) and [])
    guard = Guard()
    policy = Policy(connect=0.05, stall=0.05)
    transport = Transport("slow.example", guard, policy)
    try:
        with pytest.raises(Transient, match=r"slow\.example does not answer: timeout"):
            transport.send("GET", "https://slow.example/v2/", {})
    finally:
        enough.set()
        transport.close()
        guard.close()


def test_layers_at_once(
    hub: FaultyRegistry, store: ImageStore, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastbox.image import pull as pulling

    path = os.path.join(base, "config.toml")
    monkeypatch.setenv("FASTBOX_CONFIG", path)
    with open(path, "w") as file:
        file.write('daemon-json = ""\nmax-concurrent-downloads = 7\n')
    counts = []
    slots = pulling.Slots
    monkeypatch.setattr(pulling, "Slots", lambda n, guard: counts.append(n) or slots(n, guard))
    pull(store, "app", policy=QUICK)
    assert counts == [7]


def test_a_mirror_that_stalls(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "_STALL", 0.2)
    mirror.on("", Handler.stall, times=-1)
    app()
    assert len(mirror.seen) == 1
    assert len(hub.requests("/blobs/")) == 3


def test_a_mirror_that_stalls_in_a_blob(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "_STALL", 0.2)

    def action(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.stall()

    blob = list(mirror.blobs)[1]
    mirror.on(blob, action, times=-1)
    app()
    assert len(mirror.requests(blob)) == 2
    assert len(hub.requests(blob)) == 1


@pytest.mark.parametrize("reset", [False, True])
def test_the_hub_goes_on_where_the_mirror_broke_off(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App, reset: bool
) -> None:
    mirror.etag = '"of the mirror"'
    blob = list(mirror.blobs)[1]
    mirror.on(blob, cut_after(1000, reset=reset), times=-1)
    app()
    assert len(mirror.requests(blob)) == 2
    (rest,) = hub.requests(blob)
    assert rest.headers["range"].startswith("bytes=")
    assert "if-range" not in rest.headers


@pytest.mark.parametrize("what", ["other", "longer", "garbage", "config"])
def test_other_content_for_a_digest(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App, what: str
) -> None:
    honest = dict(mirror.blobs)
    config, first, second = honest
    if what == "other":  # as long, and a good archive
        mirror.blobs[first] = (honest[second] + bytes(len(honest[first])))[: len(honest[first])]
    elif what == "longer":
        mirror.blobs[first] = honest[first] + b"x"
    elif what == "garbage":
        data = b"<html>" + bytes(len(honest[first]) - 6)
        mirror.on(first, lambda handler: handler.reply(200, data, length=-1))
    else:
        mirror.blobs[config] = honest[config].replace(b"true", b"evil")
    app()
    wanted = config if what == "config" else first
    assert len(mirror.requests(wanted)) == 1
    assert len(hub.requests(wanted)) == 1
    if what == "config":  # of the layers, the other one may have been first
        assert mirror.requests(second) == []


def test_a_manifest_by_digest_is_verified(
    hub: FaultyRegistry, mirror: FaultyRegistry, store: ImageStore
) -> None:
    digest = next(key.partition(":")[2] for key in hub.manifests if "sha256" in key)
    mirror.manifests[f"{NAME}:{digest}"] = (b"{}", "application/json")
    result = pull(store, f"app@{digest}", policy=QUICK)
    assert result.digest == digest
    assert len(hub.requests("/manifests/")) == 1


def test_a_stale_tag_is_the_mirrors_word(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App
) -> None:
    old = mirror.add_image(NAME, [LAYERS[0]])
    assert app().digest == old["digest"]
    assert hub.seen == []


def test_what_a_stale_mirror_lacks_comes_from_the_hub(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App
) -> None:
    """Its index is there, what the index names is not there any more."""
    image = hub.add_image(NAME, LAYERS)
    hub.add_index(NAME, [image])
    mirror.add_index(NAME, [image])
    mirror.blobs.clear()
    del mirror.manifests[f"{NAME}:{image['digest']}"]
    app()
    assert len(hub.requests(r"/manifests/sha256")) == 1


def test_a_web_page_in_the_place_of_a_manifest(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App
) -> None:
    page = {"Content-Type": "text/html"}
    mirror.on("", status(200, b"<html>Log in to this hotel</html>", page), times=-1)
    app()
    assert mirror.requests("/blobs/") == []


def test_when_the_hub_fails_too_the_mirror_is_mentioned(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App
) -> None:
    mirror.on("", status(500), times=-1)
    hub.on("", status(501), times=-1)
    with pytest.raises(RegistryError) as caught:
        app()
    assert "registry-1.docker.io" in str(caught.value)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("mirror mirror.example failed before: ")


def test_nobody_has_it(hub: FaultyRegistry, mirror: FaultyRegistry, store: ImageStore) -> None:
    with pytest.raises(NotFound, match="manifest for none:latest not found"):
        pull(store, "none", policy=QUICK)


def test_the_hubs_lies_are_not_the_mirrors(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App
) -> None:
    first = list(mirror.blobs)[1]
    for server in (mirror, hub):
        server.blobs[first] = bytes(len(server.blobs[first]))
    with pytest.raises(DigestMismatch):
        app()


# ---- credentials ---------------------------------------------------------------------------------


def basic(handler: Handler) -> None:
    if handler.headers.get("Authorization"):
        handler.honest()
    else:
        challenge = {"WWW-Authenticate": 'Basic realm="x"'}
        handler.reply(401, error_body("UNAUTHORIZED", "no"), challenge)


def test_the_hubs_credentials_go_to_the_hub_only(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App, secrets: Secrets
) -> None:
    secrets.login("https://index.docker.io/v1/")
    mirror.on("", basic, times=-1)
    hub.on("", basic, times=-1)
    app()
    assert mirror.seen
    assert not [s for s in mirror.seen if "authorization" in s.headers]
    assert hub.seen[-1].headers["authorization"] == f"Basic {encoded('ann', 's3cret')}"


@pytest.mark.parametrize(("listed", "asked"), [([], "hub"), (["mirror.example"], "mirror")])
def test_a_password_is_not_sent_without_tls(
    world: World,
    hub: FaultyRegistry,
    configure: Configure,
    app: App,
    secrets: Secrets,
    listed: list[str],
    asked: str,
) -> None:
    configure(["http://mirror.example"], listed)
    plain = world.server("mirror.example", port=80, tls=False)
    plain.add_image(NAME, LAYERS)
    plain.on("", basic, times=-1)
    secrets.login("mirror.example")
    app()
    assert bool(hub.requests("/blobs/")) == (asked == "hub")
    assert any("authorization" in s.headers for s in plain.seen) == (asked == "mirror")


def test_a_mirror_gets_its_own_credentials(
    hub: FaultyRegistry, mirror: FaultyRegistry, app: App, secrets: Secrets
) -> None:
    secrets.docker(
        {
            "auths": {
                "https://index.docker.io/v1/": {"auth": encoded("ann", "s3cret")},
                "mirror.example": {"auth": encoded("bob", "other")},
            }
        }
    )
    mirror.on("", basic, times=-1)
    app()
    assert hub.seen == []
    assert mirror.seen[-1].headers["authorization"] == f"Basic {encoded('bob', 'other')}"
