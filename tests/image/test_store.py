"""The image store: names, removal, garbage, damage."""

from __future__ import annotations

import json
import os
import stat
import threading

import pytest

from fastbox.errors import (
    Ambiguous,
    Conflict,
    DigestMismatch,
    FastboxError,
    ImageError,
    InvalidArgument,
    NotFound,
    StoreError,
    Unsupported,
)
from fastbox.image.store import GRACE, ImageStore
from fastbox.image.types import Image
from fastbox.oci import digest as digests
from fastbox.oci import image as oci
from fastbox.oci import platform as platforms
from tests.image.build import blob, check, leftovers, make, names, open_store, put, tar

LAYER = tar({"file": b"one"})


def removed(store: ImageStore, name: str, **options: object) -> list[str]:
    done = store.remove(name, **options)  # type: ignore[arg-type]
    return [f"{line.kind}: {line.what}" for line in done]


def blobs(store: ImageStore) -> set[str]:
    return set(store.blobs.digests())


# ---- reading ---------------------------------------------------------------------------------


def test_an_empty_store_has_no_images_and_makes_nothing(root: str) -> None:
    store = ImageStore(root)
    assert store.images() == []
    with pytest.raises(NotFound, match=r"^No such image: redis:latest$"):
        store.resolve("redis")
    assert os.listdir(root) == []


def test_directories_are_private(root: str, store: ImageStore) -> None:
    make(store, "a", "x")
    for path in ("images", "layers", "trash", "images/blobs/sha256", "layers/.meta", "layers/.tmp"):
        assert stat.S_IMODE(os.stat(os.path.join(root, path)).st_mode) & 0o077 == 0, path
    assert stat.S_IMODE(os.stat(os.path.join(root, "images/index.json")).st_mode) == 0o600


def test_an_image_is_found_by_every_name_it_has(store: ImageStore) -> None:
    image = put(store, "docker.io/library/redis:7", [LAYER], repo_digest="sha256:" + "a" * 64)
    for text in (
        "redis:7",
        "library/redis:7",
        "docker.io/library/redis:7",
        "index.docker.io/redis:7",
        "redis@sha256:" + "a" * 64,
        f"redis@{image.manifest_digest}",
        image.id,
        image.id[7:],
        image.id[:20],
        image.short_id,
        image.short_id[:2],
        image.manifest_digest,
    ):
        assert store.resolve(text).id == image.id, text
    assert image.names == ["docker.io/library/redis:7"]
    assert image.repo_digests == ["docker.io/library/redis@sha256:" + "a" * 64]
    assert (image.os, image.architecture, image.created) == (
        "linux", "amd64", "2024-05-06T07:08:09Z",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("redis:8", NotFound, "No such image: redis:8"),
        ("redis", NotFound, "No such image: redis:latest"),
        ("sha256:" + "0" * 64, NotFound, "No such image: sha256:" + "0" * 64),
        ("example.com/redis:7", NotFound, "No such image: example.com/redis:7"),
        ("redis@sha256:" + "b" * 64, NotFound, "No such image: redis@sha256:" + "b" * 64),
        ("../../etc/passwd", InvalidArgument, "invalid reference format"),
        ("redis\uff1a7", InvalidArgument, "invalid reference format"),
        ("", InvalidArgument, "invalid reference format"),
        ("Redis", InvalidArgument, "invalid reference format: repository name (library/Redis)"
         " must be lowercase"),
    ],
)  # fmt: skip
def test_what_is_not_there(
    store: ImageStore, text: str, error: type[FastboxError], message: str
) -> None:
    put(store, "docker.io/library/redis:7", [LAYER])
    with pytest.raises(error) as caught:
        store.resolve(text)
    assert str(caught.value) == message


