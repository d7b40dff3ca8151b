"""Tokens, passwords, and who gets to see them (SECURITY.md table 1.E, section 4.3)."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest

from fastbox.errors import AuthError, RegistryError
from fastbox.image.store import ImageStore
from fastbox.registry.auth import Authorizer

from .conftest import Puller, Secrets, encoded, layer
from .server import FaultyRegistry, Handler, Seen, cut_after, endless, error_body, status
from .world import World

CANARY = "s3cret"
REGISTRY = "registry.example"


def bearer(realm: str, **more: str) -> dict[str, str]:
    parameters = {"realm": realm, "service": "svc", **more}
    inner = ",".join(f'{key}="{value}"' for key, value in parameters.items())
    return {"WWW-Authenticate": f"Bearer {inner}"}


def protect(
    server: FaultyRegistry,
    realm: str,
    *,
    accepts: Callable[[str], bool] = lambda header: header == "Bearer good",
    pattern: str = "/v2/",
    scope: str = "repository:app:pull",
) -> None:
    """Answer 401 with a challenge unless the Authorization header is accepted."""

    def action(handler: Handler) -> None:
        if accepts(handler.headers.get("Authorization", "")):
            handler.honest()
        else:
            body = error_body("UNAUTHORIZED", "authentication required")
            handler.reply(401, body, bearer(realm, scope=scope))

    server.on(pattern, action, times=-1)


def give(token: str = "good", **more: Any) -> Callable[[Handler], None]:
    """A token service's answer."""
    return status(200, json.dumps({"token": token, **more}).encode())


def saw_secret(server: FaultyRegistry) -> list[Seen]:
    """Requests in which the password can be found, in any spelling."""
    spelt = [CANARY, encoded("ann", CANARY), "refresh-me"]
    return [s for s in server.seen if any(x in f"{s.path} {s.headers} {s.body!r}" for x in spelt)]


def query(seen: Seen) -> dict[str, list[str]]:
    return urllib.parse.parse_qs(urllib.parse.urlsplit(seen.path).query)


@pytest.fixture
def hub(world: World) -> FaultyRegistry:
    """``registry.example`` with TLS; serves ``app``."""
    server = world.server(REGISTRY)
    server.add_image("app", [layer("a"), layer("b")])
    return server


@pytest.fixture
def pull(store: ImageStore) -> Puller:
    return Puller(store, REGISTRY)


# ---- tokens --------------------------------------------------------------------------------------


def test_an_anonymous_token(world: World, hub: FaultyRegistry, pull: Puller) -> None:
    service = world.server("auth.registry.example")
    service.on("/token", give(), times=-1)
    protect(hub, "https://auth.registry.example/token")
    pull("app")
    (asked,) = service.requests("/token")
    assert query(asked) == {"service": ["svc"], "scope": ["repository:app:pull"]}
    assert "authorization" not in asked.headers
    assert len([s for s in hub.seen if "authorization" not in s.headers]) == 1


