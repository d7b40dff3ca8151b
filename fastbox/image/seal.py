"""What a commit puts off: the archive, digests and blob of a layer that is only a directory yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..oci import image as oci

if TYPE_CHECKING:
    from .store import ImageStore


def sealed(store: ImageStore, name_or_id: str) -> oci.Descriptor:
    """The entry of an image, after every layer of it has a blob and its true diff-id.

    Raises:
        NotFound, Ambiguous, InvalidArgument: as ``ImageStore.resolve``.
        StoreError: a layer cannot be packed.
    """
    entry, _ = store.find(name_or_id)
    return entry
