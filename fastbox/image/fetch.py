"""One layer of a pull: from the registry into the store, as blob and as unpacked directory."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from .. import locks
from ..errors import ArchiveError, DigestMismatch, StoreError
from ..oci.image import Descriptor
from ..registry.download import Download, disk_error, file_digest
from ..registry.guard import Guard
from . import progress as words
from .layers import store_error
from .progress import ProgressEvent, Reporter

if TYPE_CHECKING:
    from .._core.tar import Extracted
    from ..registry.mirrors import Source
    from .feed import Unpacking
    from .store import ImageStore

MAX_LAYER_BYTES = 256 << 30  # of the uncompressed archive, if the disk has as much
_RESERVE = 64 << 20  # bytes of the disk that a layer leaves to everybody else
_SLICE = 0.05  # seconds between looks at a lock that another process holds


class Wanted(msgspec.Struct, frozen=True):
    """A layer: its blob, and the digest of what is in it; None for a blob that is only stored."""

    blob: Descriptor
    diff_id: str | None


class Slots:
    """How many layers may be downloaded, and how many unpacked, at once."""

    def __init__(self, count: int, guard: Guard) -> None:
        self._guard = guard
        self._downloads = threading.Semaphore(count)
        self._unpacks = threading.Semaphore(count)

    @contextlib.contextmanager
    def download(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Wait for a place among the downloads."""
        with self._wait(self._downloads, waiting):
            yield

    def take_unpack(self, *, block: bool) -> bool:
        """Take a place among those that unpack; give it back with ``give_unpack``."""
        while not self._unpacks.acquire(blocking=False):
            if not block:
                return False
            self._guard.wait(_SLICE)
        return True

    def give_unpack(self) -> None:
        """Give the place of ``take_unpack`` back."""
        self._unpacks.release()

    @contextlib.contextmanager
    def _wait(self, places: threading.Semaphore, waiting: Callable[[], None]) -> Iterator[None]:
        if not places.acquire(blocking=False):
            waiting()
            while not places.acquire(timeout=_SLICE):
                self._guard.check()
        try:
            yield
        finally:
            places.release()


