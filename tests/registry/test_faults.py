"""Registries that fail, break off, lie and attack. Numbers are of SECURITY.md section 4.5."""

from __future__ import annotations

import random
import resource
from collections.abc import Callable
from typing import Any

import pytest

from fastbox.errors import (
    ArchiveError,
    AuthError,
    DigestMismatch,
    FastboxError,
    ImageError,
    NotFound,
    RegistryError,
)
from fastbox.image.store import ImageStore
from fastbox.registry.retry import Policy
from tests.support.registry import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of

from .conftest import Puller, layer
from .server import FaultyRegistry, Handler, cut_after, endless, error_body, status

State = Callable[[], dict[str, list[str]]]
NOTHING = {"blobs": [], "parts": [], "layers": [], "staged": []}


def one_layer(faulty: FaultyRegistry, size: int = 200_000) -> dict[str, Any]:
    """Serve ``app:latest`` with a single layer; the layer's descriptor."""
    described = faulty.add_image("app", [layer("a", size=size)])
    blob: dict[str, Any] = described["layers"][0]
    return blob


# ---- broken connections (67, 68, 69) -------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("count", [0, 1, 70_000, 200_000])
def test_a_broken_download_resumes_where_it_broke(
    faulty: FaultyRegistry, puller: Puller, count: int, reset: bool
) -> None:
    blob = one_layer(faulty)
    faulty.on(f"blobs/{blob['digest']}", cut_after(count, reset=reset))
    puller("app")
    first, second = faulty.requests(f"GET .*{blob['digest']}")
    assert "range" not in first.headers
    if reset or count == 0:
        return  # what was in flight may be lost
    assert second.headers["range"] == f"bytes={count}-"


def test_a_download_survives_many_cuts(faulty: FaultyRegistry, puller: Puller) -> None:
    """67: each cut after more than a mebibyte is progress, so that five attempts do not end it."""
    blob = one_layer(faulty, 12_000_000)
    places = random.Random(5)
    for _ in range(8):
        faulty.on(blob["digest"], cut_after(places.randint(1_100_000, 1_300_000)))
    puller("app")
    requests = faulty.requests(blob["digest"])
    assert len(requests) == 9
    starts = [int(r.headers["range"][6:-1]) for r in requests[1:]]
    assert starts == sorted(starts)
    assert "Retrying in 1 second" in puller.statuses()


def test_without_progress_it_ends_after_five_attempts(
    faulty: FaultyRegistry, puller: Puller, state: State
) -> None:
    blob = one_layer(faulty)
    faulty.on(blob["digest"], cut_after(100), times=-1)
    with pytest.raises(RegistryError, match="closed the connection in mid-transfer"):
        puller("app")
    assert len(faulty.requests(blob["digest"])) == 5
    assert state()["parts"] == [f"sha256-{blob['digest'][7:]}.part"]
    assert state()["layers"] == state()["staged"] == []


def test_the_next_pull_resumes_what_a_failed_one_left(
    faulty: FaultyRegistry, puller: Puller, state: State
) -> None:
    blob = one_layer(faulty)
    faulty.on(blob["digest"], cut_after(20_000), times=5)
    with pytest.raises(RegistryError):
        puller("app")
    puller("app")
    assert faulty.requests(blob["digest"])[-1].headers["range"] == "bytes=100000-"
    assert state()["parts"] == []


def test_a_server_that_ignores_range(faulty: FaultyRegistry, puller: Puller) -> None:
    """68: 200 instead of 206 means from the beginning; the unpacking begins anew as well."""
    blob = one_layer(faulty)
    faulty.ranges = False
    faulty.on(blob["digest"], cut_after(150_000))
    puller("app")
    assert len(faulty.requests(blob["digest"])) == 2


def test_a_server_that_ignores_range_and_breaks_off_is_given_up(
    faulty: FaultyRegistry, puller: Puller
) -> None:
    blob = one_layer(faulty, 3_000_000)
    faulty.ranges = False
    faulty.on(blob["digest"], cut_after(2_000_000), times=-1)
    with pytest.raises(RegistryError, match="in mid-transfer"):
        puller("app")
    assert len(faulty.requests(blob["digest"])) == 5


def test_a_server_that_makes_us_start_over_for_ever_is_given_up(
    faulty: FaultyRegistry, puller: Puller
) -> None:
    blob = one_layer(faulty, 3_000_000)
    for _ in range(20):
        faulty.on(blob["digest"], cut_after(2_000_000))
        faulty.on(blob["digest"], status(416))
    with pytest.raises(RegistryError, match="does not let downloads resume"):
        puller("app")
    assert len(faulty.requests(blob["digest"])) <= 12


