"""``push``: an image of the store becomes a tag of its registry.

The documents (index, manifests) are sent byte for byte as they are, so that the image has the same
digest everywhere; first all blobs, several at once, then the manifests, and last the tag. An image
whose layers are only directories yet gets its archives before (``seal``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from .. import configuration
from ..errors import (
    DigestMismatch,
    FastboxError,
    ImageError,
    InvalidArgument,
    NotFound,
    StoreError,
)
from ..oci import image as oci
from ..oci import platform as platforms
from ..oci import reference as references
from ..oci.reference import Reference
from ..registry import upload
from ..registry.guard import Guard
from ..registry.push_client import PushClient, Refused
from ..registry.retry import Policy, persist
from . import progress as words
from .layers import store_error
from .naming import REPO_DIGEST, name_of, repo_digests_of, try_parse
from .progress import ProgressEvent, Reporter
from .seal import sealed
from .store import ImageStore, Loaded
from .types import PushResult
from .workers import Progress, Workers

MAX_DEPTH = 3  # indexes within indexes
_MISSING = ("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN")


def push(
    store: ImageStore,
    reference: str,
    *,
    all_tags: bool = False,
    platform: str | None = None,
    progress: Progress | None = None,
    max_parallel: int | None = None,
    policy: Policy | None = None,
    guard: Guard | None = None,
) -> list[PushResult]:
    """Bring a registry up to date with the store.

    Args:
        reference: ``NAME[:TAG]``, completed as Docker does.
        all_tags: push every tag of the repository; the reference has none.
        platform: of an image for several, push this one's manifest only.
        progress: told every step, in the calling thread. What it raises ends the push.
        max_parallel: blobs that are sent at once; None is what is configured.
        policy: patience with the registry.
        guard: lets another thread cancel the push.

    Returns:
        What was pushed, in the order of the tags.

    Raises:
        InvalidArgument: no name with a tag; a platform that is none; a malformed credential file.
        NotFound: no such image here.
        ImageError: it is not for that platform.
        StoreError: a part of it is not here, or damaged.
        AuthError, RegistryError, DigestMismatch: the registry's doing.
        Cancelled: by the guard.
        KeyboardInterrupt: after all threads have stopped.
    """
    where = _checked(reference, all_tags)
    wanted = platforms.parse(platform) if platform else None
    guard = guard or Guard()
    parallel = max_parallel or configuration.load().max_concurrent_uploads
    client = PushClient(where, guard, policy or Policy(), connections=parallel)
    job = _Push(store, client, progress, parallel)
    try:
        with store.lease():
            names = _names(store, where, all_tags)
            return [job.run(name, wanted) for name in names]
    except BaseException:
        guard.cancel()
        client.abandon()
        raise
    finally:
        client.close()
        guard.close()


def _checked(reference: str, all_tags: bool) -> Reference:
    where = references.parse(reference)
    if where.digest is not None:
        raise InvalidArgument(
            "cannot push a digest reference", hint="push a tag: fastbox push NAME[:TAG]"
        )
    if all_tags and where.tag is not None:
        raise InvalidArgument("tag can't be used with --all-tags/-a")
    return where if all_tags else where.tagged()


def _names(store: ImageStore, where: Reference, all_tags: bool) -> list[Reference]:
    """The tags to push.

    Raises:
        NotFound: there are none.
    """
    found = {name for entry in store.entries() if (name := name_of(entry))}
    mine = [r for r in map(references.parse, found) if r.repository == where.repository]
    if not mine:
        raise NotFound(
            f"An image does not exist locally with the tag: {where.familiar_repository}",
            hint="give an image that name first: fastbox tag",
        )
    if all_tags:
        return sorted(mine, key=lambda r: r.tag_or_default)
    if where not in mine:
        raise NotFound(
            f"tag does not exist: {where.familiar}",
            hint="fastbox images lists the tags that exist",
        )
    return [where]


class _Document(msgspec.Struct):
    """A manifest or index to send."""

    digest: str
    data: bytes
    media_type: str


class _Plan(msgspec.Struct):
    """What makes up an image: documents in the order in which they are sent, the named one last;
    and the blobs that those need.

    Attributes:
        layers: the blobs to show, bottom first.
        foreign: those that are to be had elsewhere.
        missing: what is not in the store, in words.
    """

    documents: list[_Document] = []
    blobs: dict[str, oci.Descriptor] = {}
    layers: list[oci.Descriptor] = []
    foreign: list[oci.Descriptor] = []
    missing: list[str] = []


class _Push:
    """The push of one repository's tags; what is there after one tag is not asked for again."""

    def __init__(
        self, store: ImageStore, client: PushClient, progress: Progress | None, parallel: int
    ) -> None:
        self.store = store
        self.client = client
        self.there: set[str] = set()
        self.sources = _sources(store, client.reference)
        self._progress = progress
        self._parallel = parallel

    def run(self, name: Reference, platform: platforms.Platform | None) -> PushResult:
        store, client = self.store, self.client
        client.retag(name)
        entry = sealed(store, name.canonical)
        top = entry if platform is None else _of_platform(store, entry, platform, name)
        plan = _Plan()
        _collect(store, top, plan, MAX_DEPTH)
        _require(plan, name, top)
        if not self.there:
            client.ping()
        self._send_blobs(plan)
        last = plan.documents[-1]
        for document in plan.documents:
            target = name.tag_or_default if document is last else document.digest
            self._send_manifest(plan, document, target)
        loaded = _runnable(store, entry)
        if last.digest in (entry.digest, loaded.digest if loaded else ""):
            _record(store, name, entry, last.digest)
        config = msgspec.to_builtins(loaded.config) if loaded else None
        store.journal.image("push", name.familiar, name.familiar_repository, config)
        size = len(last.data)
        self._show("", f"{name.tag_or_default}: digest: {last.digest} size: {size}")
        return PushResult(name=name.canonical, digest=last.digest, size=size)

    # ---- blobs -------------------------------------------------------------------------------

    def _send_blobs(self, plan: _Plan) -> None:
        """Send what the registry lacks, the largest first: it is what takes longest."""
        for layer in reversed(plan.layers):
            self._show(layer.short_id, words.PREPARING)
        for layer in plan.foreign:
            self._show(layer.short_id, words.SKIPPED)
        blobs = sorted(plan.blobs.values(), key=lambda blob: -blob.size)
        shown = {layer.digest for layer in plan.layers}
        for blob in blobs[self._parallel :]:
            if blob.digest in shown and blob.digest not in self.there:
                self._show(blob.short_id, words.WAITING)
        workers = self._workers()
        jobs = [_Sending(self, blob, blob.digest in shown, workers).run for blob in blobs]
        workers.run(jobs, self._parallel)

    def _workers(self) -> Workers:
        what = f"push {self.client.reference.familiar}"
        return Workers(self.client.guard, self._progress, what)

    def _show(self, blob_id: str, status: str) -> None:
        if self._progress is not None:
            self._progress(ProgressEvent(blob_id, status))

    # ---- manifests ---------------------------------------------------------------------------

    def _send_manifest(self, plan: _Plan, document: _Document, target: str) -> None:
        try:
            self._put(document, target)
        except Refused as error:
            if error.code not in _MISSING:
                raise
            # It said that it had them. Now it gets them, whatever it says.
            missing = [plan.blobs[d] for d in error.digests if d in plan.blobs]
            workers = self._workers()
            jobs = [
                _Sending(self, blob, blob in plan.layers, workers, again=True).run
                for blob in missing or plan.blobs.values()
            ]
            workers.run(jobs, self._parallel)
            try:
                self._put(document, target)
            except Refused as failure:
                if failure.code not in _MISSING:
                    raise
                raise Refused(
                    f"the registry loses what it is sent: {failure}",
                    failure.failure,
                    "its storage is damaged, or another program deletes there",
                ) from failure

    def _put(self, document: _Document, target: str) -> None:
        client = self.client

        def put() -> None:
            client.put_manifest(target, document.data, document.media_type)

        notify = self._retrying if self._progress is not None else None
        persist(put, client.guard, client.policy, notify)

    def _retrying(self, seconds: int) -> None:
        plural = "" if seconds == 1 else "s"
        self._show("", f"Retrying in {seconds} second{plural}")


