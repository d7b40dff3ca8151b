"""``load`` of what is no archive, or was made to do harm: one clear line, and nothing is left; kill
-9 and full disks too."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from fastbox.errors import FastboxError, StoreError
from fastbox.image.contents import Contents
from fastbox.image.load import load
from fastbox.image.store import ImageStore
from fastbox.oci import digest as digests
from fastbox.oci import image as oci
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
from tests.image.build import check, die_at, leftovers, make, names, open_store, tar

Files = dict[str, "bytes | tarfile.TarInfo"]


def refused(store: ImageStore, base: str, data: bytes, text: str) -> None:
    """Whether it comes as a file or as a stream."""
    path = os.path.join(base, "hostile")
    with open(path, "wb") as file:
        file.write(data)
    before = names(store)
    for source in (path, io.BytesIO(data)):
        with pytest.raises(FastboxError, match=text) as caught:
            load(store, source)
        assert "\n" not in str(caught.value)
        assert names(store) == before
        assert leftovers(store.root) == []


def changed(files: Files, **replaced: Any) -> Files:
    """``manifest.json``'s element with other members."""
    element = json.loads(files["manifest.json"])[0] | replaced  # type: ignore[arg-type]
    return files | {"manifest.json": json.dumps([element]).encode()}


# ---- no archive of images --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "invalid archive: it is empty|neither manifest"),
        (b"\n", "not a tar archive"),
        (b"#!/bin/sh\n" * 200, "invalid archive: it is not a tar archive, or damaged"),
        (os.urandom(5000), "invalid archive"),
        (bytes(10240), "neither manifest.json nor index.json"),
        (tar({"etc/passwd": b"x"}), "neither manifest.json nor index.json"),
        (gzip.compress(tar({"a": b"x"}))[:-6], "invalid archive"),
        (gzip.compress(b"x" * 5000), "not a tar archive"),
        (b"\x1f\x8b" + b"x" * 500, "invalid archive"),
        (b"\xfd7zXZ\0" + b"x" * 500, "the xz archive is malformed"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 500, "invalid archive"),
    ],
)
def test_no_archive(store: ImageStore, base: str, data: bytes, text: str) -> None:
    refused(store, base, data, text)