def test_the_entity_tag_guards_a_resumption(faulty: FaultyRegistry, puller: Puller) -> None:
    blob = one_layer(faulty)
    faulty.etag = '"one"'
    faulty.on(blob["digest"], cut_after(90_000))
    puller("app")
    assert faulty.requests(blob["digest"])[1].headers["if-range"] == '"one"'


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-9/10", "bytes 1-{last}/{size}", "{start}-{last}/{size}", "bytes */{size}", "", "x"],
)
def test_a_wrong_content_range_is_not_appended(
    faulty: FaultyRegistry, puller: Puller, content_range: str
) -> None:
    blob = one_layer(faulty)
    size = blob["size"]

    def answer(handler: Handler) -> None:
        start = int(handler.headers["Range"][6:-1])
        text = content_range.format(start=start, last=size - 1, size=size)
        handler.reply(206, b"x" * (size - start), {"Content-Range": text} if text else {})

    faulty.on(blob["digest"], cut_after(50_000))
    faulty.on(blob["digest"], answer)
    puller("app")
    assert "range" not in faulty.requests(blob["digest"])[2].headers


def test_a_206_that_nobody_asked_for(faulty: FaultyRegistry, puller: Puller) -> None:
    blob = one_layer(faulty)
    faulty.on(blob["digest"], status(206, b"x", {"Content-Range": "bytes 0-0/1"}), times=-1)
    with pytest.raises(RegistryError, match="206"):
        puller("app")
    assert len(faulty.requests(blob["digest"])) == 1


def test_a_416_starts_over(faulty: FaultyRegistry, puller: Puller) -> None:
    blob = one_layer(faulty)
    faulty.on(blob["digest"], cut_after(50_000))
    faulty.on(blob["digest"], status(416))
    puller("app")
    assert "range" not in faulty.requests(blob["digest"])[2].headers


def part_of(store: ImageStore, digest: str) -> str:
    return store.ingest_path(digest)


def test_a_bad_partial_download_is_fetched_once_more_from_the_start(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore
) -> None:
    """69: what lies there may be the half of something else (power failure)."""
    blob = one_layer(faulty)
    with open(part_of(store, blob["digest"]), "wb") as file:
        file.write(bytes(1000))
    puller("app")
    ranges = [r.headers.get("range") for r in faulty.requests(blob["digest"])]
    assert ranges == ["bytes=1000-", None]


def test_a_complete_partial_download_is_not_fetched(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore, state: State
) -> None:
    blob = one_layer(faulty)
    with open(part_of(store, blob["digest"]), "wb") as file:
        file.write(faulty.blobs[blob["digest"]])
    puller("app")
    assert faulty.requests(blob["digest"]) == []
    assert state()["parts"] == []


def test_a_partial_download_that_is_too_long_is_dropped(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore
) -> None:
    blob = one_layer(faulty)
    with open(part_of(store, blob["digest"]), "wb") as file:
        file.write(bytes(blob["size"] + 1))
    puller("app")
    assert "range" not in faulty.requests(blob["digest"])[0].headers


# ---- lies (D11) ----------------------------------------------------------------------------------


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("at", [0, 100, -200, -1])
def test_one_flipped_bit_is_a_digest_mismatch(
    faulty: FaultyRegistry, puller: Puller, state: State, at: int
) -> None:
    blob = one_layer(faulty)
    data = faulty.blobs[blob["digest"]]
    faulty.on(blob["digest"], status(200, flipped(data, at % len(data))), times=-1)
    with pytest.raises(DigestMismatch, match=f"has digest sha256:.* instead of {blob['digest']}"):
        puller("app")
    assert len(faulty.requests(blob["digest"])) == 1
    assert state() == NOTHING


def test_a_flipped_bit_in_a_plain_layer(
    faulty: FaultyRegistry, puller: Puller, state: State
) -> None:
    described = faulty.add_image("app", [layer("a")], compression="none")
    blob = described["layers"][0]["digest"]
    faulty.on(blob, status(200, flipped(faulty.blobs[blob], 1000)))
    with pytest.raises(DigestMismatch):
        puller("app")
    assert state() == NOTHING


