"""Blobs of the image store: ``blobs/sha256/HEX`` of an OCI image layout, and partial downloads.

A blob appears under its digest by one rename, verified and on disk. What is read back into memory
is verified again; a blob that does not match is set aside, so that a pull fetches it anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat

from .. import atomic
from ..errors import DigestMismatch, StoreError
from ..oci import digest as digests
from ..oci import image as oci
from . import trash
from .layers import store_error, storing

_CHUNK = 1 << 20


class BlobStore:
    """The blobs below ``directory``, an OCI image layout.

    Args:
        trash_dir: on the same file system.
    """

    def __init__(self, directory: str, trash_dir: str) -> None:
        self.directory = os.path.join(directory, "blobs", "sha256")
        self.ingest = os.path.join(directory, "ingest")
        self.trash = trash_dir
        self._verified: dict[str, bytes] = {}

    def path(self, digest: str) -> str:
        """Where a blob is or would be.

        Raises:
            ImageError: not a sha256 digest.
        """
        return os.path.join(self.directory, digests.encoded(digest))

    def ingest_path(self, digest: str) -> str:
        """Where the partial download of a blob is kept."""
        return os.path.join(self.ingest, f"sha256-{digests.encoded(digest)}.part")

    def has(self, digest: str, size: int | None = None) -> bool:
        """Whether the blob is here (and has this size in bytes)."""
        try:
            found = os.stat(self.path(digest), follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and size in (None, found.st_size)

    def put(self, data: bytes) -> str:
        """Store ``data``; its digest.

        Raises:
            StoreError: disk full or the like; nothing was stored.
        """
        digest = digests.of(data)
        path = self.path(digest)
        if not self.has(digest, len(data)):
            with storing("write", path):
                atomic.write(path, data)
        return digest

    def commit(
        self, part: str, digest: str, *, verified: bool = False, synced: bool = False
    ) -> str:
        """Make the complete file ``part`` the blob ``digest``; its path.

        Args:
            verified: the caller hashed every byte while writing, so don't read it again.
            synced: the caller has it on disk already.

        Raises:
            DigestMismatch: the content is another; ``part`` was removed.
            StoreError: reading, syncing or renaming failed; ``part`` is left as it is.
        """
        path = self.path(digest)
        with storing("commit", part):
            fd = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if not verified and (found := hash_fd(fd)) != digest:
                    with contextlib.suppress(OSError):
                        os.unlink(part)
                    raise DigestMismatch(f"content has digest {found} instead of {digest}")
                if not synced:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(part, path)
            atomic.sync_directory(self.directory)
        return path

    def read(self, digest: str, what: str = "blob", limit: int = oci.MAX_DOCUMENT) -> bytes:
        """A small blob, verified.

        Raises:
            StoreError: missing, too large, unreadable, or damaged; the message names the file.
        """
        if digest in self._verified:
            return self._verified[digest]
        path = self.path(digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(fd, "rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError as error:
            raise StoreError(
                f"{what} is missing in the store: {path}", hint="pull the image again"
            ) from error
        except OSError as error:
            raise store_error(f"read the {what}", path, error) from error
        if len(data) > limit:
            raise StoreError(f"{what} is too large, more than {limit} bytes: {path}")
        if digests.of(data) != digest:
            raise self.damaged(digest, what)
        self._verified[digest] = data
        return data

    def verify(self, digest: str, what: str = "blob") -> None:
        """Hash a blob of any size.

        Raises:
            StoreError: missing, unreadable or damaged.
        """
        path = self.path(digest)
        with storing(f"read the {what}", path):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                if hash_fd(fd) != digest:
                    raise self.damaged(digest, what)
            finally:
                os.close(fd)

    def damaged(self, digest: str, what: str) -> StoreError:
        """Set a blob aside whose content is not what its name says; the error to raise."""
        path = self.path(digest)
        self._verified.pop(digest, None)
        with contextlib.suppress(StoreError):
            self.remove(digest)
        return StoreError(
            f"{what} is damaged: {path} does not match its digest", hint="pull the image again"
        )

    def remove(self, digest: str) -> int:
        """Move a blob to the trash; its size in bytes, 0 if it was missing."""
        path = self.path(digest)
        self._verified.pop(digest, None)
        size = self.size(digest)
        trash.move(path, self.trash)
        return size

    def size(self, digest: str) -> int:
        """Bytes of a blob, 0 if it is missing."""
        try:
            return os.stat(self.path(digest), follow_symlinks=False).st_size
        except OSError:
            return 0

    def digests(self) -> list[str]:
        """All blobs."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        return [f"sha256:{name}" for name in names if digests.is_digest(f"sha256:{name}")]

    def age(self, digest: str, now: float) -> float:
        """Seconds since the blob was written."""
        try:
            return now - os.stat(self.path(digest), follow_symlinks=False).st_mtime
        except OSError:
            return 0.0


def hash_fd(fd: int) -> str:
    """The digest of a whole file, whatever its offset is."""
    hasher = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    os.lseek(fd, 0, os.SEEK_SET)
    while count := os.readv(fd, [buffer]):
        hasher.update(buffer[:count])
    return "sha256:" + hasher.hexdigest()
