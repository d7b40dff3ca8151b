"""Small images made by hand, and processes that die at a chosen moment."""

from __future__ import annotations

import io
import os
import signal
import sys
import tarfile
from collections.abc import Callable

import msgspec

from fastbox.image.importer import import_image
from fastbox.image.store import ImageStore
from fastbox.image.types import Image
from fastbox.oci import digest as digests
from fastbox.oci import image as oci


def tar(files: dict[str, bytes]) -> bytes:
    """A tar of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def open_store(root: str, in_use: tuple[str, ...] = ()) -> ImageStore:
    """A store whose containers use the layers ``in_use``."""
    return ImageStore(root, layers_in_use=lambda: in_use)


def make(
    store: ImageStore, name: str | None, content: str = "", *, changes: tuple[str, ...] = ()
) -> Image:
    """Import an image of one file, whose content decides on the layer."""
    return import_image(store, io.BytesIO(tar({"file": content.encode()})), name, changes=changes)


def put(
    store: ImageStore,
    name: str | None,
    layers: list[bytes],
    *,
    created: str = "2024-05-06T07:08:09Z",
    labels: dict[str, str] | None = None,
    repo_digest: str | None = None,
) -> Image:
    """Add an image by its blobs, as a pull does that unpacks nothing."""
    with store.lease():
        config = oci.ImageConfig(
            created=created,
            architecture="amd64",
            os="linux",
            config=oci.Defaults(labels=labels),
            rootfs=oci.RootFS(diff_ids=[store.put_blob(layer) for layer in layers]),
        )
        manifest = oci.Manifest(
            schema_version=2,
            media_type=oci.OCI_MANIFEST,
            config=blob(store, oci.encode(config), oci.OCI_CONFIG),
            layers=[blob(store, layer, oci.OCI_LAYER) for layer in layers],
        )
        return store.add_image(
            name, blob(store, oci.encode(manifest), oci.OCI_MANIFEST), repo_digest
        )


def blob(store: ImageStore, data: bytes, media_type: str) -> oci.Descriptor:
    """Store a blob; its descriptor."""
    return oci.Descriptor(media_type=media_type, digest=store.put_blob(data), size=len(data))


def names(store: ImageStore) -> dict[str, list[str]]:
    """Image id -> its names."""
    return {image.id: image.names for image in store.images()}


def leftovers(root: str) -> list[str]:
    """Files that no finished command leaves."""
    found = []
    for directory in ("images/ingest", "layers/.tmp", "trash"):
        path = os.path.join(root, directory)
        found += [os.path.join(path, n) for n in os.listdir(path)] if os.path.isdir(path) else []
    for directory in ("images", "images/blobs/sha256", "layers/.meta"):
        path = os.path.join(root, directory)
        if os.path.isdir(path):
            found += [os.path.join(path, n) for n in os.listdir(path) if n.startswith(".")]
    return found


def check(root: str) -> None:
    """Every image of a store is whole: blobs match, layers are there, nothing is half made."""
    store = open_store(root)
    broken: list[object] = []
    images = store.images(broken)  # type: ignore[arg-type]
    assert broken == []
    for image in images:
        for digest in image.layer_blobs:
            store.blobs.verify(digest)
        for name in store.ensure_layers(image):
            with open(os.path.join(root, "layers", name, "file"), "rb") as file:
                file.read()
            path = os.path.join(root, "layers", ".meta", name + ".json")
            with open(path, "rb") as file:
                assert msgspec.json.decode(file.read())["diff_id"].startswith(f"sha256:{name}")
    for name in os.listdir(os.path.join(root, "images/blobs/sha256")):
        if not name.startswith("."):
            assert digests.is_digest(f"sha256:{name}")


_EVENTS = frozenset(
    ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.chown",
     "os.symlink", "os.utime", "os.listdir", "os.truncate", "os.setxattr"),
)  # fmt: skip


def die_at(point: int, action: Callable[[], object]) -> bool:
    """Run ``action`` in a child that is killed (SIGKILL) before its ``point``-th step on the file
    system; whether it lived to the end.

    Raises:
        AssertionError: the action failed by itself.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            count = 0

            def hook(event: str, _: object) -> None:
                nonlocal count
                if event in _EVENTS:
                    count += 1
                    if count == point:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            action()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True