def test_a_prefix_of_two_ids_is_ambiguous(store: ImageStore) -> None:
    count = 0
    while True:  # some two of 17 ids begin with the same digit
        make(store, f"i{count}", str(count))
        count += 1
        first = [image_id[7] for image_id in names(store)]
        twice = [digit for digit in first if first.count(digit) > 1]
        if twice:
            break
    with pytest.raises(Ambiguous, match=f"^ambiguous reference: {twice[0]}$"):
        store.resolve(twice[0])


def test_a_name_goes_before_an_id_prefix(store: ImageStore) -> None:
    other = make(store, "x", "1")
    prefix = other.short_id[:4]
    named = make(store, prefix, "2")
    assert store.resolve(prefix).id == named.id


def test_image_config_is_given_whole(store: ImageStore) -> None:
    image = make(store, "a", "x", changes=("ENV A=1", "CMD sh", "LABEL l=v"))
    assert image.config["config"] == {
        "Env": ["A=1"], "Cmd": ["/bin/sh", "-c", "sh"], "Labels": {"l": "v"},
    }  # fmt: skip


def test_an_index_leads_to_the_hosts_manifest(store: ImageStore) -> None:
    mine = put(store, None, [LAYER])
    inner = oci.Index(
        schema_version=2,
        media_type=oci.OCI_INDEX,
        manifests=[
            oci.Descriptor(
                media_type=oci.OCI_MANIFEST,
                digest="sha256:" + "c" * 64,
                size=3,
                platform=oci.PlatformSpec("s390x", "linux"),
            ),
            oci.Descriptor(
                media_type=oci.OCI_MANIFEST,
                digest=mine.manifest_digest,
                size=3,
                platform=oci.PlatformSpec("amd64" if os.uname().machine == "x86_64" else "arm64",
                                          "linux"),
            ),
        ],
    )  # fmt: skip
    image = store.add_image("many:1", blob(store, oci.encode(inner), oci.OCI_INDEX))
    assert image.id == mine.id
    assert store.resolve("many:1").manifest_digest == mine.manifest_digest


def test_endless_nesting_of_indexes_is_refused(store: ImageStore) -> None:
    descriptor = blob(store, oci.encode(oci.Index(schema_version=2, manifests=[])), oci.OCI_INDEX)
    for _ in range(10):
        index = oci.Index(schema_version=2, media_type=oci.OCI_INDEX, manifests=[descriptor])
        descriptor = blob(store, oci.encode(index), oci.OCI_INDEX)
    with pytest.raises(ImageError, match="nested too deep"):
        store.add_image("deep", descriptor)
    assert store.images() == []


# ---- names -----------------------------------------------------------------------------------


def test_a_name_moves_and_leaves_a_dangling_image(store: ImageStore) -> None:
    old = put(store, "a", [LAYER], repo_digest="sha256:" + "1" * 64)
    new = put(store, "a", [tar({"file": b"two"})])
    assert store.resolve("a").id == new.id
    assert names(store) == {old.id: [], new.id: ["docker.io/library/a:latest"]}
    # Where it came from is still known.
    assert store.resolve(old.id).repo_digests == ["docker.io/library/a@sha256:" + "1" * 64]


def test_adding_the_same_image_again_changes_nothing(root: str, store: ImageStore) -> None:
    put(store, "a", [LAYER], repo_digest="sha256:" + "1" * 64)
    with open(f"{root}/images/index.json") as file:
        before = file.read()
    put(store, "a", [LAYER], repo_digest="sha256:" + "1" * 64)
    with open(f"{root}/images/index.json") as file:
        assert file.read() == before


def test_an_image_by_digest_has_no_tag(store: ImageStore) -> None:
    name = "docker.io/library/a@sha256:" + "1" * 64
    image = put(store, name, [LAYER])
    assert image.names == []
    assert image.repo_digests == [name]
    assert store.resolve("a@sha256:" + "1" * 64).id == image.id
    put(store, name, [LAYER])
    assert len(store.entries()) == 1


