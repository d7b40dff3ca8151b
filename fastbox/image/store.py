"""The image store: an OCI image layout (``skopeo inspect oci:ROOT/images:NAME`` reads it) beside
unpacked layers that many images and containers share.

What makes an image exist is one entry of ``index.json``, which is replaced whole under the lock
``images/lock``. Everything an entry points to is on disk before; whatever no entry reaches is
garbage. Two further rules keep concurrent processes apart:

- Who makes something that no entry names yet (a pull, an import, a container being created) holds
  a *lease*: a shared lock on ``images/lease``. Garbage is collected only under the exclusive one.
- Nothing young is garbage: a killed pull's blobs and layers are what the next pull continues from,
  and other programs (skopeo) write blobs first and the index last.

The order of the locks is ``lease`` (shared), then ``lock``. The collector has ``lock`` and only
tries for the exclusive ``lease``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from .. import atomic, locks
from ..errors import ImageError, InvalidArgument, StoreError
from ..events import Journal
from ..oci import image as oci
from ..oci import reference as references
from ..oci import times
from .content import BlobStore
from .finding import Broken, Finding, Loaded
from .layers import LayerStore, storing
from .naming import (
    CONFIG,
    IMAGE_ID,
    PARENT,
    PENDING,
    REPO_DIGEST,
    TAGGED,
    full_repo_digest,
    is_pending,
    name_of,
    platform_of,
    without_name,
    without_redundant,
)
from .news import tell
from .types import Image, Removed

__all__ = ["GRACE", "Broken", "ImageStore", "Loaded", "UsedBy"]

GRACE = 24 * 3600.0  # seconds for which what nobody refers to is kept for the next pull
UNSWEPT = "unswept"  # file of ``images``: what to delete when nobody holds a lease
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MAX_INDEX = 16 * 1024 * 1024
_RESERVE = 256 * 1024  # bytes kept for writing a shorter index on a full disk

UsedBy = Callable[[str], "list[tuple[str, str, bool]]"]


class ImageStore(Finding):
    """The images below a data root. Threads and processes may share one.

    Args:
        root: the data root; ``images``, ``layers`` and ``trash`` are made in it when something is
            stored.
        layers_in_use: names of the layer directories that containers are made of. Without it no
            layer is ever removed.

    Attributes:
        driver: the store's graph driver, see ``graphdriver``; known after ``prepare``.
    """

    def __init__(
        self, root: str, *, layers_in_use: Callable[[], Iterable[str]] | None = None
    ) -> None:
        self.root = root
        self.directory = os.path.join(root, "images")
        self.trash = os.path.join(root, "trash")
        self.journal = Journal(root)
        self.blobs = BlobStore(self.directory, self.trash)
        self.layers = LayerStore(os.path.join(root, "layers"), self.trash, layers_in_use)
        self._index_path = os.path.join(self.directory, "index.json")
        self._reserve = os.path.join(self.directory, "reserve")
        self._index: tuple[tuple[int, int, int], list[oci.Descriptor]] | None = None
        self._loaded: dict[str, Loaded] = {}
        self._resolved: dict[str, tuple[list[oci.Descriptor], Image, str]] = {}
        self.driver = "overlay"
        self._driver_checked = False
        self._ready = False
        self._guard = threading.Lock()
        self._lease_fd = -1
        self._leases = 0
        self._owner = os.getpid()

    # ---- preparation, locks ------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the directories, and clean up what killed processes left; done once per object."""
        if self._ready:
            return
        with storing("set up the image store in", self.root):
            os.makedirs(self.root, 0o700, exist_ok=True)
            for path in (self.directory, self.blobs.ingest, self.layers.directory):
                os.makedirs(path, 0o700, exist_ok=True)
            for path in (self.layers.staging, self.layers.meta, self.trash):
                os.makedirs(path, 0o700, exist_ok=True)
            with locks.lock(os.path.join(self.directory, "lock"), create=True):
                # blobs/ last: a store with blobs and no index is a damaged one, not a new one.
                if not os.path.isdir(self.blobs.directory):
                    if not os.path.exists(self._index_path):
                        self._write_index(_encoded([]))
                    atomic.write(os.path.join(self.directory, "oci-layout"), _LAYOUT)
                    os.makedirs(self.blobs.directory, 0o700, exist_ok=True)
                self._keep_reserve()
                self._know_driver()
        self._ready = True
        self.cleanup()

    def _know_driver(self) -> None:
        """Read which graph driver the store has; one without layers gets one."""
        # What nearly every store has, without loading anything.
        with contextlib.suppress(OSError), open(f"{self.root}/driver", "rb", 0) as file:
            if file.read(8) == b"overlay\n":
                return
        from .. import graphdriver

        found = graphdriver.read(self.root)
        if found is None:
            if self.layers.names():  # of a time when there was no other
                found = graphdriver.OVERLAY
                graphdriver.write(self.root, found)
            else:
                found = graphdriver.choose(self.root, self.layers.staging)
        self.driver = found

    def check_driver(self) -> None:
        """See, before a layer is made, that the configuration agrees.

        Raises:
            StoreError: it names another driver than the store was made with.
        """
        if self._driver_checked:
            return
        from .. import graphdriver

        wanted = graphdriver.wanted()
        if wanted is not None and wanted != self.driver:
            with self.locked():
                if self.layers.names():
                    raise graphdriver.conflict(self.root, self.driver, wanted)
                self.driver = graphdriver.choose(self.root, self.layers.staging)
        self._driver_checked = True

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """While this is held, by any process, nothing is collected. Nests; any thread may hold it.

        For what stores blobs or layers before ``add_image``, or relies on an image between
        ``resolve`` and the moment at which a container names its layers.
        """
        self.prepare()
        if self._owner != os.getpid():
            self._leave_leases()
        with self._guard:
            if self._leases == 0:
                path = os.path.join(self.directory, "lease")
                with storing("lock", path):
                    fd = self._open_lease(path)
                    try:
                        fcntl.flock(fd, fcntl.LOCK_SH)
                    except BaseException:
                        os.close(fd)
                        raise
                self._lease_fd = fd
            self._leases += 1
        try:
            yield
        finally:
            with self._guard:
                self._leases -= 1
                is_last = self._leases == 0
                if is_last:
                    locks.release(self._lease_fd)
                    self._lease_fd = -1
            if is_last and os.path.exists(os.path.join(self.directory, UNSWEPT)):
                from .removal import sweep_noted

                sweep_noted(self)

    def _leave_leases(self) -> None:
        """In a forked child: what its parent's other threads held is not its own."""
        self._owner, self._guard = os.getpid(), threading.Lock()
        if self._lease_fd >= 0:
            os.close(self._lease_fd)
        self._lease_fd, self._leases = -1, 0

    def _open_lease(self, path: str) -> int:
        for is_last in (False, True):
            try:
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # the whole store was removed while this process lives
                if is_last:
                    raise
                self._ready = self._driver_checked = False
                self.prepare()
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The lock of ``index.json``."""
        self.prepare()
        path = os.path.join(self.directory, "lock")
        with contextlib.ExitStack() as stack:
            with storing("lock", path):
                stack.enter_context(locks.lock(path))
            yield

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[bool]:
        """The lease for the collector; yields False when somebody holds a shared one."""
        path = os.path.join(self.directory, "lease")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locks.lock(path, create=True, blocking=False))
            except BlockingIOError:
                yield False
                return
            yield True

    def cleanup(self) -> None:
        """Remove what killed processes left, and what was left to delete; see ``leftovers``."""
        from .leftovers import clean

        clean(self)

    # ---- blobs and layers --------------------------------------------------------------------

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """Whether a blob is here (with this size in bytes)."""
        return self.blobs.has(digest, size)

    def blob_path(self, digest: str) -> str:
        """Where a blob is or would be."""
        return self.blobs.path(digest)

    def ingest_path(self, digest: str) -> str:
        """Where the partial download of a blob is kept (the directory exists)."""
        self.prepare()
        return self.blobs.ingest_path(digest)

    def temporary_path(self, purpose: str) -> str:
        """A new name beside the partial downloads; removed by the next command if it is left."""
        self.prepare()
        return os.path.join(self.blobs.ingest, f"{purpose}-{os.urandom(8).hex()}")

    def put_blob(self, data: bytes) -> str:
        """Store a small blob; its digest."""
        with self.lease():
            return self.blobs.put(data)

    def commit_blob(self, part_path: str, digest: str, *, verified: bool = False) -> str:
        """Make a complete download a blob; see ``BlobStore.commit``."""
        with self.lease():
            return self.blobs.commit(part_path, digest, verified=verified)

    def read_json_blob(self, digest: str, what: str = "blob") -> bytes:
        """A manifest, index or config, verified, at most 4 MiB."""
        return self.blobs.read(digest, what)

    def layer_dir(self, diff_id: str) -> str | None:
        """Directory of an unpacked layer, None when there is none."""
        return self.layers.path(diff_id)

    def stage_layer(self) -> str:
        """A new directory for unpacking a layer. The caller holds a lease until ``commit_layer``
        or ``discard_layer``."""
        self.prepare()
        self.check_driver()
        return self.layers.stage()

    def commit_layer(
        self,
        staging: str,
        diff_id: str,
        unpacked_size: int,
        entries: int,
        *,
        opaque: bool = False,
    ) -> str:
        """Make a staged layer visible; its directory.

        Args:
            unpacked_size: bytes. opaque: its root hides the layers below it.
        """
        return self.layers.commit(staging, diff_id, unpacked_size, entries, opaque=opaque)

    def discard_layer(self, staging: str) -> None:
        """Delete a staged layer that came to nothing."""
        self.layers.discard(staging)

    def ensure_layers(self, image: Image) -> list[str]:
        """Names of the layer directories of an image, top first, as overlayfs takes them.

        What is missing is unpacked from the blobs, several layers at once.

        Raises:
            StoreError, ArchiveError: a blob is missing, damaged or malformed.
        """
        from .unpack import ensure_layers

        return ensure_layers(self, image)

    # ---- the index ---------------------------------------------------------------------------

    def entries(self) -> list[oci.Descriptor]:
        """The entries of ``index.json``; not to be changed.

        Raises:
            StoreError: unreadable or damaged.
        """
        path = self._index_path
        try:
            if self._index is not None and self._index[0] == _stamp(os.stat(path)):
                return self._index[1]
            with open(path, "rb", opener=atomic.no_wait) as file:
                stamp = _stamp(os.fstat(file.fileno()))
                data = file.read(_MAX_INDEX + 1)
        except FileNotFoundError as error:
            if os.path.isdir(self.blobs.directory):
                raise StoreError(f"the image store is damaged: {path} is missing") from error
            return []
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        try:
            index = oci.decode_json(data, oci.Index, "index", _MAX_INDEX)
            for entry in index.manifests:
                entry.check("manifest")
        except ImageError as error:
            raise StoreError(
                f"the image store is damaged: {path}: {error}",
                hint="restore that file, or remove the store's directory `images` and pull again",
            ) from error
        self._index = (stamp, index.manifests)
        return index.manifests

    def _write_index(self, data: bytes) -> None:
        with storing("write", self._index_path):
            atomic.write(self._index_path, data)

    def replace_entries(self, entries: list[oci.Descriptor]) -> None:
        """Write the index; the caller has the lock and took care of what is dropped.

        Raises:
            StoreError: it could not be written; the old one stays.
        """
        kept = without_redundant(entries)
        data = _encoded(kept)
        if len(data) > _MAX_INDEX:  # nobody could read it any more
            raise StoreError(
                f"the image store is full: its index would have {len(data)} bytes,"
                f" the limit is {_MAX_INDEX}",
                hint="remove images that you do not need",
            )
        try:
            self._write_index(data)
        except StoreError:
            # Removing images and names is the way out of a full disk, so it must not need space.
            if len(data) >= os.path.getsize(self._index_path) or not self._use_reserve():
                raise
            self._write_index(data)

    def _use_reserve(self) -> bool:
        """Give back the space that is held for a full disk; whether there was any."""
        try:
            os.unlink(self._reserve)
        except OSError:
            return False
        return True

    def _keep_reserve(self) -> None:
        if os.path.exists(self._reserve):
            return
        with contextlib.suppress(OSError):
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, _RESERVE)
            finally:
                os.close(fd)

    # ---- verbs -------------------------------------------------------------------------------

    def add_image(
        self,
        name: str | None,
        manifest: oci.Descriptor,
        repo_digest: str | None = None,
        *,
        parent: str = "",
    ) -> Image:
        """Make an image exist whose blobs are stored; its name moves here from any other.

        Of a layer that a commit has made only the directory is needed. An image that is here keeps
        the id that it has, see ``seal``.

        Args:
            name: ``docker.io/library/redis:latest``; None, or a name with a digest and no tag, for
                an image without a tag.
            manifest: of the platform's manifest.
            repo_digest: digest under which the registry served it (of index or manifest), alone
                or as ``docker.io/library/redis@sha256:…``.

        Raises:
            StoreError: something it needs is not there, or the index cannot be written.
            ImageError: it is no image.
        """
        reference = references.parse(name) if name else None
        served = full_repo_digest(reference, repo_digest)
        if reference is not None and reference.tag is None and reference.digest is not None:
            served = served or f"{reference.repository}@{reference.digest}"
            reference = None
        canonical = f"{reference.repository}:{reference.tag_or_default}" if reference else None
        with self.lease():
            loaded = self.load(manifest)
            self._require_layers(loaded)
            self.layers.settle(loaded.config.rootfs.diff_ids)
            annotations = {}
            if canonical:
                annotations[oci.REF_NAME] = canonical
                if not served:
                    annotations[TAGGED] = times.now()
            if served:
                annotations[REPO_DIGEST] = served
            if parent:
                annotations[PARENT] = parent
            if any(is_pending(layer) for layer in loaded.manifest.layers):
                annotations[PENDING] = "1"
            entry = oci.Descriptor(
                media_type=manifest.media_type or oci.OCI_MANIFEST,
                digest=manifest.digest,
                size=manifest.size,
                annotations=annotations,
                platform=platform_of(manifest, loaded.config),
            )
            with self.locked():
                annotations.update(self._identity(loaded))
                kept = [without_name(e, canonical, manifest.digest) for e in self.entries()]
                self.replace_entries([e for e in kept if e is not None] + [entry])
                # Before somebody else removes it.
                return self._image(annotations[IMAGE_ID], measure=False)

    def _identity(self, loaded: Loaded) -> dict[str, str]:
        """The annotations that tell an image's id: the digest of its config, unless this config is
        what became of another one by sealing."""
        config = loaded.manifest.config.digest
        for entry in self.entries():
            found = entry.annotations or {}
            if found.get(CONFIG) == config and IMAGE_ID in found:
                return {IMAGE_ID: found[IMAGE_ID], CONFIG: config}
        return {IMAGE_ID: config}

    def _require_layers(self, loaded: Loaded) -> None:
        for layer, diff_id in zip(
            loaded.manifest.layers, loaded.config.rootfs.diff_ids, strict=True
        ):
            if not self.blobs.has(layer.digest) and not self.layers.has(diff_id):
                raise StoreError(f"layer {layer.digest} of the image is not in the store")

    def tag(self, source: str, target: str) -> None:
        """Give an image another name; the name is taken from any other image.

        Raises:
            InvalidArgument: target is no name (Docker's text). NotFound: no such source.
        """
        try:
            reference = references.parse(target)
        except InvalidArgument as error:
            raise InvalidArgument(
                f'error parsing reference: "{target}" is not a valid repository/tag: {error}',
                hint=error.hint,
            ) from error
        if reference.digest:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        name = f"{reference.repository}:{reference.tag_or_default}"
        with self.locked():
            entry, _ = self.find(source)
            self.load(entry)
            annotations = {
                key: value for key, value in (entry.annotations or {}).items() if key != REPO_DIGEST
            }
            annotations[oci.REF_NAME] = name
            annotations[TAGGED] = times.now()
            tagged = msgspec.structs.replace(entry, annotations=annotations)
            served = (entry.annotations or {}).get(REPO_DIGEST)
            if name_of(entry) == name and served:
                annotations[REPO_DIGEST] = served
            kept = [without_name(e, name, entry.digest) for e in self.entries()]
            self.replace_entries([e for e in kept if e is not None] + [tagged])
            tell(self, "tag", tagged, reference.familiar)

    def remove(
        self,
        name_or_id: str,
        *,
        force: bool = False,
        prune: bool = True,
        platforms: Sequence[str] = (),
        used_by: UsedBy | None = None,
        layers_in_use: Callable[[], Iterable[str]] | None = None,
    ) -> list[Removed]:
        """``rmi``: see ``removal.remove``. layers_in_use: as in the constructor, replaces that."""
        from .removal import remove

        if layers_in_use is not None:
            self.layers.in_use = layers_in_use
        return remove(
            self, name_or_id, force=force, prune=prune, platforms=platforms, used_by=used_by
        )

    def collect(self) -> int:
        """Delete blobs and layers that nothing has referred to for a day; bytes freed."""
        from .removal import collect

        return collect(self)


def _encoded(entries: list[oci.Descriptor]) -> bytes:
    return oci.encode(oci.Index(schema_version=2, media_type=oci.OCI_INDEX, manifests=entries))


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    """Another one whenever a file was replaced."""
    return found.st_ino, found.st_size, found.st_mtime_ns