@pytest.mark.parametrize("change", [-1, +1, -150_000])
def test_a_content_length_other_than_the_manifests(
    faulty: FaultyRegistry, puller: Puller, state: State, change: int
) -> None:
    blob = one_layer(faulty)
    data = (faulty.blobs[blob["digest"]] + b"x")[: blob["size"] + change]
    faulty.on(blob["digest"], status(200, data), times=-1)
    with pytest.raises(DigestMismatch, match=f"its manifest says {blob['size']}"):
        puller("app")
    assert state() == NOTHING


def test_more_than_the_manifest_says_without_length(
    faulty: FaultyRegistry, puller: Puller, state: State
) -> None:
    blob = one_layer(faulty)
    data = faulty.blobs[blob["digest"]]
    faulty.on(blob["digest"], lambda h: h.reply(200, data + b"more", length=-1), times=-1)
    with pytest.raises(DigestMismatch, match="is longer than"):
        puller("app")
    assert state() == NOTHING


def test_less_than_the_manifest_says_without_length(faulty: FaultyRegistry, puller: Puller) -> None:
    blob = one_layer(faulty)
    data = faulty.blobs[blob["digest"]]
    faulty.on(blob["digest"], lambda h: h.reply(200, data[:5000], length=-1))
    puller("app")
    assert faulty.requests(blob["digest"])[1].headers["range"] == "bytes=5000-"


def test_an_endless_layer(faulty: FaultyRegistry, puller: Puller, state: State) -> None:
    blob = one_layer(faulty)
    faulty.on(blob["digest"], endless(), times=-1)
    with pytest.raises(DigestMismatch, match="is longer than"):
        puller("app")
    assert state() == NOTHING


def test_a_layer_that_is_not_what_the_config_says(
    faulty: FaultyRegistry, puller: Puller, state: State
) -> None:
    other = digest_of(layer("other"))
    faulty.add_image("app", [layer("a")], diff_ids=[other])
    with pytest.raises(DigestMismatch, match="filesystem layer verification failed"):
        puller("app")
    assert state() == NOTHING


def test_swapped_layers(faulty: FaultyRegistry, puller: Puller, state: State) -> None:
    a, b = layer("a"), layer("b")
    faulty.add_image("app", [a, b], diff_ids=[digest_of(b), digest_of(a)])
    with pytest.raises(DigestMismatch, match="verification failed"):
        puller("app")
    # A download that was cancelled because of the other one may be continued.
    assert {**state(), "parts": []} == NOTHING


def test_an_image_with_more_layers_than_ids(faulty: FaultyRegistry, puller: Puller) -> None:
    a = layer("a")
    faulty.add_image("app", [a, layer("b")], diff_ids=[digest_of(a)])
    with pytest.raises(ImageError, match="names 1 layers, the manifest 2"):
        puller("app")


def test_a_layer_that_is_no_archive(faulty: FaultyRegistry, puller: Puller, state: State) -> None:
    junk = random.Random(1).randbytes(5000)
    faulty.add_image("app", [junk], compression="none")
    with pytest.raises(ArchiveError):
        puller("app")
    assert state() == NOTHING


def test_a_bomb_meets_the_limit(faulty: FaultyRegistry, puller: Puller, state: State) -> None:
    """D10: the archive unpacks to more than is allowed."""
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("zeros")
        info.size = 64 << 20
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    faulty.add_image("bomb", [stream.getvalue()])
    with pytest.raises(ArchiveError, match="more than is allowed"):
        puller("bomb", max_layer_bytes=1 << 20)
    assert state() == NOTHING


def test_sizes_beyond_the_disk_are_refused_before_the_download(
    faulty: FaultyRegistry, puller: Puller, state: State
) -> None:
    def enlarge(manifest: dict[str, Any]) -> None:
        manifest["layers"][0]["size"] = 1 << 60

    faulty.add_image("huge", [layer("a")], change=enlarge)
    with pytest.raises(FastboxError, match="no space left on device"):
        puller("huge")
    assert state() == NOTHING


# ---- statuses (65, 66) ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 408, 500, 502, 503, 504])
@pytest.mark.parametrize("what", ["manifests/latest", "blobs/"])
def test_passing_errors_pass(faulty: FaultyRegistry, puller: Puller, code: int, what: str) -> None:
    one_layer(faulty)
    faulty.on(what, status(code), times=4)
    puller("app")
    assert len(faulty.requests(what)) >= 5