def test_a_dangling_import_that_is_tagged_is_one_image(store: ImageStore) -> None:
    image = make(store, None, "x")
    store.tag(image.short_id, "b:2")
    assert len(store.entries()) == 1
    assert names(store) == {image.id: ["docker.io/library/b:2"]}


def test_tag_adds_a_row_and_overwrites(store: ImageStore) -> None:
    one, two = make(store, "one", "1"), make(store, "two", "2")
    store.tag("one", "localhost:5000/x/y:1")
    assert sorted(names(store)[one.id]) == ["docker.io/library/one:latest", "localhost:5000/x/y:1"]
    store.tag("two", "localhost:5000/x/y:1")
    assert names(store)[one.id] == ["docker.io/library/one:latest"]
    store.tag("two", "one")
    assert names(store)[one.id] == []
    assert store.resolve("one").id == two.id


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("a\uff1ab", 'error parsing reference: "a\uff1ab" is not a valid repository/tag:'
         " invalid reference format"),
        ("A", 'error parsing reference: "A" is not a valid repository/tag: invalid reference'
         " format: repository name (library/A) must be lowercase"),
        ("x@sha256:" + "1" * 64, "refusing to create a tag with a digest reference"),
    ],
)  # fmt: skip
def test_tag_refuses_bad_targets(store: ImageStore, target: str, message: str) -> None:
    make(store, "one", "1")
    with pytest.raises(InvalidArgument) as caught:
        store.tag("one", target)
    assert str(caught.value) == message
    with pytest.raises(NotFound, match=r"^No such image: foo:1$"):
        store.tag("foo:1", "x")


def test_names_that_others_wrote_are_completed(root: str, store: ImageStore) -> None:
    image = make(store, "one", "1")
    path = f"{root}/images/index.json"
    with open(path) as file:
        index = json.load(file)
    entry = index["manifests"][0]
    index["manifests"] = [
        {**entry, "annotations": {oci.REF_NAME: name}}
        for name in ("short", "short", "Not A Name", "docker.io/library/short:latest")
    ]
    with open(path, "w") as file:
        json.dump(index, file)
    assert names(store) == {image.id: ["docker.io/library/short:latest"]}
    assert removed(store, "short") == ["untagged: short:latest", f"deleted: {image.id}"]
    assert store.images() == []


# ---- rmi -------------------------------------------------------------------------------------


def test_rmi_of_the_only_name_deletes_everything(root: str, store: ImageStore) -> None:
    image = make(store, "a", "x")
    assert removed(store, "a") == ["untagged: a:latest", f"deleted: {image.id}"]
    assert store.images() == [] and blobs(store) == set()
    assert store.layers.names() == [] and os.listdir(f"{root}/layers/.meta") == []
    assert leftovers(root) == []


def test_rmi_of_one_of_two_names_only_untags(store: ImageStore) -> None:
    image = make(store, "a", "x")
    store.tag("a", "b")
    assert removed(store, "a") == ["untagged: a:latest"]
    assert names(store) == {image.id: ["docker.io/library/b:latest"]}
    check(store.root)


def test_rmi_keeps_what_another_image_shares(store: ImageStore) -> None:
    base, top = tar({"file": b"base"}), tar({"file": b"top"})
    put(store, "a", [base])
    both = put(store, "b", [base, top])
    store.ensure_layers(both)
    store.remove("a")
    check(store.root)
    store.remove("b")
    assert blobs(store) == set() and store.layers.names() == []


def test_rmi_by_id_of_several_names_must_be_forced(store: ImageStore) -> None:
    image = make(store, "a", "x")
    store.tag("a", "b")
    with pytest.raises(Conflict) as caught:
        store.remove(image.short_id)
    assert str(caught.value) == (
        f"conflict: unable to delete {image.short_id} (must be forced)"
        " - image is referenced in multiple repositories"
    )
    assert removed(store, image.short_id, force=True) == [
        "untagged: a:latest", "untagged: b:latest", f"deleted: {image.id}",
    ]  # fmt: skip


