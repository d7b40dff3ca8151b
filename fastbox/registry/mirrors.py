"""Several places for one repository: Docker Hub's mirrors in their order, then Docker Hub.

A mirror is a convenience. It is asked once and not for long; whatever is wrong with it, the next
place is asked, and for the rest of the pull it is left alone if it did worse than not to have
something. What a tag means is its word (Docker does the same: a mirror may be behind), what a
digest means is not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from .. import configuration
from ..errors import FastboxError, InvalidArgument, NotFound, RegistryError
from ..oci import image as oci
from ..oci.reference import DEFAULT_DOMAIN, Reference
from . import hosts
from .client import Client, Document, Notify
from .guard import Cancelled, Guard
from .retry import Policy, Transient
from .transport import Response

_CONNECT = 4.0  # seconds for a mirror to take the connection
_STALL = 10.0  # seconds for its next step
_MOST_BREAKS = 2  # transfers of one blob that may break off before a mirror is given up

_T = TypeVar("_T")


class Sources:
    """The mirrors of a repository, and its registry. Stands where a ``Client`` does; thread-safe.

    Attributes:
        reference, guard, policy: the registry's.
    """

    def __init__(self, mirrors: list[Client], registry: Client) -> None:
        self.reference = registry.reference
        self.guard = registry.guard
        self.policy = registry.policy
        self._mirrors = mirrors
        self._registry = registry
        self._lock = threading.Lock()
        self._gone: dict[int, str] = {}  # mirrors that are left alone (by place), and why
        self._refused: set[tuple[int, str]] = set()  # (mirror, digest) that it does not have
        self._breaks: dict[tuple[int, str], int] = {}
        self._gave: dict[str, int] = {}  # which mirror sent the blob last, -1: the registry

    def close(self) -> None:
        """Close the connections."""
        for client in (*self._mirrors, self._registry):
            client.close()

    # ---- what a Client does --------------------------------------------------------------------

    def retag(self, reference: Reference) -> None:
        """See ``Client.retag``."""
        self.reference = reference
        for client in (*self._mirrors, self._registry):
            client.retag(reference)

    def digest_of(self, tag: str) -> str | None:
        """See ``Client.digest_of``."""
        return self._first(lambda client: client.head(tag), lambda client: client.digest_of(tag))

    def tags(self) -> list[str]:
        """See ``Client.tags``."""
        return self._first(lambda client: client.tags())

    def manifest(
        self, tag_or_digest: str, *, size: int | None = None, notify: Notify | None = None
    ) -> Document:
        """See ``Client.manifest``."""
        return self._first(lambda client: client.manifest(tag_or_digest, size=size, notify=notify))

    def small_blob(
        self, descriptor: oci.Descriptor, what: str, notify: Notify | None = None
    ) -> bytes:
        """See ``Client.small_blob``."""
        return self._first(lambda client: client.small_blob(descriptor, what, notify))

    def blob(self, digest: str, what: str, *, offset: int = 0, etag: str | None = None) -> Response:
        """See ``Client.blob``; an ETag means something to the source that gave it only."""
        for place, mirror in self._asked(digest):
            try:
                known = etag if self._gave.get(digest) == place else None
                response = mirror.blob(digest, what, offset=offset, etag=known)
            except (FastboxError, Transient) as error:
                self._failed(place, error, digest)
                continue
            self._gave[digest] = place
            return response
        known = etag if self._gave.get(digest) == -1 else None
        self._gave[digest] = -1
        try:
            return self._registry.blob(digest, what, offset=offset, etag=known)
        except RegistryError as error:
            raise self._explained(error) from error.__cause__

    def interrupted(self, digest: str) -> bool:
        """See ``Client.interrupted``. A mirror has another try, then it is given up."""
        place = self._gave.get(digest, -1)
        if place < 0:
            return False
        with self._lock:
            count = self._breaks[place, digest] = self._breaks.get((place, digest), 0) + 1
        if count >= _MOST_BREAKS:
            self._give_up(place, "its transfers break off")
        return True

    def rejected(self, digest: str) -> bool:
        """See ``Client.rejected``. A mirror with other content is given up."""
        place = self._gave.get(digest, -1)
        if place < 0:
            return False
        self._give_up(place, "it has other content")
        return True

    # ---- which one -----------------------------------------------------------------------------

    def _asked(self, digest: str = "") -> Iterator[tuple[int, Client]]:
        """The mirrors that are worth asking, each looked at when its turn comes."""
        for place, mirror in enumerate(self._mirrors):
            if place not in self._gone and (place, digest) not in self._refused:
                yield place, mirror

    def _first(
        self, action: Callable[[Client], _T], last: Callable[[Client], _T] | None = None
    ) -> _T:
        """The first answer; ``last`` is for the registry if it is another action there."""
        for place, mirror in self._asked():
            try:
                return action(mirror)
            except (FastboxError, Transient) as error:
                self._failed(place, error)
        try:
            return (last or action)(self._registry)
        except RegistryError as error:
            raise self._explained(error) from error.__cause__

    def _failed(self, place: int, error: Exception, digest: str = "") -> None:
        """Decide what a mirror's failure means for its future.

        Raises:
            Cancelled, InvalidArgument: it is not the mirror's failure.
        """
        if isinstance(error, (Cancelled, InvalidArgument)):
            raise error
        absent = isinstance(error, NotFound) or getattr(error, "status", None) == 404
        if absent:
            if digest:
                self._refused.add((place, digest))
            return
        cause = error.error if isinstance(error, Transient) else error
        self._give_up(place, str(cause))

    def _give_up(self, place: int, why: str) -> None:
        with self._lock:
            self._gone.setdefault(place, why)

    def _explained(self, error: RegistryError) -> RegistryError:
        """The registry's error, with what became of the mirrors where nothing is known to do."""
        if self._gone and error.hint is None:
            place, why = next(iter(self._gone.items()))
            error.hint = f"mirror {self._mirrors[place].reference.domain} failed before: {why}"
        return error


Source = Client | Sources


def connect(
    reference: Reference, guard: Guard, policy: Policy | None = None, *, connections: int = 4
) -> Source:
    """The client to pull with; asks the configured mirrors first where it is about Docker Hub.

    Raises:
        InvalidArgument: the configuration has an error.
    """
    registry = Client(reference, guard, policy, connections=connections)
    urls = configuration.load().registry_mirrors
    if reference.domain != DEFAULT_DOMAIN or not urls:
        return registry
    patience = msgspec.structs.replace(
        registry.policy,
        attempts=1,
        fresh_attempts=1,
        connect=min(registry.policy.connect, _CONNECT),
        stall=min(registry.policy.stall, _STALL),
    )
    mirrors = []
    for url in urls:
        # Its own name is the key of its certificates and credentials: it gets no others.
        there = msgspec.structs.replace(reference, domain=str(hosts.origin(url)))
        base = url.rstrip("/")
        mirrors.append(Client(there, guard, patience, connections=connections, base=base))
    return Sources(mirrors, registry)
