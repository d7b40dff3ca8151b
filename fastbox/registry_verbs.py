"""The verbs that speak to registries, beyond pull: a part of Engine, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .image.store import ImageStore
    from .image.types import PushResult
    from .registry.inspecting import Inspected
    from .registry.login import Login, Logout
    from .registry.search import SearchResult


class RegistryVerbs:
    """See ``Engine``, which is one."""

    if TYPE_CHECKING:

        @property
        def _images(self) -> ImageStore: ...

    def push(
        self,
        reference: str,
        *,
        all_tags: bool = False,
        platform: str | None = None,
        progress: Callable[[Any], None] | None = None,
    ) -> list[PushResult]:
        """Upload an image to the registry that its name says.

        Args:
            reference: ``NAME[:TAG]``; short names mean Docker Hub.
            all_tags: every tag of that repository; the reference has none then.
            platform: of an image for several platforms, push only this one's.
            progress: told each step (a ``fastbox.image.progress.ProgressEvent``), in this thread.

        Raises:
            InvalidArgument, NotFound, ImageError, StoreError, RegistryError, AuthError
        """
        from .image.push import push

        return push(
            self._images, reference, all_tags=all_tags, platform=platform, progress=progress
        )

    def login(
        self,
        server: str | None = None,
        *,
        username: str | None = None,
        password: str | None = None,
    ) -> Login:
        """Check credentials with a registry, then keep them for pulls and pushes, where Docker
        keeps them.

        Args:
            server: ``HOST[:PORT]``; None is Docker Hub.
            username, password: None for both checks those that are kept already.

        Raises:
            NotFound: none are kept. AuthError: they are wrong, or a credential helper fails.
            RegistryError: the registry is not to be had. InvalidArgument, PermissionDenied,
            StoreError: the arguments, or the credential file.
        """
        from .registry.login import login

        return login(server, username, password)

    def logout(self, server: str | None = None) -> Logout:
        """Forget the credentials for a registry.

        Raises:
            InvalidArgument, PermissionDenied, StoreError: the argument, or the credential file.
        """
        from .registry.login import logout

        return logout(server)

    def inspect_manifest(
        self, reference: str, *, verbose: bool = False, insecure: bool = False
    ) -> Inspected:
        """What a registry has under a name, manifest or index, without pulling it.

        Args:
            verbose: with the manifests of an index.
            insecure: also from a registry without TLS, or whose certificate cannot be verified.

        Raises:
            InvalidArgument, NotFound, AuthError, RegistryError, ImageError
        """
        from .registry.inspecting import inspect

        return inspect(reference, verbose=verbose, insecure=insecure)

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
