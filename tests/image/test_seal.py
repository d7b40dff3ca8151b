"""Sealing: the archives of committed layers, made later, once, and without a change of the id."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import threading
import time

import pytest

from fastbox import ContainerConfig, Engine
from fastbox.container.commit import commit
from fastbox.errors import NotFound, StoreError
from fastbox.image import seal as module
from fastbox.image.naming import is_pending
from fastbox.image.removal import collect
from fastbox.image.seal import seal_all, sealed, unsealed
from fastbox.image.store import GRACE, ImageStore
from fastbox.image.types import Image
from fastbox.oci import image as oci
from tests.image.build import check, die_at, leftovers, make


def change(engine: Engine, container: str, files: dict[str, str]) -> None:
    upper = f"{engine.container(container).directory}/upper"
    for name, content in files.items():
        with open(f"{upper}/{name}", "w") as file:
            file.write(content)


def committed(engine: Engine, reference: str = "new", container: str = "web") -> Image:
    """Commit without the process that goes on in the background."""
    container_id = engine.container(container).id
    return commit(engine._lifecycle, engine._images, container_id, reference)


@pytest.fixture
def store(engine: Engine) -> ImageStore:
    """With an image ``old``, its container ``web`` and ``new``, a commit of that."""
    make(engine._images, "old", "old")
    engine.create(ContainerConfig(image="old", name="web", command=["x"]))
    change(engine, "web", {"new": "changed", "file": "other"})
    committed(engine)
    return engine._images


def config_of(store: ImageStore, entry: oci.Descriptor) -> oci.ImageConfig:
    return store.load(entry).config


def layer_dirs(store: ImageStore) -> set[str]:
    return {name for name in os.listdir(store.layers.directory) if not name.startswith(".")}


def test_sealed(engine: Engine, store: ImageStore) -> None:
    before = store.resolve("new")
    engine.tag("new", "other:1")
    entry = sealed(store, "new")
    after = store.resolve("new")
    assert (after.id, after.names, after.size) == (
        before.id, [*before.names, "docker.io/library/other:1"], store.resolve(before.id).size,
    )  # fmt: skip
    assert after.layers != before.layers and after.layers[0] == before.layers[0]
    assert after.manifest_digest == entry.digest == store.resolve("other:1").manifest_digest
    assert unsealed(store) == [] and store.image_id(entry) == before.id
    # The digests are those of the blobs, which is what others read of the layout.
    for digest in after.layer_blobs:
        store.blobs.verify(digest)
    with tarfile.open(store.blob_path(after.layer_blobs[1]), "r:gz") as archive:
        assert sorted(archive.getnames()) == [".", "file", "new"]
    raw = subprocess.run(
        ["skopeo", "inspect", f"oci:{store.directory}:docker.io/library/new:latest"],
        check=True, stdout=subprocess.PIPE,
    ).stdout  # fmt: skip
    assert json.loads(raw)["Layers"] == after.layer_blobs
    # One directory, whatever it is called.
    (layer,) = engine.container("web").record.committed
    assert store.ensure_layers(after) == store.ensure_layers(before) == [layer, *_base(before)]
    assert sealed(store, "new") == entry == sealed(store, before.id)
    config = config_of(store, entry)
    assert store.find("sha256:" + store.load(entry).manifest.config.digest[7:])[0].digest == (
        entry.digest
    )
    assert len(config.history or []) == 2
    true_id = store.load(entry).manifest.config.digest
    for text in (true_id, true_id[:19], true_id[7:19], before.id[7:19]):
        assert store.resolve(text).id == before.id


def _base(image: Image) -> list[str]:
    return [image.layers[0][7:31]]


def test_an_image_without_commits_is_as_it_is(store: ImageStore) -> None:
    entry, _ = store.find("old")
    assert sealed(store, "old") == entry
    with pytest.raises(NotFound):
        sealed(store, "nosuch")


def test_the_id_survives_its_own_return(store: ImageStore) -> None:
    """A pull of what was pushed finds the image that is here."""
    entry = sealed(store, "new")
    image_id = store.image_id(entry)
    plain = oci.Descriptor(media_type=entry.media_type, digest=entry.digest, size=entry.size)
    again = store.add_image("registry.test/new:1", plain, "sha256:" + "1" * 64)
    assert again.id == image_id and len(store.images()) == 2
    store.remove("new")
    assert store.resolve("registry.test/new:1").id == image_id
    store.remove("registry.test/new:1")
    with pytest.raises(NotFound):
        store.resolve(image_id)


def test_once(engine: Engine, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that seal an image at the same time, one packs; a child needs it not again."""
    packed: list[str] = []
    pack = module._pack

    def noted(store: ImageStore, path: str) -> object:
        packed.append(path)
        return pack(store, path)

    monkeypatch.setattr(module, "_pack", noted)
    change(engine, "web", {"third": "3"})
    committed(engine, "newer")
    entries: list[oci.Descriptor] = []
    threads = [
        threading.Thread(
            target=lambda name=name: entries.append(
                sealed(ImageStore(engine.root, layers_in_use=engine._layers_in_use), name)
            )
        )
        for name in ("new", "newer", "new", "newer")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(packed) == 2 and len({entry.digest for entry in entries}) == 2
    change(engine, "web", {"fourth": "4"})
    image = committed(engine, "newest")  # on what is sealed: only its own layer is not
    manifest = store.load(store.find("newest")[0]).manifest
    assert [is_pending(layer) for layer in manifest.layers] == [False, False, False, True]
    assert seal_all(store) == 1 and len(packed) == 3
    assert store.resolve("newest").id == image.id
    assert store.resolve("newest").layers[:3] == store.resolve("newer").layers


def test_the_same_every_time(engine: Engine, store: ImageStore) -> None:
    """What was lost is made again, with the same digests."""
    entry = sealed(store, "new")
    blob = store.load(entry).manifest.layers[1]
    store.remove("new")
    assert not store.blobs.has(blob.digest)  # the container has the layer, not the archive
    committed(engine, "again")
    sealed(store, "again")
    made = store.load(store.find("again")[0])
    assert made.manifest.layers[1] == blob and store.blobs.has(blob.digest)


def test_garbage(engine: Engine, store: ImageStore) -> None:
    """Layers and links stay for as long as somebody needs them, whatever is collected."""
    everything = layer_dirs(store)
    old = time.time() - 2 * GRACE

    def collected() -> set[str]:
        places = (store.layers.meta, store.blobs.directory, store.layers.directory)
        for directory in places:
            for name in os.listdir(directory):
                os.utime(os.path.join(directory, name), (old, old), follow_symlinks=False)
        collect(ImageStore(engine.root, layers_in_use=engine._layers_in_use))
        return layer_dirs(store)

    assert collected() == everything
    check_new(engine)
    sealed(store, "new")
    everything = layer_dirs(store)
    assert len(everything) == 3 and collected() == everything
    check_new(engine)
    engine.create(ContainerConfig(image="new", name="child", command=["x"]))
    engine.remove("web")
    assert collected() == everything
    links = [os.path.join(store.layers.directory, name) for name in everything]
    (layer,) = [os.readlink(path) for path in links if os.path.islink(path)]
    store.remove("new", force=True)
    assert layer in collected()
    assert [change.path for change in engine.changes("child")] == []
    engine.remove("child")
    store.remove("old")
    assert collected() == set()
    assert os.listdir(store.layers.meta) == []


def test_what_was_only_announced(engine: Engine, store: ImageStore) -> None:
    """The metadata of layers that a killed commit never made."""
    for age, name in ((2 * GRACE, "1" * 24), (0, "2" * 24)):
        path = os.path.join(store.layers.meta, f"{name}.json")
        with open(path, "w"):
            pass
        os.utime(path, (time.time() - age, time.time() - age))
    before = set(os.listdir(store.layers.meta))
    store.cleanup()
    assert before - set(os.listdir(store.layers.meta)) == {"1" * 24 + ".json"}


def check_new(engine: Engine) -> None:
    """The image ``new`` can be used."""
    store = engine._images
    top = store.ensure_layers(store.resolve("new"))[0]
    with open(f"{engine.root}/layers/{top}/new") as file:
        assert file.read() == "changed"


def test_a_layer_that_cannot_be_packed(engine: Engine, store: ImageStore) -> None:
    """The others are sealed nevertheless; nothing is left of it."""
    (layer,) = engine.container("web").record.committed
    bad = f"{engine.root}/layers/{layer}/.wh.bad"
    with open(bad, "w"):
        pass
    engine.create(ContainerConfig(image="old", name="good", command=["x"]))
    change(engine, "good", {"good": "1"})
    committed(engine, "good", "good")
    with pytest.raises(StoreError) as caught:
        engine.settle_images(seal=True)
    assert "\n" not in caught.value.message
    assert is_pending(store.find("new")[0]) and not is_pending(store.find("good")[0])
    assert leftovers(engine.root) == []
    os.unlink(bad)
    engine.settle_images(seal=True)
    assert unsealed(store) == []


def test_another_commit_takes_the_name_meanwhile(
    engine: Engine, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(engine, "web", {"third": "3"})
    seal, calls = module._seal, []

    def slow(store: ImageStore, entry: oci.Descriptor) -> None:
        seal(store, entry)
        if not calls:
            calls.append(committed(engine, "new").id)

    monkeypatch.setattr(module, "_seal", slow)
    entry = sealed(store, "new")
    assert store.image_id(entry) == calls[0] and not is_pending(entry)


def test_damaged_metadata_stop_nobody_else(engine: Engine, store: ImageStore) -> None:
    (layer,) = engine.container("web").record.committed
    with open(os.path.join(store.layers.meta, f"{layer}.json"), "w") as file:
        file.write("{")
    engine.create(ContainerConfig(image="old", name="good", command=["x"]))
    change(engine, "good", {"good": "1"})
    committed(engine, "good", "good")
    with pytest.raises(StoreError, match="is damaged"):
        engine.settle_images(seal=True)
    assert not is_pending(store.find("good")[0])


def test_names_are_removed_before_what_they_name(
    engine: Engine, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal may be killed at any time: no link leads nowhere."""
    layers, remove = store.layers.directory, store.layers.remove

    def watched(name: str) -> int:
        size = remove(name)
        links = [path for n in os.listdir(layers) if os.path.islink(path := f"{layers}/{n}")]
        assert all(map(os.path.isdir, links))
        return size

    monkeypatch.setattr(store.layers, "remove", watched)
    for number in range(6):  # what is removed is a set, so its order is anyone's guess
        sealed(store, "new")
        engine.remove("web")
        engine.remove_image("new")
        engine.create(ContainerConfig(image="old", name="web", command=["x"]))
        change(engine, "web", {"new": str(number)})
        committed(engine)


def dangling(store: ImageStore) -> list[str]:
    """Names of layers that lead nowhere."""
    directory = store.layers.directory
    return [n for n in layer_dirs(store) if not os.path.isdir(os.path.join(directory, n))]


def test_layers_with_the_same_content(engine: Engine, store: ImageStore) -> None:
    """The true name leads to one of them; so that one stays for as long as any has the name."""
    for name in ("first", "second"):
        engine.create(ContainerConfig(image="old", name=name, command=["x"]))
        change(engine, name, {"twin": "same"})
        upper = f"{engine.container(name).directory}/upper"
        for path in (f"{upper}/twin", upper):
            os.utime(path, (5, 5))
        committed(engine, name, name)
    committed(engine, "another", "second")
    for name in ("first", "second"):
        sealed(store, name)
    assert store.resolve("first").layers == store.resolve("second").layers
    for name in ("first", "second"):
        engine.remove_image(name)
        engine.remove(name)
        assert dangling(store) == []
    entry = sealed(store, "another")
    assert store.ensure_layers(store.resolve("another"))
    assert not is_pending(entry) and dangling(store) == []


def test_removed_while_it_is_packed(
    engine: Engine, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = module._pack

    def remove(store: ImageStore, path: str) -> object:
        again = Engine(engine.root, engine.runtime_dir)
        again.remove("web")
        again.remove_image("new")
        return pack(store, path)

    monkeypatch.setattr(module, "_pack", remove)
    entry = store.find("new")[0]
    with pytest.raises(NotFound, match="No such image: new:latest"):
        sealed(store, "new")
    assert layer_dirs(store) == set(_base(store.resolve("old")))
    with pytest.raises(NotFound):
        module._seal(store, entry)


def test_killed_at_any_step(in_memory: str) -> None:
    """The image is there all the time, under its id; who comes next finishes."""
    base = in_memory
    template = base + "/template"
    engine = Engine(template, base + "/run")
    make(engine._images, "old", "old")
    engine.create(ContainerConfig(image="old", name="web", command=["x"]))
    for name in ("one", "two"):
        change(engine, "web", {"new": "changed", name: name, "file": name})
        committed(engine, name)
    engine.tag("two", "new")
    engine.remove_image("one")
    engine.remove_image("two")
    image_id = engine.image("new").id
    done, point = set(), 0
    for point in range(1, 400):
        root = f"{base}/at{point}"
        subprocess.run(["cp", "-a", "--", template, root], check=True)
        lived = die_at(point, lambda root=root: sealed(  # type: ignore[misc]
            Engine(root, base + "/run")._images, "new"))  # fmt: skip
        engine = Engine(root, base + "/run")
        store = engine._images
        assert store.resolve("new").id == image_id, point
        done.add(not unsealed(store))
        check_new(engine)
        entry = sealed(store, "new")
        assert store.image_id(entry) == image_id and not is_pending(entry)
        check_new(engine)
        store.remove("old")
        assert leftovers(root) == [], point
        check(root)
        subprocess.run(["rm", "-rf", root], check=True)
        if lived:
            break
    assert done == {True, False} and point > 20