@pytest.mark.parametrize("code", [500, 503, 429])
def test_lasting_errors_end_it_and_are_named(
    faulty: FaultyRegistry, puller: Puller, code: int
) -> None:
    one_layer(faulty)
    faulty.on("manifests/", status(code, error_body("TOOMANYREQUESTS", "slow down")), times=-1)
    with pytest.raises(RegistryError, match=f"slow down .*HTTP status {code}") as caught:
        puller("app")
    assert caught.value.status == code
    assert len(faulty.requests("manifests/")) == 5


@pytest.mark.parametrize("code", [400, 404, 405, 410, 501, 505])
def test_final_errors_are_not_repeated(faulty: FaultyRegistry, puller: Puller, code: int) -> None:
    blob = one_layer(faulty)
    faulty.on("blobs/", status(code, error_body("BLOB_UNKNOWN", "not here")), times=-1)
    with pytest.raises(RegistryError, match="not here") as caught:
        puller("app")
    assert caught.value.status == code
    assert len(faulty.requests("blobs/")) == 1
    assert blob["digest"]


def test_retry_after_is_honoured_and_shown(faulty: FaultyRegistry, puller: Puller) -> None:
    one_layer(faulty)
    faulty.on("blobs/", status(429, headers={"Retry-After": "1"}))
    puller("app", policy=Policy(busy_base=0.001, cap=1.5))
    assert "Retrying in 1 second" in [event.status for event in puller.events]


# ---- documents (75, D12, E9) ---------------------------------------------------------------------

MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "config": descriptor(b"{}", "application/vnd.oci.image.config.v1+json"),
    "layers": [],
}
BOTH = {**MANIFEST, "manifests": []}
SCHEMA1 = {"schemaVersion": 1, "name": "app", "tag": "latest", "fsLayers": [], "history": []}


@pytest.mark.parametrize(
    ("document", "media_type", "text"),
    [
        (BOTH, OCI_MANIFEST, "ambiguous"),
        (BOTH, OCI_INDEX, "ambiguous"),
        ({**MANIFEST, "mediaType": OCI_INDEX}, OCI_INDEX, "other kind"),
        ({**MANIFEST, "mediaType": OCI_MANIFEST}, OCI_INDEX, "announced as"),
        (MANIFEST, OCI_INDEX, "other kind"),
        ({"schemaVersion": 2, "manifests": []}, OCI_MANIFEST, "other kind"),
        ({**MANIFEST, "mediaType": "text/x-shellscript"}, OCI_MANIFEST, "unknown media type"),
        (SCHEMA1, "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema version 1"),
        ({**MANIFEST, "schemaVersion": "2"}, OCI_MANIFEST, "malformed"),
        ({**MANIFEST, "layers": {}}, OCI_MANIFEST, "malformed"),
        ({**MANIFEST, "layers": [[]]}, OCI_MANIFEST, "malformed"),
        ({**MANIFEST, "config": "x"}, OCI_MANIFEST, "malformed"),
        ({**MANIFEST, "config": {**MANIFEST["config"], "size": -1}}, OCI_MANIFEST, "malformed"),
        ({}, OCI_MANIFEST, "neither"),
        (b"[]", OCI_MANIFEST, "malformed"),
        (b"", OCI_MANIFEST, "malformed"),
        (b"\xff\xfe", OCI_MANIFEST, "malformed"),
        (b"[" * 100_000, OCI_MANIFEST, "malformed"),
        (b"<html><body>Please log in</body></html>", "text/html", "web page"),
        (b"<!DOCTYPE html>", "application/json", "web page"),
        (
            {**MANIFEST, "layers": [MANIFEST["config"]] * 500},
            OCI_MANIFEST,
            "max depth exceeded|unknown type",
        ),
        (
            {"schemaVersion": 2, "manifests": [descriptor(b"x", OCI_MANIFEST)] * 10_000},
            OCI_INDEX,
            "too many manifests",
        ),
    ],
)
def test_bad_documents(
    faulty: FaultyRegistry,
    puller: Puller,
    state: State,
    document: dict[str, Any] | bytes,
    media_type: str,
    text: str,
) -> None:
    faulty.add_manifest("app", document, media_type)
    with pytest.raises(ImageError, match=text) as caught:
        puller("app")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert state() == NOTHING
    assert len(faulty.requests("GET")) == 1


