"""image prune and system df on the store: what goes, what it frees, and what stays for others."""

from __future__ import annotations

import os
import threading

import pytest

from fastbox import locks
from fastbox.errors import InvalidArgument
from fastbox.image import trash
from fastbox.image.prune import Pruned, prune, usage
from fastbox.image.store import ImageStore
from tests.image.build import check, leftovers, make, names, open_store, put, tar
from tests.support.wait import wait_for


def pruned(store: ImageStore, *used: str, **options: object) -> Pruned:
    return prune(store, used=lambda: used, **options)  # type: ignore[arg-type]


def lines(done: Pruned) -> list[str]:
    return [f"{one.kind}: {one.what}" for one in done.removed]


def bytes_of(root: str) -> int:
    """What the files of blobs, layers and partial downloads have."""
    total = 0
    for part in ("images/blobs", "images/ingest", "layers"):
        for directory, _, files in os.walk(f"{root}/{part}"):
            if not directory.endswith("/.meta"):
                total += sum(os.lstat(f"{directory}/{name}").st_size for name in files)
    return total


def test_dangling_images_go(root: str, store: ImageStore) -> None:
    old = make(store, "a", "old")
    new = make(store, "a", "new!")
    before = bytes_of(root)
    done = pruned(store)
    assert lines(done) == [f"deleted: {old.id}"]
    assert done.freed == before - bytes_of(root) > 0
    assert names(store) == {new.id: ["docker.io/library/a:latest"]}
    check(root)
    assert pruned(store) == Pruned()


def test_all_that_no_container_has_goes(root: str, store: ImageStore) -> None:
    used = make(store, "a", "x")
    make(store, "b", "y")
    store.tag("b", "b:2")
    nameless = put(
        store, "c@sha256:" + "1" * 64, [tar({"file": b"z"})], created="2020-01-01T00:00:00Z"
    )
    assert lines(pruned(store, used.id, nameless.id)) == []
    done = pruned(store, used.id, all=True)
    assert lines(done)[:2] == ["untagged: b:latest", "untagged: b:2"]
    assert lines(done)[3:] == ["untagged: c@sha256:" + "1" * 64, f"deleted: {nameless.id}"]
    assert list(names(store)) == [used.id]
    check(root)
    pruned(store, all=True)
    assert bytes_of(root) == 0 and leftovers(root) == []


def test_shared_layers_stay(root: str, store: ImageStore) -> None:
    base, top = tar({"file": b"base"}), tar({"file": b"top"})
    keeps = put(store, "keeps", [base])
    store.ensure_layers(put(store, None, [base, top]))
    before = bytes_of(root)
    assert pruned(store).freed == before - bytes_of(root)
    assert store.has_blob(keeps.layer_blobs[0])
    assert store.layer_dir(keeps.layers[0]) is not None
    check(root)


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"label": ["a"]}, "bc"),
        ({"label!": ["a"]}, "ac"),
        ({"until": ["2024-02-01"]}, "bc"),
        ({"until": ["1h"]}, "c"),
        ({"until": ["1h"], "label": ["b"]}, "ac"),
        ({"dangling": ["true"]}, "c"),
        ({"dangling": ["false"]}, ""),
    ],
)
def test_filters(store: ImageStore, filters: dict[str, list[str]], left: str) -> None:
    put(store, None, [tar({"a": b""})], created="2024-01-01T00:00:00Z", labels={"a": "1"})
    put(store, None, [tar({"b": b""})], created="2024-03-01T00:00:00Z", labels={"b": "1"})
    put(store, "c", [tar({"c": b""})], created="nonsense")
    pruned(store, filters=filters)
    there = [image.config["config"].get("Labels") or {"c": ""} for image in store.images()]  # type: ignore[attr-defined]
    assert "".join(sorted(key for labels in there for key in labels)) == left


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": {"dangling": ["maybe"]}}, "invalid filter 'dangling=[maybe]'"),
        ({"filters": {"reference": ["a"]}}, "invalid filter 'reference'"),
        ({"filters": {"until": ["1h", "2h"]}}, "more than one until filter specified"),
        ({"filters": {"until": ["soon"]}}, 'failed to parse value as time or duration: "soon"'),
        ({"filters": {"dangling": ["1"]}, "all": True},
         "invalid filter 'dangling=[true]': it contradicts --all"),
    ],
)  # fmt: skip
def test_bad_filters_remove_nothing(
    store: ImageStore, options: dict[str, object], message: str
) -> None:
    make(store, None, "x")
    with pytest.raises(InvalidArgument) as caught:
        pruned(store, **options)
    assert str(caught.value) == message
    assert len(store.images()) == 1


def old(path: str, seconds: float) -> None:
    found = os.stat(path)
    os.utime(path, (found.st_atime, found.st_mtime - seconds))


