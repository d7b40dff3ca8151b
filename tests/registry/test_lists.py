"""Lists of tags, all of a repository, all platforms, and search."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.parse
from typing import Any

import pytest

from fastbox.errors import AuthError, FastboxError, ImageError, InvalidArgument, NotFound
from fastbox.image import removal
from fastbox.image.pull import pull_all
from fastbox.image.store import ImageStore
from fastbox.oci import image as oci
from fastbox.registry.client import next_query
from fastbox.registry.search import SearchResult, search
from tests.support.registry import OCI_CONFIG, OCI_MANIFEST, Registry, descriptor

from .conftest import QUICK, Puller, layer
from .server import FaultyRegistry, Handler, endless, error_body, status
from .world import World


def tags(*names: str, link: str = "") -> Any:
    body = json.dumps({"name": "app", "tags": list(names)}).encode()
    return status(200, body, {"Link": link} if link else None)


class AllPuller:
    def __init__(self, store: ImageStore, faulty: FaultyRegistry) -> None:
        self.store, self.host = store, faulty.host
        self.events: list[str] = []

    def __call__(self, name: str = "app", **options: Any) -> list[str]:
        found = pull_all(
            self.store,
            f"{self.host}/{name}",
            policy=QUICK,
            progress=lambda e: self.events.append(f"{e.id}: {e.status}"),
            **options,
        )
        return [result.name.rpartition(":")[2] for result in found]


@pytest.fixture
def everything(store: ImageStore, faulty: FaultyRegistry) -> AllPuller:
    return AllPuller(store, faulty)


# ---- tags ----------------------------------------------------------------------------------------


def test_every_tag(faulty: FaultyRegistry, everything: AllPuller) -> None:
    digests = [faulty.add_image(f"app:{tag}", [layer(tag)])["digest"] for tag in ("1", "2")]
    faulty.on("tags/list", tags("1", "2"), times=-1)
    assert everything() == ["1", "2"]
    kept = [e for e in everything.events if "Pulling from" in e or "Digest" in e]
    assert kept == [
        "1: Pulling from app",
        f": Digest: {digests[0]}",
        "2: Pulling from app",
        f": Digest: {digests[1]}",
    ]
    assert len(everything.store.images()) == 2


def test_a_real_registry_in_pages(registry: Registry, store: ImageStore) -> None:
    for tag in ("a", "b", "c"):
        registry.push(f"lists/pages:{tag}", [layer("x")])
    found = pull_all(store, f"{registry.host}/lists/pages", policy=QUICK)
    assert sorted(result.name[-1] for result in found) == ["a", "b", "c"]
    assert len(store.images()) == 1


def test_pages(faulty: FaultyRegistry, everything: AllPuller) -> None:
    for tag in ("1", "2", "3"):
        faulty.add_image(f"app:{tag}", [layer("a")])
    faulty.on("tags/list$", tags("1", link='</v2/app/tags/list?last=1>; rel="next"'))
    elsewhere = '<https://evil.example/v2/x/tags/list?last=2&n=1>; rel="next"'
    faulty.on(r"last=1$", tags("2", link=elsewhere))
    faulty.on(r"app/tags/list\?last=2&n=1$", tags("3", "1"))
    assert everything() == ["1", "2", "3"]


def test_no_tags_at_all(faulty: FaultyRegistry, everything: AllPuller) -> None:
    faulty.on("tags/list", status(200, b'{"name": "app", "tags": null}'))
    assert everything() == []


def _circle(handler: Handler) -> None:
    number = int(handler.path.rpartition("=")[2] or 0) if "=" in handler.path else 0
    link = f'</v2/app/tags/list?last={(number + 1) % 3}>; rel="next"'
    tags("1", link=link)(handler)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (tags("../../etc"), "lists the invalid tag '../../etc'"),
        (tags("a\x1b[31m"), "lists the invalid tag"),
        (tags("x" * 129), "lists the invalid tag"),
        (tags(*["t"] * 100_001), "without end"),
        (_circle, "without end"),
        (endless(), "too large"),
        (status(200, b"<html>"), "no list in the place of the list of tags"),
        (status(200, b'{"tags": {"a": 1}}'), "no list in the place"),
        (status(200, b'{"tags": [1]}'), "no list in the place"),
        (status(200, b"[]"), "no list in the place"),
        (status(404, error_body("NAME_UNKNOWN", "unknown")), "repository .*/app not found"),
        (status(401), "pull access denied for .*/app"),
    ],
)
def test_bad_lists(
    faulty: FaultyRegistry, everything: AllPuller, action: Any, message: str
) -> None:
    faulty.on("tags/list", action, times=-1)
    with pytest.raises(FastboxError, match=message) as caught:
        everything()
    assert str(caught.value).isprintable()
    assert len(faulty.seen) <= 4


def test_a_tag_that_is_gone_ends_it(faulty: FaultyRegistry, everything: AllPuller) -> None:
    faulty.add_image("app:1", [layer("a")])
    faulty.on("tags/list", tags("1", "2"))
    with pytest.raises(NotFound, match="app:2 not found"):
        everything()
    assert len(everything.store.images()) == 1


@pytest.mark.parametrize("name", ["app:1", "app@sha256:" + "0" * 64])
def test_a_tag_and_all_tags(everything: AllPuller, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^tag can't be used with --all-tags/-a$"):
        everything(name)


@pytest.mark.parametrize(
    ("link", "query"),
    [
        ('</v2/a/tags/list?last=x&n=5>; rel="next"', "last=x&n=5"),
        ("<https://h/v2/?a=b>; rel=next", "a=b"),
        ('<?a=1>; rel="prev", <?b=2>; title="x"; rel="next"', "b=2"),
        ('<?a=1>; rel="prev"', ""),
        ("", ""),
        ("nonsense", ""),
        ('</v2/>; rel="next"', ""),
        ('<?a=\u00e9>; rel="next"', ""),
        ('<http://[x?a=1>; rel="next"', ""),
    ],
)
def test_links(link: str, query: str) -> None:
    assert next_query(link) == query


# ---- all platforms -------------------------------------------------------------------------------


def skopeo(*words: str) -> Any:
    done = subprocess.run(["skopeo", "inspect", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def add_index(server: FaultyRegistry) -> dict[str, Any]:
    """An index of two images and what a builder attests to one of them."""
    images = [server.add_image(f"app:{a}", [layer(a)], architecture=a) for a in ("amd64", "arm64")]
    statement, config = b'{"in": "toto"}', b"{}"
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, OCI_CONFIG),
        "layers": [descriptor(statement, "application/vnd.in-toto+json")],
    }
    for blob in (statement, config):
        server.add_blob(blob)
    attestation = server.add_manifest("app:att", document, OCI_MANIFEST)
    attestation["platform"] = {"architecture": "unknown", "os": "unknown"}
    return server.add_index("app", [*images, attestation])


def test_all_platforms(faulty: FaultyRegistry, puller: Puller, store: ImageStore) -> None:
    index = add_index(faulty)
    result = puller("app", all_platforms=True)
    assert (result.digest, result.status) == (index["digest"], "downloaded")
    assert sorted(store.blobs.digests()) == sorted(
        [*faulty.blobs, *{key.partition(":")[2] for key in faulty.manifests if "sha256" in key}]
    )
    (entry,) = store.entries()
    assert (entry.media_type, entry.digest) == (index["mediaType"], index["digest"])
    assert store.layer_dir(result.image.layers[0])
    assert (
        len(os.listdir(os.path.join(store.root, "layers")))
        == len([n for n in os.listdir(os.path.join(store.root, "layers")) if n.startswith(".")]) + 1
    )
    where = f"oci:{store.directory}:{faulty.host}/app:latest"
    assert skopeo(where)["Architecture"] == "amd64"
    assert skopeo("--override-arch", "arm64", where)["Architecture"] == "arm64"
    assert len(skopeo("--raw", where)["manifests"]) == 3
    seen = len(faulty.seen)
    assert puller("app", all_platforms=True).status == "up-to-date"
    assert len(faulty.seen) == seen + 1
    assert puller("app").status == "up-to-date"


def test_garbage_collection_keeps_all_of_an_index(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_index(faulty)
    puller("app", all_platforms=True)
    before = sorted(store.blobs.digests())
    monkeypatch.setattr(removal, "GRACE", -1)
    store.collect()
    assert sorted(store.blobs.digests()) == before
    store.remove(f"{faulty.host}/app")
    assert list(store.blobs.digests()) == []


def test_all_platforms_after_one(faulty: FaultyRegistry, puller: Puller, store: ImageStore) -> None:
    add_index(faulty)
    assert puller("app").status == "downloaded"
    assert puller("app", all_platforms=True).status == "downloaded"
    assert len(store.entries()) == 1


def test_all_platforms_of_gigabytes(
    faulty: FaultyRegistry, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_index(faulty)
    monkeypatch.setattr(oci, "MAX_DOCUMENTS", 1000)
    with pytest.raises(ImageError, match="too large"):
        puller("app", all_platforms=True)


def test_all_platforms_of_an_image_for_one(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore
) -> None:
    faulty.add_image("app", [layer("a")])
    puller("app", all_platforms=True)
    assert store.entries()[0].media_type == OCI_MANIFEST


def test_all_platforms_but_not_ours(faulty: FaultyRegistry, puller: Puller) -> None:
    faulty.add_index("app", [faulty.add_image("app:a", [layer("a")], architecture="s390x")])
    with pytest.raises(ImageError, match="no matching manifest for linux/amd64 in the manifest"):
        puller("app", all_platforms=True)


def test_all_platforms_and_one(puller: Puller) -> None:
    with pytest.raises(InvalidArgument, match="cannot specify both"):
        puller("app", all_platforms=True, platform="linux/arm64")


# ---- search --------------------------------------------------------------------------------------

RESULTS = [
    {"name": "redis", "description": "Redis is\nfast", "star_count": 9000, "is_official": True},
    {"name": "bitnami/redis", "description": None, "star_count": 20, "is_automated": True},
    {"name": "me/redis", "star_count": 0},
]


def answer(results: Any = RESULTS) -> Any:
    return status(200, json.dumps({"num_results": 3, "results": results}).encode())


@pytest.fixture
def index(world: World) -> FaultyRegistry:
    server = world.server("index.docker.io")
    server.on("/v1/search", answer(), times=-1)
    return server


def names(found: list[SearchResult]) -> list[str]:
    return [result.name for result in found]


def test_docker_hub(index: FaultyRegistry) -> None:
    found = search("redis server", policy=QUICK)
    assert names(found) == ["redis", "bitnami/redis", "me/redis"]
    assert found[0] == SearchResult(
        name="redis", description="Redis is fast", star_count=9000, is_official=True
    )
    assert found[1].description == ""
    (asked,) = index.seen
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(asked.path).query)
    assert query == {"q": ["redis server"], "n": ["25"]}


@pytest.mark.parametrize(
    ("term", "limit", "query"),
    [
        ("library/redis", 0, "q=redis&n=25"),
        ("docker.io/redis", -3, "q=redis&n=25"),
        ("index.docker.io/team/x", 100, "q=team%2Fx&n=100"),
        ("team/x", 1, "q=team%2Fx&n=1"),
        ("a&n=9#ü", 1, "q=a%26n%3D9%23%C3%BC&n=1"),
    ],
)
def test_what_is_asked(index: FaultyRegistry, term: str, limit: int, query: str) -> None:
    search(term, limit=limit, policy=QUICK)
    assert index.seen[0].path == f"/v1/search?{query}"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"stars": ["20"]}, ["redis", "bitnami/redis"]),
        ({"stars": ["1", "100"]}, ["redis"]),
        ({"is-official": ["true"]}, ["redis"]),
        ({"is-official": ["0"], "stars": ["1"]}, ["bitnami/redis"]),
        ({"is-automated": ["true"]}, ["bitnami/redis"]),
    ],
)
def test_filters(index: FaultyRegistry, filters: dict[str, list[str]], expected: list[str]) -> None:
    assert names(search("redis", filters=filters, policy=QUICK)) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 101}, r"limit 101 is outside the range of \[1, 100\]"),
        ({"filters": {"x": ["1"]}}, "invalid filter 'x'"),
        ({"filters": {"stars": ["many"]}}, r"invalid filter 'stars=\[many\]'"),
        ({"filters": {"is-official": ["maybe"]}}, r"invalid filter 'is-official=\[maybe\]'"),
        ({"term": "https://h.example/x"}, "should not have a scheme"),
        ({"term": "h.example:port/x"}, r"invalid index name \(h.example:port\)"),
        ({"term": "-h.example/x"}, "Cannot begin or end with a hyphen"),
    ],
)
def test_bad_searches(index: FaultyRegistry, arguments: dict[str, Any], message: str) -> None:
    term = arguments.pop("term", "redis")
    with pytest.raises(InvalidArgument, match=message):
        search(term, policy=QUICK, **arguments)
    assert index.seen == []


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (status(404), "searching index.docker.io failed: .* HTTP status 404"),
        (status(500), "HTTP status 500"),
        (status(200, b"<html>"), "the answer is not a list of results"),
        (status(200, b'{"results": [{"name": 5}]}'), "the answer is not a list of results"),
        (endless(), "too large"),
    ],
)
def test_bad_answers(world: World, action: Any, message: str) -> None:
    world.server("index.docker.io").on("/v1/search", action, times=-1)
    with pytest.raises(FastboxError, match=message):
        search("redis", policy=QUICK)


def test_what_it_finds_is_fit_to_print(world: World) -> None:
    results = [{"name": "a\x1b[2Jb", "description": "c\u202ed" + "e" * 1000}]
    world.server("index.docker.io").on("/v1/search", answer(results))
    (found,) = search("redis", policy=QUICK)
    assert (found.name + (found.description or "")).isprintable()


def test_a_private_registry_with_a_search(faulty: FaultyRegistry) -> None:
    faulty.on(r"/v1/search\?q=red&n=25", answer())
    found = search(f"{faulty.host}/red", policy=QUICK)
    assert names(found)[:2] == [f"{faulty.host}/redis", f"{faulty.host}/bitnami/redis"]


def test_the_catalog_of_a_real_registry(registry: Registry) -> None:
    for name in ("lists/one", "lists/two", "lists/tower"):
        registry.push(name, [layer("x")])
    found = search(f"{registry.host}/LISTS/t", policy=QUICK)
    assert names(found) == [f"{registry.host}/lists/tower", f"{registry.host}/lists/two"]
    assert found[0].star_count == 0
    assert len(search(f"{registry.host}/lists", limit=1, policy=QUICK)) == 1
    assert search(f"{registry.host}/lists", filters={"stars": ["1"]}, policy=QUICK) == []


def test_a_catalog_in_pages(faulty: FaultyRegistry) -> None:
    def page(handler: Handler) -> None:
        number = int(handler.path.rpartition("=")[2]) if "last" in handler.path else 0
        body = json.dumps({"repositories": [f"app{number}"]}).encode()
        link = f'</v2/_catalog?n=100&last={number + 1}>; rel="next"'
        handler.reply(200, body, {"Link": link} if number < 4 else None)

    faulty.on("/v2/_catalog", page, times=-1)
    assert len(search(f"{faulty.host}/app", policy=QUICK)) == 5
    faulty.seen.clear()
    assert len(search(f"{faulty.host}/app", limit=2, policy=QUICK)) == 2
    assert len(faulty.requests("_catalog")) == 2


def test_a_registry_that_wants_credentials(auth_registry: Registry) -> None:
    with pytest.raises(AuthError) as caught:
        search(f"{auth_registry.host}/x", policy=QUICK)
    assert "pull" not in str(caught.value)
    assert "unauthorized" in str(caught.value)
    assert caught.value.hint


def test_a_registry_without_catalog(faulty: FaultyRegistry) -> None:
    with pytest.raises(FastboxError, match=r"fetching the catalog of .* failed: .* status 404"):
        search(f"{faulty.host}/x", policy=QUICK)