@pytest.mark.parametrize("media_type", ["", "application/json", "text/plain; charset=utf-8"])
def test_a_content_type_that_says_nothing_is_no_obstacle(
    faulty: FaultyRegistry, puller: Puller, media_type: str
) -> None:
    described = faulty.add_image("app", [layer("a")])
    data = faulty.manifests["app:latest"][0]
    faulty.manifests["app:latest"] = (data, media_type)
    assert puller("app").digest == described["digest"]


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../../x",
        "md5:0123456789abcdef0123456789abcdef",
        "sha256:" + "A" * 64,
        "sha256:12",
    ],
)
@pytest.mark.parametrize("place", ["config", "layer", "index", "header"])
def test_digests_are_digests(
    faulty: FaultyRegistry, puller: Puller, state: State, digest: str, place: str
) -> None:
    """E7 (CVE-2024-3727): nothing else gets into a path or a URL."""

    def change(manifest: dict[str, Any]) -> None:
        if place in ("config", "layer"):
            part = manifest["config"] if place == "config" else manifest["layers"][0]
            part["digest"] = digest

    described = faulty.add_image("app", [layer("a")], change=change)
    if place == "index":
        faulty.add_index("app", [{**described, "digest": digest}])
    if place == "header":
        data, media_type = faulty.manifests["app:latest"]
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
        faulty.on("GET .*manifests/latest", status(200, data, headers), times=-1)
    with pytest.raises(ImageError, match="invalid"):
        puller("app")
    assert len(faulty.seen) == len(faulty.requests("GET /v2/app/manifests/latest"))
    assert state() == NOTHING


def test_a_manifest_other_than_its_digest(faulty: FaultyRegistry, puller: Puller) -> None:
    described = faulty.add_image("app:1", [layer("a")])
    other = faulty.add_image("app:2", [layer("b")])
    faulty.manifests[f"app:{described['digest']}"] = faulty.manifests["app:2"]
    with pytest.raises(DigestMismatch, match=f"{other['digest']} instead of {described['digest']}"):
        puller(f"app@{described['digest']}")


def test_a_digest_header_that_does_not_fit(faulty: FaultyRegistry, puller: Puller) -> None:
    faulty.add_image("app", [layer("a")])
    data, media_type = faulty.manifests["app:latest"]
    headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(b"other")}
    faulty.on("GET .*manifests/", status(200, data, headers))
    with pytest.raises(DigestMismatch):
        puller("app")


def test_a_manifest_of_another_size_than_the_index_says(
    faulty: FaultyRegistry, puller: Puller
) -> None:
    described = faulty.add_image("app:one", [layer("a")])
    faulty.add_index("app", [{**described, "size": described["size"] + 1}])
    with pytest.raises(DigestMismatch, match="bytes instead of"):
        puller("app", platform="linux/amd64")


def test_an_index_entry_that_is_announced_as_something_else(
    faulty: FaultyRegistry, puller: Puller
) -> None:
    described = faulty.add_image("app:one", [layer("a")])
    faulty.add_index("app", [{**described, "mediaType": OCI_INDEX}])
    with pytest.raises(ImageError, match=r"announced as|other kind"):
        puller("app", platform="linux/amd64")


@pytest.mark.parametrize(
    "pattern", ["manifests/", "blobs/", "error"], ids=["manifest", "config", "error"]
)
def test_endless_answers_stop_at_a_limit(
    faulty: FaultyRegistry, puller: Puller, state: State, pattern: str
) -> None:
    """E9 (CVE-2023-25153): and the memory in use stays flat."""
    one_layer(faulty)
    if pattern == "error":
        faulty.on("manifests/", endless(code=404), times=-1)
    else:
        faulty.on(pattern, endless({"Content-Type": OCI_MANIFEST}), times=-1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RegistryError, match=r"is too large: the limit is \d+ bytes"):
        puller("app")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert state() == NOTHING


def test_a_config_larger_than_announced(faulty: FaultyRegistry, puller: Puller) -> None:
    described = faulty.add_image("app", [layer("a")])
    data = faulty.blobs[described["config"]]
    faulty.on(described["config"], status(200, data + b" "), times=-1)
    with pytest.raises(RegistryError, match="too large"):
        puller("app")


def test_a_config_other_than_its_digest(faulty: FaultyRegistry, puller: Puller) -> None:
    described = faulty.add_image("app", [layer("a")])
    data = faulty.blobs[described["config"]]
    faulty.on(described["config"], status(200, data[:-1] + b" "), times=-1)
    with pytest.raises(DigestMismatch, match="image config"):
        puller("app")