def family(store: ImageStore, *depths: int) -> list[Image]:
    """Images of so many layers, each on top of the one before; only the last has a name."""
    layers = [tar({"file": str(number).encode()}) for number in range(max(depths))]
    made = [put(store, None, layers[:depth]) for depth in depths[:-1]]
    return [*made, put(store, "top", layers[: depths[-1]])]


def test_rmi_takes_nameless_parents_along(store: ImageStore) -> None:
    one, two, top = family(store, 1, 2, 4)
    assert removed(store, "top") == [
        "untagged: top:latest", f"deleted: {top.id}", f"deleted: {two.id}", f"deleted: {one.id}",
    ]  # fmt: skip
    assert store.images() == [] and blobs(store) == set()


def test_rmi_no_prune_leaves_nameless_parents(store: ImageStore) -> None:
    one, top = family(store, 1, 2)
    lines = removed(store, "top", prune=False)
    assert lines == ["untagged: top:latest", f"deleted: {top.id}"]
    assert list(names(store)) == [one.id]
    check(store.root)


def test_rmi_leaves_parents_that_something_needs(store: ImageStore) -> None:
    one, two, top = family(store, 1, 2, 3)
    used = lambda image_id: [(BOX, "box", False)] if image_id == two.id else []  # noqa: E731
    assert removed(store, "top", used_by=used)[1:] == [f"deleted: {top.id}"]
    family(store, 1, 3)
    store.tag(one.id, "one")
    put(store, "sibling", [tar({"file": b"0"}), tar({"file": b"1"}), tar({"file": b"other"})])
    assert removed(store, "top")[1:] == [f"deleted: {top.id}"]
    assert removed(store, "sibling")[2:] == [f"deleted: {two.id}"]
    assert list(names(store)) == [one.id]
    check(store.root)


def test_rmi_of_one_platform(store: ImageStore) -> None:
    make(store, "a", "x")
    for text, error in (
        ("linux/riscv64", "image with reference a was found but does not provide the specified"
         " platform (linux/riscv64)"),
        ("no/such/thing/x", "'no/such/thing/x': unknown operating system or architecture: invalid"
         " argument"),
    ):  # fmt: skip
        with pytest.raises(FastboxError) as caught:
            store.remove("a", platforms=[text])
        assert str(caught.value) == error
    assert removed(store, "a", platforms=[str(platforms.host())])[0] == "untagged: a:latest"
    mine, other = put(store, None, [LAYER]), put(store, None, [tar({"file": b"other"})])
    index = oci.Index(
        schema_version=2,
        media_type=oci.OCI_INDEX,
        manifests=[
            oci.Descriptor(
                media_type=oci.OCI_MANIFEST,
                digest=image.manifest_digest,
                size=3,
                platform=oci.PlatformSpec(architecture, "linux"),
            )
            for image, architecture in ((mine, platforms.host().architecture), (other, "s390x"))
        ],
    )
    store.add_image("many:1", blob(store, oci.encode(index), oci.OCI_INDEX))
    with pytest.raises(Unsupported, match=r"^removing one platform of many:1 is not supported$"):
        store.remove("many:1", platforms=["linux/s390x"])
    assert store.resolve("many:1").id == mine.id


BOX = "c" * 64


@pytest.mark.parametrize("running", [False, True])
def test_rmi_by_name_while_used(store: ImageStore, running: bool) -> None:
    image = make(store, "a", "x")
    with pytest.raises(Conflict) as caught:
        store.remove("a", used_by=lambda _: [(BOX, "box", running)])
    assert str(caught.value) == (
        "conflict: unable to delete a:latest (must be forced)"
        f" - container {BOX[:12]} is using its referenced image {image.short_id}"
    )
    assert names(store) == {image.id: ["docker.io/library/a:latest"]}
    lines = removed(store, "a", force=True, used_by=lambda _: [(BOX, "box", running)])
    assert lines == ["untagged: a:latest"]
    assert names(store) == {image.id: []}
    check(store.root)