class LayerFetch:
    """The way of one layer. ``run`` is called once, in a thread of its own.

    Args:
        emit: gets the progress.
    """

    def __init__(
        self,
        store: ImageStore,
        client: Source,
        wanted: Wanted,
        slots: Slots,
        emit: Callable[[ProgressEvent], None],
        max_bytes: int = MAX_LAYER_BYTES,
    ) -> None:
        self._store = store
        self._client = client
        self._guard = client.guard
        self._blob = wanted.blob
        self._diff_id = wanted.diff_id
        self._slots = slots
        self._report = Reporter(wanted.blob.short_id, wanted.blob.size, emit)
        self._max_bytes = max_bytes
        self._fd = -1
        self._unpacking: Unpacking | None = None
        self._loading = False

    def run(self) -> None:
        """See that blob and directory are there.

        Raises:
            RegistryError, DigestMismatch, ArchiveError, StoreError: nothing was committed; a
            partial download stays if it may be continued.
            Cancelled: by the guard.
        """
        first = True
        while not self._has_blob():
            if first:
                self._report.status(words.PULLING)
            first = False
            with self._claim() as fd:
                if fd is not None:
                    self._fetch(fd)
                    self._report.status(words.COMPLETE)
                    return
        if self._has_layer():
            self._report.status(words.EXISTS if first else words.COMPLETE)
            return
        if self._unpack_blob():
            self._report.status(words.COMPLETE)
        else:
            self.run()

    def _has_blob(self) -> bool:
        return self._store.has_blob(self._blob.digest, self._blob.size)

    def _has_layer(self) -> bool:
        if self._diff_id is None:
            return True
        try:
            return self._store.layer_dir(self._diff_id) is not None
        except StoreError:
            return False  # damaged metadata: unpacked again, and replaced

    @contextlib.contextmanager
    def _claim(self) -> Iterator[int | None]:
        """The ingest file, locked: one transfer of a blob at a time, whoever makes it.

        Yields:
            Its descriptor; None if somebody else finished the blob meanwhile.
        """
        path = self._store.ingest_path(self._blob.digest)
        while True:
            self._guard.check()
            with contextlib.ExitStack() as stack:
                try:
                    fd = stack.enter_context(locks.lock(path, blocking=False, create=True))
                except BlockingIOError:
                    self._report.status(words.WAITING)
                    self._guard.wait(_SLICE)
                    continue
                except FileNotFoundError:
                    continue  # renamed to a blob, or discarded, while we waited
                except OSError as error:
                    raise store_error("write", path, error) from error
                if self._has_blob():
                    os.unlink(path)
                    yield None
                else:
                    yield fd
                return

    # ---- from the registry -------------------------------------------------------------------

    def _fetch(self, fd: int) -> None:
        self._fd = fd
        path = self._store.ingest_path(self._blob.digest)
        try:
            self._transfer(fd)
        except (DigestMismatch, ArchiveError):
            _remove(path)  # of no use to anybody
            raise
        except StoreError as error:
            if _is_full(error):
                _remove(path)  # whoever else needs the disk comes first
            raise
        except OSError as error:
            raise store_error("store", path, error) from error
        finally:
            self._drop()

    def _transfer(self, fd: int) -> None:
        """Download, verify, commit; once more from the start if an old part was bad."""
        download = Download(self._client, self._blob, fd, self)
        again = True
        while True:
            with self._slots.download(lambda: self._report.status(words.WAITING)):
                self._loading = True
                try:
                    download.run()
                except (ArchiveError, DigestMismatch):
                    if not self._client.rejected(self._blob.digest):
                        raise
                    download.discard()
                    continue
                self._loading = False
            self._report.status(words.DOWNLOADED)
            problem: ArchiveError | None = None
            done: Extracted | None = None
            try:
                if self._unpacking is not None or not self._has_layer():
                    done = self._unpack()
            except ArchiveError as error:
                problem = error
            digest = done.digest if done else file_digest(fd, self._guard.check)
            if digest == self._blob.digest:
                break
            elsewhere = self._client.rejected(self._blob.digest)
            if not elsewhere and not (again and download.stitched):
                raise DigestMismatch(
                    f"layer {self._blob.short_id} has digest {digest} instead of"
                    f" {self._blob.digest}",
                    hint="the registry, or something on the way to it, damages data",
                )
            again = again and elsewhere
            download.discard()
        if problem is not None:
            raise problem
        if done is not None:
            self._commit_layer(done)
        part = self._store.ingest_path(self._blob.digest)
        self._store.commit_blob(part, self._blob.digest, verified=True)

    def grown(self, size: int) -> None:
        """Listener of the download: unpack along with it, if there is a place."""
        if size == 0:
            self._drop()
        elif self._unpacking is None and not self._has_layer():
            self._begin(block=False)
        if self._unpacking is not None:
            if self._unpacking.broken:
                self._finish(self._unpacking)
            self._unpacking.grown(size)
        self._report.bytes(words.DOWNLOADING, size)

    def retrying(self, seconds: int) -> None:
        """Listener of the download."""
        self._report.status(f"Retrying in {seconds} second{'' if seconds == 1 else 's'}")

    # ---- unpacking ---------------------------------------------------------------------------

    def _begin(self, *, block: bool) -> Unpacking | None:
        """Start to unpack the file; None if there is no place for it now."""
        from .feed import Unpacking

        if not self._slots.take_unpack(block=block):
            return None
        staging = ""
        try:
            staging = self._store.stage_layer()
            unpacking = Unpacking(self._fd, staging, self._limit(), self._on_unpacked)
        except BaseException:
            self._slots.give_unpack()
            if staging:
                self._store.discard_layer(staging)
            raise
        self._unpacking = unpacking
        return unpacking

    def _drop(self) -> None:
        """End the unpacking under way, if any, and remove what was not committed."""
        unpacking, self._unpacking = self._unpacking, None
        if unpacking is None:
            return
        try:
            unpacking.abort()
            self._store.discard_layer(unpacking.staging)
        finally:
            self._slots.give_unpack()

    def _limit(self) -> int:
        """Bytes that the layer may unpack to: a bomb shall not fill the disk."""
        return max(0, min(self._max_bytes, self._free() - _RESERVE))

    def _free(self) -> int:
        try:
            found = os.statvfs(self._store.root)
        except OSError as error:
            raise store_error("examine", self._store.root, error) from error
        return found.f_bavail * found.f_frsize

    def _on_unpacked(self, size: int) -> None:
        self._guard.check()
        if not self._loading:
            self._report.bytes(words.EXTRACTING, size)

    def _unpack(self) -> Extracted:
        """Finish the unpacking that went along with the download, or do all of it now."""
        unpacking = self._unpacking or self._begin(block=True)
        assert unpacking is not None
        unpacking.grown(os.fstat(self._fd).st_size)
        return self._finish(unpacking)

    def _finish(self, unpacking: Unpacking) -> Extracted:
        self._report.bytes(words.EXTRACTING, 0)
        try:
            return unpacking.finish()
        except ArchiveError as error:
            self._guard.check()
            if getattr(error, "step", "") == "limit" and unpacking.max_bytes < self._max_bytes:
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise disk_error(full, f"unpack layer {self._blob.short_id}") from full
            raise
        except StoreError:
            self._guard.check()
            raise
        except OSError as error:
            self._guard.check()
            raise disk_error(error, f"unpack layer {self._blob.short_id}") from error

    def _commit_layer(self, done: Extracted) -> None:
        assert self._diff_id is not None
        if done.diff_id != self._diff_id:
            raise DigestMismatch(
                f"layer {self._blob.short_id} unpacks to {done.diff_id}, but the image config"
                f" says {self._diff_id}: filesystem layer verification failed"
            )
        assert self._unpacking is not None
        self._store.commit_layer(
            self._unpacking.staging,
            self._diff_id,
            done.unpacked_size,
            done.entries,
            opaque=done.opaque_root,
        )

    def _unpack_blob(self) -> bool:
        """Unpack a blob that is in the store already; False if it was damaged and is gone now."""
        path = self._store.blob_path(self._blob.digest)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise store_error("read", path, error) from error
        self._fd = fd
        problem: ArchiveError | None = None
        try:
            try:
                done = self._unpack()
                if done.digest == self._blob.digest:
                    self._commit_layer(done)
                    return True
            except ArchiveError as error:
                problem = error
            if problem is not None and file_digest(fd, self._guard.check) == self._blob.digest:
                raise problem
        finally:
            self._drop()
            os.close(fd)
        _remove(path)
        return False


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _is_full(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
