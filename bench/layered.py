"""The image that bench/ pulls, pushes, saves and loads: a Debian of five layers, about 500 MB in
20,000 files, split by packages as a Dockerfile's steps would have made it."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import tarfile
from typing import Any, NamedTuple, TypeAlias

from tests.support.images import archive
from tests.support.registry import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    Registry,
    descriptor,
    digest_of,
)

VERSION = 1  # of the split

# What a step installs: beginnings of package names. All other packages are the first layer.
Steps: TypeAlias = "list[tuple[str, ...]]"
STEPS: Steps = [
    ("python3", "libpython3"),
    ("gcc", "cpp", "libgcc-12", "libc6-dev", "libc-dev", "linux-libc", "libasan", "libtsan"),
    ("git", "perl-modules", "libperl"),
    ("vim",),
]
# The same of a smaller image: 100 MB in 4,000 files.
SMALL_STEPS = [("perl",), ("libc6", "libc-bin"), ("coreutils", "util-linux"), ("dpkg", "libssl")]
_INFO = "./var/lib/dpkg/info/"


class Layered(NamedTuple):
    """An image as files.

    Attributes:
        blobs: paths of the layers, gzip -6 as docker makes them, bottom first.
        config: the image config. manifest: Docker's schema 2.
        unpacked: bytes of all layers uncompressed.
    """

    blobs: list[str]
    config: bytes
    manifest: dict[str, Any]
    unpacked: int

    def push(self, registry: Registry, repository: str) -> None:
        """Put it into a registry, by urllib."""
        for path in self.blobs:
            with open(path, "rb") as file:
                registry.put_blob(repository, file.read())
        registry.put_blob(repository, self.config)
        data = json.dumps(self.manifest).encode()
        registry.put_manifest(repository, "latest", data, DOCKER_MANIFEST)


def layered(*, small: bool = False) -> Layered:
    """The image, made now (a minute) unless it is in the tests' cache.

    Args:
        small: the one for a quick run.
    """
    source = archive("debian" if small else "layered")
    steps = SMALL_STEPS if small else STEPS
    directory = f"{source.removesuffix('.tar')}-split{VERSION}"
    noted = os.path.join(directory, "image.json")
    with open(directory + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(noted):
            os.makedirs(directory, exist_ok=True)
            made = [_compressed(path) for path in _split(source, directory, steps)]
            with open(noted + ".tmp", "w") as file:
                json.dump(made, file)
            os.rename(noted + ".tmp", noted)
    with open(noted) as file:
        layers: list[list[Any]] = json.load(file)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-05-01T10:00:00Z",
            "config": {"Cmd": ["bash"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, _, diff_id, _ in layers]},
            "history": [{"created_by": f"step {number}"} for number in range(len(layers))],
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": descriptor(config, DOCKER_CONFIG),
        "layers": [
            {"mediaType": DOCKER_LAYER, "digest": digest, "size": os.path.getsize(path)}
            for path, digest, _, _ in layers
        ],
    }
    return Layered([layer[0] for layer in layers], config, manifest, sum(x[3] for x in layers))


def _split(source: str, directory: str, parts: Steps) -> list[str]:
    """Write the layers' tars; their paths, bottom first."""
    with tarfile.open(source) as tar:
        steps = _steps(tar, parts)
        paths = [os.path.join(directory, f"{n}.tar") for n in range(len(parts) + 1)]
        outs = [tarfile.open(path, "w", format=tarfile.PAX_FORMAT) for path in paths]
        for info in tar:
            content = tar.extractfile(info) if info.isreg() else None
            outs[steps.get(info.name.removeprefix("."), 0)].addfile(info, content)
        for out in outs:
            out.close()
    return paths


def _steps(tar: tarfile.TarFile, parts: Steps) -> dict[str, int]:
    """File -> the step that it comes with, by dpkg's lists."""
    found: dict[str, int] = {}
    shared: set[str] = set()
    for info in tar:
        if not (info.name.startswith(_INFO) and info.name.endswith(".list")):
            continue
        package = info.name[len(_INFO) :].removesuffix(".list")
        steps = [n for n, names in enumerate(parts, 1) if package.startswith(names)]
        file = tar.extractfile(info)
        assert file is not None
        for line in file.read().decode().splitlines():
            step = steps[0] if steps else 0
            if found.setdefault(line, step) != step:
                shared.add(line)
    return {path: step for path, step in found.items() if path not in shared}


def _compressed(path: str) -> tuple[str, str, str, int]:
    """Compress a layer: (path, its digest, its diff-id, bytes uncompressed)."""
    with open(path, "rb") as file:
        data = file.read()
    packed = gzip.compress(data, 6, mtime=0)
    with open(path + ".gz", "wb") as out:
        out.write(packed)
    os.unlink(path)
    return path + ".gz", digest_of(packed), "sha256:" + hashlib.sha256(data).hexdigest(), len(data)
