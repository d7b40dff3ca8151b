"""Pushes to a registry that cuts, lies, stalls, throttles and forgets."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from fastbox.errors import (
    AuthError,
    DigestMismatch,
    FastboxError,
    ImageError,
    InvalidArgument,
    NotFound,
    RegistryError,
    StoreError,
)
from fastbox.image.progress import ProgressEvent
from fastbox.image.pull import pull
from fastbox.image.push import push
from fastbox.image.store import ImageStore
from fastbox.image.types import PushResult
from fastbox.oci import image as oci
from fastbox.registry import upload
from fastbox.registry.guard import Cancelled, Guard
from fastbox.registry.retry import Policy
from tests.image.build import blob, put
from tests.support.registry import digest_of
from tests.support.wait import wait_for

from .conftest import QUICK, Secrets
from .server import Handler, endless, error_body, status
from .uploads import UploadRegistry, cut_upload, lost_reply, running
from .world import World

SMALL = os.urandom(3000)
LARGE = os.urandom(300_000)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as large, without large files."""
    monkeypatch.setattr(upload, "MONOLITHIC", 10_000)
    monkeypatch.setattr(upload, "PIECE", 100_000)


@pytest.fixture
def server() -> Iterator[UploadRegistry]:
    with running() as registry:
        yield registry


class Pusher:
    """Pushes out of the store, quickly; keeps the progress events."""

    def __init__(self, store: ImageStore, host: str) -> None:
        self.store = store
        self.host = host
        self.events: list[ProgressEvent] = []

    def image(self, name: str, *layers: bytes) -> None:
        """An image of these layers, with the name at the registry."""
        put(self.store, f"{self.host}/{name}", list(layers))

    def __call__(self, name: str, *, policy: Policy = QUICK, **options: Any) -> list[PushResult]:
        reference = f"{self.host}/{name}"
        progress = self.events.append
        return push(self.store, reference, progress=progress, policy=policy, **options)

    def statuses(self, data: bytes) -> list[str]:
        """The statuses of a layer, each change once."""
        found: list[str] = []
        for event in self.events:
            if event.id == digest_of(data)[7:19] and found[-1:] != [event.status]:
                found.append(event.status)
        return found


@pytest.fixture
def pusher(store: ImageStore, server: UploadRegistry) -> Pusher:
    return Pusher(store, server.host)


def test_small_and_large_layers(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL, LARGE, b"")
    (result,) = pusher("app:1")
    assert server.has("app", SMALL, LARGE, b"")
    data, media_type = server.manifests["app:1"]
    assert (result.digest, result.size) == (digest_of(data), len(data))
    assert (result.name, media_type) == (f"{server.host}/app:1", oci.OCI_MANIFEST)
    # The small ones in two requests, the large one in three.
    assert len(server.requests("POST")) == 4
    assert len(server.requests("PATCH")) == 1
    assert pusher.statuses(LARGE) == ["Preparing", "Pushing", "Pushed"]
    assert pusher.events[-1].status == f"1: digest: {result.digest} size: {result.size}"
    assert server.uploads == {}


def test_what_is_there_is_skipped(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL, LARGE)
    server.give("app", LARGE)
    pusher("app:1")
    assert pusher.statuses(LARGE) == ["Preparing", "Layer already exists"]
    assert pusher.statuses(SMALL)[-1] == "Pushed"
    pusher.image("app:2", SMALL, LARGE)
    pusher("app", all_tags=True)
    assert server.requests("PATCH") == []
    assert {"app:1", "app:2"} <= set(server.manifests)


def test_a_later_pull_finds_it_up_to_date(
    pusher: Pusher, server: UploadRegistry, store: ImageStore
) -> None:
    tarred = b"\0" * 1024
    pusher.image("app:1", tarred)
    store.ensure_layers(store.resolve(f"{server.host}/app:1"))
    (result,) = pusher("app:1")
    assert store.resolve(f"{server.host}/app:1").repo_digests == [
        f"{server.host}/app@{result.digest}"
    ]
    assert pull(store, f"{server.host}/app:1", policy=QUICK).status == "up-to-date"
    assert server.requests("GET .*/(blobs|manifests)/") == []


