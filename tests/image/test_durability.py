"""kill -9 at every step, a full disk, a read-only one: the old state or the new one, never less."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from fastbox import ContainerConfig, Engine
from fastbox.container.commit import commit
from fastbox.errors import StoreError
from fastbox.image.prune import prune
from fastbox.image.seal import sealed
from fastbox.image.store import ImageStore
from tests.image.build import check, die_at, leftovers, make, names, open_store, put, tar
from tests.support.whole import check_whole

MOST = 400  # steps; every action ends before


def add(store: ImageStore) -> None:
    make(store, "new", "new")


def move_tag(store: ImageStore) -> None:
    make(store, "old", "newer")


def tag(store: ImageStore) -> None:
    store.tag("old", "second")


def remove(store: ImageStore) -> None:
    store.remove("old")


def unpack(store: ImageStore) -> None:
    store.ensure_layers(store.resolve("packed"))


@pytest.mark.parametrize("action", [add, move_tag, tag, remove, unpack])
def test_killed_at_any_step(
    new_root: Callable[[str], str], base: str, action: Callable[[ImageStore], None]
) -> None:
    template = new_root("template")
    store = open_store(template)
    make(store, "old", "old")
    put(store, "packed", [tar({"file": b"packed"})])
    before = names(store)
    action_done = new_root("done")
    copy(template, action_done)
    action(open_store(action_done))
    after = {tuple(sorted(n)) for n in names(open_store(action_done)).values()}
    old = {tuple(sorted(n)) for n in before.values()}
    seen = set()
    for point in range(1, MOST):
        root = os.path.join(base, f"at{point}")
        copy(template, root)
        lived = die_at(point, lambda root=root: action(open_store(root)))  # type: ignore[misc]
        # Readers need no repair.
        found = {tuple(sorted(n)) for n in names(open_store(root)).values()}
        assert found in (old, after), point
        seen.add(found == after)
        # The next command cleans up, and nothing is damaged.
        fresh = open_store(root)
        fresh.prepare()
        assert leftovers(root) == [], point
        check(root)
        if found == old and action is not unpack:
            action(open_store(root))
            again = {tuple(sorted(n)) for n in names(open_store(root)).values()}
            assert again == after, point
        subprocess.run(["rm", "-rf", root], check=True)
        if lived:
            break
    else:
        raise AssertionError("the action never came to its end")
    assert point > 3
    if old != after:
        assert seen == {True, False}


def copy(source: str, target: str) -> None:
    subprocess.run(["cp", "-a", "--", source + "/.", target], check=True)


# ---- disks -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(base: str) -> Iterator[str]:
    """A file system of 4 MiB."""
    path = os.path.join(base, "small")
    os.mkdir(path, 0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def fill(root: str, leave: int) -> str:
    """A file that leaves only ``leave`` bytes of the disk."""
    path = os.path.join(root, "ballast")
    free = os.statvfs(root)
    with open(path, "wb") as file:
        file.write(b"\0" * (free.f_bavail * free.f_frsize - leave))
    return path


@pytest.mark.parametrize("leave", [0, 8192, 40960, 400_000, 1_200_000])
def test_full_disk(small_disk: str, leave: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The limit for bombs would strike first on so small a disk.
    monkeypatch.setattr("fastbox.image.unpack._RESERVE", -(1 << 30))
    root = os.path.join(small_disk, "root")
    store = open_store(root)
    image = make(store, "old", "old")
    ballast = fill(small_disk, leave)
    big = tar({"file": os.urandom(700_000)})
    with pytest.raises(Exception, match=r"(?i)no space left on device") as caught:
        from fastbox.image.importer import import_image

        import_image(store, io.BytesIO(big), "new")
    assert isinstance(caught.value, StoreError), repr(caught.value)
    assert "\n" not in str(caught.value) and caught.value.hint
    assert leftovers(root) == []
    assert list(names(open_store(root))) == [image.id]
    check(root)
    # What needs no space still works, and afterwards there is some.
    store.remove("old")
    os.unlink(ballast)
    make(store, "new", "new")
    check(root)


def test_names_and_prunes_need_no_space(small_disk: str) -> None:
    store = open_store(os.path.join(small_disk, "root"))
    image = make(store, "old", "old")
    fill(small_disk, 0)
    used = [("c" * 64, "web", False)]
    assert prune(store, all=True, used=lambda: [image.id]).removed == []
    assert [one.kind for one in store.remove("old", force=True, used_by=lambda _: used)] == [
        "untagged"
    ]
    assert list(names(open_store(store.root))) == [image.id]


def test_a_layer_larger_than_the_disk_is_refused(
    small_disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastbox.errors import ArchiveError, FastboxError
    from fastbox.image.importer import import_image

    monkeypatch.setattr("fastbox.image.unpack._RESERVE", 1 << 20)
    store = open_store(os.path.join(small_disk, "root"))
    bomb = tar({"file": b"\0" * (64 << 20)})
    import gzip

    with pytest.raises(FastboxError) as caught:
        import_image(store, io.BytesIO(gzip.compress(bomb, 1)), "bomb")
    assert isinstance(caught.value, ArchiveError | StoreError)
    assert store.images() == [] and leftovers(store.root) == []
    assert store.layers.names() == []


def test_read_only_disk(base: str) -> None:
    path = os.path.join(base, "ro")
    os.mkdir(path, 0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], check=True)
    try:
        root = os.path.join(path, "root")
        store = open_store(root)
        image = make(store, "old", "old")
        subprocess.run(["mount", "-o", "remount,ro", path], check=True)
        store = open_store(root)
        assert store.resolve("old").id == image.id
        assert store.ensure_layers(store.resolve("old")) == [image.layers[0][7:31]]
        for call in (
            lambda: make(store, "new", "new"),
            lambda: store.remove("old"),
            lambda: store.tag("old", "x"),
        ):
            with pytest.raises(StoreError, match=r"read-only file system") as caught:
                call()
            assert "\n" not in str(caught.value)
        assert list(names(open_store(root))) == [image.id]
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("big", [False, True])
def test_full_disk_for_a_commit(small_disk: str, big: bool) -> None:
    """commit, and packing what it made: done, or one line of an error and nothing lost."""
    for leave in (0, 4096, 12288, 20480, 28672, 400_000):
        root = os.path.join(small_disk, str(leave))
        engine = Engine(root, root + ".run")
        make(engine._images, "old", "old")
        box = engine.create(ContainerConfig(image="old", name="web", command=["x"]))
        with open(f"{box.directory}/upper/file", "wb") as file:
            file.write(os.urandom(700_000 if big else 100))
        for verb in (
            lambda: commit(engine._lifecycle, engine._images, box.id, "new"),  # noqa: B023
            lambda: sealed(engine._images, "new"),  # noqa: B023
        ):
            ballast = fill(small_disk, leave)
            try:
                verb()
            except StoreError as error:
                assert "\n" not in error.message and "no space left" in error.message.lower()
                assert error.hint
            finally:
                os.unlink(ballast)
            assert [f"{c.kind} {c.path}" for c in engine.changes("web")] == ["C /file"]
            assert leftovers(root) == []
            check_whole(root)
            verb()
        subprocess.run(["rm", "-rf", root], check=True)
