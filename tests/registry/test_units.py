"""The small parts: challenges, hosts, addresses, Retry-After, credentials, back-off, dialling."""

from __future__ import annotations

import email.utils
import os
import socket
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox.errors import AuthError, InvalidArgument, RegistryError
from fastbox.oci import reference as references
from fastbox.registry import credentials, dial, hosts
from fastbox.registry.challenge import choose, parse
from fastbox.registry.guard import Cancelled, Guard
from fastbox.registry.retry import Backoff, Policy, Transient, parse_retry_after, persist

from .conftest import Secrets, encoded

# ---- challenges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        (['Basic realm="x"'], [("basic", {"realm": "x"})]),
        (["Basic"], [("basic", {})]),
        (
            ['Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"'],
            [
                (
                    "bearer",
                    {"realm": "https://a/t", "service": "s", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        (
            ['Bearer realm="a", error=invalid_token , Basic realm="b"'],
            [("bearer", {"realm": "a", "error": "invalid_token"}), ("basic", {"realm": "b"})],
        ),
        (
            ['Basic realm="a"', 'Bearer realm = "b"'],
            [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})],
        ),
        (['BASIC Realm="q\\"uo\\\\te"'], [("basic", {"realm": 'q"uo\\te'})]),
        (['Negotiate, Basic realm="a"'], [("negotiate", {}), ("basic", {"realm": "a"})]),
        (['Bearer realm="first",realm="second"'], [("bearer", {"realm": "first"})]),
        (['Bearer realm="unterminated'], [("bearer", {})]),
    ],
)  # fmt: skip
def test_challenges(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(c.scheme, c.parameters) for c in parse(headers)] == expected


@given(st.lists(st.text(max_size=200), max_size=5))
def test_any_header_can_be_read(headers: list[str]) -> None:
    found = parse(headers)
    assert len(found) <= 16
    chosen = choose(found)
    assert chosen is None or chosen.scheme in ("bearer", "basic")


# ---- hosts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "urls"),
    [
        ("docker.io", ["https://registry-1.docker.io"]),
        ("ghcr.io", ["https://ghcr.io"]),
        ("example.com:5000", ["https://example.com:5000"]),
        ("localhost", ["https://localhost", "http://localhost"]),
        ("127.0.0.1:5000", ["https://127.0.0.1:5000", "http://127.0.0.1:5000"]),
        ("127.9.8.7", ["https://127.9.8.7", "http://127.9.8.7"]),
        ("[::1]:5000", ["https://[::1]:5000", "http://[::1]:5000"]),
        ("localhost.evil.test", ["https://localhost.evil.test"]),
        ("127.0.0.1.evil.test", ["https://127.0.0.1.evil.test"]),
        ("10.0.0.1:5000", ["https://10.0.0.1:5000"]),
        ("0.0.0.0:5000", ["https://0.0.0.0:5000"]),
    ],
)
def test_where_plain_http_may_be_spoken(domain: str, urls: list[str]) -> None:
    assert hosts.base_urls(domain) == urls


@pytest.mark.parametrize("domain", ["localhost:99999", "[1:2:3:4:5:6:7:8:9]:5000", "[abc]:5"])
def test_domains_of_references_that_are_no_hosts(domain: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot reach registry"):
        hosts.base_urls(references.parse(f"{domain}/x").domain)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("10.1.2.3", True), ("192.168.1.1", True), ("172.16.0.1", True),
        ("127.0.0.1", False), ("127.255.1.1", False), ("0.0.0.0", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False), ("255.255.255.255", False),
        ("2001:db8::1", True), ("fd00::1", True), ("fec0::1", True),
        ("::1", False), ("::", False), ("fe80::1", False), ("febf::1", False), ("ff02::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:169.254.169.254", False), ("::ffff:10.0.0.1", True),
        ("64:ff9b::7f00:1", False), ("64:ff9b::a9fe:a9fe", False), ("64:ff9b::808:808", True),
        ("fe80::1%eth0", False), ("nonsense", False), ("", False),
    ],
)  # fmt: skip
def test_addresses_that_a_registry_may_name(address: str, public: bool) -> None:
    assert hosts.is_public_enough(address) is public