def test_rmi_by_id_while_used(store: ImageStore) -> None:
    image = make(store, "a", "x")
    with pytest.raises(Conflict) as caught:
        store.remove(image.id, used_by=lambda _: [(BOX, "box", False)])
    assert str(caught.value) == (
        f"conflict: unable to delete {image.short_id} (must be forced)"
        f" - image is being used by stopped container {BOX[:12]}"
    )
    for force in (False, True):
        with pytest.raises(Conflict) as caught:
            store.remove(image.id, force=force, used_by=lambda _: [(BOX, "box", True)])
        assert str(caught.value) == (
            f"conflict: unable to delete {image.short_id} (cannot be forced)"
            f" - image is being used by running container {BOX[:12]}"
        )


def test_rmi_forced_keeps_the_layers_of_a_stopped_container(root: str) -> None:
    store = open_store(root)
    image = make(store, "a", "x")
    used = store.ensure_layers(image)
    store = open_store(root, in_use=tuple(used))
    lines = removed(store, image.id, force=True, used_by=lambda _: [(BOX, "box", False)])
    assert lines == ["untagged: a:latest", f"deleted: {image.id}"]
    assert store.layers.names() == used
    assert blobs(store) == set()


def test_rmi_without_knowing_the_containers_keeps_layers(root: str) -> None:
    store = ImageStore(root)
    make(store, "a", "x")
    store.remove("a")
    assert len(store.layers.names()) == 1


def test_rmi_of_an_image_by_digest(store: ImageStore) -> None:
    image = put(store, "docker.io/library/a@sha256:" + "1" * 64, [LAYER])
    lines = removed(store, "a@sha256:" + "1" * 64)
    assert lines == ["untagged: a@sha256:" + "1" * 64, f"deleted: {image.id}"]


def test_rmi_of_what_is_not_there(store: ImageStore) -> None:
    with pytest.raises(NotFound, match=r"^No such image: foo:latest$"):
        store.remove("foo", force=True)


# ---- garbage ---------------------------------------------------------------------------------


def age(path: str, seconds: float) -> None:
    found = os.stat(path)
    os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))


def test_collect_takes_only_what_is_old_and_unreferenced(root: str, store: ImageStore) -> None:
    image = make(store, "a", "x")
    old, young = store.put_blob(b"old"), store.put_blob(b"young")
    for digest in (old, *image.layer_blobs, image.id, image.manifest_digest):
        age(store.blob_path(digest), GRACE + 60)
    staged = store.stage_layer()
    store.commit_layer(staged, "sha256:" + "d" * 64, 7, 1)
    age(f"{root}/layers/.meta/{'d' * 24}.json", GRACE + 60)
    age(f"{root}/layers/.meta/{image.layers[0][7:31]}.json", GRACE + 60)
    assert store.collect() == 3 + 7
    assert not store.has_blob(old) and store.has_blob(young)
    assert store.layers.names() == [image.layers[0][7:31]]
    check(root)


def test_nothing_is_collected_under_a_lease(root: str, store: ImageStore) -> None:
    image = make(store, "a", "x")
    other = open_store(root)
    with other.lease():
        assert removed(store, "a")[-1] == f"deleted: {image.id}"
        assert other.has_blob(image.layer_blobs[0])
        assert other.layer_dir(image.layers[0]) is not None
    # Who gives the last lease back deletes what it kept.
    assert blobs(store) == set() and store.layers.names() == [] and leftovers(root) == []


