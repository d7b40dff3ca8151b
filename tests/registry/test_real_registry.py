"""The real thing: Debian's docker-registry, images pushed by skopeo, stores read by skopeo."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from fastbox.errors import AuthError, ImageError, NotFound
from fastbox.image.progress import ProgressEvent
from fastbox.image.pull import pull
from fastbox.image.store import ImageStore
from tests.support.command import Command
from tests.support.registry import (
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Registry,
    compress,
    descriptor,
    digest_of,
)

from .conftest import Secrets, encoded, layer


def skopeo(*arguments: str) -> str:
    """Run skopeo; its output."""
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Layout:
    """An OCI image layout, made by hand."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        os.makedirs(os.path.join(directory, "blobs", "sha256"))
        self._write("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        self.entries: list[dict[str, Any]] = []

    def _write(self, name: str, data: bytes) -> None:
        with open(os.path.join(self.directory, name), "wb") as file:
            file.write(data)

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        self._write(f"blobs/sha256/{digest_of(data)[7:]}", data)
        return descriptor(data, media_type)

    def image(self, layers: list[tuple[bytes, str]], architecture: str = "amd64") -> dict[str, Any]:
        """An image of (tar, compression) layers; its descriptor with platform."""
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"], "Labels": {"arch": architecture}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar, _ in layers]},
        }
        suffix = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(json.dumps(config).encode(), OCI_CONFIG),
            "layers": [
                self.blob(compress(tar, how), OCI_LAYER + suffix[how]) for tar, how in layers
            ],
        }
        found = self.blob(json.dumps(manifest).encode(), OCI_MANIFEST)
        return {**found, "platform": {"architecture": architecture, "os": "linux"}}

    def index(self, images: list[dict[str, Any]]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": images}
        return self.blob(json.dumps(document).encode(), OCI_INDEX)

    def name(self, entry: dict[str, Any], name: str) -> str:
        """Give an entry a name; what skopeo calls it."""
        annotations = {"org.opencontainers.image.ref.name": name}
        self.entries.append({**entry, "annotations": annotations})
        document = {"schemaVersion": 2, "manifests": self.entries}
        self._write("index.json", json.dumps(document).encode())
        return f"oci:{self.directory}:{name}"


@pytest.fixture
def layout(base: str) -> Layout:
    return Layout(os.path.join(base, "layout"))


def push(source: str, registry: Registry, name: str, *options: str) -> str:
    """Copy into the registry by skopeo; the reference."""
    reference = f"{registry.host}/{name}"
    skopeo("copy", "--dest-tls-verify=false", *options, source, f"docker://{reference}")
    return reference


@pytest.mark.parametrize("how", ["gzip", "zstd", "none"])
def test_layers_of_each_compression(
    registry: Registry, layout: Layout, store: ImageStore, how: str
) -> None:
    contents = [layer("etc/one", "both"), layer("etc/two", "both", seed=1)]
    entry = layout.image([(tar, how) for tar in contents])
    reference = push(layout.name(entry, "x"), registry, f"real/{how}:1", "--preserve-digests")
    result = pull(store, reference)
    assert result.digest == entry["digest"]
    assert result.image.layers == [digest_of(tar) for tar in contents]
    for tar in contents:
        directory = store.layer_dir(digest_of(tar))
        assert directory is not None
        assert "both" in os.listdir(directory)


def test_mixed_layers(registry: Registry, layout: Layout, store: ImageStore) -> None:
    kinds = ["gzip", "zstd", "none", "gzip"]
    entry = layout.image([(layer(f"f{n}"), how) for n, how in enumerate(kinds)])
    reference = push(layout.name(entry, "x"), registry, "real/mixed:1", "--preserve-digests")
    events: list[ProgressEvent] = []
    assert len(pull(store, reference, progress=events.append).image.layers) == 4
    assert [e.status for e in events].count("Pull complete") == 4


def test_docker_schema_2(registry: Registry, layout: Layout, store: ImageStore) -> None:
    entry = layout.image([(layer("a"), "gzip")])
    reference = push(layout.name(entry, "x"), registry, "real/schema2:1", "--format=v2s2")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    assert json.loads(raw)["mediaType"] == DOCKER_MANIFEST
    result = pull(store, reference)
    assert result.digest == digest_of(raw.encode())
    assert result.image.config["config"] == {"Cmd": ["/bin/sh"], "Labels": {"arch": "amd64"}}


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_a_multi_platform_image(
    registry: Registry, layout: Layout, store: ImageStore, form: str
) -> None:
    machines = ["amd64", "arm64"]
    images = [layout.image([(layer(machine), "gzip")], machine) for machine in machines]
    source = layout.name(layout.index(images), "multi")
    reference = push(source, registry, f"real/multi-{form}:1", "--all", f"--format={form}")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    for machine in machines:
        result = pull(store, reference, platform=f"linux/{machine}")
        assert result.image.architecture == machine
        assert result.digest == digest_of(raw.encode())
    with pytest.raises(ImageError) as caught:
        pull(store, reference, platform="linux/ppc64le")
    assert (
        str(caught.value) == "no matching manifest for linux/ppc64le in the manifest list entries"
    )


def test_pulling_twice(registry: Registry, store: ImageStore) -> None:
    registry.push("real/twice", [layer("a"), layer("b")])
    reference = f"{registry.host}/real/twice"
    first = pull(store, reference)
    assert (first.status, first.name) == ("downloaded", f"{reference}:latest")
    assert pull(store, reference).status == "up-to-date"
    assert pull(store, f"{reference}@{first.digest}").digest == first.digest


def test_what_is_pulled_can_be_copied_out_by_skopeo(
    registry: Registry, store: ImageStore, base: str
) -> None:
    described = registry.push("real/out:1", [layer("a"), layer("b")], config={"Cmd": ["x"]})
    result = pull(store, f"{registry.host}/real/out:1")
    source = f"oci:{store.directory}:{result.name}"
    assert json.loads(skopeo("inspect", source))["Digest"] == described["digest"]
    skopeo("copy", source, f"oci:{base}/copy:x")
    assert len(os.listdir(os.path.join(base, "copy", "blobs", "sha256"))) == 4


def test_an_unknown_tag_and_an_unknown_repository(registry: Registry, store: ImageStore) -> None:
    registry.push("real/known", [layer("a")])
    for name in ("real/known:nope", "real/unknown:latest"):
        with pytest.raises(NotFound) as caught:
            pull(store, f"{registry.host}/{name}")
        assert str(caught.value) == (
            f"manifest for {registry.host}/{name} not found: manifest unknown: manifest unknown"
        )


def test_an_unknown_digest(registry: Registry, store: ImageStore) -> None:
    with pytest.raises(NotFound, match="manifest unknown"):
        pull(store, f"{registry.host}/real/known@{digest_of(b'nothing')}")


def test_basic_authentication(auth_registry: Registry, store: ImageStore, secrets: Secrets) -> None:
    assert auth_registry.auth is not None
    user, password = auth_registry.auth
    auth_registry.push("real/private", [layer("a")])
    reference = f"{auth_registry.host}/real/private"
    with pytest.raises(AuthError, match="pull access denied"):
        pull(store, reference)
    secrets.login(auth_registry.host, user, "wrong")
    with pytest.raises(AuthError, match="pull access denied"):
        pull(store, reference)
    secrets.login(auth_registry.host, user, password)
    assert pull(store, reference).status == "downloaded"


def test_credentials_that_skopeo_wrote(
    auth_registry: Registry, store: ImageStore, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert auth_registry.auth is not None
    user, password = auth_registry.auth
    auth_registry.push("real/private2", [layer("a")])
    path = os.path.join(base, "auth.json")
    done = subprocess.run(
        ["skopeo", "login", "--tls-verify=false", "--authfile", path, "--username", user,
         "--password-stdin", auth_registry.host],
        input=password, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with open(path) as file:
        assert encoded(user, password) in file.read()
    monkeypatch.setenv("REGISTRY_AUTH_FILE", path)
    assert pull(store, f"{auth_registry.host}/real/private2").status == "downloaded"


@pytest.fixture
def cut_registry(base: str) -> Iterator[Registry]:
    """A registry of the test's own, which it may damage."""
    server = Registry(os.path.join(base, "cut-registry"))
    yield server
    server.stop()


def test_a_blob_that_rots_in_the_registry(cut_registry: Registry, store: ImageStore) -> None:
    described = cut_registry.push("rot", [layer("a", size=50_000)])
    blob = described["manifest"]["layers"][0]["digest"][7:]
    path = os.path.join(
        cut_registry.storage, "docker/registry/v2/blobs/sha256", blob[:2], blob, "data"
    )
    with open(path, "r+b") as file:
        file.seek(30_000)
        file.write(b"rotten")
    with pytest.raises(Exception, match="has digest sha256:"):
        pull(store, f"{cut_registry.host}/rot")
    assert store.images() == []


def test_a_partial_download_is_completed_by_range(registry: Registry, store: ImageStore) -> None:
    content = layer("a", size=300_000)
    described = registry.push("real/resume", [content], compression="none")
    blob = described["manifest"]["layers"][0]["digest"]
    with open(store.ingest_path(blob), "wb") as file:
        file.write(content[:100_000])
    pull(store, f"{registry.host}/real/resume")
    assert store.layer_dir(digest_of(content)) is not None
    sizes = [line for line in registry.log().splitlines() if f"real/resume/blobs/{blob}" in line]
    assert any(" 206 " in line or "status=206" in line for line in sizes)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_prints_dockers_lines(registry: Registry, cli: Command) -> None:
    described = registry.push("real/cli:1", [layer("a"), layer("b")])
    reference = f"{registry.host}/real/cli:1"
    lines = cli.ok("pull", reference).splitlines()
    assert lines[0] == "1: Pulling from real/cli"
    ids = {blob["digest"][7:19] for blob in described["manifest"]["layers"]}
    for blob_id in ids:
        mine = [line.partition(": ")[2] for line in lines if line.startswith(blob_id)]
        assert mine[0] == "Pulling fs layer"
        assert mine[-2:] == ["Download complete", "Pull complete"]
    assert lines[-3:] == [
        f"Digest: {described['digest']}",
        f"Status: Downloaded newer image for {reference}",
        reference,
    ]
    again = cli.ok("pull", reference).splitlines()
    assert again[-2:] == [f"Status: Image is up to date for {reference}", reference]
    assert cli.ok("pull", "-q", reference) == reference


def test_the_command_fails_with_one_line(registry: Registry, cli: Command) -> None:
    reference = f"{registry.host}/real/absent:1"
    assert cli.fails(1, "pull", reference).splitlines()[0] == (
        f"Error: manifest for {reference} not found: manifest unknown: manifest unknown"
    )
