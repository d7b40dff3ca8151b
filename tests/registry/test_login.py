"""login and logout: what is asked of registries, and what becomes of credential files."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fastbox.errors import AuthError, FastboxError, InvalidArgument, NotFound, RegistryError
from fastbox.registry import credentials
from fastbox.registry.credentials import Credentials
from fastbox.registry.keeping import forget, keep
from fastbox.registry.login import domain_of, login, logout
from tests.support.registry import Registry

from .conftest import QUICK, Secrets, encoded
from .server import FaultyRegistry, Handler, error_body, status
from .world import World

HOST = "registry.example"
ANN = Credentials("ann", "s3cret")


@pytest.fixture
def config(clean_environment: str) -> str:
    """Path of the file that logins are written to."""
    return os.path.join(clean_environment, ".docker", "config.json")


def read(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return content


# ---- the file ------------------------------------------------------------------------------------


def test_the_first_login(config: str) -> None:
    kept = keep(HOST, ANN)
    assert (kept.place, kept.plain) == (config, True)
    with open(config) as file:
        text = file.read()
    auth = encoded("ann", "s3cret")
    assert text == f'{{\n\t"auths": {{\n\t\t"{HOST}": {{\n\t\t\t"auth": "{auth}"\n\t\t}}\n\t}}\n}}'
    assert stat.S_IMODE(os.stat(config).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(config)).st_mode) == 0o700
    assert os.listdir(os.path.dirname(config)) == ["config.json"]
    assert credentials.find(HOST) == Credentials("ann", "s3cret", source=config)


def test_everything_else_stays(config: str, secrets: Secrets) -> None:
    before = {
        "zeta": {"b": [1, 2.5, None], "a": "ü"},
        "auths": {"other.example": {"auth": "eDp5", "email": "x"}, HOST: {"auth": "eDp5"}},
        "HttpHeaders": {"X": "y"},
        "big": 123456789012345678901234567890,
        "alpha": True,
    }
    secrets.docker(before)
    os.chmod(config, 0o644)
    keep(HOST, ANN)
    after = read(config)
    before["auths"][HOST] = {"auth": encoded("ann", "s3cret")}  # type: ignore[index]
    assert after == before
    assert list(after) == list(before)
    assert stat.S_IMODE(os.stat(config).st_mode) == 0o600
    assert forget(HOST).found
    del before["auths"][HOST]  # type: ignore[attr-defined]
    assert read(config) == before


def test_a_link_stays_one(config: str, clean_environment: str) -> None:
    target = os.path.join(clean_environment, "dotfiles", "docker.json")
    os.makedirs(os.path.dirname(config))
    os.symlink("../dotfiles/docker.json", config)
    keep(HOST, ANN)
    assert os.readlink(config) == "../dotfiles/docker.json"
    assert HOST in read(target)["auths"]


def test_docker_config_and_podmans_file(
    monkeypatch: pytest.MonkeyPatch, clean_environment: str
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", os.path.join(clean_environment, "elsewhere"))
    place = os.path.join(clean_environment, "elsewhere", "config.json")
    assert keep(HOST, ANN).place == place
    # What podman's variable names comes first when pulling, so it does here.
    file = os.path.join(clean_environment, "auth.json")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", file)
    assert keep(HOST, Credentials("bob", "x")).place == file
    done = forget(HOST)
    assert (done.found, done.elsewhere) == (True, place)


def test_other_spellings_of_the_registry_are_replaced(config: str, secrets: Secrets) -> None:
    old = {"auth": encoded("old", "old")}
    keys = [f"https://{HOST}/v1/", f"http://{HOST}", HOST.upper(), f"{HOST}/team"]
    secrets.docker({"auths": dict.fromkeys(keys, old)})
    keep(HOST, ANN)
    assert list(read(config)["auths"]) == [f"{HOST}/team", HOST]
    keep("docker.io", ANN)
    assert "https://index.docker.io/v1/" in read(config)["auths"]
    assert forget("docker.io").found
    assert not forget("docker.io").found


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"auths": []}', b"\xff", b"[" * 100_000])
def test_a_malformed_file_is_left_alone(config: str, secrets: Secrets, content: bytes) -> None:
    secrets.docker(content)
    for act in (lambda: keep(HOST, ANN), lambda: forget(HOST)):
        with pytest.raises(InvalidArgument, match=r"credential file .* is malformed"):
            act()
    with open(config, "rb") as file:
        assert file.read() == content


def test_an_empty_file_and_null(config: str, secrets: Secrets) -> None:
    for content in (b"", b"\n", b'{"auths": null}'):
        secrets.docker(content)
        keep(HOST, ANN)
        assert list(read(config)["auths"]) == [HOST]


def test_a_place_that_cannot_be_written(clean_environment: str) -> None:
    with open(os.path.join(clean_environment, ".docker"), "w"):
        pass
    with pytest.raises(FastboxError, match=r"cannot write the credentials in .*: "):
        keep(HOST, ANN)


def test_logins_at_the_same_time(config: str) -> None:
    hosts = [f"r{n}.example" for n in range(16)]
    threads = [threading.Thread(target=keep, args=(host, ANN)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read(config)["auths"]) == sorted(hosts)


# ---- helpers -------------------------------------------------------------------------------------

HELPER = """#!{python} -S
import json, os, sys
place = os.environ["HELPER_STATE"]
data = sys.stdin.read()
with open(place + ".calls", "a") as file:
    file.write(json.dumps([sys.argv[1:], data, dict(os.environ)]) + "\\n")