# ---- slow peers (70) -----------------------------------------------------------------------------

IMPATIENT = Policy(attempts=2, fresh_attempts=2, base=0.001, cap=0.01, stall=0.3)


@pytest.mark.parametrize("what", ["GET .*manifests/", "GET .*blobs/"])
def test_a_server_that_says_nothing(faulty: FaultyRegistry, puller: Puller, what: str) -> None:
    one_layer(faulty)
    faulty.on(what, lambda handler: handler.stall(), times=-1)
    with pytest.raises(RegistryError, match=r"timeout|stopped sending"):
        puller("app", policy=IMPATIENT)
    assert len(faulty.requests(what)) == 2


def test_a_server_that_stops_in_the_middle_is_asked_again(
    faulty: FaultyRegistry, puller: Puller
) -> None:
    blob = one_layer(faulty)
    data = faulty.blobs[blob["digest"]]

    def stop_half_way(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:70_000])
        handler.stall()

    faulty.on(blob["digest"], stop_half_way)
    puller("app", policy=IMPATIENT)
    assert faulty.requests(blob["digest"])[1].headers["range"] == "bytes=70000-"


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_drips(faulty: FaultyRegistry, puller: Puller, part: str) -> None:
    """A byte now and then keeps every read timeout from striking."""
    blob = one_layer(faulty)

    def drip(handler: Handler) -> None:
        handler.close_connection = True
        if part == "body":
            handler.send_response(200)
            handler.send_header("Content-Length", str(blob["size"]))
            handler.end_headers()
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not handler.server.owner.stopping.wait(0.02):
            handler.wfile.write(b"x")

    faulty.on(blob["digest"], drip, times=-1)
    with pytest.raises(RegistryError, match="stopped sending data"):
        puller("app", policy=Policy(attempts=2, base=0.001, cap=0.01, stall=0.4, connect=0.4))
    assert len(faulty.requests(blob["digest"])) == 2


# ---- redirects (71, E2), in the plain ------------------------------------------------------------


def test_a_redirect_to_storage(faulty: FaultyRegistry, puller: Puller) -> None:
    blob = one_layer(faulty)
    data = faulty.blobs[blob["digest"]]
    location = f"http://localhost:{faulty.port}/storage?X-Amz-Signature=secret"
    faulty.on(blob["digest"], status(307, headers={"Location": location}))
    faulty.on("GET /storage", status(200, data))
    puller("app")
    assert len(faulty.requests("GET /storage")) == 1


def test_a_resumed_download_asks_the_registry_again(faulty: FaultyRegistry, puller: Puller) -> None:
    """A presigned address may have expired meanwhile."""
    blob = one_layer(faulty)
    path = f"/v2/app/blobs/{blob['digest']}?signed"
    faulty.on(rf"{blob['digest']}$", status(307, headers={"Location": path}), times=-1)
    faulty.on("signed", cut_after(60_000))
    puller("app")
    assert len(faulty.requests(rf"{blob['digest']}$")) == 2
    assert faulty.requests("signed")[1].headers["range"] == "bytes=60000-"


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("file:///etc/shadow", "neither http nor https"),
        ("ftp://127.0.0.1/x", "neither http nor https"),
        ("http://user:word@127.0.0.1/x", "user name"),
        ("http://127.0.0.1:99999/x", "refused"),
        ("http://[::1/x", "refused"),
        ("http://:80/x", "no host"),
        ("/loop", "without end"),
        ("", "without end"),
    ],
)
def test_bad_redirects(faulty: FaultyRegistry, puller: Puller, location: str, text: str) -> None:
    one_layer(faulty)
    faulty.on("manifests|loop", status(302, headers={"Location": location}), times=-1)
    with pytest.raises(RegistryError, match=text) as caught:
        puller("app")
    assert "word" not in str(caught.value)
    assert len(faulty.seen) <= 15


# ---- what is said --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [401, 403])
def test_denied(faulty: FaultyRegistry, puller: Puller, code: int) -> None:
    body = error_body("DENIED", "requested access to the resource is denied")
    faulty.on("manifests/", status(code, body), times=-1)
    with pytest.raises(AuthError) as caught:
        puller("team/app")
    assert str(caught.value) == (
        f"pull access denied for {faulty.host}/team/app, repository does not exist or may require"
        " 'docker login': denied: requested access to the resource is denied"
    )
    assert caught.value.hint == f"log in with: fastbox login {faulty.host}"
    assert caught.value.status == code