@pytest.mark.parametrize(
    ("registry", "realm", "same"),
    [
        ("ghcr.io", "ghcr.io", True),
        ("registry-1.docker.io", "auth.docker.io", True),
        ("registry.gitlab.com", "gitlab.com", True),
        ("registry.gitlab.example.com", "gitlab.example.com", True),
        ("registry.example.com", "login.example.com", True),
        ("example.com", "auth.example.com", True),
        ("registry.cn-hangzhou.aliyuncs.com", "dockerauth.cn-hangzhou.aliyuncs.com", True),
        ("registry.example.co.uk", "auth.example.co.uk", True),
        ("registry.co.uk", "auth.registry.co.uk", True),
        ("registry.co.uk", "evil.co.uk", False),
        ("ghcr.io", "evil.io", False),
        ("quay.io", "evil-quay.io", False),
        ("registry.example.com", "evilexample.com", False),
        ("registry.example.com", "example.com.evil.test", False),
        ("registry.example.com", "com", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("localhost", "evil.test", False),
        ("localhost", "x.localhost", False),
    ],
)
def test_families_of_hosts(registry: str, realm: str, same: bool) -> None:
    assert hosts.same_family(registry, realm) is same


@given(st.text(max_size=100))
def test_any_location_is_accepted_or_refused(location: str) -> None:
    registry = hosts.origin("https://registry.example")
    try:
        url = hosts.redirect("https://registry.example/v2/a/blobs/x", location, registry)
    except RegistryError as error:
        assert str(error).isprintable()
    else:
        _, origin = hosts.split(url)
        assert origin.scheme == "https"
        assert origin.host not in ("localhost", "127.0.0.1", "::1")


def test_secrets_are_cut_out_of_urls() -> None:
    text = hosts.redact("https://user:word@host.test:1/path?token=abc#frag")
    assert text == "https://host.test:1/path"


# ---- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("3", 3.0), (" 3 ", 3.0), ("0", 0.0), ("1000000000", 1e9), ("-1", None),
        ("abc", None), ("3.5", None), ("", None), ("٣", None), ("9" * 1000, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None), ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after(value: str | None, seconds: float | None) -> None:
    """65"""
    assert parse_retry_after(value) == seconds


def test_retry_after_a_date() -> None:
    soon = email.utils.formatdate(time.time() + 100, usegmt=True)
    seconds = parse_retry_after(soon)
    assert seconds is not None
    assert 0 < seconds <= 101


def failure(**options: Any) -> Transient:
    return Transient(RegistryError("no"), **options)


def delays(policy: Policy, *failures: Transient) -> list[float]:
    backoff = Backoff(policy)
    return [backoff.delay(f) for f in failures]


def test_the_waits_double_with_some_jitter() -> None:
    found = delays(Policy(), *[failure()] * 4)
    for expected, seconds in zip((1, 2, 4, 8), found, strict=True):
        assert expected <= seconds <= expected * 1.1


def test_the_fifth_failure_is_the_last() -> None:
    backoff = Backoff(Policy())
    for _ in range(4):
        backoff.delay(failure())
    with pytest.raises(RegistryError, match="no"):
        backoff.delay(failure())


def test_waits_are_capped_one_by_one_and_in_sum() -> None:
    found = delays(Policy(attempts=100), *[failure(retry_after=1e9)] * 5)
    assert found == [60.0] * 5
    backoff = Backoff(Policy(attempts=100))
    with pytest.raises(RegistryError):
        for _ in range(6):
            backoff.delay(failure(retry_after=1e9))


def test_busy_registries_get_longer_waits() -> None:
    (seconds,) = delays(Policy(), failure(busy=True))
    assert 2 <= seconds <= 2.2


def test_waiting_ends_at_once_when_cancelled() -> None:
    """Ctrl-C during a Retry-After of a minute."""
    guard = Guard()
    seen: list[int] = []

    def notify(seconds: int) -> None:
        seen.append(seconds)
        guard.cancel()

    def fail() -> None:
        raise failure(retry_after=60)

    with pytest.raises(Cancelled):
        persist(fail, guard, Policy(), notify)
    assert seen == [60]


# ---- credential files ----------------------------------------------------------------------------


def found(domain: str, path: str = "app") -> tuple[str, str] | None:
    result = credentials.find(domain, path)
    return None if result is None else (result.username, result.password)


@pytest.mark.parametrize(
    ("key", "domain", "fits"),
    [
        ("https://index.docker.io/v1/", "docker.io", True),
        ("docker.io", "docker.io", True),
        ("index.docker.io", "docker.io", True),
        ("registry-1.docker.io", "docker.io", True),
        ("https://index.docker.io/v1/", "quay.io", False),
        ("quay.io", "docker.io", False),
        ("quay.io", "quay.io", True),
        ("https://quay.io", "quay.io", True),
        ("https://quay.io/v2/", "quay.io", True),
        ("http://localhost:5000", "localhost:5000", True),
        ("localhost:5000", "localhost:5001", False),
        ("localhost:5000", "localhost", False),
        ("Registry.Example", "registry.example", True),
        ("example", "registry.example", False),
        ("registry.example.evil.test", "registry.example", False),
        ("quay.io/team", "quay.io", True),
        ("quay.io/team/app", "quay.io", True),
        ("quay.io/tea", "quay.io", False),
        ("quay.io/other", "quay.io", False),
        ("docker.io/team", "docker.io", True),
        ("", "quay.io", False),
        ("https://", "quay.io", False),
    ],
)
def test_credentials_are_for_one_host(secrets: Secrets, key: str, domain: str, fits: bool) -> None:
    secrets.login(key)
    assert found(domain, "team/app") == (("ann", "s3cret") if fits else None)


def test_the_longest_path_wins(secrets: Secrets) -> None:
    keys = {"quay.io": "a", "quay.io/team": "b", "quay.io/team/app": "c"}
    secrets.docker({"auths": {k: {"auth": encoded(u, "p")} for k, u in keys.items()}})
    assert found("quay.io", "team/app") == ("c", "p")
    assert found("quay.io", "team/other") == ("b", "p")
    assert found("quay.io", "teams/other") == ("a", "p")


def test_a_password_may_hold_colons_and_more(secrets: Secrets) -> None:
    secrets.login("quay.io", "ann", "a:b:ü \"'")
    assert found("quay.io") == ("ann", "a:b:ü \"'")


def test_plain_user_and_password(secrets: Secrets) -> None:
    secrets.docker({"auths": {"quay.io": {"username": "ann", "password": "p"}}})
    assert found("quay.io") == ("ann", "p")


@pytest.mark.parametrize(
    "content",
    [
        b"{", b"[]", b'{"auths": []}', b'{"auths": {"quay.io": "x"}}',
        b'{"auths": {"quay.io": {"auth": 5}}}', b'{"credsStore": {}}', b"\xff", b"[" * 100_000,
        b'{"auths": {"quay.io": {"auth": "%%%"}}}',
        b'{"auths": {"quay.io": {"auth": "bm9jb2xvbg=="}}}',
    ],
)  # fmt: skip
def test_malformed_files_are_an_error_that_names_them(secrets: Secrets, content: bytes) -> None:
    path = secrets.docker(content)
    with pytest.raises(InvalidArgument) as caught:
        found("quay.io")
    assert path in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"  \n", b"{}", b'{"auths": null, "x": 1}'])