def test_docker_hub(world: World, store: ImageStore, secrets: Secrets) -> None:
    """docker.io is registry-1.docker.io, its credentials have a key of their own."""
    hub = world.server("registry-1.docker.io")
    service = world.server("auth.docker.io")
    described = hub.add_image("library/redis", [layer("a")])
    protect(hub, "https://auth.docker.io/token", scope="repository:library/redis:pull")
    service.on("/token", give(), times=-1)
    secrets.login("https://index.docker.io/v1/")
    from fastbox.image.pull import pull

    result = pull(store, "redis")
    assert result.name == "docker.io/library/redis:latest"
    assert result.digest == described["digest"]
    (asked,) = service.requests("/token")
    assert query(asked)["scope"] == ["repository:library/redis:pull"]
    assert asked.headers["authorization"] == f"Basic {encoded('ann', CANARY)}"
    assert query(asked)["account"] == ["ann"]
    assert saw_secret(hub) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "good"},
        {"access_token": "good"},
        {"token": "good", "access_token": "good", "expires_in": 300, "issued_at": "2024"},
        {"token": "good", "expires_in": 0},
        {"token": "good", "expires_in": -5},
        {"token": "good", "expires_in": None},
    ],
)
def test_token_answers(
    world: World, hub: FaultyRegistry, pull: Puller, answer: dict[str, Any]
) -> None:
    service = world.server("auth.registry.example")
    service.on("/token", status(200, json.dumps(answer).encode()), times=-1)
    protect(hub, "https://auth.registry.example/token")
    pull("app")
    assert len(service.seen) == 1


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (status(200, b"<html>log in here</html>"), "not a token"),
        (status(200, b"{}"), "no token"),
        (status(200, b'{"token": 5}'), "not a token"),
        (status(200, b'{"token": "good", "expires_in": "soon"}'), "not a token"),
        (status(200, b'{"token": "a\\r\\nX-Evil: 1"}'), "invalid token"),
        (status(200, b'{"token": "a b"}'), "invalid token"),
        (status(200, json.dumps({"token": "x" * 100_000}).encode()), "invalid token"),
        (status(200, b'{"token": "' + b"x" * 2_000_000 + b'"}'), "too large"),
        (endless(), "too large"),
        (status(500, b"oops"), "HTTP status 500"),
        (status(404), "HTTP status 404"),
        (status(302, headers={"Location": "http://auth.registry.example/token"}), "plain HTTP"),
        (status(302, headers={"Location": "/token"}), "without end"),
    ],
)
def test_bad_token_services(
    world: World, hub: FaultyRegistry, pull: Puller, answer: Callable[[Handler], None], text: str
) -> None:
    """64"""
    service = world.server("auth.registry.example")
    service.on("/token", answer, times=-1)
    protect(hub, "https://auth.registry.example/token")
    with pytest.raises(RegistryError, match=text) as caught:
        pull("app")
    assert "\n" not in str(caught.value)
    assert len(service.seen) <= 5
    assert len(hub.seen) == 1


def test_a_token_service_in_trouble_is_asked_again(
    world: World, hub: FaultyRegistry, pull: Puller
) -> None:
    service = world.server("auth.registry.example")
    service.on("/token", status(503), times=2)
    service.on("/token", cut_after(3))
    service.on("/token", give(), times=-1)
    protect(hub, "https://auth.registry.example/token")
    pull("app")
    assert len(service.seen) == 4


def test_layers_share_one_token(world: World, hub: FaultyRegistry, pull: Puller) -> None:
    service = world.server("auth.registry.example")
    service.on("/token", give(), times=-1)
    hub.add_image("app", [layer(f"f{n}") for n in range(8)])
    protect(hub, "https://auth.registry.example/token", pattern="/blobs/")
    pull("app")
    assert len(service.seen) == 1


def test_a_token_that_is_refused_in_mid_pull_is_renewed_once(
    world: World, hub: FaultyRegistry, pull: Puller
) -> None:
    """63"""
    service = world.server("auth.registry.example")
    for token in ("first", "good"):
        service.on("/token", give(token))
    protect(hub, "https://auth.registry.example/token", pattern="/blobs/")
    protect(
        hub,
        "https://auth.registry.example/token",
        accepts=lambda header: header in ("Bearer first", "Bearer good"),
        pattern="/manifests/",
    )
    pull("app")
    assert len(service.seen) == 2


def test_a_registry_that_refuses_every_token(
    world: World, hub: FaultyRegistry, pull: Puller
) -> None:
    service = world.server("auth.registry.example")
    service.on("/token", give("wrong"), times=-1)
    protect(hub, "https://auth.registry.example/token")
    with pytest.raises(AuthError) as caught:
        pull("app")
    assert str(caught.value) == (
        "pull access denied for registry.example/app, repository does not exist or may require"
        " 'docker login': unauthorized: authentication required"
    )
    assert len(service.seen) <= 2
    assert len(hub.seen) <= 3


def test_an_insufficient_scope_is_widened_once(
    world: World, hub: FaultyRegistry, pull: Puller
) -> None:
    """A proxying registry may want a scope that nobody can guess."""
    service = world.server("auth.registry.example")
    wide = ["repository:app:pull", "repository:upstream/app:pull"]

    def issue(handler: Handler) -> None:
        scopes = query(Seen("GET", handler.path, {}))["scope"]
        give("good" if scopes == wide else "narrow")(handler)

    service.on("/token", issue, times=-1)

    def check(handler: Handler) -> None:
        header = handler.headers.get("Authorization", "")
        if header == "Bearer good":
            handler.honest()
            return
        more = {"error": "insufficient_scope"} if header else {}
        scope = wide[1] if header else wide[0]
        challenge = bearer("https://auth.registry.example/token", scope=scope, **more)
        handler.reply(401, b"", challenge)

    hub.on("/v2/", check, times=-1)
    pull("app")
    assert len(service.seen) == 2


