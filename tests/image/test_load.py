"""``load``: every form of archive gives the same image; names, ids, platforms."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
import threading

import pytest

from fastbox.errors import ImageError, InvalidArgument
from fastbox.image.load import load
from fastbox.image.progress import ProgressEvent
from fastbox.image.store import ImageStore
from fastbox.oci import digest as digests
from fastbox.oci import image as oci
from fastbox.oci import platform as platforms
from tests.image.archives import (
    LAYERS,
    blob,
    config,
    descriptor,
    docker,
    index,
    layout,
    link,
    pack,
)
from tests.image.build import check, leftovers, make, names, open_store, put, tar


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


FORMS = {"docker": docker(), "oci": layout(), "both": layout() | docker()}
PACKINGS = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstd,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backwards", [False, True])
def test_forms_and_orders(store: ImageStore, base: str, form: str, backwards: bool) -> None:
    """From a file and from a stream, whatever comes first."""
    files = dict(reversed(FORMS[form].items())) if backwards else FORMS[form]
    path = os.path.join(base, "file.tar")
    with open(path, "wb") as file:
        file.write(pack(files))
    for source in (path, io.BytesIO(pack(files))):
        fresh = open_store(os.path.join(base, f"root-{isinstance(source, str)}"))
        (result,) = load(fresh, source)
        assert (result.name, result.replaced) == ("docker.io/library/app:1", "")
        assert result.image.id == digests.of(config())
        assert result.image.layers == [digests.of(layer) for layer in LAYERS]
        assert leftovers(fresh.root) == []
        check(fresh.root)


@pytest.mark.parametrize("packing", PACKINGS)
def test_whole_archive_compressed(store: ImageStore, base: str, packing: str) -> None:
    path = os.path.join(base, "file")
    with open(path, "wb") as file:
        file.write(PACKINGS[packing](pack(FORMS["docker"])))
    assert load(store, path)[0].image.id == digests.of(config())
    with open(path, "rb") as file:
        assert load(open_store(f"{base}/other"), file)[0].name == "docker.io/library/app:1"
    check(store.root)


@pytest.mark.parametrize("packing", PACKINGS)
def test_compressed_layers(store: ImageStore, packing: str) -> None:
    """They are kept as they are, but for those compressions that registries do not know."""
    packed = [PACKINGS[packing](layer) for layer in LAYERS]
    (result,) = load(store, io.BytesIO(pack(docker(packed, plain=LAYERS))))
    kept = packed if packing in ("plain", "gzip", "zstd") else LAYERS
    assert result.image.layer_blobs == [digests.of(layer) for layer in kept]
    assert result.image.id == digests.of(config())
    check(store.root)


def test_a_directory(store: ImageStore, base: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(layout()))) as archive:
        archive.extractall(f"{base}/layout")
    assert load(store, f"{base}/layout")[0].name == "docker.io/library/app:1"
    check(store.root)


def test_a_pipe_is_read_to_its_end(store: ImageStore) -> None:
    """Or its writer would die of SIGPIPE: tar pads what it writes."""
    reader, writer = os.pipe()
    data = pack(docker()) + bytes(1 << 20)
    written: list[int] = []

    def write() -> None:
        with open(writer, "wb") as file:
            written.append(file.write(data))

    thread = threading.Thread(target=write)
    thread.start()
    with open(reader, "rb", buffering=0) as file:
        load(store, file)
    thread.join()
    assert written == [len(data)]


def test_links_between_layers(store: ImageStore) -> None:
    """Docker wrote a link where two images, or one twice, have a layer."""
    files = docker([LAYERS[0], LAYERS[0], LAYERS[0]])
    files[f"{1:064}/layer.tar"] = link(f"../{0:064}/layer.tar")
    files[f"{2:064}/layer.tar"] = link(f"{0:064}/layer.tar", tarfile.LNKTYPE)
    for data in (pack(files), pack(dict(reversed(files.items())))):
        assert load(store, io.BytesIO(data))[0].image.layers == [digests.of(LAYERS[0])] * 3


def test_names_with_a_dot_before_them(store: ImageStore) -> None:
    files = {f"./{name}": data for name, data in docker().items()}
    assert load(store, io.BytesIO(pack(files, tarfile.PAX_FORMAT)))[0].name


def test_several_images_and_names(store: ImageStore) -> None:
    first = docker([LAYERS[0]], ("a:1", "localhost:5000/b:2"))
    second = docker([LAYERS[1]], ())
    second = {name.replace("0/", "7/"): data for name, data in second.items()}
    both = json.loads(first["manifest.json"]) + json.loads(  # type: ignore[arg-type]
        second["manifest.json"].replace(b"0/", b"7/")  # type: ignore[union-attr]
    )
    files = first | second | {"manifest.json": json.dumps(both).encode()}
    results = load(store, io.BytesIO(pack(files)))
    assert [r.name for r in results] == ["docker.io/library/a:1", "localhost:5000/b:2", ""]
    assert results[2].image.names == []
    assert len(names(store)) == 2
    check(store.root)


def test_a_name_moves(store: ImageStore) -> None:
    old = make(store, "app:1", "old")
    (result,) = load(store, io.BytesIO(pack(docker())))
    assert result.replaced == old.id
    assert names(store) == {old.id: [], result.image.id: ["docker.io/library/app:1"]}
    assert load(store, io.BytesIO(pack(docker())))[0].replaced == ""


def test_a_layer_that_a_registry_had_compressed(store: ImageStore) -> None:
    """It is not stored once more; an image that is there keeps its manifest."""
    packed = [gzip.compress(layer) for layer in LAYERS]
    load(store, io.BytesIO(pack(docker(packed, plain=LAYERS))))
    before = set(store.blobs.digests())
    conf = config(created="2024-05-06T07:08:09Z")
    (result,) = load(store, io.BytesIO(pack(docker(conf=conf, tags=("b:1",)))))
    assert result.image.layer_blobs == [digests.of(layer) for layer in packed]
    assert len(set(store.blobs.digests()) - before) == 2  # config and manifest
    before = set(store.blobs.digests())
    (again,) = load(store, io.BytesIO(pack(docker(tags=("c:1",)))))
    assert again.image.names == ["docker.io/library/app:1", "docker.io/library/c:1"]
    assert set(store.blobs.digests()) == before


@pytest.mark.parametrize("text", ["latest", "1.0", "not/a/NAME:x", f"a@sha256:{'0' * 64}"])
def test_what_is_no_name(store: ImageStore, text: str) -> None:
    """A bare tag means something only beside a repository."""
    (result,) = load(store, io.BytesIO(pack(layout(name=text))))
    assert (result.name, result.image.names, result.image.repo_digests) == ("", [], [])


def test_names_of_the_other_half(store: ImageStore) -> None:
    conf = config()
    files = layout(name="1")
    element = {"Config": blob(conf), "RepoTags": ["app:1"], "Layers": []}
    files["manifest.json"] = json.dumps([element]).encode()
    assert load(store, io.BytesIO(pack(files)))[0].name == "docker.io/library/app:1"


# ---- platforms -------------------------------------------------------------------------------


def several(*architectures: str, nested: bool = True) -> dict[str, bytes | tarfile.TarInfo]:
    """An index with an image for each architecture."""
    files: dict[str, bytes | tarfile.TarInfo] = {}
    entries = []
    for name in architectures:
        layer = tar({"file": name.encode()})
        one = layout([layer], conf=config([layer], architecture=name))
        entry = json.loads(one["index.json"])["manifests"][0]  # type: ignore[arg-type]
        entry["platform"] = {"os": "linux", "architecture": name}
        entries.append(entry)
        files |= one
    if nested:
        data = json.dumps(
            {"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": entries}
        ).encode()
        files[blob(data)] = data
        name = {oci.REF_NAME: "docker.io/library/app:1"}
        entries = [descriptor(data, oci.OCI_INDEX, annotations=name)]
    return files | index(entries)


def others() -> list[str]:
    mine = platforms.host().architecture
    return [name for name in ("amd64", "arm64", "s390x") if name != mine][:2]


@pytest.mark.parametrize("nested", [True, False])
def test_an_index_gives_our_image(store: ImageStore, nested: bool) -> None:
    mine = platforms.host().architecture
    files = several(others()[0], mine, others()[1], nested=nested)
    (result,) = load(store, io.BytesIO(pack(files)))
    assert (result.image.architecture, result.name) == (mine, "docker.io/library/app:1")
    stored = [store.has_blob(digests.of(tar({"file": n.encode()}))) for n in others()]
    assert stored == [nested, nested]  # all of the index
    assert store.entries()[0].media_type == (oci.OCI_INDEX if nested else oci.OCI_MANIFEST)
    check(store.root)


def test_only_one_platform_of_an_index(store: ImageStore, base: str) -> None:
    mine, other = platforms.host().architecture, others()[0]
    files = several(other, mine)
    (result,) = load(store, io.BytesIO(pack(files)), platform=f"linux/{other}")
    assert result.image.architecture == other
    with pytest.raises(ImageError, match=r"no matching manifest for linux/riscv64"):
        load(open_store(f"{base}/x"), io.BytesIO(pack(files)), platform="linux/riscv64")
    left = layout([LAYERS[0]], conf=config([LAYERS[0]], architecture="mips"))
    data = json.loads(files["index.json"])  # type: ignore[arg-type]
    assert data["manifests"]
    with pytest.raises(
        ImageError, match=r"does not provide the specified platform \(linux/arm/v7\)"
    ):
        load(open_store(f"{base}/y"), io.BytesIO(pack(left)), platform="linux/arm")


def test_an_index_of_which_only_a_part_is_there(store: ImageStore) -> None:
    """``save --platform`` of other programs leaves it like that."""
    mine, other = platforms.host().architecture, others()[0]
    files = several(mine, other)
    left = {
        name: data
        for name, data in files.items()
        if isinstance(data, bytes) and (mine.encode() not in data or b"manifests" in data)
    }
    (result,) = load(store, io.BytesIO(pack(left)))  # type: ignore[arg-type]
    assert result.image.architecture == other


# ---- what is told ----------------------------------------------------------------------------


def test_progress_and_event(store: ImageStore) -> None:
    seen: list[ProgressEvent] = []
    (result,) = load(store, io.BytesIO(pack(layout())), progress=seen.append)
    ends = {event.id: (event.current, event.total) for event in seen}
    assert ends == {digests.of(layer)[7:19]: (len(layer), len(layer)) for layer in LAYERS}
    with open(store.journal.path, "rb") as file:
        event = json.loads(file.read().splitlines()[-1])
    assert (event["Action"], event["Actor"]["ID"]) == ("load", result.image.id)
    assert event["Actor"]["Attributes"] == {"name": result.image.id, "a": "b"}


def test_what_is_here_is_not_read_again(store: ImageStore, base: str) -> None:
    path = os.path.join(base, "file.tar")
    with open(path, "wb") as file:
        file.write(pack(docker()))
    load(store, path)
    seen: list[ProgressEvent] = []
    load(store, path, progress=seen.append)
    assert seen == []


def test_no_such_file(store: ImageStore) -> None:
    with pytest.raises(InvalidArgument, match=r"^open /no/such: no such file or directory$"):
        load(store, "/no/such")
    with pytest.raises(InvalidArgument, match="unknown operating system or architecture"):
        load(store, "/no/such", platform="?")


def test_many_layers(store: ImageStore) -> None:
    layers = [tar({"file": b"%d" % number}) for number in range(125)]
    (result,) = load(store, io.BytesIO(pack(docker(layers))))
    assert len(result.image.layers) == 125
    put(store, "other", [layers[0]])
    check(store.root)


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_that_begins_like_a_document(store: ImageStore, base: str, form: str) -> None:
    """A tar begins with a name, and a name may begin as JSON does."""
    layers = [tar({"[": b"one"}), tar({"{a}": b"two"})]
    made = {"docker": docker(layers), "oci": layout(layers)}
    files = made.get(form) or made["oci"] | made["docker"]
    path = os.path.join(base, "file.tar")
    with open(path, "wb") as file:
        file.write(pack(files))
    for source in (path, io.BytesIO(pack(files))):
        fresh = open_store(os.path.join(base, f"root-{isinstance(source, str)}"))
        (result,) = load(fresh, source)
        assert result.image.layers == [digests.of(layer) for layer in layers]


def test_another_platform_comes_first(store: ImageStore) -> None:
    """In a stream: what is needed shows only when all documents of the index were there."""
    host = platforms.host().architecture
    mine = config(architecture=host)
    other = config([tar({"other": b"x"})], architecture="riscv64")
    ours = layout(conf=mine)
    theirs = layout([tar({"other": b"x"})], conf=other)
    entries = []
    for files, name in ((theirs, "riscv64"), (ours, host)):
        (entry,) = json.loads(files["index.json"])["manifests"]  # type: ignore[arg-type]
        del entry["annotations"]
        entries.append(entry | {"platform": {"os": "linux", "architecture": name}})
    top = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    named = descriptor(top, oci.OCI_INDEX, annotations={oci.REF_NAME: "docker.io/library/app:1"})
    files = index([named]) | {blob(top): top} | {k: v for k, v in theirs.items() if "blobs" in k}
    files |= {blob(layer): layer for layer in LAYERS}
    files |= {k: v for k, v in ours.items() if "blobs" in k}
    (result,) = load(store, io.BytesIO(pack(files)))
    assert result.image.id == digests.of(mine)
    check(store.root)
