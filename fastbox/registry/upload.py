"""One blob into a registry: not at all if it is there, resumed where it broke off.

A small blob goes with the request that finishes the upload, a large one before, in one piece like
Docker's (some registries take no more), or in many where a proxy limits the size of requests.
Nothing is hashed on the way: the registry does that, and its word is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..errors import DigestMismatch, RegistryError
from ..oci.image import Descriptor
from .body import FileBody
from .push_client import PushClient, Refused, Session, is_gone
from .retry import Backoff, Transient, pause

MONOLITHIC = 8 << 20  # bytes that go with the last request
PIECE = 32 << 20  # bytes of a piece, where the whole is too large for one request
_MAX_RESTARTS = 5
_MOST_SOURCES = 3

EXISTS = "exists"
MOUNTED = "mounted"
UPLOADED = "uploaded"


class Listener(Protocol):
    """What an upload tells while it goes on; calls come from the uploading thread."""

    def grown(self, size: int) -> None:
        """The connection took the first ``size`` bytes. Smaller than before: it goes back."""

    def retrying(self, seconds: int) -> None:
        """The next try begins in so many seconds."""


class Upload:
    """The transfer of one blob.

    Args:
        fd: the blob, open for reading; it has the size that ``blob`` says.
        sources: repositories of this registry that may have the blob.
        again: the registry turned out not to have the blob, whatever it says.

    Attributes:
        source: the repository from which it was mounted.
    """

    def __init__(
        self,
        client: PushClient,
        blob: Descriptor,
        fd: int,
        listener: Listener,
        *,
        sources: Sequence[str] = (),
        again: bool = False,
    ) -> None:
        self._client = client
        self._blob = blob
        self._fd = fd
        self._listener = listener
        self._sources = () if again else tuple(sources[:_MOST_SOURCES])
        self._again = again
        self._what = f"layer {blob.short_id}"
        self._session: Session | None = None
        self._piece = blob.size
        self._restarts = 0
        self._unsure = False  # what the registry has: the connection broke
        self._finishing = False
        self.source = ""

    def run(self) -> str:
        """Transfer it: ``EXISTS``, ``MOUNTED`` or ``UPLOADED``.

        Raises:
            AuthError, RegistryError: the registry does not take it.
            DigestMismatch: it says that the content is not what its digest says.
            StoreError: the blob cannot be read.
            Cancelled: by the client's guard.
        """
        backoff = Backoff(self._client.policy)
        confirmed = 0
        while True:
            try:
                return self._attempt()
            except Transient as failure:
                self._unsure = self._session is not None
                size = self._session.size if self._session else 0
                if size - confirmed >= self._client.policy.progress:
                    backoff.progressed()
                # What was lost and is sent again is no progress.
                confirmed = max(confirmed, size)
                pause(self._client.guard, backoff.delay(failure), self._listener.retrying)

    def _attempt(self) -> str:
        if self._unsure:
            if self._settle():
                return UPLOADED
        elif found := self._elsewhere():
            return found
        while True:
            try:
                self._transfer()
                return UPLOADED
            except Refused as error:
                self._cope(error)

    def _elsewhere(self) -> str:
        """Whether the registry has it already, here or in another repository."""
        client, digest = self._client, self._blob.digest
        if not self._again and client.has_blob(digest, self._blob.size):
            return EXISTS
        for source in self._sources:
            self._session = client.mount(digest, source)
            if self._session is None:
                self.source = source
                return MOUNTED
            if source != self._sources[-1]:
                client.cancel(self._session)
                self._session = None
        return ""

    def _settle(self) -> bool:
        """After a lost connection: find out what the registry has; True when it has all of it."""
        blob = self._blob
        if self._finishing and not self._again and self._client.has_blob(blob.digest, blob.size):
            return True
        self._finishing = False
        if self._session is not None:
            self._session = self._client.status(self._session)
            self._check()
            self._listener.grown(self._session.size if self._session else 0)
        self._unsure = False
        return False

    def _check(self) -> None:
        """A registry that has more bytes than there are gets them anew."""
        if self._session is not None and self._session.size > self._blob.size:
            self._restart()

    def _restart(self) -> None:
        """Begin again from the first byte, but not for ever."""
        self._count()
        if self._session is not None:
            self._client.cancel(self._session)
        self._session = None
        self._listener.grown(0)

    def _count(self) -> None:
        self._restarts += 1
        if self._restarts > _MAX_RESTARTS:
            raise RegistryError(
                f"cannot upload {self._what}: the registry takes other bytes than it is sent,"
                " again and again"
            )

    def _transfer(self) -> None:
        client, blob = self._client, self._blob
        if self._session is None:
            self._session = client.begin()
        if self._session.size == 0 and 0 < blob.size <= min(MONOLITHIC, self._piece):
            self._finish(self._body(0, blob.size))
            return
        while self._session.size < blob.size:
            at = self._session.size
            piece = min(max(self._piece, self._session.least), blob.size - at)
            moved = client.append(self._session, self._body(at, piece))
            if moved is None:
                # Its idea of the upload counts.
                moved = client.status(self._session)
                self._count()
            elif moved.size != at + piece:
                self._count()
            self._session = moved
            self._check()
            if self._session is None:
                self._session = client.begin()
        self._finish(None)

    def _finish(self, body: FileBody | None) -> None:
        assert self._session is not None
        self._finishing = True
        self._client.finish(self._session, self._blob.digest, body)
        self._session = None

    def _body(self, offset: int, size: int) -> FileBody:
        def sent(count: int) -> None:
            self._listener.grown(offset + count)

        return FileBody(self._fd, offset, size, sent)

    def _cope(self, error: Refused) -> None:
        """What can be done about a refusal; raises it when there is nothing."""
        self._finishing = False
        if error.code == "DIGEST_INVALID":
            raise DigestMismatch(
                f"the registry says that {self._what} does not have the digest"
                f" {self._blob.digest}: {error}",
                status=error.status,
            ) from error
        if error.status == 413 and self._piece > PIECE:
            self._piece = PIECE
        elif error.status == 413 or self._session is None or not is_gone(error):
            raise error
        self._restart()