def test_an_expired_token_is_renewed_before_use(
    world: World, hub: FaultyRegistry, pull: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = world.server("auth.registry.example")
    service.on("/token", give(expires_in=60), times=-1)
    protect(hub, "https://auth.registry.example/token")
    plain = Authorizer._hold
    # The clock cannot be waited for: every token is held as one that has just expired.
    monkeypatch.setattr(Authorizer, "_hold", lambda self, header, _: plain(self, header, 0.0))
    pull("app")
    # One for the challenge, which the next look at the clock finds expired, and one per request.
    assert len(service.seen) == 1 + len([s for s in hub.seen if "authorization" in s.headers])


# ---- basic ---------------------------------------------------------------------------------------

BASIC = {"WWW-Authenticate": 'Basic realm="here"'}


def basic(server: FaultyRegistry, headers: dict[str, str] | None = None) -> None:
    def action(handler: Handler) -> None:
        if handler.headers.get("Authorization") == f"Basic {encoded('ann', CANARY)}":
            handler.honest()
        else:
            handler.reply(401, b"", headers or BASIC)

    server.on("/v2/", action, times=-1)


def test_basic_authentication(hub: FaultyRegistry, pull: Puller, secrets: Secrets) -> None:
    secrets.login(REGISTRY)
    basic(hub)
    pull("app")
    assert "authorization" not in hub.seen[0].headers
    assert all("authorization" in seen.headers for seen in hub.seen[1:])


def test_a_wrong_password(hub: FaultyRegistry, pull: Puller, secrets: Secrets) -> None:
    secrets.login(REGISTRY, password="wrong")
    basic(hub)
    with pytest.raises(AuthError, match=r"pull access denied for registry\.example/app"):
        pull("app")
    assert len(hub.seen) == 2


def test_no_password(hub: FaultyRegistry, pull: Puller) -> None:
    basic(hub)
    with pytest.raises(AuthError, match="pull access denied") as caught:
        pull("app")
    assert caught.value.hint == "log in with: fastbox login registry.example"
    assert len(hub.seen) == 1


def test_bearer_is_preferred_to_basic(
    world: World, hub: FaultyRegistry, pull: Puller, secrets: Secrets
) -> None:
    service = world.server("auth.registry.example")
    service.on("/token", give(), times=-1)
    secrets.login(REGISTRY)
    text = f'{BASIC["WWW-Authenticate"]}, Bearer realm="https://auth.registry.example/token"'

    def action(handler: Handler) -> None:
        if handler.headers.get("Authorization") == "Bearer good":
            handler.honest()
        else:
            handler.reply(401, b"", {"WWW-Authenticate": text})

    hub.on("/v2/", action, times=-1)
    pull("app")
    assert len(service.seen) == 1
    assert saw_secret(hub) == []


@pytest.mark.parametrize("value", ["", "Digest realm=x", "Negotiate", "Bearer", ",,,", '"', "="])
def test_challenges_that_cannot_be_answered(
    hub: FaultyRegistry, pull: Puller, secrets: Secrets, value: str
) -> None:
    secrets.login(REGISTRY)
    hub.on("/v2/", status(401, headers={"WWW-Authenticate": value}), times=-1)
    with pytest.raises(RegistryError):
        pull("app")
    assert len(hub.seen) == 1
    assert saw_secret(hub) == []


# ---- realms (E3) ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "realm",
    [
        "http://auth.registry.example/token",
        "http://registry.example/token",
        "file:///etc/passwd",
        "ftp://registry.example/token",
        "https://127.0.0.1/token",
        "https://localhost/token",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/token",
        "https://10.0.0.7/token",
        "https://user:pass@registry.example/token",
        "https://registry.example:99999/token",
        "//registry.example/token",
        "",
        "https:///token",
        "https://registry.example/\ttoken",
    ],
)
def test_realms_that_are_refused(
    world: World, hub: FaultyRegistry, pull: Puller, secrets: Secrets, realm: str
) -> None:
    secrets.login(REGISTRY)
    hub.on("/v2/", status(401, headers=bearer(realm)), times=-1)
    with pytest.raises(RegistryError, match="as its token service, which is refused") as caught:
        pull("app")
    assert "pass@" not in str(caught.value)
    assert set(world.connections) == {(REGISTRY, 443)}