class _Sending:
    """One blob's way. ``run`` is called once, in a thread of its own."""

    def __init__(
        self,
        job: _Push,
        blob: oci.Descriptor,
        shown: bool,
        workers: Workers,
        *,
        again: bool = False,
    ) -> None:
        self._job = job
        self._blob = blob
        self._again = again
        emit = workers.emit if shown else _silent
        self._report = Reporter(blob.short_id, blob.size, emit)

    def run(self) -> None:
        job, blob, report = self._job, self._blob, self._report
        if blob.digest in job.there and not self._again:
            report.status(words.PUSHED_BEFORE)
            return
        path = job.store.blob_path(blob.digest)
        fd = _open(path, blob)
        try:
            transfer = upload.Upload(
                job.client,
                blob,
                fd,
                self,
                sources=job.sources.get(blob.digest, ()),
                again=self._again,
            )
            done = transfer.run()
        except DigestMismatch:
            job.store.blobs.verify(blob.digest, f"layer {blob.short_id}")
            raise
        finally:
            os.close(fd)
        job.there.add(blob.digest)
        report.status(
            {
                upload.EXISTS: words.PUSHED_BEFORE,
                upload.MOUNTED: words.MOUNTED_FROM + transfer.source,
                upload.UPLOADED: words.PUSHED,
            }[done]
        )

    def grown(self, size: int) -> None:
        """Listener of the upload."""
        self._report.bytes(words.PUSHING, size)

    def retrying(self, seconds: int) -> None:
        """Listener of the upload."""
        self._report.status(f"Retrying in {seconds} second{'' if seconds == 1 else 's'}")


