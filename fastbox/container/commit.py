"""``commit``: an image of what a container has changed.

Of a stopped container, the upper directory becomes the layer and the container gets an empty one
in its place: it takes the same time however much was changed. The container goes on having its
changes, in ``ContainerRecord.committed``. What is killed in between leaves it whole:

1. The layer's metadata are written, and an empty directory under its name, owned as the upper one.
   It is locked until the third step, so that nobody takes it for the layer.
2. The record names the layer, on top of the others. It is empty: nothing has changed.
3. Layer and upper directory swap their places, in one step. Nothing has changed again.
4. The image is made to exist, by one entry of the index.

Of a container that runs the upper directory is copied, file by file (sharing the blocks where the
file system can), while the container is paused.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import Conflict, InvalidArgument, NotFound
from ..image import pending
from ..image.building import add_built
from ..image.naming import new_name
from ..locks import lock
from ..oci import image as oci
from ..oci import reference as references
from ..oci import text, times
from ..volume.tree import Copy, copy_metadata
from . import graph, launch, layered
from .merge import environment
from .record import Container, ContainerRecord, Status
from .store import storing

if TYPE_CHECKING:
    from ..image.finding import Loaded
    from ..image.layers import LayerInfo
    from ..image.store import ImageStore
    from ..image.types import Image
    from .lifecycle import Lifecycle

_ATTEMPTS = 5  # to copy what a container that is not paused is changing
_MOVED = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ELOOP)
_CANNOT_SWAP = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV)


def commit(
    lifecycle: Lifecycle,
    images: ImageStore,
    container_id: str,
    reference: str | None = None,
    *,
    message: str = "",
    author: str = "",
    changes: Iterable[str] = (),
    pause: bool = True,
) -> Image:
    """See ``Engine.commit``.

    No garbage is collected meanwhile (the lease), so the layer stays until the image names it. The
    container's lock is held only while the layer is made: who has the index's may wait for it.
    """
    text.check("the commit message", message)
    text.check("the author", author)
    name = new_name(reference, "refusing to create a tag with a digest reference")
    store = lifecycle.store
    with images.lease():
        images.check_driver()  # before the container's lock: it may take the index's
        record = store.load_record(container_id)
        parent = _parent(images, record)
        if len(parent.manifest.layers) >= oci.MAX_LAYERS:
            raise InvalidArgument(
                f"max depth exceeded: the image of container {record.name} has"
                f" {len(parent.manifest.layers)} layers",
                hint="`fastbox export` and `fastbox import` make an image of one layer",
            )
        config = _config(record, parent.config.config)
        if changes:
            from ..image.changes import apply

            config = apply(config, changes)
        made = oci.History(
            created=times.now(),
            created_by=" ".join(record.command or []),
            author=author,
            comment=message,
        )
        room = oci.MAX_LAYERS - len(parent.manifest.layers)
        with storing(f"committing container {record.name}"), store.locked(container_id):
            layers = _take(lifecycle, images, container_id, made, room, pause)
        image = _add(images, name, parent, config, made, layers, record.image_id)
    lifecycle.note("commit", record, comment=message, imageID=image.id, imageRef=reference or "")
    if name is not None:
        images.journal.image("tag", image.id, references.parse(name).familiar, image.config)
    return image


def _parent(images: ImageStore, record: ContainerRecord) -> Loaded:
    """Manifest and config of the container's image."""
    try:
        entry, _ = images.find(record.image_id)
    except (NotFound, InvalidArgument) as error:
        raise NotFound(
            f"the image of container {record.name} is gone: No such image: {record.image_id}",
            hint="`fastbox export` and `fastbox import` make an image of the whole container",
        ) from error
    loaded = images.load(entry)
    if entry.media_type in oci.INDEX_TYPES and record.manifest_digest not in ("", loaded.digest):
        # Of several platforms, that of the container.
        return images.load(oci.Descriptor(digest=record.manifest_digest, size=0))
    return loaded


# ---- the config ------------------------------------------------------------------------------