def test_an_unknown_repository(faulty: FaultyRegistry, puller: Puller) -> None:
    body = error_body("NAME_UNKNOWN", "repository name not known to registry")
    faulty.on("manifests/", status(404, body))
    with pytest.raises(NotFound) as caught:
        puller("app")
    assert str(caught.value) == (
        f"repository {faulty.host}/app not found: name unknown: repository name not known to"
        " registry"
    )


def test_a_404_of_a_web_server(faulty: FaultyRegistry, puller: Puller) -> None:
    faulty.on("manifests/", status(404, b"<html>not here</html>"))
    with pytest.raises(NotFound, match="HTTP status 404"):
        puller("app")


@pytest.mark.parametrize(
    "message", ["two\nlines", "esc\x1b[31mape", "x" * 100_000, "\u202egnol", "nul\x00"]
)
def test_foreign_text_is_one_harmless_line(
    faulty: FaultyRegistry, puller: Puller, message: str
) -> None:
    faulty.on("manifests/", status(404, error_body("MANIFEST_UNKNOWN", message)))
    with pytest.raises(NotFound) as caught:
        puller("app")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"errors":{}}', b'{"errors":[1]}', b"\xff"])
def test_error_bodies_need_not_be_json(faulty: FaultyRegistry, puller: Puller, body: bytes) -> None:
    faulty.on("manifests/", status(404, body))
    with pytest.raises(NotFound, match="HTTP status 404"):
        puller("app")


def test_nobody_listens(store: ImageStore) -> None:
    from tests.support.registry import free_port

    host = f"127.0.0.1:{free_port()}"
    with pytest.raises(RegistryError) as caught:
        Puller(store, host)("app")
    assert str(caught.value) == f"cannot reach registry {host}: connection refused"


def test_something_that_is_no_http_server(faulty: FaultyRegistry, puller: Puller) -> None:
    def nonsense(handler: Handler) -> None:
        handler.wfile.write(b"220 mail.example ESMTP\r\n")
        handler.close_connection = True

    faulty.on("manifests/", nonsense, times=-1)
    with pytest.raises(RegistryError) as caught:
        puller("app")
    assert "\n" not in str(caught.value)


def test_the_store_works_after_all_that(faulty: FaultyRegistry, puller: Puller) -> None:
    one_layer(faulty)
    for action in (status(500), cut_after(10), status(503)):
        faulty.on("GET", action)
    result = puller("app")
    assert result.status == "downloaded"


# ---- framing -------------------------------------------------------------------------------------


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> Callable[[Handler], None]:
    """A body without length, in chunks."""

    def action(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Content-Type", OCI_MANIFEST)
        handler.end_headers()
        for piece in pieces:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(end)
        handler.close_connection = not end.endswith(b"0\r\n\r\n")

    return action


def test_chunked_bodies(faulty: FaultyRegistry, puller: Puller) -> None:
    blob = one_layer(faulty)
    data = faulty.blobs[blob["digest"]]
    manifest = faulty.manifests["app:latest"][0]
    faulty.on("manifests/", chunked(manifest[:50], manifest[50:]))
    faulty.on(blob["digest"], chunked(data[:1], data[1:90_000], data[90_000:]))
    puller("app")
    assert len(faulty.requests(blob["digest"])) == 1


@pytest.mark.parametrize("end", [b"", b"zzz\r\n", b"ffff\r\nshort", b"-5\r\n"])
def test_chunks_that_break_off_are_resumed(
    faulty: FaultyRegistry, puller: Puller, end: bytes
) -> None:
    blob = one_layer(faulty)
    data = faulty.blobs[blob["digest"]]
    faulty.on(blob["digest"], chunked(data[:40_000], end=end))
    puller("app")
    # What came of a chunk that broke off was taken for content, until the digest told.
    assert len(faulty.requests(blob["digest"])) == (3 if b"short" in end else 2)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"\x00" * 1000,
        b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
    ],
)
def test_heads_that_are_no_http(
    faulty: FaultyRegistry, puller: Puller, state: State, head: bytes
) -> None:
    one_layer(faulty)

    def action(handler: Handler) -> None:
        handler.wfile.write(head)
        handler.close_connection = True

    faulty.on("manifests/", action, times=-1)
    with pytest.raises((RegistryError, ImageError)) as caught:
        puller("app")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert state() == NOTHING
