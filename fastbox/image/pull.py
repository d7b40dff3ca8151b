"""``pull``: a reference becomes an image of the store.

The main thread asks the registry what the reference means (index, manifest, config) and then
waits, handing progress to the caller, while one thread per layer downloads and unpacks. Nothing
makes the image exist before all of it is there and verified.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from .. import configuration
from ..errors import (
    Ambiguous,
    DigestMismatch,
    ImageError,
    InvalidArgument,
    NotFound,
    StoreError,
    Unsupported,
)
from ..oci import digest as digests
from ..oci import image as oci
from ..oci import platform as platforms
from ..oci import reference as references
from ..oci.reference import Reference
from ..registry.client import Document, Notify
from ..registry.guard import Guard
from ..registry.mirrors import Source, connect
from ..registry.retry import Policy
from . import writeback
from .fetch import MAX_LAYER_BYTES, LayerFetch, Slots, Wanted
from .naming import repo_digests_of
from .progress import ProgressEvent
from .types import Image, PullResult
from .workers import Emit, Progress, Workers

if TYPE_CHECKING:
    from .store import ImageStore

MAX_DEPTH = 3  # indexes within indexes

__all__ = ["ProgressEvent", "pull", "pull_all"]


def pull(
    store: ImageStore,
    reference: str,
    *,
    platform: str | None = None,
    all_platforms: bool = False,
    progress: Progress | None = None,
    max_parallel: int | None = None,
    max_layer_bytes: int = MAX_LAYER_BYTES,
    policy: Policy | None = None,
    guard: Guard | None = None,
) -> PullResult:
    """Bring an image up to date with its registry.

    Args:
        reference: ``NAME[:TAG|@DIGEST]``, completed as Docker does.
        platform: ``os/arch[/variant]``; None is this machine's, or what it can run as well.
        all_platforms: store the images of all platforms; this machine's is unpacked.
        progress: told every step, in the calling thread. What it raises ends the pull.
        max_parallel: layers that are downloaded at once, and as many that are unpacked; None is
            what is configured.
        max_layer_bytes: limit of each layer's uncompressed archive.
        policy: patience with the registry.
        guard: lets another thread cancel the pull.

    Raises:
        InvalidArgument: reference or platform; a malformed credential file.
        NotFound, AuthError, RegistryError, DigestMismatch, ImageError: the registry's doing.
        ArchiveError, StoreError: a layer cannot be unpacked or stored.
        Unsupported: an image of another operating system.
        Cancelled: by the guard.
        KeyboardInterrupt: after all threads have stopped; only resumable partial downloads stay.
    """
    where = references.parse(reference).tagged()
    wanted = _Choice.of(platform, all_platforms)
    guard = guard or Guard()
    parallel = max_parallel or configuration.load().max_concurrent_downloads
    with _connected(where, guard, policy, parallel) as client:
        job = _Pull(store, where, wanted, client, progress)
        return job.run(parallel, max_layer_bytes)


def pull_all(
    store: ImageStore,
    repository: str,
    *,
    platform: str | None = None,
    all_platforms: bool = False,
    progress: Progress | None = None,
    max_parallel: int | None = None,
    max_layer_bytes: int = MAX_LAYER_BYTES,
    policy: Policy | None = None,
) -> list[PullResult]:
    """Pull every tag of a repository, in the registry's order; the first failure ends it.

    Args:
        progress: also told ``TAG: Pulling from …`` before and ``Digest: …`` after each tag.
        The other ones: as ``pull``.

    Raises:
        InvalidArgument: the name has a tag or a digest. The others: as ``pull``.
    """
    where = references.parse(repository)
    if where.tag or where.digest:
        raise InvalidArgument("tag can't be used with --all-tags/-a")
    wanted = _Choice.of(platform, all_platforms)
    tell = progress or (lambda event: None)
    guard = Guard()
    parallel = max_parallel or configuration.load().max_concurrent_downloads
    results = []
    with _connected(where, guard, policy, parallel) as client:
        for tag in client.tags():
            one = msgspec.structs.replace(where, tag=tag)
            client.retag(one)
            tell(ProgressEvent(tag, f"Pulling from {where.path}"))
            result = _Pull(store, one, wanted, client, progress).run(parallel, max_layer_bytes)
            tell(ProgressEvent("", f"Digest: {result.digest}"))
            results.append(result)
    return results


@contextlib.contextmanager
def _connected(
    where: Reference, guard: Guard, policy: Policy | None, connections: int
) -> Iterator[Source]:
    """The client to pull with; both are closed at the end, it and the guard."""
    try:
        client = connect(where, guard, policy, connections=connections)
        try:
            yield client
        finally:
            client.close()
    finally:
        guard.close()


class _Choice(msgspec.Struct, frozen=True):
    """Which of an index's images is meant.

    Attributes:
        strict: the very platform, not what this machine can run as well.
        all: the others are stored too.
    """

    platform: platforms.Platform
    strict: bool
    all: bool

    @classmethod
    def of(cls, platform: str | None, all_platforms: bool) -> _Choice:
        """Of the arguments of ``pull``."""
        if platform and all_platforms:
            raise InvalidArgument(
                "conflicting options: cannot specify both --platform and --all-platforms"
            )
        chosen = platforms.parse(platform) if platform else platforms.host()
        return cls(chosen, platform is not None, all_platforms)


class _Found(msgspec.Struct):
    """What a reference turned out to mean. ``served`` is the outermost document."""

    served: Document
    manifest: oci.Manifest
    data: bytes
    media_type: str
    config: oci.ImageConfig
    config_data: bytes


class _Pull:
    def __init__(
        self,
        store: ImageStore,
        reference: Reference,
        choice: _Choice,
        client: Source,
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._reference = reference
        self._platform = choice.platform
        self._strict = choice.strict
        self._all = choice.all
        self._client = client
        self._guard = client.guard
        self._progress = progress
        self._notify: Notify | None = self._retrying if progress is not None else None

    def run(self, parallel: int, max_layer_bytes: int) -> PullResult:
        """Do it, and note it in the journal."""
        where = self._reference
        with self._store.lease():
            result = self._run(self._client, parallel, max_layer_bytes)
        journal = self._store.journal
        journal.image("pull", where.familiar, where.familiar_repository, result.image.config)
        return result

    def _run(self, client: Source, parallel: int, max_layer_bytes: int) -> PullResult:
        before = self._local()
        if before is not None and not self._all and self._is_current(client, before[1]):
            return self._result(before[0], before[1], "up-to-date")
        found = self._resolve(client)
        layers = self._wanted(found)
        if self._all:
            layers += self._others(client, found.served, {w.blob.digest for w in layers})
        missing = self._check_space(layers)
        what = f"pull {self._reference.familiar}"
        workers = Workers(self._guard, self._progress, what)
        fetches = self._fetches(client, layers, parallel, max_layer_bytes, workers.emit)
        with writeback.early(self._store.layers.directory):
            workers.run(fetches, 2 * parallel)
        image = self._commit(found)
        same = before is not None and before[0].id == image.id and not (self._all and missing)
        return self._result(image, found.served.digest, "up-to-date" if same else "downloaded")

    def _result(self, image: Image, digest: str, status: str) -> PullResult:
        name = self._reference.canonical
        return PullResult(image=image, name=name, digest=digest, status=status)

    def _retrying(self, seconds: int) -> None:
        assert self._progress is not None
        plural = "" if seconds == 1 else "s"
        self._progress(ProgressEvent("", f"Retrying in {seconds} second{plural}"))

    # ---- what is here ------------------------------------------------------------------------

    def _local(self) -> tuple[Image, str] | None:
        """The image that has the name now, complete and for the platform, and its repo digest."""
        store, reference = self._store, self._reference
        try:
            entry, _ = store.find(reference.canonical)
            image = store.resolve(reference.canonical)
            whole = all(store.layer_dir(diff_id) for diff_id in image.layers)
        except (NotFound, Ambiguous, StoreError, ImageError):
            return None
        mine = platforms.normalise(image.os, image.architecture, image.variant)
        fits = [self._platform] if self._strict else platforms.runs(self._platform)
        prefix = reference.repository + "@"
        served = [d.removeprefix(prefix) for d in repo_digests_of(entry) if d.startswith(prefix)]
        if not (whole and served and mine in fits and all(map(store.has_blob, image.layer_blobs))):
            return None
        return image, served[0]

    def _is_current(self, client: Source, served: str) -> bool:
        """Whether the registry has nothing newer. A digest never changes its meaning."""
        if self._reference.digest is not None:
            return served == self._reference.digest
        return client.digest_of(self._reference.tag_or_default) == served

    # ---- what it means -----------------------------------------------------------------------

    def _resolve(self, client: Source) -> _Found:
        """Follow the reference through indexes to the manifest and config of the platform."""
        reference = self._reference
        served = client.manifest(reference.digest or reference.tag_or_default, notify=self._notify)
        data, media_type = served.data, served.media_type
        for _ in range(MAX_DEPTH + 1):
            document = oci.decode(data, media_type)
            if isinstance(document, oci.Manifest):
                break
            entry = platforms.select(document.manifests, self._platform, strict=self._strict)
            data, media_type = self._child(client, entry)
        else:
            raise ImageError(f"indexes are nested too deep in {reference.familiar}")
        config_data = self._config(client, document.config)
        config = oci.decode_config(config_data, document)
        self._check_platform(config)
        if not document.media_type and media_type not in oci.MANIFEST_TYPES:
            media_type = oci.OCI_MANIFEST
        return _Found(
            served, document, data, document.media_type or media_type, config, config_data
        )

    def _child(self, client: Source, entry: oci.Descriptor) -> tuple[bytes, str]:
        data = entry.embedded()
        if data is None and self._store.has_blob(entry.digest, entry.size):
            try:
                data = self._store.read_json_blob(entry.digest, "manifest")
            except StoreError:
                data = None  # damaged, so it was set aside
        if data is not None:
            return data, entry.media_type
        if entry.size > oci.MAX_DOCUMENT:
            raise ImageError(f"manifest {entry.digest} is too large: {entry.size} bytes")
        document = client.manifest(entry.digest, size=entry.size, notify=self._notify)
        known = oci.MANIFEST_TYPES | oci.INDEX_TYPES
        served = document.media_type
        if {served, entry.media_type} <= known and served != entry.media_type:
            raise ImageError(
                f"manifest {entry.digest} is served as {served!r} but announced as"
                f" {entry.media_type!r}"
            )
        return document.data, entry.media_type or document.media_type

    def _config(self, client: Source, entry: oci.Descriptor) -> bytes:
        data = entry.embedded()
        if data is None and self._store.has_blob(entry.digest, entry.size):
            try:
                data = self._store.read_json_blob(entry.digest, "image config")
            except StoreError:
                data = None
        if data is None:
            data = client.small_blob(entry, "image config", self._notify)
        return data

    def _check_platform(self, config: oci.ImageConfig) -> None:
        """An image without index is taken for any machine, unless the user insists (Docker)."""
        mine = platforms.normalise(config.os, config.architecture, config.variant)
        if config.os and mine.os != "linux":
            raise Unsupported(
                f'image operating system "{mine.os[:50]}" cannot be used on this platform:'
                " operating system is not supported"
            )
        if self._strict and config.architecture and mine != self._platform:
            raise platforms.mismatch(ImageError, self._reference.familiar, self._platform, mine)

    def _wanted(self, found: _Found) -> list[Wanted]:
        """The layers, each blob once, in the manifest's order."""
        wanted: dict[str, Wanted] = {}
        pairs = zip(found.manifest.layers, found.config.rootfs.diff_ids, strict=True)
        for blob, diff_id in pairs:
            known = wanted.setdefault(blob.digest, Wanted(blob, diff_id))
            if (known.diff_id, known.blob.size) != (diff_id, blob.size):
                raise DigestMismatch(
                    f"the image says two different things about its layer {blob.short_id}"
                )
        return list(wanted.values())

    def _others(self, client: Source, index: Document, known: set[str]) -> list[Wanted]:
        """What else an index leads to: the manifests are stored now, the blobs are for later."""
        wanted: list[Wanted] = []
        pending = [(index.data, index.media_type, 0)]
        size = 0
        for data, media_type, depth in pending:
            if not _is_index(data, media_type):
                for blob in oci.blobs_of(data):
                    if blob.digest not in known:
                        known.add(blob.digest)
                        wanted.append(Wanted(blob, None))
                continue
            if depth > MAX_DEPTH or len(pending) > oci.MAX_MANIFESTS:
                raise ImageError(f"indexes are nested too deep in {self._reference.familiar}")
            for entry in oci.decode_index(data, media_type).manifests:
                self._guard.check()
                child, child_type = self._child(client, entry)
                size += len(child)
                if size > oci.MAX_DOCUMENTS:
                    raise ImageError(f"the manifests of {self._reference.familiar} are too large")
                self._store.put_blob(child)
                pending.append((child, child_type, depth + 1))
        return wanted

    # ---- the layers --------------------------------------------------------------------------

    def _check_space(self, layers: list[Wanted]) -> int:
        """Better now than after gigabytes. Bytes that are missing."""
        missing = 0
        for layer in layers:
            if not self._store.has_blob(layer.blob.digest, layer.blob.size):
                missing += layer.blob.size
        status = os.statvfs(self._store.root)
        free = status.f_bavail * status.f_frsize
        if missing > free:
            raise StoreError(
                f"cannot pull {self._reference.familiar}: no space left on device:"
                f" it needs {missing} bytes, {free} are free in {self._store.root}",
                hint="free some space, for example by removing images (fastbox rmi)",
            )
        return missing

    def _fetches(
        self, client: Source, layers: list[Wanted], parallel: int, max_layer_bytes: int, emit: Emit
    ) -> list[Callable[[], None]]:
        slots = Slots(parallel, self._guard)
        fetches: list[Callable[[], None]] = []
        for layer in layers:
            data = layer.blob.embedded()
            if data is not None and not self._store.has_blob(layer.blob.digest, layer.blob.size):
                self._store.put_blob(data)
            fetch = LayerFetch(self._store, client, layer, slots, emit, max_layer_bytes)
            fetches.append(fetch.run)
        return fetches

    def _commit(self, found: _Found) -> Image:
        store, reference = self._store, self._reference
        self._guard.check()
        store.put_blob(found.config_data)
        data, media_type = found.data, found.media_type
        store.put_blob(data)
        if self._all and _is_index(found.served.data, ""):
            data, media_type = found.served.data, _index_type(found.served)
        descriptor = oci.Descriptor(
            media_type=media_type, digest=store.put_blob(data), size=len(data)
        )
        name = reference.canonical
        if reference.digest is not None:
            # A pull by digest gives no tag, whatever was written before the @.
            name = f"{reference.repository}@{reference.digest}"
        assert digests.is_digest(found.served.digest)
        return store.add_image(name, descriptor, found.served.digest)


def _is_index(data: bytes, media_type: str) -> bool:
    """Whether a document is an index; what is no image document at all is none."""
    try:
        return isinstance(oci.decode(data, media_type), oci.Index)
    except ImageError:
        return False


def _index_type(document: Document) -> str:
    """The media type of an index, where the registry's answer may say nothing useful."""
    inner = oci.decode_index(document.data, "").media_type
    return inner or (
        document.media_type if document.media_type in oci.INDEX_TYPES else oci.OCI_INDEX
    )
