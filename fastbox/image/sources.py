"""Where an imported archive comes from: file, standard input, URL or file object, and the two old
compressions that the extractor leaves to Python (xz, bzip2)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from ..errors import ArchiveError, InvalidArgument, RegistryError, StoreError

if TYPE_CHECKING:
    import bz2
    import lzma

Read = Callable[[int], bytes]

_PIECE = 1 << 20
_CONNECT_TIMEOUT = 30.0  # seconds
_READ_TIMEOUT = 60.0  # seconds without a byte
_MAX_DICTIONARY = 128 << 20  # bytes that an xz archive may make us hold
_XZ = b"\xfd7zXZ\x00"
_BZIP2 = b"BZh"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


@contextlib.contextmanager
def opened(source: str | IO[bytes]) -> Iterator[Read]:
    """A function that reads up to n bytes of the archive, ``b""`` at its end.

    Raises:
        InvalidArgument: no such file. StoreError: reading failed. RegistryError: the URL gives
        nothing.
    """
    if not isinstance(source, str):
        yield of_object(source)
    elif source == "-":
        yield of_descriptor(0, "standard input")
    elif source.startswith(("http://", "https://")):
        with _url(source) as read:
            yield read
    else:
        with open_file(source) as fd:
            yield of_descriptor(fd, source)


@contextlib.contextmanager
def open_file(path: str) -> Iterator[int]:
    """Descriptor of a file to read.

    Raises:
        InvalidArgument: it cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else str(error)
        raise InvalidArgument(f"open {path}: {why}") from error
    try:
        yield fd
    finally:
        os.close(fd)


def of_descriptor(fd: int, name: str) -> Read:
    """The function for an open file or pipe; ``name`` is for messages."""

    def read(count: int) -> bytes:
        try:
            return os.read(fd, count)
        except OSError as error:
            raise StoreError(f"cannot read {name}: {(error.strerror or '').lower()}") from error

    return read


def of_object(source: IO[bytes]) -> Read:
    """The function for a binary file object."""

    def read(count: int) -> bytes:
        data: object
        try:
            data = source.read(count)
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read the archive: {error}") from error
        if not isinstance(data, bytes):
            raise InvalidArgument("the file object of an archive must block, and give bytes")
        return data

    return read


@contextlib.contextmanager
def _url(url: str) -> Iterator[Read]:
    import urllib.request

    import urllib3
    from urllib3.exceptions import HTTPError, LocationValueError

    from ..registry.hosts import redact

    shown = redact(url)
    scheme = url.partition(":")[0]
    proxies = urllib.request.getproxies()
    host = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    proxy = None if urllib.request.proxy_bypass(host) else proxies.get(scheme)
    timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT, read=_READ_TIMEOUT)
    retries = urllib3.Retry(12, connect=1, read=1, redirect=10, backoff_factor=0.2)
    pool: urllib3.PoolManager
    try:
        pool = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
    except (HTTPError, ValueError) as error:
        raise RegistryError(f"cannot download {shown}: bad proxy: {error}") from error
    with pool:
        try:
            response = pool.request(
                "GET",
                url,
                preload_content=False,
                decode_content=False,
                timeout=timeout,
                retries=retries,
                headers={"Accept-Encoding": "identity"},
            )
        except (HTTPError, LocationValueError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise RegistryError(f"cannot download {shown}: {_plain(reason)}") from error
        try:
            if response.status != 200:
                raise RegistryError(
                    f"cannot download {shown}: HTTP status {response.status}",
                    status=response.status,
                )

            def read(count: int) -> bytes:
                try:
                    return response.read(count)
                except (HTTPError, OSError) as error:
                    raise RegistryError(f"cannot download {shown}: {_plain(error)}") from error

            yield read
        finally:
            response.close()


def _plain(error: object) -> str:
    """An exception's text on one line, without the objects that urllib3 shows."""
    import re

    text = re.sub(r"^\w+\(.*?\): ", "", " ".join(str(error).split()))
    system = re.search(r"\[Errno -?\d+\] ([^()]*)", text)  # "Failed to establish a … : [Errno 1] …"
    return system.group(1).lower() if system else text


def peeked(read: Read) -> tuple[bytes, Read]:
    """The first bytes of a stream (fewer only where it has no more), and the stream with them."""
    head = b""
    while len(head) < len(_XZ) and (piece := read(len(_XZ) - len(head))):
        head += piece
    return head, with_head(head, read)


def is_compressed(head: bytes, *, native: bool = False) -> bool:
    """Whether a stream that begins like this is compressed in a way that fastbox reads (``native``:
    that ``_core.tar`` reads)."""
    return head.startswith((_GZIP, _ZSTD) if native else (_GZIP, _ZSTD, _XZ, _BZIP2))


def decompressed(read: Read) -> Read:
    """The stream with xz or bzip2 undone; anything else as it is."""
    head, rest = peeked(read)
    if head == _XZ:
        return _Decompressor(rest, "xz").read
    if head.startswith(_BZIP2):
        return _Decompressor(rest, "bzip2").read
    return rest


def with_head(head: bytes, read: Read) -> Read:
    """A stream of which the first bytes were read already."""

    def rest(count: int) -> bytes:
        nonlocal head
        if not head:
            return read(count)
        piece, head = head[:count], head[count:]
        return piece

    return rest


class _Decompressor:
    """A stream of one or several xz or bzip2 streams, in bounded memory."""

    def __init__(self, source: Read, kind: str) -> None:
        self.source = source
        self.kind = kind
        self.engine = self._new()
        self.fed = b""
        self.ended = False

    def _new(self) -> bz2.BZ2Decompressor | lzma.LZMADecompressor:
        if self.kind == "xz":
            import lzma

            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_DICTIONARY)
        import bz2

        return bz2.BZ2Decompressor()

    def read(self, count: int) -> bytes:
        while not self.ended:
            if self.engine.eof and not self._next_stream():
                break
            if self.engine.needs_input and not self.fed:
                self.fed = self.source(_PIECE)
                if not self.fed:
                    raise ArchiveError(f"the {self.kind} archive is truncated")
            fed, self.fed = self.fed, b""
            try:
                data = self.engine.decompress(fed, count)
            except (OSError, ValueError, MemoryError, EOFError, _lzma_error()) as error:
                raise ArchiveError(f"the {self.kind} archive is malformed: {error}") from error
            if data:
                return data
        self.ended = True
        return b""

    def _next_stream(self) -> bool:
        """Whether another stream follows the one that ended."""
        self.fed = self.engine.unused_data + self.fed
        while True:
            # xz streams may be padded with zeros.
            if self.kind == "xz":
                self.fed = self.fed.lstrip(b"\0")
            if self.fed:
                break
            self.fed = self.source(_PIECE)
            if not self.fed:
                return False
        self.engine = self._new()
        return True


def _lzma_error() -> type[Exception]:
    import lzma

    return lzma.LZMAError