def test_what_a_killed_process_kept_goes_with_the_next_command(
    root: str, store: ImageStore
) -> None:
    image = make(store, "a", "x")
    with open_store(root).lease():
        store.remove("a")
        os.rename(f"{root}/images/unswept", f"{root}/kept")
    os.rename(f"{root}/kept", f"{root}/images/unswept")
    assert store.has_blob(image.layer_blobs[0])
    # One that does not know the containers leaves the layers, and the note of them.
    ImageStore(root).prepare()
    assert blobs(store) == set() and store.layers.names() == [image.layers[0][7:31]]
    open_store(root).prepare()
    assert store.layers.names() == [] and os.listdir(f"{root}/trash") == []
    assert not os.path.exists(f"{root}/images/unswept")


def test_what_was_left_to_delete_stays_if_it_is_pulled_meanwhile(
    root: str, store: ImageStore
) -> None:
    make(store, "a", "x")
    other = open_store(root)
    with other.lease():
        store.remove("a")
        image = make(other, "a", "x")
        assert os.path.exists(f"{root}/images/unswept")
    assert not os.path.exists(f"{root}/images/unswept")
    assert other.has_blob(image.layer_blobs[0])
    check(root)


@pytest.mark.parametrize("text", [b"", b"{", b'{"blobs": 3}', b'{"blobs":["../x"],"layers":["/"]}'])
def test_a_damaged_note_does_no_harm(root: str, store: ImageStore, text: bytes) -> None:
    make(store, "a", "x")
    with open(f"{root}/images/unswept", "wb") as file:
        file.write(text)
    open_store(root).prepare()
    check(root)
    assert not os.path.exists(f"{root}/images/unswept")


def test_a_lease_is_shared_and_nests(root: str) -> None:
    one, two = open_store(root), open_store(root)
    with one.lease(), two.lease(), one.lease():
        with one.exclusive() as mine:
            assert not mine
    with one.exclusive() as mine:
        assert mine


def test_leftovers_of_dead_processes_go_and_live_ones_stay(root: str, store: ImageStore) -> None:
    with store.lease():
        staged = store.stage_layer()
        part = store.ingest_path("sha256:" + "e" * 64)
        for path in (part, store.temporary_path("import"), f"{root}/images/.index.json.1-ab"):
            with open(path, "w") as file:
                file.write("x")
        open_store(root).prepare()
        assert os.path.isdir(staged) and len(leftovers(root)) == 4
    open_store(root).prepare()
    # What was downloaded is worth continuing.
    assert leftovers(root) == [part]
    age(part, GRACE + 60)
    open_store(root).prepare()
    assert leftovers(root) == []


# ---- blobs and layers ------------------------------------------------------------------------


def test_a_blob_is_verified_before_it_is_one(root: str, store: ImageStore) -> None:
    digest = digests.of(b"right")
    part = store.ingest_path(digest)
    with open(part, "wb") as file:
        file.write(b"wrong")
    with pytest.raises(DigestMismatch):
        store.commit_blob(part, digest)
    assert not store.has_blob(digest) and leftovers(root) == []
    with open(part, "wb") as file:
        file.write(b"right")
    store.commit_blob(part, digest)
    assert store.has_blob(digest, 5) and not store.has_blob(digest, 4)
    assert store.read_json_blob(digest) == b"right"


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../x", "md5:" + "a" * 32, "sha256:" + "A" * 64, "sha256:" + "a" * 63, "a" * 64, "",
     "sha256:" + "a" * 64 + "\n", "sha512:" + "a" * 128],
)  # fmt: skip
def test_a_hostile_digest_never_becomes_a_path(store: ImageStore, digest: str) -> None:
    calls = (store.blob_path, store.ingest_path, store.has_blob, store.layer_dir)
    for call in calls:
        with pytest.raises(ImageError):
            call(digest)


def test_an_image_needs_its_layers(store: ImageStore) -> None:
    config = oci.ImageConfig(
        architecture="amd64", os="linux", rootfs=oci.RootFS(diff_ids=["sha256:" + "1" * 64])
    )
    missing = oci.Descriptor(media_type=oci.OCI_LAYER, digest="sha256:" + "2" * 64, size=1)
    manifest = oci.Manifest(
        schema_version=2,
        config=blob(store, oci.encode(config), oci.OCI_CONFIG),
        layers=[missing],
    )
    with pytest.raises(StoreError, match="is not in the store"):
        store.add_image("x", blob(store, oci.encode(manifest), oci.OCI_MANIFEST))
    assert store.images() == []


