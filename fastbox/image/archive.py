"""Reading an archive of images, in whatever form it comes: a tar in a file (read out of order, by
offsets), a tar from a pipe or compressed (read once, in its order), an OCI layout's directory.

All of them are a sequence of entries. An entry is read before the next one is asked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from ..errors import ArchiveError, FastboxError, StoreError
from ..oci import digest as digests
from ..oci import image as oci
from . import sources, tarball
from .layers import store_error
from .tarball import Member, malformed

if TYPE_CHECKING:
    from .sources import Read

_PIECE = 1 << 20
_DRAIN = 16 << 20  # bytes behind the archive's end that are read, so that no writer sees EPIPE
_F_SETPIPE_SZ = 1031
_PEEK = tarball.BLOCK  # bytes that tell a document

Grown = Callable[[int], None]


class Archive:
    """A sequence of entries."""

    def members(self) -> Iterator[Member]:
        """The entries. Raises ArchiveError where it is malformed."""
        raise NotImplementedError

    def read(self, count: int) -> bytes:
        """Exactly so many bytes of the present entry's data, fewer only at its end."""
        raise NotImplementedError

    def copy(self, fd: int, grown: Grown) -> None:
        """Append what is left of the present entry's data to a file.

        Args:
            grown: told how many bytes the file has, now and then. What it raises ends the copying.

        Raises:
            ArchiveError: the archive ends before. StoreError: reading or writing failed.
        """
        raise NotImplementedError


# ---- a stream --------------------------------------------------------------------------------


class Stream(Archive):
    """A tar that comes once, in its order."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._left = 0  # bytes of the present entry
        self._pad = 0

    def members(self) -> Iterator[Member]:
        for _ in range(tarball.MAX_ENTRIES):
            self._skip(self._left + self._pad)
            member = tarball.next_member(self._exactly)
            if member is None:
                self._drain()
                return
            self._left, self._pad = member.size, tarball.padding(member.size)
            yield member
        raise malformed(f"it has more than {tarball.MAX_ENTRIES} entries")

    def read(self, count: int) -> bytes:
        data = self._exactly(min(count, self._left))
        if len(data) < min(count, self._left):
            raise malformed("it ends too early")
        self._left -= len(data)
        return data

    def copy(self, fd: int, grown: Grown) -> None:
        size = os.lseek(fd, 0, os.SEEK_CUR)
        while self._left:
            piece = self._read(min(self._left, _PIECE))
            if not piece:
                raise malformed("it ends too early")
            self._left -= len(piece)
            write_all(fd, piece)
            size += len(piece)
            grown(size)

    def _exactly(self, count: int) -> bytes:
        pieces = []
        while count and (piece := self._read(min(count, _PIECE))):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _skip(self, count: int) -> None:
        while count:
            piece = self._read(min(count, _PIECE))
            if not piece:
                raise malformed("it ends too early")
            count -= len(piece)

    def _drain(self) -> None:
        """Behind the end: tar's padding, and the checksum of a compressed stream."""
        left = _DRAIN
        while left > 0 and (piece := self._read(_PIECE)):
            left -= len(piece)


# ---- a file ----------------------------------------------------------------------------------


class TarFile(Archive):
    """A tar in a file. All headers are read first; then documents come before all others, so
    that what describes the images is known before the first layer.

    Args:
        fd: the file, from its present offset on.
    """

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._name = name
        self._at = os.lseek(fd, 0, os.SEEK_CUR)
        self._size = os.fstat(fd).st_size
        self._end = self._size

    def members(self) -> Iterator[Member]:
        found = self._scan()
        # Of two with one name the last counts, as when it is unpacked.
        last = {member.name: (member, offset) for member, offset in found}
        for member, offset in sorted(last.values(), key=self._order):
            self._at, self._end = offset, offset + member.size
            yield member

    def _order(self, one: tuple[Member, int]) -> tuple[bool, int]:
        member, offset = one
        return member.kind == "file" and not self.is_document(offset, member.size), offset

    def is_document(self, offset: int, size: int) -> bool:
        """Whether there is one at an offset."""
        if size > oci.MAX_DOCUMENT:
            return False
        self._at = offset
        return is_document(self._exactly(min(size, _PEEK)))

    def _scan(self) -> list[tuple[Member, int]]:
        found: list[tuple[Member, int]] = []
        while True:
            member = tarball.next_member(self._exactly)
            if member is None:
                return found
            if len(found) == tarball.MAX_ENTRIES:
                raise malformed(f"it has more than {tarball.MAX_ENTRIES} entries")
            found.append((member, self._at))
            self._at += member.size
            if self._at > self._size:
                raise malformed("it ends too early")
            self._at += tarball.padding(member.size)

    def read(self, count: int) -> bytes:
        return self._exactly(min(count, self._end - self._at))

    def copy(self, fd: int, grown: Grown) -> None:
        start = os.lseek(fd, 0, os.SEEK_CUR) - self._at
        copy = _copy_range
        while self._at < self._end:
            try:
                count = copy(self._fd, fd, self._at, min(self._end - self._at, 8 * _PIECE))
            except OSError as error:
                if copy is _by_hand or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                    raise store_error("copy from", self._name, error) from error
                copy = _by_hand
                continue
            if count == 0:
                raise malformed("it became shorter while it was read")
            self._at += count
            grown(start + self._at)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = os.pread(self._fd, count - len(data), self._at)
            except OSError as error:
                raise store_error("read", self._name, error) from error
            if not piece:
                break
            data += piece
            self._at += len(piece)
        return data


def is_document(head: bytes) -> bool:
    """Whether a small file that begins like this (a block, unless it is shorter) is JSON. A layer
    begins with a name, which may look like that."""
    begins = head.lstrip(b" \t\r\n")[:1] in (b"{", b"[")
    return begins and not tarball.is_header(head[: tarball.BLOCK])


