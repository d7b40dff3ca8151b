"""Engine: every verb of fastbox as a method with typed arguments and a typed result.

The CLI parses and prints; everything it does is a call of this class. Methods block; for asyncio
use ``fastbox.AsyncEngine``, which has the same methods as coroutines.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from . import tracing
from .attaching import AttachingVerbs
from .disk_verbs import DiskVerbs
from .errors import InvalidArgument, NotFound
from .files import FileVerbs
from .image_verbs import ImageVerbs
from .listening import ListeningVerbs
from .network_verbs import NetworkVerbs
from .pool_verbs import PoolVerbs
from .registry_verbs import RegistryVerbs
from .resource_verbs import ResourceVerbs
from .supervised import SupervisorVerbs
from .verbs import ChangingVerbs

if TYPE_CHECKING:
    from .container.config import ContainerConfig
    from .container.lifecycle import Lifecycle
    from .container.logs import LogLine
    from .container.networking import ContainerNetworks
    from .container.record import Container
    from .container.store import ContainerStore
    from .image.store import ImageStore
    from .image.types import Image, Volume
    from .network.store import NetworkStore
    from .volume.store import VolumeStore

DEFAULT_ROOT = "/var/lib/fastbox"
DEFAULT_RUNTIME = "/run/fastbox"


class Engine(
    ChangingVerbs,
    AttachingVerbs,
    DiskVerbs,
    FileVerbs,
    ImageVerbs,
    ListeningVerbs,
    NetworkVerbs,
    PoolVerbs,
    RegistryVerbs,
    ResourceVerbs,
    SupervisorVerbs,
):
    """A container engine over one store. Thread-safe: its methods may be called from several
    threads at once, and several engines (also in other processes) may share a store.

    Args:
        root: where images, containers and volumes live (``FASTBOX_ROOT``, ``/var/lib/fastbox``).
        runtime_dir: state that does not outlive a reboot (``FASTBOX_RUNTIME_DIR``,
            ``/run/fastbox``; below ``root`` when only a root is given).
    """

    def __init__(self, root: str | None = None, runtime_dir: str | None = None) -> None:
        chosen = root or os.environ.get("FASTBOX_ROOT")
        self.root = os.path.abspath(chosen or DEFAULT_ROOT)
        runtime = runtime_dir or os.environ.get("FASTBOX_RUNTIME_DIR")
        if not runtime:
            runtime = f"{self.root}/run" if chosen else DEFAULT_RUNTIME
        self.runtime_dir = os.path.abspath(runtime)
        self._sweeping = False
        for path in (self.root, self.runtime_dir):
            if any(c in path for c in ",:\\\n\0"):
                raise InvalidArgument(
                    f"{path!r} cannot be a store: overlayfs's options allow no comma, colon, "
                    "backslash or newline in a path"
                )

    # The parts are made when first used: a verb pays only for what it needs. ------------------
    @functools.cached_property
    def _images(self) -> ImageStore:
        from .image.store import ImageStore

        self._make_directories()
        return ImageStore(self.root, layers_in_use=self._layers_in_use)

    @functools.cached_property
    def _volumes(self) -> VolumeStore:
        from .volume.store import VolumeStore

        self._make_directories()
        return VolumeStore(self.root)

    @functools.cached_property
    def _containers(self) -> ContainerStore:
        from .container.store import ContainerStore

        self._make_directories()
        store = ContainerStore(self.root, self.runtime_dir)
        store.prepare()
        return store

    @functools.cached_property
    def _lifecycle(self) -> Lifecycle:
        from .container.lifecycle import Lifecycle

        store, layers = self._containers, f"{self.root}/layers"
        networks = self._container_networks
        return Lifecycle(store, self._volumes, self.root, layers, networks, self._supervise)

    @functools.cached_property
    def _networks(self) -> NetworkStore:
        from .network.store import NetworkStore

        self._make_directories()
        return NetworkStore(self.root, self.runtime_dir, self._containers.journal)

    @functools.cached_property
    def _container_networks(self) -> ContainerNetworks:
        from .container.networking import ContainerNetworks

        return ContainerNetworks(self._containers, self._networks)

    @functools.cached_property
    def cgroup_parent(self) -> str:
        """The cgroup below which this store's containers are."""
        if self.root == DEFAULT_ROOT:
            return "fastbox"
        import hashlib

        return f"fastbox-{hashlib.sha256(self.root.encode()).hexdigest()[:8]}"

    def _make_directories(self) -> None:
        from .errors import PermissionDenied, StoreError

        for path in (self.root, self.runtime_dir):
            try:
                os.makedirs(path, mode=0o700, exist_ok=True)
                if os.statvfs(path).f_flag & os.ST_RDONLY:
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
                if not os.access(path, os.W_OK | os.X_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            except PermissionError as error:
                raise PermissionDenied(
                    f"opening the store {path} failed: permission denied",
                    hint="run fastbox as root (sudo)",
                ) from error
            except OSError as error:
                raise StoreError(
                    f"opening the store {path} failed: {(error.strerror or '').lower()}"
                ) from error

    def _used_by(self, image_id: str) -> list[tuple[str, str, bool]]:
        """(id, name, running) of the containers of an image."""
        from .container.pool_sweep import records
        from .image.removal import POOLED

        users = [
            (box.id, box.name, box.state.status.is_active)
            for box in self._all_containers()
            if box.record.image_id == image_id
        ]
        for record in records(self._containers):
            if record.image_id == image_id:
                users.append((str((record.creator or (0, 0))[0]), POOLED, False))
        return users

    def _layers_in_use(self) -> set[str]:
        from .container import snapshots
        from .container.pool_sweep import records

        used = {layer for record in records(self._containers) for layer in record.layers}
        used.update(layer for box in self._all_containers() for layer in box.record.layers)
        return used | snapshots.held(self.root)

    # containers ---------------------------------------------------------------------------------
    def create(
        self,
        config: ContainerConfig,
        *,
        pull: str = "missing",
        platform: str | None = None,
        progress: Callable[[Any], None] | None = None,
        transient: bool = False,
    ) -> Container:
        """Make a container that is not started yet.

        Args:
            pull: ``"missing"``, ``"always"`` or ``"never"``.
            transient: this process is about to start it; should it be killed before, an auto_remove
                container is swept by the next command.

        Raises:
            FastboxError: nothing of it is left.
        """
        from .container.create import copy_config, create

        config = copy_config(config)
        if transient and platform is None and pull != "always":
            taken = self._take_prepared(config)
            if taken is not None:
                return taken
        with self._images.lease():  # no rmi between finding the image and naming its layers
            image, name = self._image_for(config.image, pull, platform, progress)
            layers = self._images.ensure_layers(image)
            container = create(
                self._containers,
                config,
                image,
                name,
                layers,
                f"{self.root}/layers",
                self._volumes,
                self.cgroup_parent,
                self._container_networks,
                driver=self._images.driver,
                transient=transient,
            )
        if platform is None:
            container.warnings += _foreign(image.os, image.architecture, image.variant)
        return container

    @tracing.traced("resolve image")
    def _image_for(
        self,
        reference: str,
        pull: str,
        platform: str | None,
        progress: Callable[[Any], None] | None,
    ) -> tuple[Image, str]:
        """The image and the name under which it was asked for ("" for an id)."""
        if pull not in ("missing", "always", "never"):
            raise InvalidArgument(
                f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"'
            )
        if pull != "always":
            try:
                image, name = self._images.known(reference) or self._resolved(reference)
                self._check_platform(image, reference, platform)
                return image, name
            except NotFound:
                if pull == "never":
                    raise
        result = self.pull(reference, platform=platform, progress=progress)
        return result.image, result.name

    def _resolved(self, reference: str) -> tuple[Image, str]:
        image = self._images.resolve(reference)
        name = self._name_of(image, reference)
        self._images.keep_known(reference, image, name)
        return image, name

    def _check_platform(self, image: Image, reference: str, platform: str | None) -> None:
        """An image for another platform than the one asked for is as good as none."""
        if platform is None:
            return
        from .oci.platform import normalise, parse, runs

        has = normalise(image.os, image.architecture, image.variant)
        if has not in runs(parse(platform)):
            raise NotFound(
                f"No such image: {reference} for platform {platform} (the one here is for {has})"
            )

    def _name_of(self, image: Image, reference: str) -> str:
        from .oci.reference import parse

        try:
            canonical = parse(reference).tagged().canonical
        except InvalidArgument:
            return ""
        return canonical if canonical in image.names else ""

    def start(self, container: str) -> Container:
        """Start detached; a running container is left as it is.

        Raises:
            NotFound, LaunchError
        """
        container_id = self._containers.resolve(container)
        record = self._lifecycle.start(container_id)
        try:
            return self.container(container_id)
        except NotFound:  # --rm, and it has ended already
            from .container.record import Container, ContainerState, Status

            return Container(
                record=record,
                state=ContainerState(status=Status.EXITED, run=1),
                directory=self._containers.directory(container_id),
                bundle=self._containers.bundle(record),
            )

    def containers(
        self,
        *,
        all: bool = False,
        filters: dict[str, list[str]] | None = None,
        size: bool = False,
    ) -> list[Container]:
        """Containers, newest first; only running ones unless ``all``.

        Raises:
            InvalidArgument: an unknown filter.
        """
        from .container.filters import select

        boxes = self._all_containers()
        self._container_networks.look_at(boxes)
        chosen = select(
            boxes,
            all=all,
            filters=filters or {},
            image_of=self._try_image,
            layers_of=lambda image: self._images.layers.directories(image.layers),
        )
        if size:
            for box in chosen:
                self._measure(box)
        return chosen

    def _try_image(self, name_or_id: str) -> Image | None:
        try:
            return self._images.resolve(name_or_id)
        except (NotFound, InvalidArgument):
            return None

    def _all_containers(self) -> list[Container]:
        """Every container, newest first. Half-made and damaged ones are passed over here; those
        that nobody is making are removed."""
        from .container.pool_sweep import is_owned, sweep
        from .container.record import Status
        from .errors import StoreError

        store, boxes, unfinished = self._containers, [], False
        for container_id in store.ids():
            try:
                box = store.load(container_id)
            except NotFound:
                unfinished = unfinished or not is_owned(store, container_id)
                continue
            except StoreError:
                continue
            if box.record.config.auto_remove and not box.state.status.is_up:
                self._lifecycle.cleanup_abandoned(box)
                if not os.path.isdir(box.directory):
                    continue
            if box.record.config.idle and self._lifecycle.end_abandoned(box):
                continue
            if box.state.status is Status.PAUSED:
                self._lifecycle.thaw_abandoned(box)
            if not box.state.status.is_up and self._container_networks.owes(box.id):
                self._container_networks.give_back(box.id)
            boxes.append(box)
        if unfinished:
            sweep(self._lifecycle)
            store.sweep()
        self._see_to_supervision(boxes)
        self._sweep_snapshots(boxes)
        boxes.sort(key=lambda box: box.record.created, reverse=True)
        return boxes

    def _sweep_snapshots(self, boxes: list[Container]) -> None:
        """Those of processes that were killed; see ``container.snapshots``."""
        if self._sweeping or not os.path.isdir(f"{self.root}/snapshots"):
            return
        from .container import snapshots

        self._sweeping = True  # releasing layers lists the containers
        try:
            used = (layer for box in boxes for layer in box.record.layers)
            snapshots.sweep(self.root, used, self._release)
        finally:
            self._sweeping = False

    def _measure(self, box: Container) -> None:
        from .container.sizes import size_of

        box.size_rw = size_of(box, self._lifecycle.layers_dir)
        image = self._try_image(box.record.image_id)
        box.size_root = box.size_rw + (image.size if image is not None else 0)

    def container(self, name_or_id: str, *, size: bool = False) -> Container:
        """One container by name, id or unique id prefix.

        Raises:
            NotFound, Ambiguous, StoreError
        """
        if "_lifecycle" in self.__dict__ and name_or_id in self._lifecycle.prepared:
            return self._created_of(self._lifecycle.prepared[name_or_id])
        box = self._containers.load(self._containers.resolve(name_or_id))
        box.networking = self._container_networks.shown(box)
        if size:
            self._measure(box)
        return box

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Iterator[LogLine]:
        """What the container wrote to stdout and stderr.

        Args:
            tail: only the last so many lines; since, until: seconds since the epoch.
            follow: go on until the container ends.

        Raises:
            Unsupported: its log driver keeps nothing.
        """
        from .container.logs import read_logs
        from .errors import Unsupported

        box = self.container(container)
        driver = box.record.config.log_driver
        if driver not in ("cri", "journald"):
            raise Unsupported("configured logging driver does not support reading")

        is_running = self._going_on(box.record)
        options: dict[str, Any] = {"follow": follow, "tail": tail, "since": since, "until": until}
        if driver == "journald":
            from .container import journald

            return journald.read(box.id, **options, is_running=is_running)
        return read_logs(box.log_path, **options, is_running=is_running)

    def top(
        self, container: str, ps_args: list[str] | None = None
    ) -> tuple[list[str], list[list[str]]]:
        """(titles, rows) of the host's ``ps`` for the container's processes."""
        from .container.restarts import check_not_restarting
        from .container.top import top
        from .errors import NotRunning

        box = self.container(container)
        check_not_restarting(box)
        if not box.state.status.is_up:
            raise NotRunning(f"container {box.id} is not running")
        self._lifecycle.note("top", box.record)
        return top(self._lifecycle.pids(box.record), ps_args)

    def stop(
        self, container: str, *, timeout: int | None = None, signal: str | None = None
    ) -> None:
        """Ask a container to end and kill it when it does not.

        Args:
            timeout: seconds; -1 waits for ever; None is the container's own, else 10.
        """
        self._lifecycle.stop(self._containers.resolve(container), timeout, signal)

    def kill(self, container: str, *, signal: str = "SIGKILL") -> None:
        """Send a signal to a container's init.

        Raises:
            NotRunning
        """
        self._lifecycle.kill(self._containers.resolve(container), signal)

    def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container.

        Args:
            force: kill a running one first. volumes: remove its anonymous volumes too.

        Raises:
            NotFound; Conflict: it is running.
        """
        container_id = self._containers.resolve(container)
        own = self._committed([container_id])
        self._lifecycle.remove(container_id, force=force, volumes=volumes)
        self._release(own)

    def _committed(self, container_ids: list[str]) -> list[str]:
        """The layers that were upper directories of containers."""
        from .errors import StoreError

        found: list[str] = []
        for container_id in container_ids:
            with contextlib.suppress(NotFound, StoreError):  # a damaged record tells none
                found += self._containers.load_record(container_id).committed
        return found

    def _release(self, layers: list[str]) -> int:
        """Delete layers of containers that are gone, unless an image has them; bytes freed."""
        if layers:
            from .errors import FastboxError
            from .image.removal import release

            with contextlib.suppress(FastboxError):  # the next collection will
                return release(self._images, layers)
        return 0

    def wait(self, container: str) -> int:
        """Block until the container is not running; its exit status."""
        return self._lifecycle.wait(self._containers.resolve(container))

    def cleanup(self, container: str) -> None:
        """Remove an auto_remove container that has ended (its monitor calls this)."""
        try:
            container_id = self._containers.resolve(container)
        except NotFound:
            return
        self._lifecycle.cleanup(container_id)

    def inspect_volume(self, name: str) -> dict[str, Any]:
        """Docker's JSON of a volume."""
        from .container.inspect import inspect_volume

        return inspect_volume(self._volumes.get(name))

    # volumes ------------------------------------------------------------------------------------
    def create_volume(
        self,
        name: str | None = None,
        *,
        labels: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> Volume:
        """Make a volume (or return the one of that name); anonymous without a name."""
        return self._volumes.create(name, labels=labels or {}, options=options or {})

    def volumes(self, *, filters: dict[str, list[str]] | None = None) -> list[Volume]:
        """All volumes, by name."""
        return self._volumes.list(filters=filters, in_use=self._volumes_in_use)

    def _volumes_in_use(self) -> dict[str, list[str]]:
        """Volume name -> ids of the containers that have it."""
        from .container.pool_sweep import records

        users: dict[str, list[str]] = {}
        existing = [box.record for box in self._all_containers()]
        for record in (*existing, *records(self._containers)):
            for point in record.mounts:
                if point.type == "volume":
                    users.setdefault(point.name, []).append(record.id)
        return users

    def remove_volume(self, name: str, *, force: bool = False) -> None:
        """Remove a volume and its data.

        Raises:
            NotFound (unless force); Conflict: a container has it.
        """
        self._volumes.remove(name, force=force, in_use=self._volumes_in_use)

    def prune_volumes(
        self, *, all: bool = False, filters: dict[str, list[str]] | None = None
    ) -> tuple[list[str], int]:
        """Remove volumes that no container has: anonymous ones, with ``all`` named ones too.

        Returns:
            (names removed, bytes freed)
        """
        from .pruning import pruning

        with pruning(self.runtime_dir, self._volumes.journal, "volume") as tally:
            names, tally.freed = self._volumes.prune(
                all=all, filters=filters, in_use=self._volumes_in_use
            )
        return names, tally.freed

    # the engine itself --------------------------------------------------------------------------
    def info(self) -> dict[str, Any]:
        """What ``fastbox info`` prints."""
        from .info import info

        return info(self)

    def version(self) -> dict[str, Any]:
        """What ``fastbox version`` prints."""
        from .info import version

        return version()


@functools.lru_cache(maxsize=16)
def _foreign(os_name: str, architecture: str, variant: str) -> list[str]:
    """Docker's warning for an image that this machine does not run."""
    from .oci.platform import host, normalise, runs

    has, mine = normalise(os_name, architecture, variant), host()
    if not architecture or has in runs(mine):
        return []
    return [
        f"The requested image's platform ({has}) does not match the detected host platform"
        f" ({mine}) and no specific platform was requested"
    ]