def test_a_strangers_realm_sees_no_credentials(
    world: World, hub: FaultyRegistry, pull: Puller, secrets: Secrets
) -> None:
    """CVE-2026-33540: anonymous is all that a stranger gets."""
    evil = world.server("evil.test")
    evil.on("/token", give("useless"), times=-1)
    secrets.login(REGISTRY)
    protect(hub, "https://evil.test/token")
    with pytest.raises(AuthError, match="pull access denied") as caught:
        pull("app")
    assert evil.seen
    assert saw_secret(evil) == []
    assert caught.value.hint == (
        "credentials are not sent to evil.test, a stranger to registry.example"
    )


@pytest.mark.parametrize("password", [CANARY, "his-own"])
def test_a_strangers_realm_gets_what_both_have(
    world: World, hub: FaultyRegistry, pull: Puller, secrets: Secrets, password: str
) -> None:
    """With credentials of its own, the registry would get a token for another registry."""
    elsewhere = world.server("login.test")
    elsewhere.on("/token", give(), times=-1)
    secrets.docker(
        {
            "auths": {
                REGISTRY: {"auth": encoded("ann", CANARY)},
                "login.test": {"auth": encoded("ann", password)},
            }
        }
    )
    protect(hub, "https://login.test/token")
    pull("app")
    sent = elsewhere.seen[0].headers.get("authorization")
    assert sent == (f"Basic {encoded('ann', CANARY)}" if password == CANARY else None)


def test_an_identity_token_goes_by_post_to_its_own_family(
    world: World, hub: FaultyRegistry, pull: Puller, secrets: Secrets
) -> None:
    service = world.server("auth.registry.example")
    service.on("POST /token", give(), times=-1)
    entry = {"auth": encoded("00000000-0000-0000-0000-000000000000", ""),
             "identitytoken": "refresh-me"}  # fmt: skip
    secrets.docker({"auths": {REGISTRY: entry}})
    protect(hub, "https://auth.registry.example/token")
    pull("app")
    (asked,) = service.seen
    form = urllib.parse.parse_qs(asked.body.decode())
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["refresh-me"]
    assert form["scope"] == ["repository:app:pull"]
    assert "refresh" not in asked.path
    assert saw_secret(hub) == []


def test_an_identity_token_never_goes_to_a_stranger(
    world: World, hub: FaultyRegistry, pull: Puller, secrets: Secrets
) -> None:
    evil = world.server("evil.test")
    evil.on("/token", give("useless"), times=-1)
    entry = {"identitytoken": "refresh-me"}
    secrets.docker({"auths": {REGISTRY: entry, "evil.test": entry}})
    protect(hub, "https://evil.test/token")
    with pytest.raises(AuthError):
        pull("app")
    assert saw_secret(evil) == []


def test_credentials_that_the_token_service_refuses(
    world: World, hub: FaultyRegistry, pull: Puller, secrets: Secrets
) -> None:
    service = world.server("auth.registry.example")
    body = json.dumps({"details": "incorrect username or password"}).encode()
    service.on("/token", status(401, body), times=-1)
    secrets.login(REGISTRY)
    protect(hub, "https://auth.registry.example/token")
    with pytest.raises(AuthError) as caught:
        pull("app")
    assert str(caught.value) == (
        "registry registry.example refuses the credentials of ann: incorrect username or password"
    )
    assert (caught.value.hint or "").endswith(".docker/config.json")
    assert len(service.seen) == 1


def test_a_token_service_that_knows_no_anonymous(
    world: World, hub: FaultyRegistry, pull: Puller
) -> None:
    service = world.server("auth.registry.example")
    service.on("/token", status(401, error_body("UNAUTHORIZED", "who are you")), times=-1)
    protect(hub, "https://auth.registry.example/token")
    with pytest.raises(AuthError, match=r"pull access denied for .*: unauthorized: who are you"):
        pull("app")


def test_a_token_request_that_is_redirected_leaves_the_password_behind(
    world: World, hub: FaultyRegistry, pull: Puller, secrets: Secrets
) -> None:
    service = world.server("auth.registry.example")
    evil = world.server("evil.test")
    evil.on("/token", give(), times=-1)
    service.on("/token", status(307, headers={"Location": "https://evil.test/token"}), times=-1)
    secrets.login(REGISTRY)
    protect(hub, "https://auth.registry.example/token")
    pull("app")
    assert evil.seen
    assert saw_secret(evil) == []


