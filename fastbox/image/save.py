"""``save``: images as one archive that is a docker-archive and an OCI image layout at once.

What says what is in it comes first, the layers last, so that who reads the archive from a pipe
knows of each layer what it is for. The blobs are those of the store; while the kernel copies them,
another thread computes their digests, and only when all fit is the archive ended.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

import msgspec

from ..errors import FastboxError, ImageError, InvalidArgument, StoreError
from ..oci import image as oci
from ..oci import platform as platforms
from ..oci import reference as references
from . import sink as sinks
from . import tarball, trash
from .contents import IMAGE_NAME
from .layers import store_error
from .naming import name_of, try_parse
from .seal import sealed

if TYPE_CHECKING:
    from .sink import Sink
    from .store import ImageStore

FORMATS = ("docker-archive", "oci-archive", "oci-dir")

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MAX_DEPTH = 4
_PIECE = 256 << 10  # bytes: stays in the core's cache
_CHECKERS = 2  # threads: a core hashes about 1.5 GB/s


def save(
    store: ImageStore,
    names: Iterable[str],
    output: int | str | IO[bytes],
    *,
    platform: str | None = None,
    format: str | None = None,
) -> None:
    """Write images to an archive.

    Args:
        names: names, ids, or repositories without a tag (all of their tags); a str is one of them.
        output: a descriptor, the path of a file, or a binary file object; for ``oci-dir`` the path
            of a directory, which is made.
        platform: ``os/arch[/variant]``: of an image for several only this one.
        format: None for both kinds of archive in one, or one of ``FORMATS``.

    Raises:
        NotFound, Ambiguous: no such image. InvalidArgument: bad platform, format or path.
        ImageError: an image is not for the platform.
        StoreError: an image is not whole, or writing failed. A file that was being written is gone.
        BrokenPipeError: the reader of the descriptor has gone.
    """
    if format is not None and format not in FORMATS:
        raise InvalidArgument(
            f'unknown format "{format}"', hint=f"there are {', '.join(FORMATS)}; without, both"
        )
    chosen = platforms.parse(platform) if platform else None
    with store.lease():
        found = _Selection(store, chosen)
        for name in [names] if isinstance(names, str) else names:
            found.add(name)
        if format == "oci-dir":
            if not isinstance(output, str):
                raise InvalidArgument("oci-dir is a directory: name it with -o")
            _write_directory(store, found, output)
        else:
            with sinks.opened(output) as sink:
                _write(store, found.files(format), found.layers, sink)
        for image_id in found.ids:
            store.journal.image("save", image_id, image_id)


class _Saved(msgspec.Struct):
    """One image (of one platform) with the names it was asked for."""

    descriptor: oci.Descriptor
    config: str
    layers: list[str]
    tags: list[str] = []


class _Selection:
    """What is to be written.

    Attributes:
        ids: of the images.
        layers: digest -> bytes, each once.
    """

    def __init__(self, store: ImageStore, platform: platforms.Platform | None) -> None:
        self._store = store
        self._platform = platform
        self._images: dict[str, _Saved] = {}
        self._documents: dict[str, bytes] = {}
        self.layers: dict[str, int] = {}
        self.ids: list[str] = []

    # ---- collecting --------------------------------------------------------------------------

    def add(self, text: str) -> None:
        """An image by name or id, or all that have a repository's name."""
        reference, _ = try_parse(text)
        if reference is not None and reference.tag is None and reference.digest is None:
            prefix = f"{reference.repository}:"
            named = [n for e in self._store.entries() if (n := name_of(e))]
            several = sorted({name for name in named if name.startswith(prefix)})
            for full in several:
                self._add(sealed(self._store, full), full)
            if several:
                return
        _, reference = self._store.find(text)
        tagged = reference is not None and reference.digest is None
        name = reference.tagged().canonical if reference is not None and tagged else None
        self._add(sealed(self._store, text), name)

    def _add(self, entry: oci.Descriptor, name: str | None) -> None:
        entry = self._of_platform(entry)
        saved = self._images.get(entry.digest)
        if saved is None:
            saved = self._images[entry.digest] = self._take(entry)
            self.ids.append(self._store.image_id(entry))
        if name is not None and name not in saved.tags:
            saved.tags.append(name)

    def _of_platform(self, entry: oci.Descriptor) -> oci.Descriptor:
        """The entry, or the manifest in it that was asked for."""
        if self._platform is None:
            return entry
        for _ in range(_MAX_DEPTH):
            document = oci.decode(
                self._store.read_json_blob(entry.digest, "manifest"), entry.media_type
            )
            if isinstance(document, oci.Manifest):
                break
            entry = platforms.select(document.manifests, self._platform, strict=True)
        config = self._store.load(entry).config
        mine = platforms.normalise(config.os, config.architecture, config.variant)
        if mine != self._platform:
            raise ImageError(
                f"image with reference {name_of(entry) or entry.digest} was found but does not"
                f" provide the specified platform ({self._platform})",
                hint=f"it is for {mine}",
            )
        return entry

    def _take(self, entry: oci.Descriptor) -> _Saved:
        """Note all blobs of an entry; the image of it that this machine would run."""
        loaded = self._store.load(entry)
        self._document(entry.digest)
        if loaded.digest != entry.digest:
            self._index(entry.digest, entry.media_type, loaded.digest, _MAX_DEPTH)
        self._manifest(loaded.digest, loaded.manifest)
        plain = oci.Descriptor(
            media_type=entry.media_type,
            digest=entry.digest,
            size=len(self._documents[entry.digest]),
            platform=entry.platform if loaded.digest == entry.digest else None,
        )
        layers = [layer.digest for layer in loaded.manifest.layers]
        return _Saved(plain, loaded.manifest.config.digest, layers)

    def _index(self, digest: str, media_type: str, needed: str, depth: int) -> None:
        """The manifests of an index, as far as they are here: a pull brings one platform."""
        try:
            document = oci.decode(self._store.read_json_blob(digest, "manifest"), media_type)
        except ImageError:
            return  # an attestation, of no use without its registry
        if isinstance(document, oci.Index):
            self._document(digest)
            for child in document.manifests if depth else ():
                if self._store.has_blob(child.digest):
                    self._index(child.digest, child.media_type, needed, depth - 1)
        elif digest != needed and self._complete(document):
            self._manifest(digest, document)

    def _complete(self, manifest: oci.Manifest) -> bool:
        blobs = [manifest.config, *manifest.layers]
        return all(self._store.has_blob(blob.digest, blob.size) for blob in blobs)

    def _manifest(self, digest: str, manifest: oci.Manifest) -> None:
        self._document(digest)
        self._document(manifest.config.digest, "image config")
        for layer in manifest.layers:
            if not self._store.has_blob(layer.digest, layer.size):
                raise StoreError(
                    f"layer {layer.digest} of the image is not in the store",
                    hint="pull the image again",
                )
            self.layers[layer.digest] = layer.size

    def _document(self, digest: str, what: str = "manifest") -> bytes:
        data = self._documents[digest] = self._store.read_json_blob(digest, what)
        return data

    # ---- describing --------------------------------------------------------------------------

    def files(self, format: str | None) -> dict[str, bytes]:
        """All but the layers: path in the archive -> content, in the order of writing."""
        files: dict[str, bytes] = {}
        if format != "docker-archive":
            files |= {"oci-layout": LAYOUT, "index.json": oci.encode(self._top())}
        if not format or format == "docker-archive":
            files["manifest.json"] = msgspec.json.encode([_docker(s) for s in self._saved()])
        for digest, data in self._documents.items():
            files[_path(digest)] = data
        return files

    def _saved(self) -> list[_Saved]:
        return list(self._images.values())

    def _top(self) -> oci.Index:
        """``index.json``: a line per name, in Docker's words."""
        short = [references.parse(tag).tag or "" for s in self._saved() for tag in s.tags]
        manifests = []
        for saved in self._saved():
            for tag in saved.tags:
                reference = references.parse(tag).tag or ""
                # Docker's is the bare tag; where that would mean several, the whole name.
                unique = short.count(reference) == 1
                annotations = {IMAGE_NAME: tag, oci.REF_NAME: reference if unique else tag}
                manifests.append(msgspec.structs.replace(saved.descriptor, annotations=annotations))
            if not saved.tags:
                manifests.append(saved.descriptor)
        return oci.Index(schema_version=2, media_type=oci.OCI_INDEX, manifests=manifests)