def _copy_range(source: int, target: int, offset: int, count: int) -> int:
    return os.copy_file_range(source, target, count, offset)


def _by_hand(source: int, target: int, offset: int, count: int) -> int:
    data = os.pread(source, min(count, _PIECE), offset)
    write_all(target, data)
    return len(data)


def write_all(fd: int, data: bytes) -> None:
    """Raises StoreError: it could not be written."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise store_error("store", "a layer", error) from error


# ---- a directory -----------------------------------------------------------------------------


class Layout(Archive):
    """An OCI image layout's directory: its files, documents first. Links are not followed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: TarFile | None = None
        self._fd = -1

    def members(self) -> Iterator[Member]:
        found = ["oci-layout", "index.json"]
        blobs = os.path.join(self._path, "blobs", "sha256")
        try:
            with os.scandir(blobs) as entries:
                for entry in entries:
                    if digests.is_digest(f"sha256:{entry.name}"):
                        found.append(f"blobs/sha256/{entry.name}")
        except OSError as error:
            raise malformed(f"{self._path} is no OCI image layout") from error
        if len(found) > tarball.MAX_ENTRIES:
            raise malformed(f"it has more than {tarball.MAX_ENTRIES} blobs")
        try:
            for name in sorted(found, key=self._order):
                yield Member(name, self._open(name))
        finally:
            self._close()

    def _order(self, name: str) -> tuple[bool, str]:
        size = self._open(name)
        assert self._file is not None
        return not self._file.is_document(0, size), name

    def _open(self, name: str) -> int:
        """Open a file, in place of the one before; its size."""
        self._close()
        path = os.path.join(self._path, name)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags)
        except FileNotFoundError as error:
            raise malformed(f"{self._path} is no OCI image layout: {name} is missing") from error
        except OSError as error:
            raise store_error("read", path, error) from error
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise malformed(f"{name} is not a regular file")
        self._file = TarFile(self._fd, path)
        return found.st_size

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, count: int) -> bytes:
        assert self._file is not None
        return self._file.read(count)

    def copy(self, fd: int, grown: Grown) -> None:
        assert self._file is not None
        self._file.copy(fd, grown)


# ---- opening ---------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(source: str | IO[bytes]) -> Iterator[Archive]:
    """The archive of a path (file or directory), of ``"-"`` (standard input), or a file object.

    Raises:
        InvalidArgument: no such file. ArchiveError: a compressed stream is malformed.
    """
    if not isinstance(source, str):
        with _stream(sources.of_object(source)) as archive:
            yield archive
    elif source == "-":
        with _descriptor(0, "standard input") as archive:
            yield archive
    elif os.path.isdir(source):
        yield Layout(source)
    else:
        with sources.open_file(source) as fd, _descriptor(fd, source) as archive:
            yield archive


@contextlib.contextmanager
def _descriptor(fd: int, name: str) -> Iterator[Archive]:
    if stat.S_ISREG(os.fstat(fd).st_mode):
        head = os.pread(fd, 8, os.lseek(fd, 0, os.SEEK_CUR))
        if not sources.is_compressed(head):
            yield TarFile(fd, name)
            return
    else:
        import fcntl

        with contextlib.suppress(OSError):  # over the user's limit
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIECE)
    with _stream(sources.of_descriptor(fd, name)) as archive:
        yield archive


@contextlib.contextmanager
def _stream(read: Read) -> Iterator[Archive]:
    """A stream, decompressed."""
    head, rest = sources.peeked(read)
    if not head:
        raise malformed("it is empty")
    if sources.is_compressed(head, native=True):
        with _Pipeline(rest) as pipeline:
            yield Stream(pipeline.read)
    else:
        yield Stream(sources.decompressed(rest))


class _Pipeline:
    """gzip or zstd, undone by ``_core.tar`` in threads: source -> pipe -> decompressor -> pipe."""

    def __init__(self, source: Read) -> None:
        from .._core import tar

        self._source = source
        self._decompress = tar.decompress
        self._cancel = tar.Cancel()
        self._error: BaseException | None = None
        self._packed = _pipe()
        self._plain = _pipe()
        self._threads = [
            threading.Thread(target=self._pump, name="fastbox-pump", daemon=True),
            threading.Thread(target=self._inflate, name="fastbox-inflate", daemon=True),
        ]

    def __enter__(self) -> _Pipeline:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._cancel.cancel()
        os.close(self._plain[0])
        self._threads[1].join()
        # The pump may wait for a source that says nothing; it is a daemon, and holds no lock.
        self._threads[0].join(0.5)

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes; at the end, what went wrong is raised."""
        data = os.read(self._plain[0], count)
        if not data:
            self._threads[1].join()
            if self._error is not None:
                raise self._error
        return data

    def _pump(self) -> None:
        try:
            while piece := self._source(_PIECE):
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._packed[1], view) :]
        except BrokenPipeError:
            pass  # the decompressor has ended, and says why
        except BaseException as error:
            self._error = error
        finally:
            os.close(self._packed[1])

    def _inflate(self) -> None:
        try:
            self._decompress(self._packed[0], self._plain[1], cancel=self._cancel)
        except ArchiveError as error:
            # What the source raised comes first: then the stream only looks cut off.
            text = str(error).removeprefix("cannot unpack the layer: ")
            self._error = self._error or malformed(text)
        except FastboxError as error:
            self._error = self._error or StoreError(f"cannot read the archive: {error}")
        finally:
            os.close(self._packed[0])
            os.close(self._plain[1])


def _pipe() -> tuple[int, int]:
    import fcntl

    ends = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.fcntl(ends[1], _F_SETPIPE_SZ, _PIECE)
    return ends