def test_a_ready_made_registry_token(hub: FaultyRegistry, pull: Puller, secrets: Secrets) -> None:
    secrets.docker({"auths": {REGISTRY: {"registrytoken": "good"}}})
    protect(hub, "https://auth.registry.example/token")
    pull("app")


# ---- redirects (E2) ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "port"),
    [("cdn.test", 443), ("cdn.registry.example", 443), (REGISTRY, 8443)],
    ids=["host", "subdomain", "port"],
)
@pytest.mark.parametrize("what", ["manifests", "blobs"])
def test_a_redirect_elsewhere_carries_no_authorization(
    world: World,
    hub: FaultyRegistry,
    pull: Puller,
    secrets: Secrets,
    target: str,
    port: int,
    what: str,
) -> None:
    cdn = world.server(target, port=port)
    cdn.blobs, cdn.manifests = hub.blobs, hub.manifests
    secrets.login(REGISTRY)

    def action(handler: Handler) -> None:
        if handler.headers.get("Authorization") != f"Basic {encoded('ann', CANARY)}":
            handler.reply(401, b"", BASIC)
        elif what in handler.path:
            location = f"https://{target}:{port}{handler.path}?X-Amz-Signature=presigned"
            handler.reply(307, b"", {"Location": location})
        else:
            handler.honest()

    hub.on("/v2/", action, times=-1)
    pull("app")
    assert cdn.seen
    assert [s for s in cdn.seen if "authorization" in s.headers] == []
    assert saw_secret(cdn) == []


def test_a_redirect_within_the_registry_keeps_the_authorization(
    hub: FaultyRegistry, pull: Puller, secrets: Secrets
) -> None:
    secrets.login(REGISTRY)

    def action(handler: Handler) -> None:
        if handler.headers.get("Authorization") != f"Basic {encoded('ann', CANARY)}":
            handler.reply(401, b"", BASIC)
        elif "blobs" in handler.path and "again" not in handler.path:
            handler.reply(307, b"", {"Location": handler.path + "?again"})
        else:
            handler.honest()

    hub.on("/v2/", action, times=-1)
    pull("app")


def test_a_storage_that_asks_for_credentials_gets_none(
    world: World, hub: FaultyRegistry, pull: Puller, secrets: Secrets
) -> None:
    """CVE-2020-15157"""
    evil = world.server("evil.test")
    evil.on("", status(401, headers=BASIC), times=-1)
    secrets.docker(
        {"auths": {n: {"auth": encoded("ann", CANARY)} for n in (REGISTRY, "evil.test")}}
    )
    hub.on("/blobs/", status(307, headers={"Location": "https://evil.test/x"}), times=-1)
    with pytest.raises(AuthError, match=r"evil\.test"):
        pull("app")
    assert saw_secret(evil) == []
    assert [s for s in evil.seen if "authorization" in s.headers] == []


@pytest.mark.parametrize(
    "location",
    [
        "http://registry.example/x",
        "http://cdn.test/x",
        "https://127.0.0.1/x",
        "https://127.9.9.9/x",
        "https://localhost/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/x",
        "https://[fe80::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://0.0.0.0/x",
    ],
)
def test_redirects_that_are_refused(
    world: World, hub: FaultyRegistry, pull: Puller, location: str
) -> None:
    """71"""
    hub.on("/v2/", status(302, headers={"Location": location}), times=-1)
    with pytest.raises(RegistryError, match="which is refused"):
        pull("app")
    assert set(world.connections) == {(REGISTRY, 443)}


def test_secrets_in_locations_are_not_printed(
    world: World, hub: FaultyRegistry, pull: Puller
) -> None:
    """E8"""
    world.server("cdn.test").on("", status(403, b"expired"), times=-1)
    location = "https://cdn.test/blob?X-Amz-Signature=c4n4ry"
    hub.on("/v2/", status(302, headers={"Location": location}), times=-1)
    with pytest.raises(AuthError) as caught:
        pull("app")
    assert "c4n4ry" not in f"{caught.value} {caught.value.hint}"


# ---- TLS (72, E5) --------------------------------------------------------------------------------


def test_a_server_without_tls_is_not_spoken_to_in_the_clear(
    world: World, store: ImageStore
) -> None:
    plain = world.server(REGISTRY, tls=False)
    world.server(REGISTRY, port=80, tls=False).add_image("app", [layer("a")])
    plain.add_image("app", [layer("a")])
    with pytest.raises(RegistryError) as caught:
        Puller(store, REGISTRY)("app")
    assert str(caught.value) == (
        'Get "https://registry.example/v2/": http: server gave HTTP response to HTTPS client'
    )
    assert [s for s in plain.seen if s.path.startswith("/v2")] == []
    assert set(world.connections) == {(REGISTRY, 443)}