def test_layers_are_unpacked_when_needed_top_first_each_once(root: str, store: ImageStore) -> None:
    layers = [tar({"file": str(n).encode()}) for n in range(5)]
    image = put(store, "a", [*layers, layers[0]])
    assert image.size == sum(map(len, layers)) + len(layers[0])
    order = store.ensure_layers(image)
    assert order == [digests.of(layers[n])[7:31] for n in (0, 4, 3, 2, 1)]
    with open(f"{root}/layers/{order[1]}/file") as file:
        assert file.read() == "4"
    assert store.resolve("a").size == 6
    assert leftovers(root) == []


def test_a_layer_of_an_earlier_boot_that_was_not_synced_is_unpacked_again(
    root: str, store: ImageStore
) -> None:
    image = put(store, "a", [LAYER])
    name = store.ensure_layers(image)[0]
    meta = f"{root}/layers/.meta/{name}.json"
    with open(meta) as file:
        info = json.load(file)
    assert "boot" not in info
    with open(meta, "w") as file:
        json.dump({**info, "boot": "another"}, file)
    with open(f"{root}/layers/{name}/file", "w") as file:
        file.write("")  # what a power failure leaves
    fresh = open_store(root)
    assert fresh.layer_dir(image.layers[0]) is None
    fresh.ensure_layers(image)
    with open(f"{root}/layers/{name}/file") as file:
        assert file.read() == "one"


def test_a_bad_layer_blob_is_set_aside(root: str, store: ImageStore) -> None:
    image = put(store, "a", [LAYER])
    path = store.blob_path(image.layer_blobs[0])
    with open(path, "r+b") as file:
        file.seek(600)
        file.write(b"X")
    with pytest.raises(StoreError, match=r"layer is damaged: .*does not match its digest"):
        store.ensure_layers(image)
    assert not store.has_blob(image.layer_blobs[0])
    assert store.layers.names() == [] and os.listdir(f"{root}/layers/.tmp") == []
    with pytest.raises(StoreError, match="layer is missing in the store: "):
        store.ensure_layers(image)
    # Pulled again, it works again.
    store.put_blob(LAYER)
    store.ensure_layers(image)


def test_a_layer_that_is_not_what_the_config_says_is_refused(store: ImageStore) -> None:
    from fastbox.errors import ArchiveError

    image = put(store, "a", [LAYER])
    other = store.put_blob(tar({"file": b"other"}))
    image.layer_blobs = [other]
    with pytest.raises(ArchiveError, match=r"unpacks to .* the image says"):
        store.ensure_layers(image)
    assert store.layers.names() == []


# ---- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schemaVersion":2}', b'{"schemaVersion":2,"manifests":{}}', b"\xff\xfe",
     b'{"schemaVersion":2,"manifests":[{"digest":"sha256:../x","size":1}]}', b"[" * 200000,
     b'{"schemaVersion":2,"manifests":[{"digest":"sha256:' + b"a" * 64 + b'","size":-1}]}'],
)  # fmt: skip
def test_a_damaged_index_is_named_and_left_alone(
    root: str, store: ImageStore, content: bytes
) -> None:
    make(store, "a", "x")
    path = f"{root}/images/index.json"
    with open(path, "wb") as file:
        file.write(content)
    for call in (store.images, lambda: store.resolve("a"), lambda: store.remove("a"),
                 store.collect, lambda: make(store, "b", "y")):  # fmt: skip
        with pytest.raises(StoreError) as caught:
            call()
        assert path in str(caught.value) and "\n" not in str(caught.value)
    with open(path, "rb") as file:
        assert file.read() == content