def test_empty_files_hold_nothing(secrets: Secrets, content: bytes) -> None:
    secrets.docker(content)
    assert found("quay.io") is None


def test_no_files_at_all() -> None:
    assert found("quay.io") is None


def test_the_places_of_docker_and_podman(
    secrets: Secrets, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    def entry(user: str) -> dict[str, Any]:
        return {"auths": {"quay.io": {"auth": encoded(user, "p")}}}

    secrets.write(".config/containers/auth.json", entry("config"))
    assert found("quay.io") == ("config", "p")
    runtime = os.path.join(base, "runtime", "containers")
    os.makedirs(runtime)
    secrets.write(os.path.join(runtime, "auth.json"), entry("runtime"))
    assert found("quay.io") == ("runtime", "p")
    secrets.docker(entry("docker"))
    assert found("quay.io") == ("docker", "p")
    secrets.write("elsewhere/config.json", entry("elsewhere"))
    monkeypatch.setenv("DOCKER_CONFIG", os.path.join(secrets.home, "elsewhere"))
    assert found("quay.io") == ("elsewhere", "p")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", secrets.write("explicit.json", entry("explicit")))
    assert found("quay.io") == ("explicit", "p")


def test_a_directory_in_the_place_of_the_file(secrets: Secrets) -> None:
    os.makedirs(os.path.join(secrets.home, ".docker", "config.json"))
    with pytest.raises(InvalidArgument, match="directory"):
        found("quay.io")


# ---- helpers -------------------------------------------------------------------------------------


def test_a_helper_is_asked(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "quay.io": {"Username": "ann", "Secret": "from-helper"},
        hosts.DOCKER_HUB_KEY: {"Username": "<token>", "Secret": "refresh"},
    }
    secrets.helper("test", answers, monkeypatch)
    secrets.docker({"credsStore": "test"})
    assert found("quay.io") == ("ann", "from-helper")
    hub = credentials.find("docker.io", "library/redis")
    assert hub is not None
    assert (hub.username, hub.identity_token) == ("", "refresh")
    assert found("ghcr.io") is None


def test_a_helper_for_one_registry(secrets: Secrets, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets.helper("one", {"quay.io": {"Username": "one", "Secret": "1"}}, monkeypatch)
    secrets.helper("all", {"ghcr.io": {"Username": "all", "Secret": "2"}}, monkeypatch)
    secrets.docker(
        {
            "credHelpers": {"quay.io": "one", "gcr.io": ""},
            "credsStore": "all",
            "auths": {"gcr.io": {"auth": encoded("file", "3")}},
        }
    )
    assert found("quay.io") == ("one", "1")
    assert found("ghcr.io") == ("all", "2")
    assert found("gcr.io") == ("file", "3")


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "a;b", "x\0y", "ü", "/bin/sh"])
def test_helper_names_are_no_paths(secrets: Secrets, name: str) -> None:
    secrets.docker({"credsStore": name})
    with pytest.raises(AuthError, match="invalid credential helper name"):
        found("quay.io")