def _config(record: ContainerRecord, image: oci.Defaults | None) -> oci.Defaults:
    """How the container was run: what its image said, and its own configuration over that."""
    image = image or oci.Defaults()
    own = record.config
    # ``-v /PATH`` Docker keeps like an image's volume.
    given = [m for m in own.mounts if m.type == "volume" and not m.source and not m.labels]
    volumes = [*record.image_volumes, *(mount.target for mount in given)]
    return oci.Defaults(
        user=record.user,
        exposed_ports={port: {} for port in record.exposed_ports} or None,
        env=environment((), image.env or [], own.env) or None,
        entrypoint=record.entrypoint or None,
        cmd=record.command or None,
        volumes={path: {} for path in volumes} or None,
        working_dir=own.workdir or image.working_dir,
        labels=record.labels or None,
        stop_signal=own.stop_signal or image.stop_signal,
        stop_timeout=image.stop_timeout if own.stop_timeout is None else own.stop_timeout,
        healthcheck=record.healthcheck,
        shell=image.shell,
    )


# ---- the layer -------------------------------------------------------------------------------


def _take(
    lifecycle: Lifecycle,
    images: ImageStore,
    container_id: str,
    made: oci.History,
    room: int,
    pause: bool,
) -> list[str]:
    """Make a layer of what the container has changed since its last commit; the caller has its
    lock.

    Args:
        room: how many layers the image may have above its parent's.

    Returns:
        Names of the container's own layers, the new one last; or one for all, if there is no room.
    """
    container = lifecycle.store.load(container_id)
    record = container.record
    _check(container)
    layers_dir = lifecycle.layers_dir
    driver = graph.of(record)
    if not driver.layers_are_upper:

        def difference(_: Sequence[str], staged: str, links: str) -> None:
            driver.copy_layer(lifecycle.store, record, layers_dir, staged, links)

        with lifecycle.frozen(container, pause):
            return [_copied(images, [], made, difference)]
    own = [
        name
        for name in layered.own_layers(record, layers_dir)
        if os.listdir(f"{layers_dir}/{name}")  # of a commit that was killed
    ]
    for name in own:
        pending.adopt(images.layers, name)
    upper = f"{container.directory}/upper"
    if len(own) >= room:
        everything = layered.writable(container.directory, record, layers_dir)
        with lifecycle.frozen(container, pause):
            return [_copied(images, everything, made)]
    new = ""
    if not container.state.status.is_up and os.listdir(upper):
        new = _swapped(lifecycle, images, record, own, made)
    if not new:
        with lifecycle.frozen(container, pause):
            new = _copied(images, [upper], made)
    return [*reversed(own), new]


def _check(container: Container) -> None:
    why = {Status.DEAD: "Dead", Status.REMOVING: "being removed"}.get(container.state.status)
    if why is not None:
        raise Conflict(f"You cannot commit container {container.name} which is {why}")


def _swapped(
    lifecycle: Lifecycle,
    images: ImageStore,
    record: ContainerRecord,
    own: list[str],
    made: oci.History,
) -> str:
    """Make the upper directory a layer; its name, ``""`` where the file system cannot swap."""
    from .._core.tree import exchange, remove_tree

    store, layers_dir = lifecycle.store, lifecycle.layers_dir
    directory = store.directory(record.id)
    before = record.layers, record.committed
    with _empty_layer(images, f"{directory}/upper", made) as name:
        record.layers = [name, *own, *layered.image_layers(record)]
        record.committed = [name, *own]
        store.save_record(record)
        try:
            exchange(f"{directory}/upper", f"{layers_dir}/{name}")
        except OSError as error:
            record.layers, record.committed = before
            store.save_record(record)
            images.layers.remove(name)
            if error.errno not in _CANNOT_SWAP:
                raise
            return ""
    # Where overlayfs keeps an index, that is of the one upper directory.
    remove_tree(f"{directory}/work/index")
    return name


@contextlib.contextmanager
def _empty_layer(images: ImageStore, like: str, made: oci.History) -> Iterator[str]:
    """Make an empty layer that has what another directory's own status has; its name. Meanwhile it
    is locked: else whoever settles layers would note of this one that it is whole."""
    staged = images.stage_layer()
    try:
        with lock(staged):
            make_alike(like, staged)
            name = pending.announce(images.layers, made)
            os.rename(staged, os.path.join(images.layers.directory, name))
            yield name
    finally:
        images.discard_layer(staged)


