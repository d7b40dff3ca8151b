"""Archives of images made by hand: what other programs write, and what nobody should."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from fastbox.oci import digest as digests
from fastbox.oci import image as oci
from tests.image.build import tar

LAYERS = [tar({"file": b"one"}), tar({"file": b"two", "more": b"x" * 5000})]


def pack(
    files: dict[str, bytes | tarfile.TarInfo],
    format: int = tarfile.GNU_FORMAT,
    *,
    then: dict[str, bytes] | None = None,
) -> bytes:
    """The outer tar, in the order of the files; ``then`` may have names once more."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w", format=format) as archive:
        for name, what in [*files.items(), *(then or {}).items()]:
            info = what if isinstance(what, tarfile.TarInfo) else tarfile.TarInfo()
            info.name = name
            data = what if isinstance(what, bytes) else b""
            if data:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return memory.getvalue()


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def config(layers: list[bytes] = LAYERS, **members: Any) -> bytes:
    """An image config; ``layers`` are uncompressed."""
    diff_ids = [digests.of(layer) for layer in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        **members,
    }
    return json.dumps(document).encode()


def docker(
    layers: list[bytes] = LAYERS,
    tags: tuple[str, ...] = ("app:1",),
    *,
    conf: bytes | None = None,
    plain: list[bytes] | None = None,
) -> dict[str, bytes | tarfile.TarInfo]:
    """A docker-archive as Docker wrote it before version 25: layers first, ``manifest.json`` last.

    Args:
        layers: as they lie in the archive; plain: uncompressed, where these are not.
    """
    conf = conf or config(plain or layers)
    name = f"{digests.of(conf)[7:]}.json"
    files: dict[str, bytes | tarfile.TarInfo] = {}
    for number, layer in enumerate(layers):
        files |= {f"{number:064}/VERSION": b"1.0", f"{number:064}/json": b"{}"}
        files[f"{number:064}/layer.tar"] = layer
    files[name] = conf
    element = {"Config": name, "RepoTags": list(tags) or None}
    element["Layers"] = [f"{n:064}/layer.tar" for n in range(len(layers))]
    files["manifest.json"] = json.dumps([element]).encode()
    files["repositories"] = b'{"app":{"1":"0"}}'
    return files


def descriptor(data: bytes, media_type: str, **members: Any) -> dict[str, Any]:
    made = {"mediaType": media_type, "digest": digests.of(data), "size": len(data)}
    return made | members


def layout(
    layers: list[bytes] = LAYERS,
    name: str | None = "docker.io/library/app:1",
    *,
    conf: bytes | None = None,
    changes: dict[str, Any] | None = None,
) -> dict[str, bytes | tarfile.TarInfo]:
    """An OCI layout of one image.

    Args:
        changes: other members of the manifest.
    """
    conf = conf or config(layers)
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": descriptor(conf, oci.OCI_CONFIG),
        "layers": [descriptor(layer, oci.OCI_LAYER) for layer in layers],
        **(changes or {}),
    }
    data = json.dumps(manifest).encode()
    entry = descriptor(data, oci.OCI_MANIFEST)
    if name:
        entry["annotations"] = {oci.REF_NAME: name}
    return index([entry]) | {blob(item): item for item in [data, conf, *layers]}


def index(entries: list[dict[str, Any]]) -> dict[str, bytes | tarfile.TarInfo]:
    document = {"schemaVersion": 2, "manifests": entries}
    return {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(document).encode(),
    }


def blob(data: bytes) -> str:
    return f"blobs/sha256/{digests.of(data)[7:]}"
