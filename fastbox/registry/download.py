"""One blob into a file: resumed where it broke off, never longer than announced."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Protocol

from ..errors import DigestMismatch, RegistryError, StoreError
from ..oci.image import Descriptor
from .mirrors import Source
from .retry import Backoff, Transient, pause
from .transport import Response

_MAX_RESTARTS = 5


class Listener(Protocol):
    """What a download tells while it goes on; calls come from the downloading thread."""

    def grown(self, size: int) -> None:
        """The first ``size`` bytes of the file are there. Smaller than before: start over."""

    def retrying(self, seconds: int) -> None:
        """The next try begins in so many seconds."""


class Download:
    """The transfer of one blob.

    Args:
        fd: the file, open for reading and writing; what it holds is taken for the blob's start.
        listener: told of progress.

    Attributes:
        size: bytes in the file.
        stitched: the file was not filled by one answer from beginning to end, so a digest mismatch
            may be the fault of an earlier try.
    """

    def __init__(self, client: Source, blob: Descriptor, fd: int, listener: Listener) -> None:
        self._client = client
        self._blob = blob
        self._fd = fd
        self._listener = listener
        self._etag: str | None = None
        self._restarts = 0
        self.size = 0
        self.stitched = False

    def run(self) -> None:
        """Transfer what is missing; the content is not verified yet.

        Raises:
            RegistryError: it cannot be had.
            DigestMismatch: the registry's blob has another size.
            StoreError: the file cannot be written (full disk).
            Cancelled: by the client's guard. What was written stays and can be resumed.
        """
        self.size = os.fstat(self._fd).st_size
        if self.size > self._blob.size:
            self._restart()
        elif self.size:
            self.stitched = True
        self._listener.grown(self.size)
        backoff = Backoff(self._client.policy)
        while self.size < self._blob.size:
            before = self.size
            try:
                self._attempt()
            except Transient as failure:
                if self._client.interrupted(self._blob.digest):
                    continue
                if self.size - before >= self._client.policy.progress:
                    backoff.progressed()
                pause(self._client.guard, backoff.delay(failure), self._listener.retrying)

    def discard(self) -> None:
        """Forget everything that was written (it has the wrong digest)."""
        self._restart()
        self._etag = None
        self._listener.grown(0)

    def _restart(self) -> None:
        os.ftruncate(self._fd, 0)
        self.size = 0
        self.stitched = False

    def _attempt(self) -> None:
        blob = self._blob
        what = f"layer {blob.short_id}"
        with self._client.blob(blob.digest, what, offset=self.size, etag=self._etag) as response:
            if not self._accept(response):
                return
            etag = response.headers.get("ETag", "")
            self._etag = etag if etag.startswith('"') and etag.isascii() else None
            while data := response.read():
                if self.size + len(data) > blob.size:
                    self._restart()
                    raise DigestMismatch(
                        f"{what} is longer than the {blob.size} bytes that its manifest says"
                    )
                self._write(data)
                self._listener.grown(self.size)
        if self.size < blob.size:
            # Without Content-Length, a lost connection looks like the end.
            raise Transient(DigestMismatch(f"{what} ends after {self.size} of {blob.size} bytes"))

    def _accept(self, response: Response) -> bool:
        """Make file and answer agree on where the answer's bytes belong; False: ask again."""
        if response.status == 416:
            self._over()
            return False
        if response.status == 206:
            if not self._is_rest(response.headers.get("Content-Range", "")):
                self._over()
                return False
            self.stitched = True
        elif self.size:
            # It ignores Range, or the ETag changed: these are all bytes from the first on.
            self._over()
        length = response.length
        if length is not None and length != self._blob.size - self.size:
            raise DigestMismatch(
                f"layer {self._blob.short_id} has {self.size + length} bytes at the registry,"
                f" its manifest says {self._blob.size}"
            )
        return True

    def _over(self) -> None:
        """Begin again from the first byte, but not for ever."""
        self._restarts += 1
        if self._restarts > _MAX_RESTARTS:
            raise RegistryError(
                f"cannot download layer {self._blob.short_id}: the connection breaks again and"
                " again, and the registry does not let downloads resume"
            )
        self._restart()
        self._etag = None
        self._listener.grown(0)

    def _is_rest(self, value: str) -> bool:
        """Whether Content-Range is ``bytes SIZE-LAST/TOTAL``, exactly what was asked for."""
        if not self.size:
            return False
        total = self._blob.size
        return value.strip() in (
            f"bytes {self.size}-{total - 1}/{total}",
            f"bytes {self.size}-{total - 1}/*",
        )

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, self.size)
                view = view[written:]
                self.size += written
        except OSError as error:
            raise disk_error(error, f"write layer {self._blob.short_id}") from error


def disk_error(error: OSError, what: str) -> StoreError:
    """The error for a failed write to the store."""
    import errno

    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StoreError(
        f"cannot {what}: {os.strerror(error.errno or errno.EIO).lower()}",
        hint="free some space, for example by removing images (fastbox rmi)" if full else None,
    )


def file_digest(fd: int, check: Callable[[], None]) -> str:
    """``sha256:…`` of a whole file.

    Args:
        check: called between pieces; what it raises ends the reading.
    """
    hasher = hashlib.sha256()
    at = 0
    while data := os.pread(fd, 1 << 20, at):
        hasher.update(data)
        at += len(data)
        check()
    return "sha256:" + hasher.hexdigest()
