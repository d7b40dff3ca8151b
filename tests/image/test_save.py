"""``save``: what is in the archive, where it goes, and who can read it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import threading

import pytest

from fastbox.errors import FastboxError, ImageError, InvalidArgument, NotFound, StoreError
from fastbox.image.load import load
from fastbox.image.save import save
from fastbox.image.store import ImageStore
from fastbox.oci import image as oci
from fastbox.oci import platform as platforms
from tests.image.archives import pack
from tests.image.build import check, die_at, make, names, open_store, put, tar
from tests.image.test_load import others, several


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def saved(store: ImageStore, *images: str, **options: str) -> bytes:
    memory = io.BytesIO()
    save(store, images, memory, **options)
    return memory.getvalue()


def content(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]


def test_round_trip_of_several(store: ImageStore, base: str) -> None:
    shared = tar({"file": b"shared"})
    a = put(store, "a:1", [shared, tar({"file": b"a"})])
    b = put(store, "localhost:5000/b:2", [shared, tar({"file": b"b"})])
    store.tag("a:1", "a:2")
    c = make(store, None, "dangling")
    archive = saved(store, "a", "localhost:5000/b:2", c.id, "a:1")
    assert archive == saved(store, "a", "localhost:5000/b:2", c.id)  # the same bytes, too
    memory = io.BytesIO()
    save(store, "a", memory)  # one name, not its letters
    assert memory.getvalue() == saved(store, "a")
    fresh = open_store(f"{base}/fresh")
    results = load(fresh, io.BytesIO(archive))
    assert [r.name for r in results] == [
        "docker.io/library/a:1", "docker.io/library/a:2", "localhost:5000/b:2", "",
    ]  # fmt: skip
    assert names(fresh) == names(store)
    for image in (a, b, c):
        assert fresh.resolve(image.id).manifest_digest == image.manifest_digest
    check(fresh.root)


def test_what_is_in_it(store: ImageStore) -> None:
    """Both kinds at once, what describes it first, each layer once."""
    shared = tar({"file": b"shared"})
    a = put(store, "a:1", [shared, tar({"file": b"a"})])
    b = put(store, "team/b:1", [shared])
    files = content(saved(store, "a:1", "team/b:1", b.id))
    assert list(files)[:3] == ["oci-layout", "index.json", "manifest.json"]
    assert len(files) == 3 + 2 * 2 + 2
    path = f"blobs/sha256/{a.id[7:]}"
    elements = json.loads(files["manifest.json"])
    assert elements[0] == {
        "Config": path,
        "RepoTags": ["a:1"],
        "Layers": [f"blobs/sha256/{layer[7:]}" for layer in a.layer_blobs],
    }
    assert json.loads(files[path])["rootfs"]["diff_ids"] == a.layers
    entries = json.loads(files["index.json"])["manifests"]
    assert [entry["annotations"] for entry in entries] == [
        # a bare tag would mean both
        {"io.containerd.image.name": name, oci.REF_NAME: name}
        for name in ("docker.io/library/a:1", "docker.io/team/b:1")
    ]
    one = json.loads(content(saved(store, "a:1"))["index.json"])["manifests"]
    assert one[0]["annotations"][oci.REF_NAME] == "1"
    by_id = json.loads(content(saved(store, a.id))["manifest.json"])
    assert by_id[0]["RepoTags"] is None


def test_one_format(store: ImageStore, base: str) -> None:
    make(store, "a", "x")
    docker = content(saved(store, "a", format="docker-archive"))
    assert "manifest.json" in docker and "index.json" not in docker
    layout = content(saved(store, "a", format="oci-archive"))
    assert "index.json" in layout and "manifest.json" not in layout
    with pytest.raises(InvalidArgument, match='unknown format "x"'):
        saved(store, "a", format="x")
    save(store, ["a"], f"{base}/dir", format="oci-dir")
    assert sorted(os.listdir(f"{base}/dir")) == ["blobs", "index.json", "oci-layout"]
    with pytest.raises(InvalidArgument, match="exists and is not an empty directory"):
        save(store, ["a"], f"{base}/dir", format="oci-dir")
    with pytest.raises(InvalidArgument, match="name it with -o"):
        saved(store, "a", format="oci-dir")


# ---- others read it, we read theirs ----------------------------------------------------------


def test_skopeo_and_umoci_read_it(store: ImageStore, base: str) -> None:
    image = put(store, "team/a:1", [tar({"file": b"1"}), tar({"file": b"2"})])
    other = make(store, "b:2", "b")
    path = f"{base}/file.tar"
    save(store, ["team/a:1", "b:2"], path)
    for source in (f"docker-archive:{path}:team/a:1", f"oci-archive:{path}:1"):
        run("skopeo", "copy", source, f"oci:{base}/copied:1")
        config = json.loads(run("skopeo", "inspect", "--config", f"oci:{base}/copied:1"))
        assert config["rootfs"]["diff_ids"] == image.layers
    save(store, ["team/a:1", "b:2"], f"{base}/layout", format="oci-dir")
    run("umoci", "unpack", "--image", f"{base}/layout:1", f"{base}/bundle")
    with open(f"{base}/bundle/rootfs/file", "rb") as file:
        assert file.read() == b"2"
    # And back, changed by umoci.
    run("umoci", "config", "--image", f"{base}/layout:2", "--tag", "new", "--config.user", "7")
    fresh = open_store(f"{base}/fresh")
    images = [result.image for result in load(fresh, f"{base}/layout")]
    assert {image.id, other.id} < {one.id for one in images}
    (changed,) = [one for one in images if one.id not in (image.id, other.id)]
    assert changed.config["config"] == {"User": "7"}
    check(fresh.root)


def test_we_read_skopeo(store: ImageStore, base: str) -> None:
    image = put(store, "a", [tar({"file": b"1"}), tar({"file": b"2"})])
    source = f"oci:{store.directory}:docker.io/library/a:latest"
    run("skopeo", "copy", source, f"docker-archive:{base}/d.tar:new/a:1")
    run("skopeo", "copy", source, f"oci-archive:{base}/o.tar:new/a:1")
    run("skopeo", "copy", source, f"oci:{base}/layout:new/a:1")
    for number, path in enumerate(("d.tar", "o.tar", "layout")):
        fresh = open_store(f"{base}/fresh{number}")
        (result,) = load(fresh, f"{base}/{path}")
        assert (result.name, result.image.id) == ("docker.io/new/a:1", image.id)
        check(fresh.root)


# ---- platforms -------------------------------------------------------------------------------


def test_an_index_is_saved_as_far_as_it_is_here(store: ImageStore, base: str) -> None:
    mine, (other, third) = platforms.host().architecture, others()
    load(store, io.BytesIO(pack(several(mine, other, third))))
    (entry,) = store.entries()
    whole = saved(store, "app:1")
    assert sum(name.startswith("blobs") for name in content(whole)) == 1 + 3 * 3
    layer = tar({"file": third.encode()})
    os.unlink(store.blob_path(f"sha256:{_hex(layer)}"))
    part = saved(store, "app:1")
    assert sum(name.startswith("blobs") for name in content(part)) == 1 + 2 * 3
    fresh = open_store(f"{base}/fresh")
    assert load(fresh, io.BytesIO(part))[0].image.architecture == mine
    assert fresh.entries()[0].digest == entry.digest
    one = saved(store, "app:1", platform=f"linux/{other}")
    assert sum(name.startswith("blobs") for name in content(one)) == 3
    assert load(fresh, io.BytesIO(one))[0].image.architecture == other
    with pytest.raises(ImageError, match="no matching manifest for linux/riscv64"):
        saved(store, "app:1", platform="linux/riscv64")
    make(store, "plain", "x")
    with pytest.raises(ImageError, match=r"plain:latest was found but does not provide"):
        saved(store, "plain", platform=f"linux/{other}")


def _hex(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


# ---- where it goes ---------------------------------------------------------------------------


def test_a_file_appears_when_it_is_whole(store: ImageStore, base: str) -> None:
    make(store, "a", "x")
    path = f"{base}/out/file.tar"
    with pytest.raises(InvalidArgument, match=f'path: directory "{base}/out" does not exist'):
        save(store, ["a"], path)
    os.mkdir(f"{base}/out")
    with open(path, "w") as file:
        file.write("old")
    os.chmod(path, 0o644)
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        save(store, ["a", "nope"], path)
    assert os.listdir(f"{base}/out") == ["file.tar"]
    assert os.path.getsize(path) == 3
    save(store, ["a"], path)
    assert os.stat(path).st_mode & 0o7777 == 0o600
    assert os.listdir(f"{base}/out") == ["file.tar"]
    with pytest.raises(InvalidArgument, match="it is a directory"):
        save(store, ["a"], base)
    with pytest.raises(InvalidArgument, match="must be a directory or a regular file: got a dev"):
        save(store, ["a"], "/dev/null")


def test_killed_while_writing(store: ImageStore, base: str) -> None:
    make(store, "a", "x")
    os.mkdir(f"{base}/out")
    for point in range(1, 40):
        lived = die_at(point, lambda: save(store, ["a"], f"{base}/out/file.tar"))
        found = os.listdir(f"{base}/out")
        assert found in ([], ["file.tar"]) or (not lived and len(found) == 1)
        if lived:
            break
        if found:  # between link and rename: whole, under the other name
            assert os.path.getsize(f"{base}/out/{found[0]}") == len(saved(store, "a"))
            os.unlink(f"{base}/out/{found[0]}")
    assert lived


def test_a_file_without_o_tmpfile(
    store: ImageStore, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems make no nameless files."""
    make(store, "a", "x")
    monkeypatch.setattr(os, "O_TMPFILE", 0)  # EISDIR, as old kernels answer
    save(store, ["a"], f"{base}/file.tar")
    with pytest.raises(NotFound):
        save(store, ["nope"], f"{base}/file.tar")
    with open(f"{base}/file.tar", "rb") as file:
        assert file.read() == saved(store, "a")