def test_cut_off_anywhere(store: ImageStore, base: str) -> None:
    whole = pack(docker())
    end = whole.rindex(b"repositories") - 1
    for length in (100, 511, 513, 1500, *range(2048, end, 4999)):
        refused(store, base, whole[:length], "invalid archive")
    packed = gzip.compress(whole)
    for length in range(20, len(packed), len(packed) // 9):
        refused(store, base, packed[:length], "invalid archive")


def test_a_directory_that_is_no_layout(store: ImageStore, base: str) -> None:
    with pytest.raises(FastboxError, match="is no OCI image layout"):
        load(store, base)
    with tarfile.open(fileobj=io.BytesIO(pack(layout()))) as archive:
        archive.extractall(f"{base}/layout")
    path = f"{base}/layout/{blob(LAYERS[0])}"
    os.unlink(path)
    for target in ("/etc/hostname", f"{base}/layout/{blob(LAYERS[1])}"):
        os.symlink(target, path)
        with pytest.raises(StoreError, match="too many levels of symbolic links"):
            load(store, f"{base}/layout")
        os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(FastboxError, match="is not a regular file"):
        load(store, f"{base}/layout")
    assert (names(store), leftovers(store.root)) == ({}, [])


# ---- headers ---------------------------------------------------------------------------------


def header(**fields: tuple[int, bytes]) -> bytes:
    """A tar header with bytes replaced, and a right checksum."""
    info = tarfile.TarInfo("manifest.json")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    for offset, value in fields.values():
        block[offset : offset + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


HEADERS = {
    "negative": header(size=(124, b"\xff" * 12)),
    "huge": header(size=(124, b"\x80" + b"\x7f" * 11)),
    "eight-exabytes": header(size=(124, b"\x80\0\0\0\x3f" + b"\xff" * 7)),
    "letters": header(size=(124, b"0000000000x\0")),
    "sparse": header(kind=(156, b"S")),
    "link-with-content": header(kind=(156, b"2"), size=(124, b"00000000010\0")),
    "pax-bomb": header(kind=(156, b"x"), size=(124, b"37777777777\0")),
    "pax-without-data": header(kind=(156, b"x"), size=(124, b"00000000200\0")),
    "pax-nonsense": header(kind=(156, b"x"), size=(124, b"00000001000\0")) + b"9" * 512,
    "pax-zero": header(kind=(156, b"x"), size=(124, b"00000000005\0")) + b"0 a=\n" + bytes(507),
    "extensions-only": header(kind=(156, b"g")) * 100,
    "checksum": header()[:148] + b"0000000\0" + header()[156:],
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADERS)
def test_headers(store: ImageStore, base: str, kind: str) -> None:
    refused(store, base, HEADERS[kind] + bytes(10240), "invalid archive|no space left")


def test_too_many(store: ImageStore, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbox.image.tarball.MAX_ENTRIES", 50)
    refused(store, base, header() * 60 + bytes(1024), "more than 50 entries")
    monkeypatch.setattr("fastbox.image.contents.MAX_DOCUMENTS", 10)
    many: Files = {f"{n}.json": b"{}" for n in range(20)}
    refused(store, base, pack(many), "too many documents")


# ---- lies ------------------------------------------------------------------------------------

OTHER = tar({"file": b"other"})
BASE = config()
TAR = "application/vnd.oci.image.layer.v1.tar"
LIES: dict[str, tuple[Files, str]] = {
    "outside": (
        changed(docker(), Layers=["../../../etc/passwd", "/etc/shadow"]),
        "layer etc/passwd is not in it",
    ),
    "config-outside": (changed(docker(), Config="/etc/passwd"), "image config /etc/passwd is not"),
    "link-outside": (
        docker() | {f"{0:064}/layer.tar": link("../../../../etc/passwd")},
        "layer etc/passwd is not in it",
    ),
    "link-to-itself": (
        docker() | {f"{0:064}/layer.tar": link("layer.tar")},
        "is a link to a link, again and again",
    ),
    "config-is-a-link": (
        changed(docker() | {"c": link("/etc/passwd")}, Config="c"),
        "image config c is not in it",
    ),
    "no-layer": ({k: v for k, v in docker().items() if v != LAYERS[1]}, "is not in it"),
    "not-a-layer": (docker() | {f"{1:064}/layer.tar": b"#" * 4000}, "or is no layer"),
    "other-layer": (
        docker([LAYERS[0], OTHER], plain=LAYERS),
        "but the image config says .*: filesystem layer verification failed",
    ),
    "fewer-layers": (changed(docker(), Layers=[f"{0:064}/layer.tar"]), "has 1 layers of an image"),
    "no-config": (changed(docker(), Config="x.json"), "image config x.json is not in it"),
    "no-images": (docker() | {"manifest.json": b"[]"}, "there is no image in it"),
    "manifest-of-another-kind": (docker() | {"manifest.json": b'{"a":1}'}, "manifest.json is malf"),
    "deep-json": (docker() | {"manifest.json": b"[" * 100_000}, "manifest.json is malformed"),
    "bad-tag": (docker(tags=("../x:1",)), 'invalid tag "../x:1"'),
    "windows": (docker(conf=config(os="windows")), 'operating system "windows" cannot be used'),
    "config-with-other-types": (docker(conf=config(rootfs=[])), "image config is malformed"),
    "blob-lies": (layout() | {blob(LAYERS[0]): OTHER}, "has digest"),
    "config-lies": (layout() | {blob(BASE): config(author="x")}, "image config .* has digest"),
    "blob-is-missing": ({k: v for k, v in layout().items() if v != LAYERS[0]}, "is not in it"),
    "config-is-missing": ({k: v for k, v in layout().items() if v != BASE}, "config .* is not in"),
    "sizes-lie": (
        layout(changes={"layers": [
            descriptor(LAYERS[0], TAR) | {"size": 7},
            descriptor(LAYERS[1], TAR),
        ]}),
        r"\(7 bytes\) has digest",
    ),
    "layer-of-foreign-type": (
        layout(changes={"layers": [descriptor(layer, "text/html") for layer in LAYERS]}),
        "is of unknown type 'text/html'",
    ),
    "digest-is-a-path": (
        index([{"mediaType": "x", "digest": "sha256:../../../etc/passwd", "size": 1}]),
        "digest",
    ),
    "two-things-at-once": (layout(changes={"manifests": []}), "ambiguous"),
    "index-leads-nowhere": (index([descriptor(b"{}", "x")]), "is not in it"),
    "empty-index": (index([]), "there is no image in it"),
    "bad-layer": (docker([LAYERS[0], LAYERS[1][:600]]), "the archive ends too early"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LIES)
def test_lies(store: ImageStore, base: str, kind: str) -> None:
    files, text = LIES[kind]
    make(store, "app:1", "mine")  # keeps its name
    refused(store, base, pack(files), text)


def test_an_index_in_itself(store: ImageStore, base: str) -> None:
    """As deep as nobody nests them: a document cannot hold its own digest."""
    files: Files = layout()
    entries = json.loads(files["index.json"])["manifests"]  # type: ignore[arg-type]
    for _ in range(8):
        data = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
        files[blob(data)] = data
        entries = [descriptor(data, "application/vnd.oci.image.index.v1+json")]
    refused(store, base, pack(files | index(entries)), "nested too deep")


def test_one_bad_image_of_two(store: ImageStore, base: str) -> None:
    """The good one is not loaded either."""
    good, bad = docker([LAYERS[0]], ("a:1",)), docker([LAYERS[1]], ("b:1",), plain=[OTHER])
    bad = {name.replace("0/", "7/"): data for name, data in bad.items()}
    both = json.loads(good["manifest.json"]) + json.loads(  # type: ignore[arg-type]
        bad["manifest.json"].replace(b"0/", b"7/")  # type: ignore[union-attr]
    )
    refused(
        store, base, pack(good | bad | {"manifest.json": json.dumps(both).encode()}), "verification"
    )


def test_the_last_of_a_name_counts(store: ImageStore) -> None:
    files = docker([OTHER, LAYERS[1]], plain=LAYERS)
    data = pack(files, then={f"{0:064}/layer.tar": LAYERS[0]})
    (result,) = load(store, io.BytesIO(data))
    assert result.image.layers[0] == digests.of(LAYERS[0])
    assert leftovers(store.root) == []


# ---- bombs, full disks, kill -9 ---------------------------------------------------------------


def test_bombs(store: ImageStore, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("intake", "unpack"):
        monkeypatch.setattr(f"fastbox.image.{module}.space_for_layer", lambda _: 1_000_000)
    bomb = tar({"file": bytes(20_000_000)})
    refused(store, base, pack(docker([gzip.compress(bomb)], plain=[bomb])), "more than is allowed")
    refused(store, base, pack(docker([bomb])), "no space left on device")
    refused(store, base, gzip.compress(pack({"junk": bomb, **docker([bomb])})), "no space left")


def test_a_full_disk(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("intake", "unpack"):
        monkeypatch.setattr(f"fastbox.image.{module}.space_for_layer", lambda _: 1 << 40)
    small = os.path.join(base, "small")
    os.mkdir(small, 0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=True)
    try:
        store = open_store(os.path.join(small, "root"))
        image = make(store, "old", "old")
        for size in (2_400_000, 3_500_000, 9_000_000):
            data = pack(docker([tar({"file": os.urandom(size)})]))
            refused(store, base, data, "[Nn]o space left on device")
            check(store.root)
        assert names(store) == {image.id: ["docker.io/library/old:latest"]}
        load(store, io.BytesIO(pack(docker())))  # what fits still does
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("form", [docker, layout])
def test_killed_anywhere(base: str, form: Callable[[], Files]) -> None:
    """Each image is there whole or not at all, and the next command cleans up."""
    path = os.path.join(base, "file.tar")
    with open(path, "wb") as file:
        file.write(pack(form()))
    root = os.path.join(base, "root")
    open_store(root).prepare()
    for point in range(1, 200, 3):
        lived = die_at(point, lambda: load(open_store(root), path))
        store = open_store(root)
        store.prepare()
        assert leftovers(root) == []
        check(root)
        if lived:
            break
        for name in list(names(store)):
            store.remove(name)
        store.cleanup()
    assert lived
    assert len(names(open_store(root))) == 1


def test_interrupted(store: ImageStore, base: str) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(store, io.BytesIO(pack(docker())), progress=stop)
    assert (names(store), leftovers(store.root)) == ({}, [])


def test_extended_headers_take_no_time(store: ImageStore, base: str) -> None:
    """A megabyte of the smallest records."""
    size = header(kind=(156, b"x"), size=(124, b"%011o\0" % (1 << 20)))
    refused(store, base, size + (b"5 a=\n" * 209_716)[: 1 << 20], "invalid archive")


# ---- a few bytes that become many ----------------------------------------------------------------


def test_overlong_names(store: ImageStore, base: str) -> None:
    """All names are kept until the end: a mebibyte of each would be the machine's memory."""
    for info in (link("y" * 5000), link("y")):
        name = "x" * (10 if info.linkname != "y" else 5000)
        data = pack({name: info} | docker(), tarfile.PAX_FORMAT)
        refused(store, base, data, "a name of more than 4096 characters")


def test_too_many_links(store: ImageStore, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastbox.image.contents.MAX_DOCUMENT_BYTES", 100_000)
    files: Files = {f"{n}/{'x' * 90}": link("y" * 90) for n in range(1000)}
    refused(store, base, pack(files | docker()), "too many documents")


def test_documents_are_parsed_once(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images of the archive have them."""
    parsed: list[bytes] = []
    decode = oci.decode_config
    monkeypatch.setattr(oci, "decode_config", lambda data: parsed.append(data) or decode(data))
    files = docker()
    element = json.loads(files["manifest.json"])[0]  # type: ignore[arg-type]
    files["manifest.json"] = json.dumps([element | {"RepoTags": None}] * 30).encode()
    files["again.json"] = b"{}"
    contents = Contents()
    for name, data in files.items():
        if isinstance(data, bytes) and data.startswith((b"{", b"[")):
            contents.add_document(name, data)
    assert len(contents.images()) == 30
    assert len(contents.images()) == 30
    assert len(parsed) == 1


def test_platforms_of_many_indexes_are_told_once() -> None:
    both = [layout(conf=config(architecture=name)) for name in ("amd64", "riscv64")]
    inner = [json.loads(files["index.json"])["manifests"][0] for files in both]  # type: ignore[arg-type]
    for entry, name in zip(inner, ("amd64", "riscv64"), strict=True):
        entry["platform"] = {"os": "linux", "architecture": name}
    tops = [
        json.dumps({"schemaVersion": 2, "manifests": inner, "annotations": {"n": str(n)}}).encode()
        for n in range(5)
    ]
    files = both[0] | both[1] | index([descriptor(top, oci.OCI_INDEX) for top in tops])
    contents = Contents()
    for name, data in (files | {blob(top): top for top in tops}).items():
        if isinstance(data, bytes) and data.startswith(b"{"):
            contents.add_document(name, data)
    assert sum(len(image.others) for image in contents.images()) == 1


def test_too_many_names(store: ImageStore, base: str) -> None:
    """Each is a write of the whole index."""
    files = changed(docker(), RepoTags=[f"app:{n}" for n in range(1001)])
    refused(store, base, pack(files), "its images have 1001 names, the limit is 1000")


def test_the_index_stays_readable(store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an archive says gets into the store's index only as far as it is short."""
    for member in ("architecture", "variant", "os"):
        conf = config(**{member: "linux" + "x" * 100_000})
        with pytest.raises(FastboxError, match="overlong operating system"):
            load(store, io.BytesIO(pack(docker(conf=conf))))
    inner = layout()
    top = json.dumps(
        {"schemaVersion": 2, "manifests": json.loads(inner["index.json"])["manifests"]}  # type: ignore[arg-type]
    ).encode()
    entry = descriptor(top, "application/" + "x" * 100_000)
    load(store, io.BytesIO(pack(inner | index([entry]) | {blob(top): top})))
    path = os.path.join(store.root, "images", "index.json")
    assert os.path.getsize(path) < 2000

    monkeypatch.setattr("fastbox.image.store._MAX_INDEX", 2000)
    with pytest.raises(StoreError, match="the image store is full"):
        for n in range(20):
            load(store, io.BytesIO(pack(docker(tags=(f"app:{n}",)))))
    assert len(open_store(store.root).entries()) >= 2
    open_store(store.root).remove("app:0")