def test_a_missing_helper_says_so_and_nothing_else_is_tried(secrets: Secrets) -> None:
    """CVE-2021-41092"""
    secrets.docker(
        {"credsStore": "absent", "auths": {"quay.io": {"auth": encoded("ann", "s3cret")}}}
    )
    with pytest.raises(AuthError, match="docker-credential-absent is not installed"):
        found("docker.io")


@pytest.mark.parametrize("body", ["echo nonsense", "echo '{}'", "exit 7", "echo '[]'"])
def test_helpers_that_fail(secrets: Secrets, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    path = secrets.write("bin/docker-credential-bad", f"#!/bin/sh\n{body}\n".encode())
    os.chmod(path, 0o755)
    monkeypatch.setenv("PATH", os.path.dirname(path) + os.pathsep + os.environ["PATH"])
    secrets.docker({"credsStore": "bad"})
    with pytest.raises(AuthError, match=r"cannot get credentials for quay\.io"):
        found("quay.io")


def test_credentials_do_not_show_in_their_repr() -> None:
    text = repr(credentials.Credentials("ann", "s3cret", "refresh", "bearer", "file"))
    assert not [secret for secret in ("s3cret", "refresh", "bearer") if secret in text]


# ---- dialling ------------------------------------------------------------------------------------


def no_check() -> None:
    pass


def test_a_dead_address_does_not_delay_a_live_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """73: 192.0.2.1 answers nobody (or is unreachable); the second address is tried beside it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        addresses = [(socket.AF_INET, ("192.0.2.1", port)), (socket.AF_INET, ("127.0.0.1", port))]
        monkeypatch.setattr(dial, "resolve", lambda *_: addresses)
        with dial.dial("two.example", port, timeout=30, check=no_check) as sock:
            assert sock.getpeername() == ("127.0.0.1", port)


def test_families_take_turns() -> None:
    six = [(socket.AF_INET6, (f"2001:db8::{n}", 1, 0, 0)) for n in range(3)]
    four = [(socket.AF_INET, (f"192.0.2.{n}", 1)) for n in range(1)]
    assert dial._interleave([*six, *four]) == [six[0], four[0], six[1], six[2]]


def test_addresses_that_are_not_allowed_are_not_dialled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(dial.Forbidden):
            dial.dial("localhost", port, timeout=5, check=no_check, allowed=hosts.is_public_enough)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_last_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        dial.dial("127.0.0.1", port, timeout=5, check=no_check)


def test_a_connection_attempt_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full leaves us waiting."""
    guard = Guard()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            calls: list[int] = []

            def check() -> None:
                calls.append(1)
                if len(calls) > 2:
                    guard.cancel()
                guard.check()

            with pytest.raises(Cancelled):
                dial.dial(*address, timeout=60, check=check)
        finally:
            for filler in fillers:
                filler.close()


def test_a_resolver_that_hangs_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    guard = Guard()

    def hang(*_: object) -> list[Any]:
        guard.cancel()
        release.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with pytest.raises(Cancelled):
            dial.resolve("slow.example", 443, guard.check)
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "fastbox-resolve":
                thread.join()