def test_a_missing_index_is_damage_not_a_new_store(root: str, store: ImageStore) -> None:
    image = make(store, "a", "x")
    os.unlink(f"{root}/images/index.json")
    for call in (store.images, store.collect, lambda: make(open_store(root), "b", "y")):
        with pytest.raises(StoreError, match=r"index.json is missing"):
            call()
    assert store.has_blob(image.layer_blobs[0])


@pytest.mark.parametrize("part", ["manifest", "config"])
@pytest.mark.parametrize("how", ["missing", "empty", "flipped"])
def test_a_damaged_image_is_named_and_can_be_removed(
    root: str, store: ImageStore, part: str, how: str
) -> None:
    good, bad = make(store, "good", "1"), make(store, "bad", "2")
    digest = bad.manifest_digest if part == "manifest" else bad.id
    path = store.blob_path(digest)
    if how == "missing":
        os.unlink(path)
    else:
        with open(path, "rb") as file:
            content = bytearray(file.read())
        content[10] ^= 1
        with open(path, "wb") as file:
            file.write(b"" if how == "empty" else content)
    store = open_store(root)
    broken: list[object] = []
    assert [image.id for image in store.images(broken)] == [good.id]  # type: ignore[arg-type]
    assert len(broken) == 1
    with pytest.raises(StoreError) as caught:
        store.resolve("bad")
    assert path in str(caught.value)
    assert removed(store, "bad")[0] == "untagged: bad:latest"
    assert list(names(store)) == [good.id]
    check(root)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"diff_id":1,"size":0,"entries":0}', b"\xff" * 10]
)
def test_damaged_layer_metadata_are_named(root: str, store: ImageStore, content: bytes) -> None:
    image = make(store, "a", "x")
    path = f"{root}/layers/.meta/{image.layers[0][7:31]}.json"
    with open(path, "wb") as file:
        file.write(content)
    store = open_store(root)
    assert [found.id for found in store.images()] == [image.id]
    with pytest.raises(StoreError) as caught:
        store.ensure_layers(image)
    assert path in str(caught.value) and caught.value.hint is not None
    os.unlink(path)  # as the hint says
    store.ensure_layers(image)
    check(root)


def test_what_is_no_image_does_not_hide_the_others(root: str, store: ImageStore) -> None:
    image = make(store, "a", "x")
    artifact = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": oci.OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json",
                       "digest": digests.of(b"{}"), "size": 2},
            "layers": [],
        }
    ).encode()  # fmt: skip
    descriptor = blob(store, artifact, oci.OCI_MANIFEST)
    with pytest.raises(ImageError, match="not a container image"):
        store.add_image("b", descriptor)
    path = f"{root}/images/index.json"
    with open(path) as file:
        index = json.load(file)
    index["manifests"].append({"mediaType": oci.OCI_MANIFEST, "digest": descriptor.digest,
                               "size": descriptor.size})  # fmt: skip
    with open(path, "w") as file:
        json.dump(index, file)
    assert [found.id for found in store.images()] == [image.id]


# ---- together --------------------------------------------------------------------------------


def test_threads_may_share_a_store(root: str, store: ImageStore) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(4):
                make(store, f"t{number}", f"{number} {turn}")
                store.tag(f"t{number}", f"t{number}:two")
                store.remove(f"t{number}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    tagged = sorted(name for found in names(store).values() for name in found)
    assert tagged == [f"docker.io/library/t{n}:two" for n in range(4)]
    check(root)


def test_processes_may_share_a_store(root: str) -> None:
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                store = open_store(root)
                for turn in range(4):
                    make(store, f"p{number}", f"same {turn}")
                    if turn % 2:
                        store.remove(f"p{number}", force=True)
                make(store, f"p{number}", "last")
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    check(root)
    store = open_store(root)
    tagged = sorted(name for found in names(store).values() for name in found)
    assert tagged == [f"docker.io/library/p{n}:latest" for n in range(4)]
    assert leftovers(root) == []
