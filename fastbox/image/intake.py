"""Taking the layers of an archive in: each goes to a file beside the downloads and is unpacked from
there while it is still being read, two of them at once.

Often a stream tells only at its end what its files are for. Until that is known everything that
looks like a layer is taken for one; what turns out to be none is dropped. So an archive is read
once, whatever its order is.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ..errors import ArchiveError, FastboxError, StoreError
from ..oci import image as oci
from . import sources, tarball
from .archive import is_document, write_all
from .content import hash_fd
from .contents import Contents
from .feed import Unpacking
from .layers import store_error, storing
from .progress import LOADING, ProgressEvent, Reporter
from .unpack import space_for_layer

if TYPE_CHECKING:
    from .._core.tar import Extracted
    from .archive import Archive
    from .store import ImageStore
    from .tarball import Member

PARALLEL = 2  # layers that are unpacked at once; each keeps about two cores busy
_PIECE = 1 << 20
_HEAD = 512


class Part(msgspec.Struct, kw_only=True):
    """A file that was taken in.

    Attributes:
        path: of the copy.
        fd: of it, while it is needed; -1 after that.
        size: bytes.
        digest: of the copy, ``""`` until it is known.
        done: what was unpacked to ``staging``; None where nothing was.
        error: why it could not be unpacked.
    """

    path: str
    fd: int = -1
    size: int = 0
    digest: str = ""
    staging: str = ""
    done: Extracted | None = None
    error: FastboxError | None = None


class Intake:
    """Reads an archive. A context manager: what was not taken over by then is removed.

    Args:
        contents: gets documents and links.
        role: what a file is for, by its name: ``"layer"``, ``"blob"`` (not to be unpacked), ``""``
            (nothing), or ``"unknown"``.
        emit: gets the progress.

    Attributes:
        parts: what was taken in, by the names in the archive.
    """

    def __init__(
        self,
        store: ImageStore,
        contents: Contents,
        role: Callable[[str], str],
        emit: Callable[[ProgressEvent], None],
    ) -> None:
        self._store = store
        self._contents = contents
        self._role = role
        self._emit = emit
        self._active: list[tuple[Part, Unpacking]] = []
        self.parts: dict[str, Part] = {}

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *_: object) -> None:
        for _part, unpacking in self._active:
            unpacking.abort()
        for part in self.parts.values():
            self._drop(part)

    def run(self, archive: Archive) -> None:
        """Read all of it.

        Raises:
            ArchiveError: the outer archive is malformed. StoreError: the disk is full, or the like.
            A layer that cannot be unpacked is only noted.
        """
        for member in archive.members():
            old = self.parts.pop(member.name, None)
            self._contents.forget(member.name)
            if old is not None:  # the last of a name counts
                self._finish_all()
                self._drop(old)
            if member.kind in ("symlink", "hardlink"):
                hard = member.kind == "hardlink"
                self._contents.add_link(member.name, member.target, hard=hard)
            elif member.kind == "file" and member.size:
                self._take(archive, member)
        self._finish_all()

    # ---- one file ----------------------------------------------------------------------------

    def _take(self, archive: Archive, member: Member) -> None:
        """A document, a layer, or neither."""
        whole = member.size <= oci.MAX_DOCUMENT
        head = archive.read(member.size if whole else _HEAD)
        if whole and is_document(head):
            self._contents.add_document(member.name, head)
            return
        compressed = sources.is_compressed(head)
        plain = not head[:_HEAD].strip(b"\0") or tarball.is_header(head[:_HEAD])
        role = self._role(member.name) if compressed or plain else ""
        if role:
            self._store_part(archive, member, head, role)

    def _store_part(self, archive: Archive, member: Member, head: bytes, role: str) -> None:
        self._check_space(member)
        while len(self._active) >= PARALLEL:
            self._finish(*self._active.pop(0))
        part = Part(path=self._store.temporary_path("load"))
        self.parts[member.name] = part
        with storing("write", part.path):
            part.fd = os.open(part.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        unpacking = None
        if role != "blob":
            part.staging = self._store.stage_layer()
            limit = space_for_layer(self._store)
            unpacking = Unpacking(part.fd, part.staging, limit, lambda _: None)
            self._active.append((part, unpacking))
        self._copy(archive, member, head, part, unpacking)
        part.size = os.fstat(part.fd).st_size
        if unpacking is None:
            part.digest = hash_fd(part.fd)
            self._close(part)

    def _copy(
        self,
        archive: Archive,
        member: Member,
        head: bytes,
        part: Part,
        unpacking: Unpacking | None,
    ) -> None:
        report = Reporter(_short(member.name), member.size, self._emit)

        def grown(size: int) -> None:
            if unpacking is not None:
                if unpacking.broken:
                    self._active.remove((part, unpacking))
                    self._finish(part, unpacking)
                unpacking.grown(size)
            report.bytes(LOADING, size)

        if sources.is_compressed(head) and not sources.is_compressed(head, native=True):
            # The store keeps only what every program reads: xz and bzip2 are undone.
            self._decompress(archive, head, part, grown)
        else:
            write_all(part.fd, head)
            grown(len(head))
            archive.copy(part.fd, grown)
        self._emit(ProgressEvent(_short(member.name), LOADING, member.size, member.size))

    def _decompress(
        self, archive: Archive, head: bytes, part: Part, grown: Callable[[int], None]
    ) -> None:
        read = sources.decompressed(sources.with_head(head, archive.read))
        size = 0
        limit = space_for_layer(self._store)
        while piece := read(_PIECE):
            size += len(piece)
            if size > limit:
                raise _full(self._store)
            write_all(part.fd, piece)
            grown(size)

    def _check_space(self, member: Member) -> None:
        """Better now than after gigabytes."""
        if member.size > space_for_layer(self._store):
            raise _full(self._store, f"{tarball.shown(member.name)} has {member.size} bytes")

    # ---- the end of an unpacking -------------------------------------------------------------

    def _finish_all(self) -> None:
        while self._active:
            self._finish(*self._active.pop(0))

    def _finish(self, part: Part, unpacking: Unpacking) -> None:
        try:
            part.done = unpacking.finish()
            part.digest = part.done.digest
        except ArchiveError as error:
            part.error = error
        except OSError as error:
            raise store_error("unpack a layer to", part.staging, error) from error
        finally:
            unpacking.abort()
        if part.error is not None:
            self._store.discard_layer(part.staging)
            part.staging = ""
        self._close(part)

    def _close(self, part: Part) -> None:
        if part.fd >= 0:
            os.close(part.fd)
            part.fd = -1

    def _drop(self, part: Part) -> None:
        self._close(part)
        with contextlib.suppress(OSError):
            os.unlink(part.path)
        if part.staging:
            with contextlib.suppress(StoreError):
                self._store.discard_layer(part.staging)
            part.staging = ""


def _short(name: str) -> str:
    """What a progress line calls a layer: 12 characters of its digest or directory."""
    words = [word for word in name.split("/") if word not in ("layer.tar", "blobs", "sha256")]
    return (words[-1] if words else name)[:12]


def _full(store: ImageStore, detail: str = "") -> StoreError:
    cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    made = store_error("load the archive into", store.root, cause)
    if detail:
        made.message += f": {detail}"
    made.__cause__ = cause
    return made
