"""Others read and write the store: it is an OCI image layout."""

from __future__ import annotations

import json
import os
import subprocess

from tests.image.build import check, make, names, open_store, put, tar


def skopeo(*words: str) -> str:
    done = subprocess.run(["skopeo", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_inspect_reads_an_image_by_its_name(root: str) -> None:
    store = open_store(root)
    image = make(store, "localhost:5000/team/app:1.2", "x", changes=("LABEL a=b", "CMD sh"))
    found = json.loads(skopeo("inspect", f"oci:{root}/images:localhost:5000/team/app:1.2"))
    assert found["Digest"] == image.manifest_digest
    assert found["Layers"] == image.layer_blobs
    assert found["Labels"] == {"a": "b"}
    config = json.loads(
        skopeo("inspect", "--config", f"oci:{root}/images:localhost:5000/team/app:1.2")
    )
    assert config["rootfs"]["diff_ids"] == image.layers
    assert config["config"]["Cmd"] == ["/bin/sh", "-c", "sh"]


def test_copy_out_and_in_again(root: str, base: str) -> None:
    store = open_store(root)
    image = put(store, "a", [tar({"file": b"1"}), tar({"file": b"2"})])
    make(store, "other", "kept")
    out = f"oci:{base}/out:copied"
    skopeo("copy", f"oci:{root}/images:docker.io/library/a:latest", out)
    store.remove("a")
    skopeo("copy", out, f"oci:{root}/images:back:1")
    again = store.resolve("back:1")
    assert (again.id, again.layers) == (image.id, image.layers)
    assert len(store.ensure_layers(again)) == 2
    assert store.resolve("other").names == ["docker.io/library/other:latest"]
    check(root)
    store.remove("back:1")
    assert list(names(store)) == [store.resolve("other").id]


def test_copy_in_with_other_compression(root: str, base: str) -> None:
    store = open_store(root)
    image = make(store, "a", "content")
    for kind in ("gzip", "zstd"):
        out = f"oci:{base}/{kind}:x"
        skopeo(
            "copy", "--dest-compress-format", kind, "--dest-compress",
            f"oci:{root}/images:docker.io/library/a:latest", out,
        )  # fmt: skip
        fresh = open_store(os.path.join(base, f"root-{kind}"))
        fresh.prepare()
        skopeo("copy", out, f"oci:{fresh.directory}:a")
        found = fresh.resolve("a")
        assert found.layers == image.layers
        fresh.ensure_layers(found)
        check(fresh.root)


def test_a_tag_taken_over_by_skopeo(root: str, base: str) -> None:
    store = open_store(root)
    old, new = make(store, "a", "old"), make(store, "b", "new")
    skopeo("copy", f"oci:{root}/images:docker.io/library/b:latest", f"dir:{base}/dir")
    skopeo("copy", f"dir:{base}/dir", f"oci:{root}/images:docker.io/library/a:latest")
    assert store.resolve("a").id == new.id
    assert names(store)[old.id] == []
    check(root)
