"""Pulls that go well: every kind of document and layer, from the scripted registry."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fastbox.errors import DigestMismatch, ImageError, InvalidArgument, NotFound, Unsupported
from fastbox.image.store import ImageStore
from tests.support.registry import DOCKER_LIST, digest_of

from .conftest import Puller, layer
from .server import FaultyRegistry

State = Callable[[], dict[str, list[str]]]


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_an_image_is_there_after_a_pull(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore, docker: bool, compression: str
) -> None:
    lower, upper = layer("a", "both"), layer("b", "both", seed=1)
    described = faulty.add_image("app:1", [lower, upper], docker=docker, compression=compression)
    result = puller("app:1")
    assert result.status == "downloaded"
    assert result.name == f"{faulty.host}/app:1"
    assert result.digest == described["digest"]
    assert result.image.id == described["config"]
    assert result.image.layers == [digest_of(lower), digest_of(upper)]
    assert result.image.names == [f"{faulty.host}/app:1"]
    assert result.image.repo_digests == [f"{faulty.host}/app@{described['digest']}"]
    directory = store.layer_dir(digest_of(upper))
    assert directory is not None
    assert sorted(os.listdir(directory)) == ["b", "both"]
    for blob in described["layers"]:
        with open(store.blob_path(blob["digest"]), "rb") as file:
            assert file.read() == faulty.blobs[blob["digest"]]
    assert store.resolve(f"{faulty.host}/app:1").id == described["config"]


def test_the_progress_tells_each_step_in_dockers_words(
    faulty: FaultyRegistry, puller: Puller
) -> None:
    described = faulty.add_image("app", [layer("a", size=300_000)])
    puller("app")
    blob = described["layers"][0]
    assert puller.statuses(blob["digest"][7:19]) == [
        "Pulling fs layer", "Downloading", "Download complete", "Extracting", "Pull complete",
    ]  # fmt: skip
    numbers = [(e.current, e.total) for e in puller.events if e.status == "Downloading"]
    assert all(total == blob["size"] and current <= total for current, total in numbers)


def test_progress_comes_in_the_calling_thread(faulty: FaultyRegistry, store: ImageStore) -> None:
    faulty.add_image("app", [layer("a"), layer("b")])
    threads = set()
    puller = Puller(store, faulty.host)
    puller.events = _Calling(threads)  # type: ignore[assignment]
    puller("app")
    assert threads == {threading.get_ident()}


class _Calling(list[Any]):
    def __init__(self, threads: set[int]) -> None:
        super().__init__()
        self.threads = threads

    def append(self, event: Any) -> None:
        self.threads.add(threading.get_ident())


def test_a_layer_that_is_here_is_not_fetched_again(faulty: FaultyRegistry, puller: Puller) -> None:
    shared = layer("shared")
    faulty.add_image("one", [shared])
    described = faulty.add_image("two", [shared, layer("own")])
    puller("one")
    puller.events.clear()
    puller("two")
    first, second = (blob["digest"] for blob in described["layers"])
    assert puller.statuses(first[7:19]) == ["Already exists"]
    assert len(faulty.requests(f"GET .*{first}")) == 1
    assert len(faulty.requests(f"GET .*{second}")) == 1


def test_a_tag_that_did_not_move_costs_one_head_request(
    faulty: FaultyRegistry, puller: Puller
) -> None:
    faulty.add_image("app", [layer("a")])
    first = puller("app")
    count = len(faulty.seen)
    again = puller("app")
    assert again.status == "up-to-date"
    assert (again.digest, again.image.id) == (first.digest, first.image.id)
    assert [seen.method for seen in faulty.seen[count:]] == ["HEAD"]


def test_a_tag_that_moved_leaves_the_old_image_without_a_name(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore
) -> None:
    faulty.add_image("app", [layer("a")])
    old = puller("app").image
    faulty.add_image("app", [layer("b")])
    new = puller("app")
    assert new.status == "downloaded"
    assert new.image.id != old.id
    assert store.resolve(f"{faulty.host}/app").id == new.image.id
    assert store.resolve(old.id).names == []


def test_a_pull_by_digest_gives_no_tag_and_needs_no_registry_again(
    faulty: FaultyRegistry, puller: Puller
) -> None:
    described = faulty.add_image("app:1", [layer("a")])
    name = f"app@{described['digest']}"
    result = puller(name)
    assert result.image.names == []
    assert result.image.repo_digests == [f"{faulty.host}/{name}"]
    count = len(faulty.seen)
    assert puller(name).status == "up-to-date"
    assert len(faulty.seen) == count


def test_a_tag_beside_a_digest_is_not_looked_at(faulty: FaultyRegistry, puller: Puller) -> None:
    described = faulty.add_image("app:1", [layer("a")])
    result = puller(f"app:other@{described['digest']}")
    assert result.image.names == []
    assert result.digest == described["digest"]


def test_layers_of_a_store_without_directories_are_unpacked_from_blobs(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore
) -> None:
    content = layer("a")
    described = faulty.add_image("app", [content])
    puller("app")
    store.layers.remove(os.path.basename(store.layer_dir(digest_of(content)) or ""))
    puller.events.clear()
    puller("app")
    blob = described["layers"][0]["digest"]
    assert store.layer_dir(digest_of(content)) is not None
    assert len(faulty.requests(f"GET .*{blob}")) == 1
    assert puller.statuses(blob[7:19]) == ["Extracting", "Pull complete"]


def test_a_damaged_blob_is_fetched_again(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore
) -> None:
    content = layer("a")
    described = faulty.add_image("app", [content])
    puller("app")
    store.layers.remove(os.path.basename(store.layer_dir(digest_of(content)) or ""))
    blob = described["layers"][0]["digest"]
    with open(store.blob_path(blob), "r+b") as file:
        file.seek(200)
        byte = file.read(1)
        file.seek(200)
        file.write(bytes([byte[0] ^ 1]))
    puller("app")
    assert store.layer_dir(digest_of(content)) is not None
    assert len(faulty.requests(f"GET .*{blob}")) == 2
    with open(store.blob_path(blob), "rb") as file:
        assert digest_of(file.read()) == blob


def test_one_blob_that_is_two_layers_is_fetched_once(
    faulty: FaultyRegistry, puller: Puller
) -> None:
    same = layer("a")
    described = faulty.add_image("app", [same, layer("b"), same])
    result = puller("app")
    assert len(result.image.layers) == 3
    assert len(faulty.requests(f"GET .*{described['layers'][0]['digest']}")) == 1


def test_an_image_without_layers(faulty: FaultyRegistry, puller: Puller) -> None:
    faulty.add_image("scratch", [])
    assert puller("scratch").image.layers == []


def test_many_layers(faulty: FaultyRegistry, puller: Puller, store: ImageStore) -> None:
    contents = [layer(f"file{n}", size=20_000) for n in range(20)]
    faulty.add_image("many", contents)
    result = puller("many")
    assert all(store.layer_dir(diff_id) for diff_id in result.image.layers)


# ---- indexes and platforms -----------------------------------------------------------------------


@pytest.fixture
def three(faulty: FaultyRegistry) -> dict[str, dict[str, Any]]:
    """``multi``: an index of three platforms."""
    images = {
        name: faulty.add_image(f"multi:{name}", [layer(name)], architecture=name)
        for name in ("amd64", "arm64", "s390x")
    }
    faulty.add_index("multi:latest", list(images.values()))
    return images


@pytest.mark.parametrize("architecture", ["amd64", "arm64", "s390x"])
def test_the_platform_chooses_from_an_index(
    puller: Puller, three: dict[str, dict[str, Any]], architecture: str
) -> None:
    result = puller("multi", platform=f"linux/{architecture}")
    assert result.image.id == three[architecture]["config"]
    assert result.image.architecture == architecture
    assert result.image.manifest_digest == three[architecture]["digest"]


def test_the_digest_of_a_multi_platform_image_is_the_indexs(
    faulty: FaultyRegistry, puller: Puller, three: dict[str, dict[str, Any]]
) -> None:
    result = puller("multi", platform="linux/arm64")
    index = digest_of(faulty.manifests["multi:latest"][0])
    assert result.digest == index
    assert puller(f"multi@{index}", platform="linux/arm64").status == "up-to-date"
    other = puller("multi", platform="linux/s390x")
    assert other.status == "downloaded"
    assert other.image.architecture == "s390x"


def test_a_docker_manifest_list(faulty: FaultyRegistry, puller: Puller) -> None:
    one = faulty.add_image("list:one", [layer("a")], docker=True, architecture="arm64")
    faulty.add_index("list:all", [one], DOCKER_LIST)
    assert puller("list:all", platform="linux/arm64").image.id == one["config"]


def test_an_index_in_an_index(faulty: FaultyRegistry, puller: Puller) -> None:
    one = faulty.add_image("nested:one", [layer("a")])
    inner = faulty.add_index("nested:inner", [one])
    faulty.add_index("nested:outer", [{**inner, "platform": one["platform"]}])
    assert puller("nested:outer", platform="linux/amd64").image.id == one["config"]


def test_indexes_do_not_nest_for_ever(faulty: FaultyRegistry, puller: Puller) -> None:
    one = faulty.add_image("deep:0", [layer("a")])
    for n in range(1, 12):
        inner = faulty.add_index(f"deep:{n}", [one])
        one = {**inner, "platform": {"os": "linux", "architecture": "amd64"}}
    with pytest.raises(ImageError, match="nested too deep"):
        puller("deep:11", platform="linux/amd64")


def test_no_such_platform(puller: Puller, three: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ImageError) as caught:
        puller("multi", platform="linux/riscv64")
    text = "no matching manifest for linux/riscv64 in the manifest list entries"
    assert str(caught.value) == text
    assert "linux/arm64" in (caught.value.hint or "")


def test_a_single_image_of_another_platform(faulty: FaultyRegistry, puller: Puller) -> None:
    faulty.add_image("arm", [layer("a")], architecture="arm64")
    assert puller("arm").image.architecture == "arm64"  # as Docker: taken, with a warning at run
    with pytest.raises(ImageError, match=r"does not provide the specified platform \(linux/386\)"):
        puller("arm", platform="linux/386")


def test_an_image_of_another_system(faulty: FaultyRegistry, puller: Puller, state: State) -> None:
    faulty.add_image("win", [layer("a")], system="windows")
    with pytest.raises(Unsupported, match='image operating system "windows" cannot be used'):
        puller("win")
    assert state()["blobs"] == []


def test_a_malformed_platform_asks_nobody(faulty: FaultyRegistry, puller: Puller) -> None:
    with pytest.raises(InvalidArgument):
        puller("app", platform="linux/amd64/v1/more")
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        puller("app@sha256:12")
    assert faulty.seen == []


# ---- embedded data -------------------------------------------------------------------------------


def test_embedded_content_is_not_fetched(faulty: FaultyRegistry, puller: Puller) -> None:
    import base64

    def embed(manifest: dict[str, Any]) -> None:
        for part in (manifest["config"], manifest["layers"][0]):
            part["data"] = base64.b64encode(faulty.blobs[part["digest"]]).decode()

    described = faulty.add_image("embedded", [layer("a")], change=embed)
    assert puller("embedded").image.id == described["config"]
    assert faulty.requests("/blobs/") == []


def test_embedded_content_is_verified(faulty: FaultyRegistry, puller: Puller, state: State) -> None:
    def embed(manifest: dict[str, Any]) -> None:
        manifest["config"]["data"] = "e30="

    faulty.add_image("liar", [layer("a")], change=embed)
    with pytest.raises(ImageError, match="does not match its digest and size"):
        puller("liar")
    assert state()["blobs"] == []


# ---- wrong names ---------------------------------------------------------------------------------


def test_an_unknown_tag(faulty: FaultyRegistry, puller: Puller) -> None:
    with pytest.raises(NotFound) as caught:
        puller("ubuntu:nope")
    name = f"{faulty.host}/ubuntu:nope"
    assert str(caught.value) == f"manifest for {name} not found: manifest unknown: manifest unknown"


def test_two_meanings_of_one_blob(faulty: FaultyRegistry, puller: Puller) -> None:
    same = layer("a")
    ids = [digest_of(same), digest_of(layer("b"))]
    faulty.add_image("odd", [same, same], diff_ids=ids)
    with pytest.raises(DigestMismatch, match="two different things"):
        puller("odd")


def test_foreign_urls_are_not_followed(faulty: FaultyRegistry, puller: Puller) -> None:
    """SECURITY E1: content comes from the registry or not at all."""

    def point_elsewhere(manifest: dict[str, Any]) -> None:
        manifest["layers"][0]["urls"] = [f"{faulty.url}/elsewhere"]

    described = faulty.add_image("foreign", [layer("a")], change=point_elsewhere)
    del faulty.blobs[described["layers"][0]["digest"]]
    with pytest.raises(Exception, match="blob unknown"):
        puller("foreign")
    assert faulty.requests("elsewhere") == []


def test_the_store_stays_an_image_layout(
    faulty: FaultyRegistry, puller: Puller, store: ImageStore
) -> None:
    faulty.add_image("app", [layer("a")])
    puller("app")
    with open(os.path.join(store.directory, "index.json"), "rb") as file:
        entries = json.load(file)["manifests"]
    names = [e["annotations"]["org.opencontainers.image.ref.name"] for e in entries]
    assert names == [f"{faulty.host}/app:latest"]
