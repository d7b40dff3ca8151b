"""``images``: order, names, filters; and that a large store stays quick."""

from __future__ import annotations

import pytest

from fastbox.errors import FastboxError, InvalidArgument, NotFound
from fastbox.image.listing import display_names, select
from fastbox.image.store import Broken, ImageStore
from fastbox.image.types import Image
from tests.image.build import open_store, put, tar


@pytest.fixture
def store(root: str) -> ImageStore:
    store = open_store(root)
    images = {
        "busybox:musl": ("2024-01-01T00:00:00Z", {"a": "1"}),
        "busybox:uclibc": ("2024-02-01T00:00:00.5+01:00", {"a": "2", "b": "x"}),
        "localhost:5000/team/busybox:glibc": ("2024-03-01T00:00:00Z", None),
        "redis:7": ("nonsense", {"b": "x"}),
    }
    for name, (created, labels) in images.items():
        put(store, name, [tar({"file": name.encode()})], created=created, labels=labels,
            repo_digest="sha256:" + "1" * 64 if name == "redis:7" else None)  # fmt: skip
    put(store, None, [tar({"file": b"dangling"})], created="2024-04-01T00:00:00Z")
    return store


def rows(images: list[Image]) -> list[str]:
    return [":".join(row) for image in images for row in display_names(image)]


def listed(store: ImageStore, reference: str | None = None) -> list[str]:
    return rows(select(store, reference))


ALL = [
    "<none>:<none>",
    "localhost:5000/team/busybox:glibc",
    "busybox:uclibc",
    "busybox:musl",
    "redis:7",
]


def test_newest_first(store: ImageStore) -> None:
    assert listed(store) == ALL
    assert select(store, all=True) == select(store)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("busybox", ["busybox:uclibc", "busybox:musl"]),
        ("busybox:musl", ["busybox:musl"]),
        ("docker.io/library/busybox", ["busybox:uclibc", "busybox:musl"]),
        ("busy*", ["busybox:uclibc", "busybox:musl"]),
        ("busy*:*libc", ["busybox:uclibc"]),
        ("busy*/*", []),
        ("localhost:5000/*/busybox", ["localhost:5000/team/busybox:glibc"]),
        ("docker.io/library/*", ["busybox:uclibc", "busybox:musl", "redis:7"]),
        ("*/*/*", ["localhost:5000/team/busybox:glibc"]),
        ("r[a-f]dis:?", ["redis:7"]),
        ("r[^e]dis", []),
        ("Busybox", []),
        ("ls", []),
    ],
)
def test_by_name(store: ImageStore, reference: str, expected: list[str]) -> None:
    assert listed(store, reference) == expected
    assert rows(select(store, filters={"reference": [reference]})) == expected


def test_only_the_fitting_names_of_an_image(store: ImageStore) -> None:
    store.tag("redis:7", "cache:1")
    assert listed(store, "cache") == ["cache:1"]
    assert len(select(store, "cache")) == 1


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"dangling": ["true"]}, ALL[:1]),
        ({"dangling": ["0"]}, ALL[1:]),
        ({"dangling": ["true", "false"]}, ALL),
        ({"label": ["a"]}, ["busybox:uclibc", "busybox:musl"]),
        ({"label": ["a=1"]}, ["busybox:musl"]),
        ({"label": ["a", "b"]}, ["busybox:uclibc"]),
        ({"label!": ["a"]}, [ALL[0], ALL[1], "redis:7"]),
        ({"label!": ["a", "b"]}, [ALL[0], ALL[1], "busybox:musl", "redis:7"]),
        ({"before": ["busybox:uclibc"]}, ["busybox:musl", "redis:7"]),
        ({"since": ["busybox:uclibc"]}, ALL[:2]),
        ({"until": ["2024-02-15T00:00:00Z"]}, ALL[2:]),
        ({"until": ["1h"]}, ALL),
        ({"until": ["1704067200"]}, ["redis:7"]),
        ({"reference": ["redis", "busybox:musl"]}, ["busybox:musl", "redis:7"]),
        ({"reference": ["busybox"], "label": ["b"]}, ["busybox:uclibc"]),
    ],
)
def test_filters(store: ImageStore, filters: dict[str, list[str]], expected: list[str]) -> None:
    assert rows(select(store, filters=filters)) == expected


@pytest.mark.parametrize(
    ("filters", "error", "message"),
    [
        ({"dangling": ["maybe"]}, InvalidArgument, "invalid filter 'dangling=[maybe]'"),
        ({"foo": ["x"]}, InvalidArgument, "invalid filter 'foo'"),
        ({"before": ["nope"]}, NotFound, "No such image: nope:latest"),
        ({"until": ["soon"]}, InvalidArgument,
         'failed to parse value as time or duration: "soon"'),
        ({"reference": ["[a"]}, InvalidArgument,
         "invalid reference filter '[a': syntax error in pattern"),
        ({"reference": ["a\\"]}, InvalidArgument,
         "invalid reference filter 'a\\\\': syntax error in pattern"),
    ],
)  # fmt: skip
def test_bad_filters(
    store: ImageStore, filters: dict[str, list[str]], error: type[FastboxError], message: str
) -> None:
    with pytest.raises(error) as caught:
        select(store, filters=filters)
    assert str(caught.value) == message


def test_an_image_without_a_tag_shows_its_repository(store: ImageStore) -> None:
    put(store, "redis:7", [tar({"file": b"newer"})], created="2024-05-01T00:00:00Z")
    assert listed(store)[0] == "redis:7"
    assert listed(store)[-1] == "redis:<none>"


def test_many_stars_take_no_time(store: ImageStore) -> None:
    assert listed(store, "*" * 500 + "b") == []


def test_a_large_store_is_read_once(root: str) -> None:
    store = open_store(root)
    for number in range(200):
        put(store, f"many:{number}", [tar({"file": str(number).encode()})])
    reads = 0
    original = store.blobs.read

    def counting(*args: object, **kwargs: object) -> bytes:
        nonlocal reads
        reads += 1
        return original(*args, **kwargs)  # type: ignore[arg-type]

    fresh = open_store(root)
    fresh.blobs.read = counting  # type: ignore[method-assign]
    assert len(select(fresh)) == 200
    assert reads == 400  # a manifest and a config each
    assert len(select(fresh)) == 200
    assert reads == 400


def test_broken_entries_are_reported(store: ImageStore) -> None:
    import os

    os.unlink(store.blob_path(store.resolve("redis:7").id))
    fresh = open_store(store.root)
    broken: list[Broken] = []
    assert len(select(fresh, broken=broken)) == 4
    assert [found.name for found in broken] == ["docker.io/library/redis:7"]