def _silent(event: ProgressEvent) -> None:
    """Configs are not shown, as they are not in Docker."""


def _open(path: str, blob: oci.Descriptor) -> int:
    """A blob of the store, of the right size.

    Raises:
        StoreError
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise store_error("read", path, error) from error
    size = os.fstat(fd).st_size
    if size != blob.size:
        os.close(fd)
        raise StoreError(
            f"blob {blob.digest} is damaged: it has {size} bytes instead of {blob.size}",
            hint="pull the image again",
        )
    return fd


# ---- what there is to send -----------------------------------------------------------------------


def _of_platform(
    store: ImageStore, entry: oci.Descriptor, platform: platforms.Platform, name: Reference
) -> oci.Descriptor:
    """The manifest of one platform.

    Raises:
        ImageError: the image is not for it.
    """
    top = entry
    for _ in range(MAX_DEPTH + 1):
        data = store.read_json_blob(top.digest, "manifest")
        if top.media_type not in oci.INDEX_TYPES:
            break
        index = oci.decode_index(data, top.media_type)
        top = platforms.select(index.manifests, platform, strict=True)
    if top is entry:
        config = store.load(entry).config
        mine = platforms.normalise(config.os, config.architecture, config.variant)
        if mine != platform:
            raise platforms.mismatch(ImageError, name.familiar, platform, mine)
    return top


def _collect(store: ImageStore, top: oci.Descriptor, plan: _Plan, depth: int) -> None:
    """Add a document and everything below it, children first.

    What is in an index need not be images (build attestations are not), so documents are read for
    nothing but their digests.
    """
    if any(document.digest == top.digest for document in plan.documents):
        return
    data = top.embedded()
    if data is None:
        if not store.has_blob(top.digest):
            plan.missing.append(f"manifest {top.digest}{_for(top)}")
            return
        data = store.read_json_blob(top.digest, "manifest")
    document = oci.decode_json(data, _Contents, "manifest")
    media_type = top.media_type or document.media_type or oci.OCI_MANIFEST
    if document.manifests:
        if depth == 0:
            raise ImageError(f"indexes are nested too deep in {top.digest}")
        for child in document.manifests:
            child.check("manifest")
            _collect(store, child, plan, depth - 1)
    config = [document.config] if document.config else []
    for blob in [*config, *document.layers]:
        blob.check("blob")
        if not _is_foreign(blob) and not _have(store, blob):
            plan.missing.append(f"layer {blob.digest}{_for(top)}")
        if _is_foreign(blob):
            plan.foreign.append(blob)
        elif blob.digest not in plan.blobs:
            plan.blobs[blob.digest] = blob
            if blob not in config:
                plan.layers.append(blob)
    plan.documents.append(_Document(top.digest, data, media_type))


class _Contents(msgspec.Struct, rename="camel"):
    """Manifest or index, of whatever it is."""

    media_type: str = ""
    config: oci.Descriptor | None = None
    layers: list[oci.Descriptor] = []
    manifests: list[oci.Descriptor] = []


def _is_foreign(blob: oci.Descriptor) -> bool:
    """Whether the blob may not be distributed, and is to be had elsewhere."""
    return bool(blob.urls) and ("foreign" in blob.media_type or "nondistr" in blob.media_type)


def _have(store: ImageStore, blob: oci.Descriptor) -> bool:
    if store.has_blob(blob.digest):
        return True
    data = blob.embedded()
    if data is not None:
        store.put_blob(data)
    return data is not None


def _for(manifest: oci.Descriptor) -> str:
    """`` of linux/arm64``, where a descriptor says so."""
    return f" of {manifest.platform.normalised()}" if manifest.platform else ""


def _require(plan: _Plan, name: Reference, top: oci.Descriptor) -> None:
    """See that everything is here, before anything is sent.

    Raises:
        StoreError: it is not.
    """
    if not plan.missing:
        return
    hint = "pull the image again"
    if top.media_type in oci.INDEX_TYPES:
        hint = "push a platform that is here (--platform), or pull the other ones first"
    raise StoreError(
        f"cannot push {name.familiar}: {plan.missing[0]} is not in the store", hint=hint
    )


def _sources(store: ImageStore, where: Reference) -> dict[str, list[str]]:
    """Blobs that other repositories of the same registry are known to have: digest -> paths.

    A repository is known to have what was pulled from it or pushed to it.
    """
    found: dict[str, list[str]] = {}
    for repository, entry in _known(store):
        if repository.domain != where.domain or repository.path == where.path:
            continue
        plan = _Plan()
        try:
            _collect(store, entry, plan, MAX_DEPTH)
        except FastboxError:
            continue  # a damaged image is no source
        for digest in plan.blobs:
            paths = found.setdefault(digest, [])
            if repository.path not in paths:
                paths.append(repository.path)
    return found


def _known(store: ImageStore) -> Iterator[tuple[Reference, oci.Descriptor]]:
    for entry in reversed(store.entries()):
        for text in repo_digests_of(entry):
            reference, _ = try_parse(text)
            if reference is not None:
                yield reference, entry


def _runnable(store: ImageStore, entry: oci.Descriptor) -> Loaded | None:
    """What this machine would run of an image, None if it is for others only."""
    try:
        return store.load(entry)
    except (StoreError, ImageError):
        return None


def _record(store: ImageStore, name: Reference, entry: oci.Descriptor, digest: str) -> None:
    """Note under which digest the registry has the image now: a pull then finds it up to date.

    Not if the name went to another image meanwhile.
    """
    served = f"{name.repository}@{digest}"
    with store.locked():
        entries = [
            _with_digest(e, served)
            if name_of(e) == name.canonical and e.digest == entry.digest
            else e
            for e in store.entries()
        ]
        store.replace_entries(entries)


def _with_digest(entry: oci.Descriptor, served: str) -> oci.Descriptor:
    annotations = {**(entry.annotations or {}), REPO_DIGEST: served}
    return msgspec.structs.replace(entry, annotations=annotations)