with open(place) as file:
    state = json.load(file)
verb = sys.argv[1]
if verb == "store":
    entry = json.loads(data)
    state[entry["ServerURL"]] = entry
elif data not in state:
    print("credentials not found in native keychain")
    sys.exit(1)
elif verb == "erase":
    del state[data]
else:
    print(json.dumps(state[data]))
with open(place, "w") as file:
    json.dump(state, file)
"""


@pytest.fixture
def helper(clean_environment: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A credential helper ``keys`` that works; path of the file with what it keeps."""
    directory = os.path.join(clean_environment, "bin")
    os.makedirs(directory)
    program = os.path.join(directory, "docker-credential-keys")
    with open(program, "w") as file:
        file.write(HELPER.format(python=sys.executable))
    os.chmod(program, 0o755)
    state = os.path.join(clean_environment, "state")
    with open(state, "w") as file:
        file.write("{}")
    monkeypatch.setenv("PATH", directory + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("HELPER_STATE", state)
    return state


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_helper(config: str, secrets: Secrets, helper: str, key: str) -> None:
    secrets.docker({key: "keys" if key == "credsStore" else {HOST: "keys"}})
    kept = keep(HOST, ANN)
    assert (kept.place, kept.plain) == ("docker-credential-keys", False)
    assert read(config)["auths"] == {HOST: {}}
    found = credentials.find(HOST)
    assert found is not None
    assert (found.username, found.password) == ("ann", "s3cret")
    done = forget(HOST)
    assert (done.found, done.problems, done.elsewhere) == (True, [], "")
    assert read(config)["auths"] == {}
    assert read(helper) == {}
    with open(helper + ".calls") as file:
        calls = [json.loads(line) for line in file]
    assert [call[0] for call in calls[:2]] == [["store"], ["get"]]
    for arguments, _, environment in calls:
        assert "s3cret" not in f"{arguments} {environment}"


def test_an_identity_token_in_a_helper(config: str, secrets: Secrets, helper: str) -> None:
    secrets.docker({"credsStore": "keys"})
    keep(HOST, Credentials("ann", "", "t0ken"))
    assert read(helper)[HOST] == {"ServerURL": HOST, "Username": "<token>", "Secret": "t0ken"}
    found = credentials.find(HOST)
    assert found is not None
    assert found.identity_token == "t0ken"


def test_a_helper_that_is_missing_or_fails(config: str, secrets: Secrets) -> None:
    secrets.docker({"credsStore": "absent", "auths": {HOST: {}}})
    with pytest.raises(AuthError, match=r"cannot store credentials .* is not installed") as caught:
        keep(HOST, ANN)
    assert "s3cret" not in str(caught.value)
    done = forget(HOST)
    assert "docker-credential-absent is not installed" in done.problems[0]
    assert read(config)["auths"] == {}


# ---- at the registry -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "domain"),
    [
        (None, "docker.io"), ("", "docker.io"), ("docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "docker.io"), ("registry-1.docker.io", "docker.io"),
        ("quay.io", "quay.io"), ("https://Quay.io:443/v2/x", "quay.io:443"),
        ("http://localhost:5000/", "localhost:5000"), ("[::1]:5000", "[::1]:5000"),
        ("myhost", "myhost"),
    ],
)  # fmt: skip
def test_what_a_server_is_called(server: str | None, domain: str) -> None:
    assert domain_of(server) == domain


@pytest.mark.parametrize("server", ["a b", "host:port", "u:p@host", "\n", "http://", "host:99999"])
def test_what_is_no_server(server: str) -> None:
    with pytest.raises(InvalidArgument, match="is no registry's address"):
        domain_of(server)


def basic(server: FaultyRegistry) -> None:
    """Basic authentication of ``/v2/``; ann may."""

    def action(handler: Handler) -> None:
        if handler.headers.get("Authorization") == f"Basic {encoded('ann', 's3cret')}":
            handler.reply(200, b"{}")
        else:
            body = error_body("UNAUTHORIZED", "authentication required")
            handler.reply(401, body, {"WWW-Authenticate": "Basic realm=x"})

    server.on("/v2/$", action, -1)


@pytest.fixture
def hub(world: World) -> FaultyRegistry:
    return world.server(HOST)


def test_basic(hub: FaultyRegistry, config: str) -> None:
    basic(hub)
    done = login(HOST, "ann", "s3cret", policy=QUICK)
    assert (done.server, done.username, done.place, done.plain) == (HOST, "ann", config, True)
    again = login(HOST, policy=QUICK)
    assert (again.username, again.plain) == ("ann", False)
    assert logout(HOST).found
    with pytest.raises(NotFound):
        login(HOST, policy=QUICK)


def test_a_wrong_password_is_not_kept(hub: FaultyRegistry, config: str) -> None:
    basic(hub)
    with pytest.raises(AuthError) as caught:
        login(HOST, "ann", "canary", policy=QUICK)
    assert str(caught.value) == (f'Get "https://{HOST}/v2/": unauthorized: authentication required')
    assert not os.path.exists(config)


@pytest.mark.parametrize(
    ("user", "password"),
    [("", "x"), ("x", ""), ("a:b", "x"), ("a\udcff", "x"), ("x", "\udcff")],
    ids=["user", "password", "colon", "user-bytes", "password-bytes"],
)
def test_credentials_that_cannot_be(hub: FaultyRegistry, user: str, password: str) -> None:
    with pytest.raises(InvalidArgument):
        login(HOST, user, password, policy=QUICK)
    assert hub.seen == []


class Service:
    """A token service at the registry's side, which knows ann."""

    def __init__(self, hub: FaultyRegistry, service: FaultyRegistry, host: str) -> None:
        self.refresh = ""
        self.queries: list[dict[str, list[str]]] = []
        hub.on("/v2/$", self.guard, -1)
        service.on("/token", self.give, -1)
        self.realm = f"https://{host}/token"

    def guard(self, handler: Handler) -> None:
        if handler.headers.get("Authorization") == "Bearer good":
            handler.reply(200, b"{}")
        else:
            challenge = f'Bearer realm="{self.realm}",service="s"'
            handler.reply(401, b"{}", {"WWW-Authenticate": challenge})

    def give(self, handler: Handler) -> None:
        self.queries.append(parse_qs(urlsplit(handler.path).query))
        if handler.headers.get("Authorization") != f"Basic {encoded('ann', 's3cret')}":
            handler.reply(401, b'{"details":"incorrect username or password"}')
            return
        answer = {"token": "good", **({"refresh_token": self.refresh} if self.refresh else {})}
        handler.reply(200, json.dumps(answer).encode())


def test_a_token_service(world: World, hub: FaultyRegistry, config: str) -> None:
    service = Service(hub, world.server("auth.registry.example"), "auth.registry.example")
    login(HOST, "ann", "s3cret", policy=QUICK)
    assert service.queries == [
        {"service": ["s"], "account": ["ann"], "client_id": ["fastbox"], "offline_token": ["true"]}
    ]
    assert read(config)["auths"][HOST] == {"auth": encoded("ann", "s3cret")}
    with pytest.raises(AuthError) as caught:
        login(HOST, "ann", "canary", policy=QUICK)
    assert str(caught.value) == (
        f'Get "https://{HOST}/v2/": unauthorized: incorrect username or password'
    )


def test_an_identity_token_instead_of_the_password(
    world: World, hub: FaultyRegistry, config: str
) -> None:
    service = Service(hub, world.server("auth.registry.example"), "auth.registry.example")
    service.refresh = "r3fresh"
    login(HOST, "ann", "s3cret", policy=QUICK)
    assert read(config)["auths"][HOST] == {
        "auth": encoded("ann", ""), "identitytoken": "r3fresh",
    }  # fmt: skip
    found = credentials.find(HOST)
    assert found is not None
    assert found.identity_token == "r3fresh"


def test_a_stranger_does_not_get_the_password(world: World, hub: FaultyRegistry) -> None:
    stranger = world.server("evil.test")
    Service(hub, stranger, "evil.test")
    with pytest.raises(AuthError, match="a stranger that does not get the password"):
        login(HOST, "ann", "s3cret", policy=QUICK)
    assert stranger.seen == []


def test_a_registry_that_asks_for_nothing(hub: FaultyRegistry, config: str) -> None:
    hub.on("/v2/$", status(200), -1)
    login(HOST, "ann", "s3cret", policy=QUICK)
    assert HOST in read(config)["auths"]
    assert "authorization" not in hub.seen[0].headers


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(404, b"<html>"), "HTTP status 404"),
        (status(500), "500"),
        (status(401), "incorrect username or password"),
        (status(200, b" <html>", {"Content-Type": "text/html"}), "answers with a web page"),
    ],
)
def test_what_is_no_registry(
    hub: FaultyRegistry, config: str, answer: Callable[[Handler], None], why: str
) -> None:
    hub.on("/v2/$", answer, -1)
    with pytest.raises(RegistryError, match=why):
        login(HOST, "ann", "s3cret", policy=QUICK)
    assert not os.path.exists(config)


def test_no_tls_no_login(world: World) -> None:
    plain = world.server(HOST, tls=False)
    with pytest.raises(RegistryError, match="http: server gave HTTP response to HTTPS client"):
        login(HOST, "ann", "s3cret", policy=QUICK)
    assert plain.seen == [] or "s3cret" not in str(plain.seen)


def test_plain_http_on_loopback(auth_registry: Registry, config: str) -> None:
    assert auth_registry.auth is not None
    login(auth_registry.host, *auth_registry.auth, policy=QUICK)
    assert list(read(config)["auths"]) == [auth_registry.host]
