"""Volumes: names, life, filters, damage."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import threading
from collections.abc import Iterator

import pytest

from fastbox.errors import (
    Conflict,
    FastboxError,
    InvalidArgument,
    NotFound,
    StoreError,
    Unsupported,
)
from fastbox.volume.store import VolumeStore
from tests.image.build import die_at


@pytest.fixture
def store(root: str) -> VolumeStore:
    return VolumeStore(root)


def test_create_get_list_remove(root: str, store: VolumeStore) -> None:
    volume = store.create("data", labels={"a": "b"})
    assert volume.mountpoint == f"{root}/volumes/data/_data"
    assert (volume.driver, volume.labels, volume.anonymous) == ("local", {"a": "b"}, False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", volume.created)
    assert stat.S_IMODE(os.stat(f"{root}/volumes").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{root}/volumes/data").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(volume.mountpoint).st_mode) == 0o755
    with open(f"{volume.mountpoint}/file", "w") as file:
        file.write("kept")
    assert store.create("data", labels={"other": "x"}) == volume == store.get("data")
    assert os.path.exists(f"{volume.mountpoint}/file")
    store.create("beta")
    assert [found.name for found in VolumeStore(root).list()] == ["beta", "data"]
    store.remove("data")
    assert [found.name for found in store.list()] == ["beta"]
    assert os.listdir(f"{root}/trash") == [] and os.listdir(f"{root}/volumes/.tmp") == []


def test_anonymous(store: VolumeStore) -> None:
    one, two = store.create(), store.create()
    assert one.anonymous and re.fullmatch(r"[0-9a-f]{64}", one.name) and one.name != two.name


def test_an_empty_store_has_none(root: str) -> None:
    assert VolumeStore(root).list() == []
    assert VolumeStore(root).prune() == ([], 0)
    assert os.listdir(root) == []


BAD = '" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are'


@pytest.mark.parametrize(
    "name",
    ["a b", "", "..", ".", ".tmp", "../x", "a/b", "/etc", "-x", "_x", "a\0b", "a\nb", "é\u0301e",
     "x" * 256, "%2e%2e", "\uff41bc", "a:b"],
)  # fmt: skip
def test_bad_names(root: str, store: VolumeStore, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        store.create(name)
    assert BAD in str(caught.value) and "\n" not in str(caught.value)
    for call in (store.get, store.remove):
        with pytest.raises(NotFound, match=r"no such volume"):
            call(name)
    store.remove(name, force=True)
    assert not os.path.exists(f"{root}/volumes")


def test_a_name_of_one_character_is_too_short(store: VolumeStore) -> None:
    with pytest.raises(InvalidArgument) as caught:
        store.create("a")
    assert str(caught.value) == (
        "volume name is too short, names should be at least two alphanumeric characters"
    )


def test_options_are_not_supported(store: VolumeStore) -> None:
    with pytest.raises(Unsupported, match=r"volume option 'type' is not supported"):
        store.create("data", options={"type": "nfs"})
    assert store.list() == []


def test_missing_and_used(store: VolumeStore) -> None:
    with pytest.raises(NotFound) as caught:
        store.remove("nope")
    assert str(caught.value) == "get nope: no such volume"
    store.create("data")
    with pytest.raises(Conflict) as conflict:
        store.remove("data", force=True, in_use=lambda: {"data": ["c1", "c2"]})
    assert str(conflict.value) == "remove data: volume is in use - [c1, c2]"
    store.get("data")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["alpha", "beta", "gamma"]),
        ({"dangling": ["true"]}, ["beta", "gamma"]),
        ({"dangling": ["0"]}, ["alpha"]),
        ({"name": ["a"]}, ["alpha", "beta", "gamma"]),
        ({"name": ["^a", "mm"]}, ["alpha", "gamma"]),
        ({"name": ["("]}, []),
        ({"label": ["k"]}, ["alpha", "beta"]),
        ({"label": ["k=1"]}, ["alpha"]),
        ({"label": ["k", "l"]}, ["beta"]),
        ({"driver": ["local"]}, ["alpha", "beta", "gamma"]),
        ({"driver": ["nfs"]}, []),
        ({"label": ["k"], "name": ["bet"]}, ["beta"]),
    ],
)
def test_filters(store: VolumeStore, filters: dict[str, list[str]], expected: list[str]) -> None:
    store.create("alpha", labels={"k": "1"})
    store.create("beta", labels={"k": "2", "l": ""})
    store.create("gamma")
    found = store.list(filters=filters, in_use=lambda: {"alpha": ["c"]})
    assert [volume.name for volume in found] == expected


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"foo": ["x"]}, "invalid filter 'foo'"),
        ({"dangling": ["maybe"]}, "invalid filter 'dangling=[maybe]'"),
    ],
)
def test_bad_filters(store: VolumeStore, filters: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        store.list(filters=filters)
    assert str(caught.value) == message
    with pytest.raises(InvalidArgument):
        store.prune(filters={"foo": ["x"]})


def test_prune(store: VolumeStore) -> None:
    named, used = store.create("named"), store.create()
    free = store.create(labels={"keep": "no"})
    for volume in (named, used, free):
        with open(f"{volume.mountpoint}/file", "wb") as file:
            file.write(b"x" * 1000)
        os.link(f"{volume.mountpoint}/file", f"{volume.mountpoint}/again")
        os.symlink("/etc/passwd", f"{volume.mountpoint}/link")
    users = {used.name: ["c"]}
    assert store.prune(filters={"label!": ["keep"]}, in_use=lambda: users) == ([], 0)
    assert store.prune(in_use=lambda: users) == ([free.name], 1000 + len("/etc/passwd"))
    names, _ = store.prune(filters={"all": ["true"]}, in_use=lambda: users)
    assert names == ["named"]
    assert [volume.name for volume in store.list()] == [used.name]


def test_removal_goes_as_deep_as_a_container_did(root: str, store: VolumeStore) -> None:
    volume = store.create("deep")
    fd = os.open(volume.mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = inner
    with open(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "w") as file:
        file.write("12345")
    os.close(fd)
    assert store.prune(all=True) == (["deep"], 5)
    assert os.listdir(f"{root}/trash") == []


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b'{"name":"other","created":""}'])
def test_damaged_metadata_are_named_and_the_data_kept(
    root: str, store: VolumeStore, content: bytes | None
) -> None:
    volume = store.create("data")
    store.create("good")
    path = f"{root}/volumes/data/volume.json"
    os.unlink(path)
    if content is not None:
        with open(path, "wb") as file:
            file.write(content)
    with pytest.raises(StoreError) as caught:
        store.get("data")
    assert path in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(StoreError):
        store.create("data")
    assert [found.name for found in store.list()] == ["data", "good"]
    assert os.path.isdir(volume.mountpoint)
    store.remove("data")
    assert [found.name for found in store.list()] == ["good"]


def test_many_at_once_make_one(root: str) -> None:
    made: list[str] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            made.append(VolumeStore(root).create("same").created)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(set(made)) == 1 and len(made) == 8
    assert os.listdir(f"{root}/volumes/.tmp") == []


def test_killed_at_any_step_of_create_and_remove(root: str) -> None:
    def action() -> None:
        store = VolumeStore(root)
        store.create("one")
        store.remove("one")

    for point in range(1, 200):
        lived = die_at(point, action)
        store = VolumeStore(root)
        for volume in store.list():
            assert store.get(volume.name) == volume  # whole, if there
        store.create("two")
        assert os.listdir(f"{root}/volumes/.tmp") == []
        store.remove("two")
        store.remove("one", force=True)
        if lived:
            break
    else:
        raise AssertionError("never came to its end")
    assert point > 5


@pytest.fixture
def full_disk(base: str) -> Iterator[str]:
    path = os.path.join(base, "small")
    os.mkdir(path, 0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=12", "tmpfs", path], check=True
    )
    yield path
    subprocess.run(["umount", path], check=True)


def test_full_disk(full_disk: str) -> None:
    store = VolumeStore(full_disk)
    made = 0
    with pytest.raises(FastboxError, match=r"no space left on device") as caught:
        for made in range(20):
            store.create(f"volume{made}")
    assert isinstance(caught.value, StoreError) and "\n" not in str(caught.value)
    assert len(store.list()) == made
    for volume in store.list():
        store.get(volume.name)
    assert os.listdir(f"{full_disk}/volumes/.tmp") == []
    store.remove("volume0")