def test_all_takes_what_interrupted_pulls_left(root: str, store: ImageStore) -> None:
    blob = store.put_blob(b"left by a killed pull")
    with store.lease():
        store.commit_layer(store.stage_layer(), "sha256:" + "d" * 64, 7, 1)
    with open(store.ingest_path("sha256:" + "e" * 64), "w") as file:
        file.write("half")
    old(store.blob_path(blob), 3600)
    young = store.put_blob(b"of a skopeo that writes its index last")
    assert pruned(store) == Pruned()
    assert usage(store, {}).reclaimable == 7 + 4 + 21
    assert pruned(store, all=True) == Pruned(freed=7 + 4 + 21)
    assert store.blobs.digests() == [young] and store.layers.names() == []


# ---- others at work ------------------------------------------------------------------------------


def test_what_an_import_has_begun_meanwhile_stays(
    root: str, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partial files go only while nobody has a lease."""
    make(store, "a", "x")
    with open(f"{store.blobs.ingest}/sha256-{'1' * 64}", "w") as file:
        file.write("part")
    moved, move = [], trash.move

    def watched(path: str, target: str) -> str | None:
        if "/ingest/" in path:
            moved.append(path)
            with (
                pytest.raises(BlockingIOError),
                locks.lock(f"{store.directory}/lease", shared=True, blocking=False),
            ):
                pass
        return move(path, target)

    monkeypatch.setattr(trash, "move", watched)
    pruned(store, all=True)
    assert len(moved) == 1 and os.listdir(store.blobs.ingest) == []


def test_a_prune_waits_for_who_is_about_to_end(root: str, store: ImageStore) -> None:
    image = make(store, None, "x")
    before = bytes_of(root)
    held, go = threading.Event(), threading.Event()

    def pull() -> None:
        with open_store(root).lease():
            held.set()
            go.wait(60)

    puller = threading.Thread(target=pull)
    puller.start()
    held.wait(60)
    results: list[Pruned] = []
    pruner = threading.Thread(target=lambda: results.append(pruned(store)))
    pruner.start()
    wait_for(lambda: os.path.exists(f"{root}/images/unswept"), "the prune to find the lease")
    assert store.images() == [] and store.has_blob(image.layer_blobs[0])
    go.set()
    pruner.join()
    puller.join()
    assert results[0].freed == before and results[0].left == 0
    assert bytes_of(root) == 0


def test_a_long_pull_keeps_what_it_may_need(
    root: str, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastbox.image.prune.PATIENCE", 0.0)
    make(store, None, "x")
    before = bytes_of(root)
    with open_store(root).lease():
        done = pruned(store)
        assert (done.freed, done.left) == (0, before)
        assert pruned(store) == Pruned(left=before)
        assert bytes_of(root) == before
    assert bytes_of(root) == 0


# ---- system df -----------------------------------------------------------------------------------


def test_usage_counts_shared_layers_once(root: str, store: ImageStore) -> None:
    base, top = tar({"file": b"b" * 1000}), tar({"file": b"top"})
    one = put(store, "one", [base], created="2024-01-01T00:00:00Z")
    two = put(store, "two", [base, top])
    put(store, "empty", [])
    for image in (one, two):
        store.ensure_layers(image)
    found = usage(store, {one.id: 2})
    assert found.size == bytes_of(root)
    sizes = {image.image.id: image for image in found.images}
    assert sizes[one.id].shared == sizes[two.id].shared == len(base) + 1000
    assert sizes[two.id].unique == found.reclaimable - sum(
        image.size for image in found.images if not image.image.layers
    )
    assert [sizes[image.id].containers for image in (one, two)] == [2, 0]
    assert sum(i.unique for i in found.images) + len(base) + 1000 == found.size
    done = pruned(store, one.id, all=True)
    assert done.freed == found.reclaimable
    assert usage(store, {one.id: 2}).reclaimable == 0


def test_usage_of_a_layer_with_two_names(root: str, store: ImageStore) -> None:
    image = make(store, "a", "x" * 100)
    name = image.layers[0][7:31]
    before = usage(store, {image.id: 1})
    os.rename(f"{root}/layers/{name}", f"{root}/layers/{'e' * 24}")
    os.symlink("e" * 24, f"{root}/layers/{name}")
    os.rename(f"{root}/layers/.meta/{name}.json", f"{root}/layers/.meta/{'e' * 24}.json")
    after = usage(store, {image.id: 1})
    assert (after.size, after.reclaimable) == (before.size, 0)
    assert after.images[0].size == before.images[0].size
    pruned(store, image.id, all=True)
    assert sorted(store.layers.names()) == sorted([name, "e" * 24])


def test_usage_of_an_empty_store(root: str) -> None:
    found = usage(ImageStore(root), {})
    assert (found.size, found.reclaimable, found.images) == (0, 0, [])
    assert pruned(open_store(root)) == Pruned()
