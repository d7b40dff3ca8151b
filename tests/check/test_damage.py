"""Every kind of damage is named, and repaired or said what to do about; then the store is whole."""

from __future__ import annotations

import glob
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable

import pytest

from fastbox.check.problems import Problem
from fastbox.container.config import ContainerConfig
from fastbox.engine import Engine
from fastbox.errors import FastboxError
from fastbox.image.seal import sealed
from fastbox.image.types import Image
from tests.image.build import put, tar
from tests.support import boxes
from tests.support.registry import Registry
from tests.support.whole import check_whole


def rich() -> bytes:
    """A layer with everything that a layer can have."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, data: bytes = b"", **fields: object) -> None:
            info = tarfile.TarInfo(name)
            info.mtime, info.mode, info.size = 1_500_000_000, 0o644, len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))

        add("etc", type=tarfile.DIRTYPE, mode=0o755, uid=3, gid=4)
        add("etc/one", b"one", pax_headers={"SCHILY.xattr.user.note": "x"})
        add("etc/same", type=tarfile.LNKTYPE, linkname="etc/one")
        add("etc/link", type=tarfile.SYMTYPE, linkname="/nowhere")
        add("implied/below/two", b"two" * 1000, uid=1000, gid=1000, mode=0o4755)
        add("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
        add("pipe", type=tarfile.FIFOTYPE)
        add("gone/.wh.file")
        add("hidden/.wh..wh..opq")
    return memory.getvalue()


@pytest.fixture
def image(engine: Engine) -> Image:
    return engine.import_image(io.BytesIO(rich()), "rich:1")


def layer_of(engine: Engine, image: Image) -> str:
    return os.path.join(engine.root, "layers", image.layers[-1][7:31])


def meta_of(engine: Engine, image: Image) -> str:
    return os.path.join(engine.root, "layers", ".meta", image.layers[-1][7:31] + ".json")


def blob(engine: Engine, digest: str) -> str:
    return os.path.join(engine.root, "images", "blobs", "sha256", digest[7:])


def index(engine: Engine) -> str:
    return os.path.join(engine.root, "images", "index.json")


def rewrite(path: str, data: bytes) -> None:
    """A file's content, the file being another: the store may be a copy by hard links."""
    if os.path.lexists(path):
        os.unlink(path)
    with open(path, "wb") as file:
        file.write(data)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def flip(path: str) -> None:
    data = bytearray(read(path))
    data[len(data) // 2] ^= 1
    rewrite(path, bytes(data))


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


def container(engine: Engine, image: str = "rich:1", **config: object) -> str:
    """A container that is not started."""
    wanted = ContainerConfig(image=image, command=["x"], network="none", **config)  # type: ignore[arg-type]
    return engine.create(wanted).id


# ---- nothing is wrong --------------------------------------------------------------------------


def test_a_store_that_is_whole(engine: Engine, image: Image) -> None:
    container(engine, name="box")
    engine.create_volume("data")
    engine.create_network("net")
    counts: dict[str, int] = {}
    assert engine.check(counted=counts.__setitem__) == []
    assert counts["blob"] == 3
    assert (counts["image"], counts["layer"], counts["container"]) == (1, 1, 1)
    assert (counts["volume"], counts["network"]) == (1, 2)


def test_an_empty_store(engine: Engine) -> None:
    assert engine.check() == []


def test_an_image_that_nobody_unpacked(engine: Engine) -> None:
    put(engine._images, "a:1", [tar({"file": b"x"})])
    assert engine.check() == []
    assert not glob.glob(f"{engine.root}/layers/[0-9a-f]*")


def test_a_container_whose_image_is_gone(engine: Engine, image: Image) -> None:
    container(engine, name="box")
    engine.remove_image("rich:1", force=True)
    engine.check(repair=True)
    check_whole(engine.root)


def test_others_go_on_meanwhile(engine: Engine, image: Image, busybox_image: str) -> None:
    def meanwhile(kind: str, count: int) -> None:
        other = Engine(engine.root, engine.runtime_dir)
        if kind == "image":
            assert boxes.run(other, "busybox", "echo", "x").out == "x\n"
            other.remove_image("rich:1")
            other.import_image(io.BytesIO(tar({"file": b"new"})), "new:1")
        elif kind == "layer":
            container(other, "new:1", name="box")
            other.remove("box")

    assert engine.check(repair=True, counted=meanwhile) == []
    check_whole(engine.root)


# ---- layers ------------------------------------------------------------------------------------


def append(path: str) -> None:
    with open(f"{path}/implied/below/two", "ab") as file:
        file.write(b"!")


def other_byte(path: str) -> None:
    found = os.stat(f"{path}/etc/one")
    with open(f"{path}/etc/one", "r+b") as file:
        file.write(b"ONE")
    os.utime(f"{path}/etc/one", ns=(found.st_atime_ns, found.st_mtime_ns))


def split_link(path: str) -> None:
    shutil.copy2(f"{path}/etc/one", f"{path}/etc/new")
    os.rename(f"{path}/etc/new", f"{path}/etc/same")
    found = os.stat(f"{path}/etc")
    os.utime(f"{path}/etc", ns=(found.st_atime_ns, 1_500_000_000 * 10**9))


def replace_link(path: str) -> None:
    os.unlink(f"{path}/etc/link")
    os.symlink("/etc/shadow", f"{path}/etc/link")
    os.utime(f"{path}/etc/link", ns=(0, 1_500_000_000 * 10**9), follow_symlinks=False)
    os.utime(f"{path}/etc", ns=(0, 1_500_000_000 * 10**9))


def unhide(path: str) -> None:
    os.removexattr(f"{path}/hidden", "trusted.overlay.opaque")


def other_device(path: str) -> None:
    os.unlink(f"{path}/null")
    os.mknod(f"{path}/null", 0o20666, os.makedev(1, 5))
    os.chmod(f"{path}/null", 0o666)


CHANGES: list[tuple[Callable[[str], object], str]] = [
    (append, "implied/below/two has 3001 bytes instead of 3000"),
    (other_byte, "etc/one has other content"),
    (split_link, "etc/same has other hard links"),
    (replace_link, "etc/link leads elsewhere"),
    (unhide, "hidden has other extended attributes"),
    (other_device, "null is another device"),
    (lambda path: os.chmod(f"{path}/etc/one", 0o4644), "has mode 4644 instead of 644"),
    (lambda path: os.chmod(path, 0o777), "the layer's root has mode 777 instead of 755"),
    (lambda path: os.chown(f"{path}/etc", 0, 0), "etc belongs to 0:0 instead of 3:4"),
    (lambda path: os.utime(f"{path}/etc/one", (1, 1)), "has another time"),
    (lambda path: os.unlink(f"{path}/pipe"), "pipe is missing"),
    (lambda path: os.mkdir(f"{path}/\x1b[2J"), r"\x1b[2J does not belong there"),
    (lambda path: os.setxattr(f"{path}/etc/one", "user.note", b"y"), "other extended attributes"),
    (lambda path: os.rename(f"{path}/gone/file", f"{path}/gone/else"), "does not belong there"),
]


@pytest.mark.parametrize(("change", "text"), CHANGES, ids=[text for _, text in CHANGES])
def test_a_changed_layer(
    engine: Engine, image: Image, change: Callable[[str], object], text: str
) -> None:
    path = layer_of(engine, image)
    change(path)
    found = only(engine.check())
    assert (found.kind, found.what, found.is_left) == ("layer", path, True)
    assert text in found.text
    assert found.hint == "`fastbox system check --repair` puts it right"
    assert only(engine.check(repair=True)).repaired
    check_whole(engine.root)


def test_a_layer_of_a_running_container_is_left_alone(engine: Engine, busybox_image: str) -> None:
    image = engine.image("busybox")
    box = boxes.start(engine, "busybox")
    path = layer_of(engine, image)
    rewrite(f"{path}/etc/passwd", b"root::0:0:::\n")
    found = only(engine.check(repair=True))
    assert found.is_left
    assert f"not repaired: container {box.name} runs, stop it first" in found.text
    engine.stop(box.id, timeout=0)
    assert only(engine.check(repair=True)).repaired
    check_whole(engine.root)
    engine.start(box.id)
    assert boxes.execute(engine, box, "cat", "/etc/passwd").lines[0].endswith("/bin/sh")


def test_nobody_else_is_waited_for(engine: Engine, image: Image) -> None:
    other_byte(layer_of(engine, image))
    with Engine(engine.root, engine.runtime_dir)._images.lease():
        found = only(engine.check(repair=True))
    assert "other fastbox commands are at work, try again" in found.text
    assert only(engine.check(repair=True)).repaired


def test_a_missing_layer_of_a_container(engine: Engine, image: Image) -> None:
    container(engine, name="box")
    shutil.rmtree(layer_of(engine, image))
    found = only(engine.check())
    assert (found.kind, found.text) == ("layer", "it is missing (of container box)")
    assert only(engine.check(repair=True)).repaired
    check_whole(engine.root)


def test_a_missing_layer_that_nothing_has(engine: Engine, image: Image) -> None:
    container(engine, name="box")
    engine.remove_image("rich:1", force=True)
    os.unlink(blob(engine, image.layer_blobs[0]))
    shutil.rmtree(layer_of(engine, image))
    found = [problem for problem in engine.check(repair=True) if problem.kind == "layer"]
    assert only(found).is_left
    assert "not repaired: there is no blob to unpack" in found[0].text


@pytest.mark.parametrize("target", ["/etc", "../../elsewhere", "0" * 24])
def test_a_link_in_the_place_of_a_layer(engine: Engine, image: Image, target: str) -> None:
    path = layer_of(engine, image)
    os.rename(path, engine.root + "/elsewhere")
    os.symlink(target, path)
    found = only(engine.check())
    assert found.text == f"it is a symbolic link to {target}"
    assert only(engine.check(repair=True)).repaired
    assert not os.path.islink(path)
    check_whole(engine.root)
    assert os.path.exists("/etc/passwd")


def test_a_link_from_one_layer_to_another_is_none_that_is_wrong(
    engine: Engine, image: Image
) -> None:
    """What a committed layer has, once it is packed."""
    path = layer_of(engine, image)
    first = "0123456789abcdef01234567"
    os.rename(path, f"{engine.root}/layers/{first}")
    os.symlink(first, path)
    assert engine.check() == []
    other_byte(path)
    assert "etc/one has other content" in only(engine.check()).text


OTHER = b'{"diff_id":"sha256:%s","size":1,"entries":1}' % (b"0" * 64)


@pytest.mark.parametrize("data", [b"", b"{", b'{"diff_id": 3}', OTHER])
def test_damaged_metadata(engine: Engine, image: Image, data: bytes) -> None:
    before = read(meta_of(engine, image))
    rewrite(meta_of(engine, image), data)
    found = only(engine.check())
    assert (found.kind, found.what) == ("metadata", layer_of(engine, image))
    assert only(engine.check(repair=True)).repaired
    assert json.loads(read(meta_of(engine, image))) == json.loads(before)
    check_whole(engine.root)


def test_metadata_that_say_something_else(engine: Engine, image: Image) -> None:
    meta = json.loads(read(meta_of(engine, image)))
    rewrite(meta_of(engine, image), json.dumps({**meta, "size": 1}).encode())
    assert "says size 1 instead of" in only(engine.check()).text
    engine.check(repair=True)
    assert json.loads(read(meta_of(engine, image))) == meta


def test_metadata_without_layer_or_blob(engine: Engine, image: Image) -> None:
    """Nothing can be verified, but the image is to be usable."""
    os.unlink(meta_of(engine, image))
    os.unlink(blob(engine, image.layer_blobs[0]))
    kinds = {problem.kind: problem for problem in engine.check(repair=True)}
    assert kinds["metadata"].repaired
    assert kinds["image"].is_left
    assert container(engine)


def test_a_link_in_the_place_of_metadata(engine: Engine, image: Image, base: str) -> None:
    path = meta_of(engine, image)
    os.rename(path, f"{base}/elsewhere")
    os.symlink(f"{base}/elsewhere", path)
    assert "is not a regular file" in only(engine.check()).text
    assert only(engine.check(repair=True)).repaired
    assert not os.path.islink(path)
    assert os.path.exists(f"{base}/elsewhere")


def test_the_layer_over_all_containers(engine: Engine, image: Image) -> None:
    container(engine, name="box", mounts=[])
    engine.changes("box")  # makes it
    path = f"{engine.root}/layers/.init"
    os.rmdir(f"{path}/dev/shm")
    os.symlink("/", f"{path}/dev/shm")
    assert "dev/shm is of another type" in only(engine.check()).text
    assert only(engine.check(repair=True)).repaired
    assert os.path.isdir(f"{path}/dev/shm")
    check_whole(engine.root)


def test_strangers(engine: Engine, image: Image) -> None:
    os.mkdir(f"{engine.root}/layers/stranger")
    rewrite(f"{engine.root}/images/blobs/sha256/stranger", b"")
    assert {problem.kind for problem in engine.check()} == {"leftover"}
    assert all(problem.repaired for problem in engine.check(repair=True))
    assert engine.check() == []


PIPES = [
    "images/index.json",
    "images/oci-layout",
    "layers/.meta/*.json",
    "containers/*/container.json",
    "containers/*/config.json",
    "volumes/*/volume.json",
    "images/blobs/sha256/*",
]


@pytest.mark.parametrize("pattern", PIPES)
def test_nobody_waits_for_a_pipe_in_the_place_of_a_file(
    engine: Engine, image: Image, pattern: str
) -> None:
    container(engine, "rich:1", name="box")
    engine.create_volume("data")
    path = glob.glob(f"{engine.root}/{pattern}")[0]
    os.unlink(path)
    os.mkfifo(path)
    for repair in (False, True):
        found = Engine(engine.root, engine.runtime_dir).check(repair=repair)
        assert any(problem.is_left or problem.repaired for problem in found)


# ---- layers of commits -------------------------------------------------------------------------


@pytest.fixture
def snap(engine: Engine, busybox_image: str) -> Image:
    """A commit, without a blob yet, of a container that has its layer."""
    box = boxes.start(engine, "busybox", name="web")
    script = (
        "mkdir -p /d/e; echo one > /d/e/f; ln /d/e/f /d/g; rm -r /home; mkdir /home; rm /bin/ls"
    )
    assert boxes.execute(engine, box, "sh", "-ec", script).code == 0
    engine.stop("web", timeout=0)
    return engine.commit("web", "snap:1")


def upper_of(engine: Engine) -> str:
    """The directory that was the container's."""
    return f"{engine.root}/layers/{engine.container('web').record.committed[0]}"


def test_a_commit_is_whole(engine: Engine, snap: Image) -> None:
    check_whole(engine.root)
    assert engine.check() == []
    sealed(engine._images, "snap:1")
    assert engine.check() == []
    container(engine, "snap:1")
    assert engine.check() == []


def test_a_commit_whose_archive_was_made(engine: Engine, snap: Image) -> None:
    sealed(engine._images, "snap:1")
    with open(f"{upper_of(engine)}/d/e/f", "w") as file:
        file.write("two\n")
    assert "has other content" in only(engine.check()).text
    assert only(engine.check(repair=True)).repaired
    check_whole(engine.root)
    assert os.path.islink(layer_of(engine, engine.image("snap:1")))
    engine.start("web")
    assert boxes.execute(engine, engine.container("web"), "cat", "/d/g").out == "one\n"


def test_a_commit_that_a_power_failure_followed(engine: Engine, snap: Image) -> None:
    path = f"{engine.root}/layers/.meta/{os.path.basename(upper_of(engine))}.json"
    rewrite(path, json.dumps({**json.loads(read(path)), "boot": "another"}).encode())
    found = only(Engine(engine.root, engine.runtime_dir).check())
    assert "the machine was restarted before" in found.text
    assert only(Engine(engine.root, engine.runtime_dir).check(repair=True)).repaired
    check_whole(engine.root)
    assert boxes.run(engine, "snap:1", "true").code == 0


def test_damaged_metadata_of_a_commit(engine: Engine, snap: Image) -> None:
    path = f"{engine.root}/layers/.meta/{os.path.basename(upper_of(engine))}.json"
    truncate(path)
    assert only(Engine(engine.root, engine.runtime_dir).check(repair=True)).repaired
    check_whole(engine.root)
    assert boxes.run(Engine(engine.root, engine.runtime_dir), "snap:1", "true").code == 0
    sealed(Engine(engine.root, engine.runtime_dir)._images, "snap:1")
    check_whole(engine.root)


def test_a_deep_commit_without_metadata(engine: Engine, busybox_image: str) -> None:
    box = boxes.start(engine, "busybox", name="web")
    script = f"mkdir -p {'d/' * 1500}; touch {'d/' * 1500}end"
    assert boxes.execute(engine, box, "sh", "-ec", script).code == 0
    engine.stop("web", timeout=0)
    engine.commit("web", "snap:1")
    path = f"{engine.root}/layers/.meta/{os.path.basename(upper_of(engine))}.json"
    os.unlink(path)
    assert only(Engine(engine.root, engine.runtime_dir).check(repair=True)).repaired
    made = json.loads(read(path))
    assert (made["entries"], made["size"]) == (1501, 0)


# ---- blobs and the index -----------------------------------------------------------------------


def of_layer(image: Image) -> str:
    return image.layer_blobs[0]


def of_config(image: Image) -> str:
    return image.id


def of_manifest(image: Image) -> str:
    return image.manifest_digest


BLOBS = [of_layer, of_config, of_manifest]


def truncate(path: str) -> None:
    data = read(path)
    rewrite(path, data[: len(data) // 2])


def link_away(path: str) -> None:
    os.rename(path, path + ".elsewhere")
    os.rename(path + ".elsewhere", os.path.join(os.path.dirname(path), "../../../elsewhere"))
    os.symlink("../../../elsewhere", path)


@pytest.mark.parametrize("damage", [flip, truncate, link_away])
@pytest.mark.parametrize("which", BLOBS)
def test_a_damaged_blob(
    engine: Engine,
    registry: Registry,
    which: Callable[[Image], str],
    damage: Callable[[str], None],
) -> None:
    registry.push("check/damaged:1", [tar({"file": b"content"})])
    name = f"{registry.host}/check/damaged:1"
    digest = which(engine.pull(name).image)
    damage(blob(engine, digest))
    found = only(Engine(engine.root, engine.runtime_dir).check())
    assert (found.kind, found.what, found.is_left) == ("blob", digest, True)
    assert f"(of {name})" in found.text
    assert found.hint == f"`fastbox pull {name}` brings it again"
    found = only(Engine(engine.root, engine.runtime_dir).check(repair=True))
    assert found.text.endswith("; it was set aside")
    assert not os.path.lexists(blob(engine, digest))
    found = only(Engine(engine.root, engine.runtime_dir).check())
    assert (found.kind, found.what) == ("image", name)
    assert f"{digest} is missing" in found.text
    Engine(engine.root, engine.runtime_dir).pull(name)
    check_whole(engine.root)


def test_a_damaged_blob_that_nothing_needs(engine: Engine) -> None:
    digest = engine._images.put_blob(b"garbage")
    rewrite(blob(engine, digest), b"other")
    assert only(engine.check()).is_left
    assert only(engine.check(repair=True)).repaired
    assert engine.check() == []


def test_an_entry_without_a_name_that_leads_nowhere(engine: Engine, image: Image) -> None:
    engine.import_image(io.BytesIO(tar({"file": b"x"})))
    nameless = next(found for found in engine.images(all=True) if not found.names)
    os.unlink(blob(engine, nameless.id))
    assert only(engine.check()).kind == "image"
    assert only(engine.check(repair=True)).repaired
    assert [found.names for found in engine.images(all=True)] == [["docker.io/library/rich:1"]]


def test_a_nameless_image_that_containers_can_be_made_of(engine: Engine) -> None:
    """It has an id, by which somebody may run it."""
    made = engine.import_image(io.BytesIO(tar({"file": b"x"})))
    os.unlink(blob(engine, made.layer_blobs[0]))
    found = engine.check(repair=True)[0]
    assert not found.repaired and "containers can still be made of it" in found.text
    assert found.hint == f"`fastbox rmi {made.manifest_digest}` removes the image"
    assert [image.id for image in engine.images(all=True)] == [made.id]
    assert engine.container(container(engine, made.id)).record.image_id == made.id
    engine.remove(engine.containers(all=True)[0].id)
    engine.remove_image(made.manifest_digest)
    assert engine.check() == []


def test_a_layer_that_is_nowhere(engine: Engine, image: Image) -> None:
    os.unlink(blob(engine, of_layer(image)))
    shutil.rmtree(layer_of(engine, image))
    found = only(engine.check())
    assert (found.kind, found.what) == ("image", "rich:1")
    assert found.text == f"its layer {of_layer(image)} is missing"


def test_a_blob_with_the_content_of_another_layer(engine: Engine) -> None:
    """The digest is right, the diff-id that the image's config has is not."""
    image = engine.import_image(io.BytesIO(rich()), "rich:1")
    for path in (of_config(image), of_manifest(image)):
        assert os.path.exists(blob(engine, path))
    config = json.loads(read(blob(engine, of_config(image))))
    config["rootfs"]["diff_ids"] = ["sha256:" + "1" * 64]
    wrong = engine._images.put_blob(json.dumps(config).encode())
    manifest = json.loads(read(blob(engine, of_manifest(image))))
    manifest["config"] |= {"digest": wrong, "size": os.path.getsize(blob(engine, wrong))}
    data = json.dumps(manifest).encode()
    index_data = json.loads(read(index(engine)))
    entry = {**index_data["manifests"][0], "digest": engine._images.put_blob(data)}
    entry |= {"size": len(data), "annotations": {"org.opencontainers.image.ref.name": "bad:1"}}
    index_data["manifests"].append(entry)
    rewrite(index(engine), json.dumps(index_data).encode())
    os.rename(layer_of(engine, image), f"{engine.root}/layers/{'1' * 24}")
    text = only(Engine(engine.root, engine.runtime_dir).check()).text
    assert "its blob unpacks to" in text


@pytest.mark.parametrize("damage", [truncate, os.unlink, link_away, lambda p: rewrite(p, b"[]")])
def test_a_damaged_index(
    engine: Engine, image: Image, damage: Callable[[str], None], base: str
) -> None:
    engine.import_image(io.BytesIO(tar({"file": b"x"})), "other:1")
    container(engine, "rich:1", name="box")
    path = index(engine)
    if damage is link_away:
        os.rename(path, f"{base}/elsewhere")
        os.symlink(f"{base}/elsewhere", path)
    else:
        damage(path)
    found = engine.check()
    assert found[0].kind == "index"
    found = engine.check(repair=True)
    assert [problem.repaired for problem in found if problem.kind == "index"] == [True]
    assert not os.path.islink(path)
    names = [image.names for image in engine.images(all=True)]
    assert sorted(names) == [[], ["docker.io/library/rich:1"]]  # only a container knew a name
    check_whole(engine.root)


def test_a_layout_without_its_mark(engine: Engine, image: Image) -> None:
    os.unlink(f"{engine.root}/images/oci-layout")
    assert only(engine.check()).kind == "index"
    assert only(engine.check(repair=True)).repaired
    check_whole(engine.root)


# ---- containers, volumes, networks -------------------------------------------------------------


def directory(engine: Engine, container_id: str) -> str:
    return f"{engine.root}/containers/{container_id}"


def edit(path: str, **fields: object) -> None:
    data = json.loads(read(path))
    rewrite(path, json.dumps({**data, **fields}).encode())


def test_a_damaged_record(engine: Engine, image: Image) -> None:
    box = container(engine, name="box")
    truncate(f"{directory(engine, box)}/container.json")
    found = only(engine.check())
    assert (found.kind, found.what) == ("container", box[:12])
    assert found.hint == f"`fastbox rm -f {box[:12]}` removes it"
    engine.remove(box, force=True)
    check_whole(engine.root)


def test_a_record_that_leads_away(engine: Engine, image: Image) -> None:
    box = container(engine, name="box")
    edit(f"{directory(engine, box)}/container.json", layers=["../../../etc"])
    found = only(engine.check(repair=True))
    assert found.text == "its record names the layer ../../../etc"
    edit(f"{directory(engine, box)}/container.json", layers=["3" * 24])
    found = only(engine.check(repair=True))
    assert (found.kind, os.path.basename(found.what)) == ("layer", "3" * 24)
    assert found.is_left


@pytest.mark.parametrize("name", ["upper", "work"])
def test_a_missing_directory(engine: Engine, image: Image, name: str) -> None:
    box = container(engine, name="box")
    path = f"{directory(engine, box)}/{name}"
    os.rmdir(path)
    assert only(engine.check()).text == f"{path} is missing"
    assert only(engine.check(repair=True)).repaired is (name == "work")
    os.path.isdir(path) or os.symlink("/etc", path)
    expected = [] if name == "work" else [f"{path} is not a directory"]
    assert [problem.text for problem in engine.check()] == expected


def test_a_damaged_configuration(engine: Engine, image: Image) -> None:
    box = container(engine, name="box")
    truncate(f"{directory(engine, box)}/config.json")
    found = only(engine.check())
    assert "config.json is damaged" in found.text
    assert found.hint == "remove the container and create it again"


def test_names(engine: Engine, image: Image) -> None:
    container(engine, name="box")
    path = f"{engine.root}/names"
    os.unlink(f"{path}/box")
    assert only(engine.check()).kind == "name"
    assert only(engine.check(repair=True)).repaired
    assert engine.container("box").name == "box"
    os.unlink(f"{path}/box")
    rewrite(f"{path}/box", b"")
    os.symlink("/etc", f"{path}/other")
    assert {problem.kind for problem in engine.check()} == {"name"}
    assert all(problem.repaired for problem in engine.check(repair=True))
    assert os.listdir(path) == ["box"]
    check_whole(engine.root)


def test_volumes(engine: Engine, image: Image) -> None:
    engine.create_volume("data", labels={"a": "b"})
    rewrite(f"{engine.root}/volumes/data/_data/file", b"kept")
    truncate(f"{engine.root}/volumes/data/volume.json")
    assert only(engine.check()).kind == "volume"
    assert only(engine.check(repair=True)).repaired
    check_whole(engine.root)
    assert os.path.exists(f"{engine.root}/volumes/data/_data/file")
    os.symlink("/etc", f"{engine.root}/volumes/away")
    assert "is a symbolic link" in only(engine.check(repair=True)).text
    os.unlink(f"{engine.root}/volumes/away")
    shutil.rmtree(f"{engine.root}/volumes/data/_data")
    assert "_data is missing" in only(engine.check(repair=True)).text


def test_a_missing_volume(engine: Engine, image: Image) -> None:
    engine.create_volume("data")
    box = container(engine, name="box")
    mount = {"type": "volume", "name": "data", "source": "x", "destination": "/data"}
    edit(f"{directory(engine, box)}/container.json", mounts=[mount])
    assert engine.check() == []
    shutil.rmtree(f"{engine.root}/volumes/data")
    found = only(engine.check())
    assert found.text == "its volume data is missing"
    assert found.hint == "`fastbox volume create data` makes an empty one"


def test_networks(engine: Engine) -> None:
    engine.create_network("net")
    truncate(f"{engine.root}/networks/net.json")
    found = only(engine.check(repair=True))
    assert (found.kind, found.what) == ("network", "net")
    assert found.hint == "`fastbox network rm net` removes the network"
    engine.remove_network("net")
    check_whole(engine.root)


def test_a_store_that_is_none(engine: Engine) -> None:
    rewrite(f"{engine.root}/images", b"")
    with pytest.raises(FastboxError):
        engine.check()