def test_mounted_from_another_repository(
    pusher: Pusher, server: UploadRegistry, store: ImageStore
) -> None:
    pusher.image("base:1", SMALL, LARGE)
    pusher("base:1")
    pusher.image("app:1", SMALL, LARGE)
    before = len(server.requests("PATCH|PUT .*uploads"))
    pusher.events.clear()
    pusher("app:1")
    assert len(server.requests("PATCH|PUT .*uploads")) == before
    assert pusher.statuses(LARGE) == ["Preparing", "Mounted from base"]
    # A registry that does not do that gets the bytes.
    server.grants = False
    pusher.image("other:1", SMALL, LARGE)
    pusher("other:1")
    assert server.has("other", SMALL, LARGE)
    assert server.uploads == {}


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_mount_that_is_refused(pusher: Pusher, server: UploadRegistry, code: int) -> None:
    pusher.image("base:1", SMALL)
    pusher("base:1")
    pusher.image("app:1", SMALL)
    server.on("POST .*mount=", status(code), -1)
    pusher("app:1")
    assert server.has("app", SMALL)


# ---- broken connections --------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_a_cut_upload_goes_on_where_it_broke(
    pusher: Pusher, server: UploadRegistry, after: int
) -> None:
    pusher.image("app:1", LARGE)
    server.on("PATCH", cut_upload(server, after), early=True)
    pusher("app:1")
    assert server.has("app", LARGE)
    second = server.requests("PATCH")[1]
    if after > 1:  # one byte cannot be told from none
        assert second.headers["content-range"] == f"{after}-{len(LARGE) - 1}"
        assert second.headers["content-length"] == str(len(LARGE) - after)
    assert "Retrying in 1 second" in pusher.statuses(LARGE)


def test_a_small_upload_that_is_cut(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL)
    server.on("PUT .*uploads", cut_upload(server, 1000), 2, early=True)
    pusher("app:1")
    assert server.has("app", SMALL)


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_a_lost_reply_to_the_last_request(
    pusher: Pusher, server: UploadRegistry, data: bytes
) -> None:
    pusher.image("app:1", data)
    server.on("PUT .*" + digest_of(data), lost_reply)
    pusher("app:1")
    # What the registry has counts, and it is not sent again.
    assert len(server.requests("PUT .*uploads.*" + digest_of(data))) == 1
    assert len(server.requests("HEAD .*" + digest_of(data))) == 2


@pytest.mark.parametrize("pattern", ["POST", "PATCH", "PUT .*manifests", "HEAD", "GET /v2/$"])
def test_a_lost_reply_to_others(pusher: Pusher, server: UploadRegistry, pattern: str) -> None:
    pusher.image("app:1", LARGE)
    server.on(pattern, lost_reply)
    pusher("app:1")
    assert server.has("app", LARGE)
    assert "app:1" in server.manifests


def test_a_lost_reply_and_a_busy_registry(pusher: Pusher, server: UploadRegistry) -> None:
    """It is asked again for the blob, and not sent it again."""
    pusher.image("app:1", LARGE)
    head = "HEAD .*" + digest_of(LARGE)
    server.on(r"PUT .*uploads.*" + digest_of(LARGE), lost_reply)
    server.on(head, Handler.honest)
    server.on(head, status(503))
    pusher("app:1")
    assert server.has("app", LARGE)
    assert len(server.requests("PATCH")) == 1