def test_a_damaged_layer_is_not_saved(store: ImageStore, base: str) -> None:
    image = make(store, "a", "x")
    path = store.blob_path(image.layer_blobs[0])
    with open(path, "r+b") as file:
        file.seek(600)
        file.write(b"?")
    for output in (f"{base}/out", io.BytesIO()):
        with pytest.raises(StoreError, match=r"layer is damaged|not in the store"):
            save(store, ["a"], output)
    assert not os.path.exists(f"{base}/out")
    assert not os.path.exists(path)  # set aside: a pull brings it again


def test_pipes(store: ImageStore, base: str) -> None:
    """A descriptor that blocks or not, a named pipe, a file that is appended to."""
    make(store, "a", "y" * 3_000_000)
    wanted = saved(store, "a")
    os.mkfifo(f"{base}/fifo")
    for blocking in (True, False, None):
        got: list[bytes] = []
        reader, writer = -1, -1
        if blocking is None:
            source = f"{base}/fifo"
        else:
            reader, writer = os.pipe()
            os.set_blocking(writer, blocking)
            source = ""

        def read(source: str = source, reader: int = reader, got: list[bytes] = got) -> None:
            with open(source or reader, "rb") as file:
                got.append(file.read())

        thread = threading.Thread(target=read)
        thread.start()
        save(store, ["a"], source or writer)
        if writer >= 0:
            os.close(writer)
        thread.join()
        assert got == [wanted]
    with open(f"{base}/log", "ab") as file:
        save(store, ["a"], file.fileno())
        save(store, ["a"], file)
    with open(f"{base}/log", "rb") as file:
        assert file.read() == wanted * 2


def test_nobody_reads(store: ImageStore) -> None:
    make(store, "a", "y" * 3_000_000)
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        save(store, ["a"], writer)
    os.close(writer)


def test_a_full_disk(store: ImageStore, base: str) -> None:
    make(store, "a", "y" * 3_000_000)
    path = f"{base}/small"
    os.mkdir(path)
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path)
    try:
        for format in (None, "oci-dir"):
            with pytest.raises(FastboxError, match="no space left on device"):
                save(store, ["a"], f"{path}/out", format=format)
            assert os.listdir(path) == []
    finally:
        run("umount", path)


def test_events(store: ImageStore) -> None:
    image = make(store, "a", "x")
    saved(store, "a")
    with open(store.journal.path, "rb") as file:
        event = json.loads(file.read().splitlines()[-1])
    assert (event["Action"], event["Actor"]["ID"]) == ("save", image.id)