@pytest.mark.parametrize("name", ["other.example", "registry.example.evil.test"])
def test_a_certificate_for_another_name(world: World, store: ImageStore, name: str) -> None:
    server = FaultyRegistry(world.authority.context(name))
    world._stack.callback(server.stop)
    world._places[REGISTRY, 443] = server.port
    with pytest.raises(RegistryError, match="certificate verification failed") as caught:
        Puller(store, REGISTRY)("app")
    assert "certs.d/registry.example/ca.crt" in (caught.value.hint or "")
    assert len(world.connections) == 1
    assert server.seen == []


def test_an_unknown_authority_and_its_certs_d(
    world: World,
    store: ImageStore,
    secrets: Secrets,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fastbox.registry import tls

    world.server(REGISTRY).add_image("app", [layer("a")])
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    monkeypatch.setattr(tls, "CERTS_D", (secrets.home + "/certs.d",))
    pull = Puller(store, REGISTRY)
    with pytest.raises(RegistryError, match="certificate verification failed"):
        pull("app")
    with open(world.authority.ca, "rb") as file:
        secrets.write(f"certs.d/{REGISTRY}/ca.crt", file.read())
    assert pull("app").status == "downloaded"


def test_old_tls_is_refused(world: World, store: ImageStore) -> None:
    import ssl

    context = world.authority.context(REGISTRY)
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = FaultyRegistry(context)
    world._stack.callback(server.stop)
    world._places[REGISTRY, 443] = server.port
    with pytest.raises(RegistryError, match="TLS"):
        Puller(store, REGISTRY)("app")
    assert server.seen == []


def test_a_loopback_registry_with_tls(
    authority: Any, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .server import running

    monkeypatch.setenv("SSL_CERT_FILE", authority.ca)
    with running(authority.context("IP:127.0.0.1")) as server:
        server.add_image("app", [layer("a")])
        assert Puller(store, server.host)("app").status == "downloaded"


def test_a_loopback_registry_with_a_bad_certificate_gets_no_plain_request(
    authority: Any, store: ImageStore
) -> None:
    from .server import running

    with running(authority.context("IP:127.0.0.1")) as server:
        with pytest.raises(RegistryError, match="certificate verification failed"):
            Puller(store, server.host)("app")
        assert server.seen == []


def test_a_password_over_plain_http_on_loopback(
    faulty: FaultyRegistry, puller: Puller, secrets: Secrets
) -> None:
    secrets.login(faulty.host)
    faulty.add_image("app", [layer("a")])
    basic(faulty)
    puller("app")


# ---- names (73) ----------------------------------------------------------------------------------


def test_an_unknown_host_is_final(world: World, store: ImageStore) -> None:
    with pytest.raises(RegistryError) as caught:
        Puller(store, "nowhere.example")("app")
    assert str(caught.value) == "cannot reach registry nowhere.example: no such host"
    assert len(world.connections) == 1


def test_dns_in_trouble_is_asked_again(
    world: World, hub: FaultyRegistry, pull: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    from fastbox.registry import transport

    failures = iter([1])

    def dial(*arguments: Any, **keywords: Any) -> Any:
        if next(failures, None):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return world.dial(*arguments, **keywords)

    monkeypatch.setattr(transport, "dial", dial)
    pull("app")


# ---- nothing leaks (E8) --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [status(403), status(500), cut_after(0), status(302)])
def test_no_error_tells_the_password(
    hub: FaultyRegistry,
    pull: Puller,
    secrets: Secrets,
    fault: Callable[[Handler], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    secrets.login(REGISTRY)

    def action(handler: Handler) -> None:
        (fault if "Authorization" in handler.headers else status(401, headers=BASIC))(handler)

    hub.on("/v2/", action, times=-1)
    with pytest.raises(RegistryError) as caught:
        pull("app")
    chain: BaseException | None = caught.value
    said = "".join(capfd.readouterr())
    while chain is not None:
        said += f"{chain!r} {getattr(chain, 'hint', '')}"
        chain = chain.__cause__ or chain.__context__
    assert CANARY not in said
    assert base64.b64encode(f"ann:{CANARY}".encode()).decode() not in said
