"""history: the steps of an image, also where its config tells less than there is."""

from __future__ import annotations

import pytest

from fastbox.errors import NotFound
from fastbox.image.building import add_built
from fastbox.image.history import MISSING, history
from fastbox.image.store import ImageStore
from fastbox.oci import image as oci
from tests.image.build import blob, make, tar


def build(store: ImageStore, steps: list[oci.History] | None, layers: int) -> None:
    """An image ``x`` whose layers have files of 1, 2, 3 … bytes."""
    with store.lease():
        archives = [tar({"file": b"x" * number}) for number in range(1, layers + 1)]
        blobs = [blob(store, archive, oci.OCI_LAYER) for archive in archives]
        config = oci.ImageConfig(
            architecture="amd64",
            os="linux",
            rootfs=oci.RootFS(diff_ids=[descriptor.digest for descriptor in blobs]),
            history=steps,
        )
        image = add_built(store, config, blobs, "x")
    store.ensure_layers(image)


def test_steps(store: ImageStore) -> None:
    build(
        store,
        [
            oci.History(created="2026-01-01T00:00:00Z", created_by="first", comment="c"),
            oci.History(created_by="ENV", empty_layer=True),
            oci.History(created_by="second"),
        ],
        2,
    )
    found = history(store, "x")
    assert [(step.created_by, step.size) for step in found] == [
        ("second", 2),
        ("ENV", 0),
        ("first", 1),
    ]
    assert [step.id for step in found] == [store.resolve("x").id, MISSING, MISSING]
    assert found[0].tags == ["x:latest"] and found[2].created and found[2].comment == "c"


def test_layers_that_nobody_tells_of(store: ImageStore) -> None:
    build(store, None, 2)
    assert [(step.created_by, step.size) for step in history(store, "x")] == [("", 2), ("", 1)]
    build(store, [oci.History(created_by=f"{n}") for n in range(3)], 1)
    assert [(step.created_by, step.size) for step in history(store, "x")] == [("0", 1)]


def test_an_imported_one(store: ImageStore) -> None:
    image = make(store, "a", "abc")
    (step,) = history(store, image.short_id)
    assert (step.size, step.id) == (3, image.id) and step.comment.startswith("Imported from")
    with pytest.raises(NotFound):
        history(store, "nosuch")