def _docker(saved: _Saved) -> dict[str, object]:
    """An element of ``manifest.json``."""
    return {
        "Config": _path(saved.config),
        "RepoTags": [references.parse(tag).familiar for tag in saved.tags] or None,
        "Layers": [_path(layer) for layer in saved.layers],
    }


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest[7:]}"


# ---- writing ---------------------------------------------------------------------------------


def _write(store: ImageStore, files: dict[str, bytes], layers: dict[str, int], sink: Sink) -> None:
    """The archive. Its end is written when the layers are known to be what they should be, so what
    is damaged never looks whole."""
    with _Checker(store, layers) as checker:
        head = [tarball.header("blobs/", directory=True)]
        head.append(tarball.header("blobs/sha256/", directory=True))
        for path, data in files.items():
            head += [tarball.header(path, len(data)), data, bytes(tarball.padding(len(data)))]
        sink.write(b"".join(head))
        for digest, size in layers.items():
            sink.write(tarball.header(_path(digest), size))
            _copy(store, digest, size, sink, checker)
            sink.write(bytes(tarball.padding(size)))
            checker.look()
        checker.finish()
        sink.write(bytes(2 * tarball.BLOCK))


def _write_directory(store: ImageStore, found: _Selection, path: str) -> None:
    """An OCI image layout, made aside and renamed."""
    sinks.check_path(path)
    path = os.path.normpath(path)
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise InvalidArgument(f"cannot save to {path}: it exists and is not an empty directory")
    parent, name = os.path.split(path)
    temporary = os.path.join(parent, f".{name[:200]}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        os.makedirs(os.path.join(temporary, "blobs", "sha256"), 0o700)
        with _Checker(store, found.layers) as checker:
            for file, data in found.files("oci-dir").items():
                _put(os.path.join(temporary, file), data)
            for digest, size in found.layers.items():
                with sinks.opened(os.path.join(temporary, _path(digest))) as sink:
                    _copy(store, digest, size, sink, checker)
                checker.look()
            checker.finish()
        os.rename(temporary, path)
    except OSError as error:
        raise store_error("write", path, error) from error
    finally:
        if os.path.isdir(temporary):
            trash.delete(temporary)


def _copy(store: ImageStore, digest: str, size: int, sink: Sink, checker: _Checker) -> None:
    try:
        fd = _open(store, digest)
    except StoreError:
        checker.finish()  # which may have set it aside, and says why
        raise
    try:
        sink.copy(fd, size)
    finally:
        os.close(fd)


def _put(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _open(store: ImageStore, digest: str) -> int:
    path = store.blob_path(digest)
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise store_error("read the layer", path, error) from error


class _Checker:
    """Computes the digests of blobs in threads of its own. A context manager."""

    def __init__(self, store: ImageStore, layers: Iterable[str]) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        for digest in layers:
            self._queue.put(digest)
        self._stop = False
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"fastbox-check-{n}", daemon=True)
            for n in range(min(_CHECKERS, self._queue.qsize()))
        ]

    def __enter__(self) -> _Checker:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()

    def look(self) -> None:
        """Raises StoreError if a damaged blob was found by now."""
        if isinstance(self._error, FastboxError):
            raise self._error
        if self._error is not None:
            raise StoreError(f"cannot check the layers: {self._error}") from self._error

    def finish(self) -> None:
        """Wait for all of them.

        Raises:
            StoreError: one is damaged, and was set aside.
        """
        for thread in self._threads:
            thread.join()
        self.look()

    def _work(self) -> None:
        try:
            while not self._stop and self._error is None:
                try:
                    digest = self._queue.get_nowait()
                except queue.Empty:
                    return
                self._check(digest)
        except BaseException as error:
            self._error = error

    def _check(self, digest: str) -> None:
        hasher = hashlib.sha256()
        buffer = memoryview(bytearray(_PIECE))
        fd = _open(self._store, digest)
        try:
            at = 0
            while count := os.preadv(fd, [buffer], at):
                if self._stop:
                    return
                hasher.update(buffer[:count])
                at += count
        finally:
            os.close(fd)
        if digest != f"sha256:{hasher.hexdigest()}":
            raise self._store.blobs.damaged(digest, "layer")
