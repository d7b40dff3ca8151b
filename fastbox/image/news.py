"""What is told of images to those who follow ``events``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..errors import FastboxError

if TYPE_CHECKING:
    from ..oci import image as oci
    from .store import ImageStore
    from .types import Removed


def tell(store: ImageStore, action: str, entry: oci.Descriptor, name: str = "") -> None:
    """Something happened to the image of an entry.

    Args:
        name: Docker's is the image's id where it has no better one.
    """
    image_id = store.image_id(entry) or entry.digest
    try:
        config = msgspec.to_builtins(store.load(entry).config)
    except FastboxError:  # a damaged image has no labels
        config = None
    store.journal.image(action, image_id, name or image_id, config)


def tell_removed(store: ImageStore, entry: oci.Descriptor, removed: list[Removed]) -> None:
    """Of what ``rmi`` has taken out of the index."""
    for one in removed:
        if one.kind == "untagged":
            tell(store, "untag", entry)
        else:
            store.journal.image("delete", one.what, one.what)
