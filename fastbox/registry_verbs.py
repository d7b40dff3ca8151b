"""The verbs that speak to registries, beyond pull: a part of Engine, in a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .image.store import ImageStore
    from .registry.search import SearchResult


class RegistryVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:

        @property
        def _images(self) -> ImageStore: ...

    def search(
        self,
        term: str,
        *,
        limit: int = 25,
        filters: dict[str, list[str]] | None = None,
    ) -> list[SearchResult]:
        """Repositories that fit a term, in the registry's order.

        Args:
            term: words for Docker Hub; ``HOST[:PORT]/TERM`` asks that registry.
            limit: 1 to 100; anything below 1 is 25 (Docker).
            filters: ``stars`` (at least), ``is-official``, ``is-automated``.

        Raises:
            InvalidArgument: a limit above 100, a bad filter or term.
            AuthError, RegistryError
        """
        from .registry.search import search

        return search(term, limit=limit, filters=filters)