def make_alike(source: str, target: str) -> None:
    """Give a directory owner, mode, times and attributes of another."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.ExitStack() as opened:
        fds = []
        for path in (source, target):
            fds.append(os.open(path, flags))
            opened.callback(os.close, fds[-1])
        copy_metadata(fds[0], fds[1])


def _copied(
    images: ImageStore,
    directories: Sequence[str],
    made: oci.History,
    copy: Callable[[Sequence[str], str, str], None] | None = None,
) -> str:
    """Make a layer that has what upper directories have, top first, as one; its name."""
    for attempt in range(1, _ATTEMPTS + 1):
        staged, links = images.stage_layer(), images.stage_layer()
        try:
            (copy or copy_uppers)(directories, staged, links)
            name = pending.announce(images.layers, made)
            os.rename(staged, os.path.join(images.layers.directory, name))
            return name
        except OSError as error:
            # The container, not paused, moved or removed what was being copied; or has ended.
            if error.errno not in _MOVED:
                raise
            if attempt == _ATTEMPTS:
                raise Conflict(
                    "its files were moved or removed while they were copied",
                    hint="commit it paused, or when it has ended",
                ) from error
        finally:
            images.discard_layer(staged)
            images.discard_layer(links)
    raise AssertionError("unreachable")


def copy_uppers(directories: Sequence[str], target: str, links: str) -> None:
    """Copy upper directories, top first, as one into an empty directory.

    Args:
        links: another empty one.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with contextlib.ExitStack() as opened:
        walk = opened.enter_context(layered.Layered(directories))
        fds = []
        for path in (target, links):
            fds.append(os.open(path, flags))
            opened.callback(os.close, fds[-1])
        Copy(walk, fds[0], fds[1], overlay=True).run()


# ---- the image -------------------------------------------------------------------------------


def _add(
    images: ImageStore,
    name: str | None,
    parent: Loaded,
    config: oci.Defaults,
    made: oci.History,
    layers: list[str],
    parent_id: str,
) -> Image:
    """Make the image exist."""
    base = parent.config
    diff_ids, descriptors = list(base.rootfs.diff_ids), list(parent.manifest.layers)
    history = list(base.history or [])
    for layer in layers:
        info = pending.adopt(images.layers, layer)
        diff_id, descriptor = _layer(images, info)
        diff_ids.append(diff_id)
        descriptors.append(descriptor)
        history.append(info.history or made)
    document = oci.ImageConfig(
        created=made.created,
        author=made.author,
        comment=made.comment,
        architecture=base.architecture,
        os=base.os,
        os_version=base.os_version,
        variant=base.variant,
        config=config,
        rootfs=oci.RootFS(diff_ids=diff_ids),
        history=history,
    )
    return add_built(images, document, descriptors, name, parent=parent_id)


def _layer(images: ImageStore, info: LayerInfo) -> tuple[str, oci.Descriptor]:
    """Diff-id and descriptor of a commit's layer; the true ones, where it was sealed."""
    sealed = info.sealed
    if sealed is None or not images.blobs.has(sealed.digest, sealed.size):
        return info.diff_id, pending.descriptor(info)
    return sealed.diff_id, oci.Descriptor(
        media_type=sealed.media_type, digest=sealed.digest, size=sealed.size
    )


def settle_soon(root: str, runtime: str) -> None:
    """Let a process that is nobody's child bring the new layer to the disk. Where it cannot be
    started, whoever seals the image does that."""
    argv = launch.own_command(root, runtime, "image", "settle")
    if not argv:
        return
    # The shell ends at once, so that there is nobody to wait for.
    script = 'exec 0</dev/null 1>/dev/null 2>&1; cd /; "$@" &'
    with contextlib.suppress(OSError):
        pid = os.posix_spawn(
            "/bin/sh", ["/bin/sh", "-c", script, "sh", *argv], os.environ, setsid=True
        )
        os.waitpid(pid, 0)
