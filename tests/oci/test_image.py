"""Manifests, indexes and configs: what is accepted, and that nothing is two things at once."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbox.errors import ImageError
from fastbox.oci import digest as digests
from fastbox.oci import image as oci

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def manifest(**changes: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": {"mediaType": oci.OCI_CONFIG, "digest": A, "size": 5},
        "layers": [{"mediaType": oci.OCI_LAYER_GZIP, "digest": B, "size": 7}],
        **changes,
    }
    return json.dumps({k: v for k, v in document.items() if v is not ...}).encode()


def index(**changes: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_INDEX,
        "manifests": [{"mediaType": oci.OCI_MANIFEST, "digest": A, "size": 5}],
        **changes,
    }
    return json.dumps({k: v for k, v in document.items() if v is not ...}).encode()


def test_both_kinds_and_both_families() -> None:
    found = oci.decode(manifest(), oci.OCI_MANIFEST)
    assert isinstance(found, oci.Manifest)
    assert (found.config.digest, [layer.size for layer in found.layers]) == (A, [7])
    docker = manifest(
        mediaType=oci.DOCKER_MANIFEST,
        config={"mediaType": oci.DOCKER_CONFIG, "digest": A, "size": 5},
        layers=[{"mediaType": oci.DOCKER_LAYER_GZIP, "digest": B, "size": 7}],
    )
    assert isinstance(oci.decode(docker, oci.DOCKER_MANIFEST), oci.Manifest)
    assert isinstance(oci.decode(index(), oci.OCI_INDEX), oci.Index)
    assert isinstance(oci.decode(index(mediaType=oci.DOCKER_INDEX)), oci.Index)
    # OCI makes the inner type optional, servers add parameters or say nothing.
    for said in ("", "application/json", oci.OCI_MANIFEST + "; charset=utf-8", "text/plain"):
        assert isinstance(oci.decode(manifest(mediaType=...), said), oci.Manifest)


@pytest.mark.parametrize(
    ("data", "said", "message"),
    [
        (manifest(manifests=[]), "", "ambiguous"),
        (manifest(manifests=[]), oci.OCI_INDEX, "announced|ambiguous"),
        (index(layers=[]), oci.OCI_INDEX, "ambiguous"),
        (index(config={}), oci.OCI_INDEX, "ambiguous"),
        (index(), oci.OCI_MANIFEST, "but was announced as"),
        (index(mediaType=...), oci.OCI_MANIFEST, "content of the other kind"),
        (manifest(mediaType=...), oci.OCI_INDEX, "content of the other kind"),
        (manifest(mediaType=oci.OCI_INDEX), "", "content of the other kind"),
        (manifest(), oci.DOCKER_MANIFEST, "but was announced as"),
        (manifest(mediaType="application/x"), "", "unknown media type"),
        (b'{"schemaVersion":1,"fsLayers":[],"history":[]}', "", "schema version 1"),
        (manifest(), "application/vnd.docker.distribution.manifest.v1+prettyjws", "version 1"),
        (manifest(schemaVersion=3), "", "unsupported schema version 3"),
        (manifest(schemaVersion="2"), "", "malformed"),
        (manifest(schemaVersion=...), "", "malformed"),
        (manifest(layers=...), "", "malformed"),
        (manifest(layers=None), "", "malformed"),
        (manifest(layers={}), "", "malformed"),
        (manifest(config=[]), "", "malformed"),
        (manifest(config="x"), "", "malformed"),
        (manifest(config={"digest": A}), "", "malformed"),
        (manifest(config={"mediaType": oci.OCI_CONFIG, "digest": A, "size": -1}), "", "malformed"),
        (manifest(config={"mediaType": oci.OCI_CONFIG, "digest": A, "size": 2**63}), "",
         "malformed"),
        (manifest(config={"mediaType": oci.OCI_CONFIG, "digest": A, "size": True}), "",
         "malformed"),
        (manifest(config={"mediaType": oci.OCI_CONFIG, "digest": "md5:" + "0" * 32, "size": 1}),
         "", "unsupported digest algorithm"),
        (manifest(config={"mediaType": oci.OCI_CONFIG, "digest": "sha256:../../x", "size": 1}),
         "", "invalid config digest"),
        (manifest(config={"mediaType": oci.OCI_CONFIG, "digest": A, "size": 5 << 20}), "",
         "config is too large"),
        (manifest(config={"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": A,
                          "size": 1}), "", "not a container image"),
        (manifest(layers=[{"mediaType": "text/html", "digest": B, "size": 7}]), "",
         "unknown type 'text/html'"),
        (manifest(layers=[{"mediaType": oci.OCI_LAYER, "digest": B, "size": 7}] * 128), "",
         "max depth exceeded"),
        (index(manifests=[{"digest": "x", "size": 1}]), "", "invalid manifest digest"),
        (index(manifests=[{"digest": A, "size": 1}] * 1001), "", "too many manifests"),
        (index(manifests="x"), "", "malformed"),
        (b"", "", "malformed"),
        (b"null", "", "malformed"),
        (b"{}", "", "neither"),
        (b"\xff\xfe", "", "malformed"),
        (b"[" * 100_000, "", "malformed"),
        (b'{"x":' + b"[" * 100_000, "", "malformed"),
        (b" " * (4 << 20) + b"{}", "", "too large"),
    ],
)  # fmt: skip
def test_refused(data: bytes, said: str, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        oci.decode(data, said)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_the_kind_that_a_place_needs() -> None:
    with pytest.raises(ImageError, match=r"expected an image manifest"):
        oci.decode_manifest(index())
    with pytest.raises(ImageError, match=r"expected an image index"):
        oci.decode_index(manifest())


def config(**changes: Any) -> bytes:
    document = {
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [B]},
        **changes,
    }  # fmt: skip
    return json.dumps(document).encode()


def test_config_as_go_writes_it() -> None:
    found = oci.decode_config(
        config(
            created="2024-01-01T00:00:00Z",
            config={"Env": None, "Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}}, "Volumes": None,
                    "Healthcheck": {"Test": ["NONE"]}, "OnBuild": None, "ArgsEscaped": True},
            history=[{"created_by": "x", "empty_layer": True}],
            container_config={"dropped": 1},
        ),
        oci.decode_manifest(manifest()),
    )  # fmt: skip
    assert msgspec.to_builtins(found) == {
        "created": "2024-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}},
                   "Healthcheck": {"Test": ["NONE"]}, "ArgsEscaped": True},
        "rootfs": {"type": "layers", "diff_ids": [B]},
        "history": [{"created_by": "x", "empty_layer": True}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (config(config={"Env": "A=1"}), "malformed"),
        (config(config={"Env": [1]}), "malformed"),
        (config(config={"Cmd": "sh"}), "malformed"),
        (config(config={"Labels": {"a": 1}}), "malformed"),
        (config(config={"Volumes": ["/x"]}), "malformed"),
        (config(config={"User": 0}), "malformed"),
        (config(rootfs={"type": "layers", "diff_ids": ["../x"]}), "invalid diff id"),
        (config(rootfs={"type": "other", "diff_ids": [B]}), "unknown rootfs type"),
        (config(rootfs={"type": "layers", "diff_ids": [B, B]}), "names 2 layers, the manifest 1"),
        (config(rootfs=None), "malformed"),
        (b'{"architecture":"amd64","os":"linux"}', "malformed"),
        (config(history={"a": 1}), "malformed"),
    ],
)
def test_bad_configs(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        oci.decode_config(data, oci.decode_manifest(manifest()))


def test_encoding_is_what_decodes() -> None:
    for data in (manifest(), index()):
        document = oci.decode(data)
        assert json.loads(oci.encode(document)) == json.loads(data)


def test_embedded_data_is_verified() -> None:
    content = b"hello"
    good = oci.Descriptor(
        digest=digests.of(content), size=5, data=base64.b64encode(content).decode()
    )
    assert good.embedded() == content
    assert oci.Descriptor(digest=A, size=5).embedded() is None
    for change in ({"digest": A}, {"size": 4}, {"data": "!!"}, {"data": "aGVsbG8"},
                   {"data": "A" * (8 << 20)}):  # fmt: skip
        with pytest.raises(ImageError, match=r"embedded data of"):
            msgspec.structs.replace(good, **change).embedded()


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "digest",
                         "size", "platform", "rootfs", "diff_ids", "annotations"]),
        inner, max_size=5,
    ), max_leaves=12,
))  # fmt: skip
def test_any_json_is_a_document_or_an_error(value: object) -> None:
    data = json.dumps(value).encode()
    for decode in (oci.decode, oci.decode_config):
        try:
            decode(data)
        except ImageError:
            pass