def test_a_session_that_is_forgotten(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", LARGE)

    def forget(handler: Handler) -> None:
        server.uploads.clear()
        handler.honest()

    server.on("PATCH", forget)
    server.on("PUT .*uploads.*" + digest_of(LARGE), forget)
    pusher("app:1")
    assert server.has("app", LARGE)


def test_a_registry_that_always_forgets(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", LARGE)
    server.on("PATCH", status(404, error_body("BLOB_UPLOAD_UNKNOWN", "unknown")), -1)
    with pytest.raises(RegistryError, match="again and again"):
        pusher("app:1")
    assert len(server.requests("PATCH")) <= 7


def test_a_registry_that_forgets_what_it_confirmed(pusher: Pusher, server: UploadRegistry) -> None:
    """What is sent anew is no progress: it ends."""
    pusher.image("app:1", LARGE)

    def cut(handler: Handler) -> None:
        session = handler.path.partition("/uploads/")[2].partition("?")[0]
        assert len(server.requests("PATCH")) < 50  # else it never ends
        if server.uploads[session]:
            del server.uploads[session]
        else:
            server.uploads[session] += handler.read_body(50_000)
        handler.reset()

    server.on("PATCH", cut, -1, early=True)
    with pytest.raises(RegistryError, match="connection"):
        pusher("app:1", policy=msgspec.structs.replace(QUICK, progress=10_000))
    assert len(server.requests("PATCH")) < 20


def test_a_stalled_upload(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", LARGE)
    server.on("PATCH", Handler.stall, early=True)
    impatient = Policy(base=0.001, cap=0.01, stall=0.3, floor=1000)
    pusher("app:1", policy=impatient)
    assert server.has("app", LARGE)


# ---- lies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 150_000])
def test_a_registry_that_took_less(pusher: Pusher, server: UploadRegistry, size: int) -> None:
    pusher.image("app:1", LARGE)

    def take_less(handler: Handler) -> None:
        handler.body = handler.body[:size]
        handler.honest()

    server.on("PATCH", take_less, 2)
    pusher("app:1")
    assert server.has("app", LARGE)


def test_a_registry_that_says_too_much(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", LARGE)
    lie = {"Location": "/v2/app/blobs/uploads/s1?state=0/x", "Range": "0-99999999"}
    server.on("PATCH", status(202, headers=lie), -1)
    with pytest.raises(RegistryError, match="takes other bytes than it is sent"):
        pusher("app:1")


def test_another_offset_than_ours(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", LARGE)
    server.on("PATCH", cut_upload(server, 50_000), early=True)
    server.on("PATCH", status(416))
    pusher("app:1")
    assert server.has("app", LARGE)


def test_a_wrong_digest_in_the_answer(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL)
    other = {"Docker-Content-Digest": digest_of(b"other")}
    server.on("PUT .*uploads", status(201, headers=other), -1)
    with pytest.raises(DigestMismatch, match="under another digest"):
        pusher("app:1")
    server.rules.clear()
    server.on("PUT .*manifests", status(201, headers=other))
    with pytest.raises(DigestMismatch, match="answers with another digest than sha256:"):
        pusher("app:1")


def test_a_blob_that_is_damaged_here(
    pusher: Pusher, server: UploadRegistry, store: ImageStore
) -> None:
    pusher.image("app:1", SMALL)
    path = store.blob_path(digest_of(SMALL))
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.write(b"x")
    with pytest.raises(StoreError, match=r"is damaged: .* does not match its digest"):
        pusher("app:1")
    pusher.image("app:2", LARGE)
    os.truncate(store.blob_path(digest_of(LARGE)), 10)
    with pytest.raises(StoreError, match="10 bytes instead of 300000"):
        pusher("app:2")


def test_a_digest_that_is_wrong_to_the_registry_only(
    pusher: Pusher, server: UploadRegistry
) -> None:
    pusher.image("app:1", SMALL)
    server.on("PUT .*uploads", status(400, error_body("DIGEST_INVALID", "no match")), -1)
    with pytest.raises(DigestMismatch, match="the registry says that layer"):
        pusher("app:1")


def test_a_blob_that_is_missing_afterwards(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL, LARGE)
    # It says of one that it has it, and loses the other one.
    server.on("HEAD .*" + digest_of(SMALL), status(200, SMALL), -1)

    def lose(handler: Handler) -> None:
        server.owned.discard(("app", digest_of(LARGE)))
        handler.honest()

    server.on("PUT .*manifests", lose)
    pusher("app:1")
    assert server.has("app", SMALL, LARGE)
    assert pusher.statuses(SMALL) == ["Preparing", "Layer already exists", "Pushing", "Pushed"]


@pytest.mark.parametrize("code", ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"])
def test_a_registry_that_loses_everything(
    pusher: Pusher, server: UploadRegistry, code: str
) -> None:
    pusher.image("app:1", SMALL)
    server.on("PUT .*manifests", status(404, error_body(code, "blob unknown")), -1)
    with pytest.raises(RegistryError, match=r"loses what it is sent: .*blob unknown"):
        pusher("app:1")
    assert len(server.requests("PUT .*manifests")) == 2
    assert len(server.requests("PUT .*uploads.*" + digest_of(SMALL))) == 2


def test_of_all_tags_the_one_that_is_refused(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL)
    pusher.image("app:2", SMALL)
    server.on("PUT .*/manifests/2", status(400, error_body("MANIFEST_INVALID", "no")))
    with pytest.raises(RegistryError, match=r"pushing the manifest of .*/app:2 failed"):
        pusher("app", all_tags=True)


def test_web_pages(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL)
    page = {"Content-Type": "text/html"}
    for pattern in ("POST", "PUT .*uploads", "PUT .*manifests"):
        server.rules.clear()
        server.on(pattern, status(418, b"<html>\x1b[2J", page), -1)
        with pytest.raises(RegistryError) as caught:
            pusher("app:1")
        assert "HTTP status 418" in str(caught.value)
        assert "\x1b" not in str(caught.value)


def test_a_body_of_an_error_that_never_ends(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL)
    server.on("POST", endless(code=400), -1)
    with pytest.raises(RegistryError, match="too large"):
        pusher("app:1")


# ---- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("pattern", ["POST", "PATCH", "PUT .*uploads", "PUT .*manifests", "HEAD"])
def test_a_busy_registry(pusher: Pusher, server: UploadRegistry, pattern: str, code: int) -> None:
    pusher.image("app:1", LARGE)
    server.on(pattern, status(code, headers={"Retry-After": "0"}), 2)
    pusher("app:1")
    assert server.has("app", LARGE)
    assert "app:1" in server.manifests


def test_a_registry_that_stays_busy(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", LARGE)
    server.on("PATCH", status(429, error_body("TOOMANYREQUESTS", "slow down")), -1)
    with pytest.raises(RegistryError, match="toomanyrequests: slow down"):
        pusher("app:1")
    assert len(server.requests("PATCH")) == 5


def test_requests_that_are_too_large(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", LARGE)

    def limit(handler: Handler) -> None:
        if int(handler.headers["Content-Length"]) > 100_000:
            handler.reply(413, b"<html>nginx</html>")
        else:
            handler.read_body()
            handler.honest()

    server.on("PATCH", limit, -1, early=True)
    pusher("app:1")
    assert server.has("app", LARGE)
    server.rules.clear()
    pusher.image("app:2", SMALL)
    server.on("PUT .*uploads", status(413), -1)
    with pytest.raises(RegistryError, match="413") as caught:
        pusher("app:2")
    assert "proxy" in (caught.value.hint or "")


def test_the_smallest_piece_that_a_registry_takes(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", LARGE)

    def begin(handler: Handler) -> None:
        send = handler.send_header
        handler.send_header = lambda name, value: (  # type: ignore[method-assign]
            send(name, value),
            send("OCI-Chunk-Min-Length", "200000") if name == "Location" else None,
        )
        handler.honest()
        handler.send_header = send  # type: ignore[method-assign]

    server.on("POST", begin, -1)
    server.on("PATCH", status(413), 1)
    pusher("app:1")
    sizes = [seen.headers["content-length"] for seen in server.requests("PATCH")[1:]]
    assert sizes == ["200000", "100000"]


# ---- who may -------------------------------------------------------------------------------------


def protect() -> Callable[[Handler], None]:
    """Basic authentication."""

    def action(handler: Handler) -> None:
        if handler.headers.get("Authorization") != "Basic YW5uOnMzY3JldA==":
            handler.reply(
                401,
                error_body("UNAUTHORIZED", "authentication required"),
                {"WWW-Authenticate": 'Basic realm="x"'},
            )
        else:
            handler.honest()

    return action


def test_no_credentials(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL)
    server.on("", protect(), -1)
    with pytest.raises(AuthError, match="no basic auth credentials") as caught:
        pusher("app:1")
    assert caught.value.hint == f"log in with: fastbox login {server.host}"
    assert len(server.seen) == 1


def test_wrong_credentials(pusher: Pusher, server: UploadRegistry, secrets: Secrets) -> None:
    pusher.image("app:1", SMALL)
    server.on("", protect(), -1)
    secrets.login(server.host, password="canary")
    with pytest.raises(AuthError) as caught:
        pusher("app:1")
    assert str(caught.value) == (
        "push access denied, repository does not exist or may require authorization:"
        f" {server.host}/app: unauthorized: authentication required"
    )


def test_credentials(pusher: Pusher, server: UploadRegistry, secrets: Secrets) -> None:
    pusher.image("app:1", SMALL, LARGE)
    server.on("", protect(), -1)
    secrets.login(server.host)
    pusher("app:1")
    assert server.has("app", SMALL, LARGE)


def test_a_denied_push(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL)
    server.on("POST", status(403, error_body("DENIED", "requested access is denied")), -1)
    with pytest.raises(AuthError, match=r"push access denied, .*: denied: requested access is"):
        pusher("app:1")


def test_a_read_only_registry(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL)
    server.on("POST", status(405, error_body("UNSUPPORTED", "The operation is unsupported.")), -1)
    with pytest.raises(RegistryError, match=r"takes no uploads \(unsupported: The operation"):
        pusher("app:1")


class Tokens:
    """A token service; ``asked`` are the scopes of each token that it gave."""

    def __init__(self, server: UploadRegistry) -> None:
        self.server = server
        self.asked: list[list[str]] = []
        self.valid: set[str] = set()
        self.refuse = ""
        server.on("/token", self.give, -1)
        server.on("/v2/", self.guard, -1)

    def give(self, handler: Handler) -> None:
        from urllib.parse import parse_qs, urlsplit

        scopes = parse_qs(urlsplit(handler.path).query).get("scope", [])
        if self.refuse and any(self.refuse in scope for scope in scopes):
            handler.reply(401, error_body("UNAUTHORIZED", "not yours"))
            return
        self.asked.append(sorted(scopes))
        token = f"t{len(self.asked)}"
        self.valid.add(token)
        handler.reply(200, json.dumps({"token": token}).encode())

    def guard(self, handler: Handler) -> None:
        scheme, _, token = (handler.headers.get("Authorization") or "").partition(" ")
        if scheme == "Bearer" and token in self.valid:
            handler.honest()
            return
        challenge = f'Bearer realm="{self.server.url}/token",service="s"'
        handler.reply(401, error_body("UNAUTHORIZED", "no"), {"WWW-Authenticate": challenge})


def test_tokens(pusher: Pusher, server: UploadRegistry) -> None:
    tokens = Tokens(server)
    pusher.image("base:1", SMALL, LARGE)
    pusher("base:1")
    assert tokens.asked == [["repository:base:pull,push"]]
    pusher.image("app:1", SMALL, LARGE)
    pusher("app:1")
    assert sorted(tokens.asked[1:]) == [
        ["repository:app:pull,push"],
        ["repository:app:pull,push", "repository:base:pull"],
    ]
    assert pusher.statuses(LARGE)[-1] == "Mounted from base"
    # Who may not read the other repository uploads.
    tokens.refuse = "base:pull"
    pusher.image("other:1", SMALL, LARGE)
    del server.manifests["app:1"]
    server.owned = {pair for pair in server.owned if pair[0] == "base"}
    pusher("other:1")
    assert server.has("other", SMALL, LARGE)


def test_a_token_that_ends_in_the_middle(pusher: Pusher, server: UploadRegistry) -> None:
    tokens = Tokens(server)
    pusher.image("app:1", LARGE)

    def expire(handler: Handler) -> None:
        tokens.valid.clear()
        tokens.guard(handler)

    server.rules.insert(0, type(server.rules[0])("PATCH", expire, 1))
    server.rules.insert(0, type(server.rules[0])("PUT .*manifests", expire, 1))
    pusher("app:1")
    assert server.has("app", LARGE)
    assert len(tokens.asked) == 3


# ---- where it goes -------------------------------------------------------------------------------


@pytest.fixture
def hub(world: World) -> UploadRegistry:
    """A registry with a name and a certificate."""
    return uploads(world, "registry.example")


def uploads(world: World, name: str, *, tls: bool = True) -> UploadRegistry:
    server = UploadRegistry(world.authority.context(name) if tls else None)
    world.adopt(server, name)
    return server


def test_uploads_to_another_host_go_without_credentials(
    world: World, hub: UploadRegistry, store: ImageStore, secrets: Secrets
) -> None:
    storage = uploads(world, "storage.example")
    storage.uploads = hub.uploads
    storage.owned, storage.blobs = hub.owned, hub.blobs
    pusher = Pusher(store, "registry.example")
    pusher.image("app:1", SMALL, LARGE)
    secrets.login("registry.example")
    hub.on("", protect(), -1)
    hub.where = lambda path: "https://storage.example" + path
    storage.where = hub.where
    pusher("app:1")
    assert hub.has("app", SMALL, LARGE)
    assert storage.requests("PATCH|PUT")
    assert [seen for seen in storage.seen if "authorization" in seen.headers] == []
    assert "s3cret" not in str(storage.seen)


def test_redirected_uploads_go_without_credentials(
    world: World, hub: UploadRegistry, store: ImageStore, secrets: Secrets
) -> None:
    storage = uploads(world, "storage.example")
    storage.uploads, storage.owned, storage.blobs = hub.uploads, hub.owned, hub.blobs
    pusher = Pusher(store, "registry.example")
    pusher.image("app:1", LARGE)
    secrets.login("registry.example")

    def redirect(handler: Handler) -> None:
        handler.reply(307, headers={"Location": "https://storage.example" + handler.path})

    hub.on("PATCH", redirect)
    hub.on("", protect(), -1)
    storage.where = lambda path: "https://registry.example" + path
    pusher("app:1")
    assert hub.has("app", LARGE)
    assert "authorization" not in storage.requests("PATCH")[0].headers


@pytest.mark.parametrize("code", [301, 302, 303])
def test_a_redirect_that_would_become_a_get(
    pusher: Pusher, server: UploadRegistry, code: int
) -> None:
    pusher.image("app:1", SMALL)
    server.on("POST", status(code, headers={"Location": "/elsewhere"}), -1)
    with pytest.raises(RegistryError, match=f"HTTP status {code}"):
        pusher("app:1")
    assert server.requests("elsewhere") == []


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("http://registry.example/x?secret=canary", "plain HTTP"),
        ("https://127.0.0.1/x?secret=canary", "loopback or link-local"),
        ("https://169.254.169.254/x?secret=canary", "loopback or link-local"),
        ("https://ann:canary@registry.example/x", "carries a user name"),
        ("file:///etc/passwd?canary", "neither http nor https"),
        ("https://registry.example/a b?canary", "do not belong"),
        ("", "does not say where it goes"),
    ],
)
def test_where_uploads_must_not_go(
    hub: UploadRegistry, store: ImageStore, where: str, why: str
) -> None:
    pusher = Pusher(store, "registry.example")
    pusher.image("app:1", SMALL)
    hub.where = lambda path: where
    with pytest.raises(RegistryError, match=why) as caught:
        pusher("app:1")
    assert "canary" not in f"{caught.value} {caught.value.hint}"
    assert hub.requests("PUT|PATCH") == []


def test_an_http_server_where_tls_belongs(world: World, store: ImageStore) -> None:
    plain = uploads(world, "registry.example", tls=False)
    pusher = Pusher(store, "registry.example")
    pusher.image("app:1", SMALL)
    with pytest.raises(RegistryError, match="http: server gave HTTP response to HTTPS client"):
        pusher("app:1")
    assert [seen for seen in plain.seen if seen.path.startswith("/v2")] == []


# ---- several platforms ---------------------------------------------------------------------------


def multi(store: ImageStore, name: str, *, missing: bool = False) -> dict[str, oci.Descriptor]:
    """An image for two platforms, and an attestation, under a name; descriptors by machine."""
    found: dict[str, oci.Descriptor] = {}
    with store.lease():
        for machine in ("amd64", "arm64"):
            layer = machine.encode() * 100
            config = oci.ImageConfig(
                architecture=machine, os="linux", rootfs=oci.RootFS(diff_ids=[digest_of(layer)])
            )
            manifest = oci.Manifest(
                schema_version=2,
                media_type=oci.OCI_MANIFEST,
                config=blob(store, oci.encode(config), oci.OCI_CONFIG),
                layers=[blob(store, layer, oci.OCI_LAYER)],
            )
            entry = blob(store, oci.encode(manifest), oci.OCI_MANIFEST)
            entry.platform = oci.PlatformSpec(machine, "linux")
            found[machine] = entry
        statement = blob(store, b'{"_type":"statement"}', "application/vnd.in-toto+json")
        attestation = {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": msgspec.to_builtins(blob(store, b"{}", oci.OCI_CONFIG)),
            "layers": [msgspec.to_builtins(statement)],
        }
        proof = blob(store, json.dumps(attestation).encode(), oci.OCI_MANIFEST)
        proof.platform = oci.PlatformSpec("unknown", "unknown")
        index = oci.Index(
            schema_version=2, media_type=oci.OCI_INDEX, manifests=[*found.values(), proof]
        )
        found["index"] = blob(store, oci.encode(index), oci.OCI_INDEX)
        store.add_image(name, found["index"])
    if missing:
        store.blobs.remove(digest_of(b"arm64" * 100))
    return found


def test_an_index_is_pushed_whole(
    pusher: Pusher, server: UploadRegistry, store: ImageStore
) -> None:
    found = multi(store, f"{server.host}/multi:1")
    (result,) = pusher("multi:1")
    assert result.digest == found["index"].digest == digest_of(server.manifests["multi:1"][0])
    assert f"multi:{found['arm64'].digest}" in server.manifests
    order = [seen.path.rpartition("/")[2] for seen in server.requests("PUT .*manifests")]
    assert order[:2] == [found["amd64"].digest, found["arm64"].digest]
    assert order[-1] == "1"
    assert len(order) == 4


def test_one_platform_of_an_index(
    pusher: Pusher, server: UploadRegistry, store: ImageStore
) -> None:
    found = multi(store, f"{server.host}/multi:1", missing=True)
    with pytest.raises(StoreError, match="of linux/arm64 is not in the store") as caught:
        pusher("multi:1")
    assert "--platform" in (caught.value.hint or "")
    assert server.seen == []
    (result,) = pusher("multi:1", platform="linux/amd64")
    assert result.digest == found["amd64"].digest
    with pytest.raises(ImageError, match="no matching manifest for linux/s390x"):
        pusher("multi:1", platform="linux/s390x")


def test_a_platform_that_an_image_is_not_for(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", SMALL)
    pusher("app:1", platform="linux/amd64")
    with pytest.raises(ImageError, match=r"does not provide the specified platform \(linux/arm64"):
        pusher("app:1", platform="linux/arm64")


def test_foreign_layers_are_not_pushed(
    pusher: Pusher, server: UploadRegistry, store: ImageStore
) -> None:
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar"
    with store.lease():
        config = oci.ImageConfig(
            architecture="amd64", os="linux", rootfs=oci.RootFS(diff_ids=[digest_of(SMALL)])
        )
        layer = blob(store, SMALL, foreign)
        layer.urls = ["https://elsewhere.example/layer"]
        manifest = oci.Manifest(
            schema_version=2,
            media_type=oci.DOCKER_MANIFEST,
            config=blob(store, oci.encode(config), oci.DOCKER_CONFIG),
            layers=[layer],
        )
        entry = blob(store, oci.encode(manifest), oci.DOCKER_MANIFEST)
        store.add_image(f"{server.host}/app:1", entry)
    server.owned.add(("app", digest_of(SMALL)))
    pusher("app:1")
    assert pusher.statuses(SMALL) == ["Skipped foreign layer"]
    assert server.manifests["app:1"][1] == oci.DOCKER_MANIFEST
    assert digest_of(SMALL) not in server.blobs


# ---- what is not here, and ends ------------------------------------------------------------------


def test_what_is_not_here(pusher: Pusher, server: UploadRegistry) -> None:
    with pytest.raises(NotFound) as caught:
        pusher("app:1")
    text = f"An image does not exist locally with the tag: {server.host}/app"
    assert str(caught.value) == text
    with pytest.raises(NotFound, match="An image does not exist"):
        pusher("app", all_tags=True)
    pusher.image("app:1", SMALL)
    with pytest.raises(NotFound) as caught:
        pusher("app:2")
    assert str(caught.value) == f"tag does not exist: {server.host}/app:2"
    with pytest.raises(InvalidArgument, match="cannot push a digest reference"):
        pusher(f"app@{digest_of(b'')}")
    with pytest.raises(InvalidArgument, match="tag can't be used with --all-tags/-a"):
        pusher("app:1", all_tags=True)
    assert server.seen == []


def test_cancelling_gives_the_uploads_up(pusher: Pusher, server: UploadRegistry) -> None:
    pusher.image("app:1", LARGE)
    guard = Guard()
    reached = threading.Event()

    def stall(handler: Handler) -> None:
        reached.set()
        handler.stall()

    def cancel() -> None:
        reached.wait(30)
        # The config goes up beside it: an upload whose first answer has not come has no address yet
        # that could be given up.
        wait_for(lambda: bool(server.owned))
        guard.cancel()

    server.on("PATCH", stall, early=True)
    killer = threading.Thread(target=cancel)
    killer.start()
    with pytest.raises(Cancelled):
        pusher("app:1", guard=guard)
    killer.join()
    assert server.uploads == {}
    assert server.requests("DELETE")


def test_an_interrupt_while_progress_is_shown(
    pusher: Pusher, server: UploadRegistry, store: ImageStore
) -> None:
    pusher.image("app:1", LARGE)

    def interrupted(event: ProgressEvent) -> None:
        if event.status == "Pushing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(store, f"{server.host}/app:1", progress=interrupted, policy=QUICK)
    assert "app:1" not in server.manifests
    pusher("app:1")
    assert server.has("app", LARGE)


def test_nobody_listens(store: ImageStore) -> None:
    put(store, "127.0.0.1:1/app:1", [SMALL])
    with pytest.raises(
        FastboxError, match=r"cannot reach registry 127\.0\.0\.1:1: connection refused"
    ):
        push(store, "127.0.0.1:1/app:1", policy=QUICK)
