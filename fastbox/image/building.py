"""Making an image exist whose layers are stored: its config, its manifest, its entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..oci import image as oci

if TYPE_CHECKING:
    from .store import ImageStore
    from .types import Image


def add_built(
    store: ImageStore,
    config: oci.ImageConfig,
    layers: list[oci.Descriptor],
    name: str | None,
    *,
    parent: str = "",
) -> Image:
    """Store config and manifest of an image made here, whose layers are stored; under a lease.

    Args:
        parent: id of the image that it was made from.
    """
    descriptor = put_documents(store, config, layers)
    return store.add_image(name, descriptor, parent=parent)


def put_documents(
    store: ImageStore, config: oci.ImageConfig, layers: list[oci.Descriptor]
) -> oci.Descriptor:
    """Store config and manifest; the manifest's descriptor."""
    data = oci.encode(config)
    manifest = oci.Manifest(
        schema_version=2,
        media_type=oci.OCI_MANIFEST,
        config=oci.Descriptor(
            media_type=oci.OCI_CONFIG, digest=store.put_blob(data), size=len(data)
        ),
        layers=layers,
    )
    data = oci.encode(manifest)
    return oci.Descriptor(media_type=oci.OCI_MANIFEST, digest=store.put_blob(data), size=len(data))
