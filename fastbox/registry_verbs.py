"""The verbs that speak to registries, beyond pull: a part of Engine, in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .image.store import ImageStore


class RegistryVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:

        @property
        def _images(self) -> ImageStore: ...
