"""Making a container: everything that is on disk before it first starts."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
import orjson

from .. import atomic
from ..errors import InvalidArgument
from ..locks import lock
from ..network import wishes
from ..oci import times
from . import cgroups, etc_files, graph, health, mounts, names, networking, process, spec
from .config import ContainerConfig
from .merge import merge
from .record import Container, ContainerRecord, ContainerState, MountPoint
from .store import storing

if TYPE_CHECKING:
    from ..image.types import Image
    from ..volume.store import VolumeStore
    from .networking import ContainerNetworks
    from .store import ContainerStore

MAX_GROUPS = 1024  # as the launch plan has it
SWEEP_RACES = 50


def create(
    store: ContainerStore,
    config: ContainerConfig,
    image: Image,
    image_name: str,
    layers: list[str],
    layers_dir: str,
    volumes: VolumeStore,
    cgroup_parent: str,
    networks: ContainerNetworks,
    *,
    driver: str = "overlay",
    transient: bool = False,
    own: Sequence[str] = (),
) -> Container:
    """Create a container; on any error nothing of it is left.

    Args:
        driver: the store's graph driver.
        layers: directory names of the image's layers below ``layers_dir``, top first.
        transient: this process is about to start it (see ``ContainerRecord.creator``).
        own: names of layers that it has above its image's, top first, as if it had written them.

    Raises:
        FastboxError
    """
    check(config)
    store.prepare()
    attachments = networks.resolve(config)
    container_id = names.new_id()
    with storing("creating the container"), contextlib.ExitStack() as undo:
        directory = store.directory(container_id)
        undo.callback(store.discard, container_id, None)
        with _made_and_locked(directory):
            name = store.reserve_name(config.name, container_id)
            undo.callback(store.release_name, name, container_id)
            image_config = image.config.get("config") or {}
            assert isinstance(image_config, dict)
            record = merge(container_id, name, times.now(), config, image_config)
            record.image_name = image_name
            record.image_id = image.id
            record.manifest_digest = image.manifest_digest
            record.layers, record.committed = [*own, *layers], list(own)
            record.driver = "" if driver == graph.OVERLAY.name else driver
            record.networks = attachments
            _follow_joined(store, record)
            record.cgroup_path = f"{cgroup_parent}/{container_id}"
            if transient:
                record.creator = (os.getpid(), process.start_time(os.getpid()))
            _check_record(record)
            graph.of(record).make(store, record, layers_dir)
            if record.layers:
                _dress(f"{directory}/upper", f"{layers_dir}/{record.layers[0]}")
            record.mounts = _mounts(store, record, layers_dir, volumes, undo)
            _write_files(store, record)
            undo.pop_all()
            store.journal.container("create", record)
    return Container(record=record, state=ContainerState(), directory=directory)


def check(config: ContainerConfig) -> None:
    """Raise what is wrong with a configuration, as far as that is seen without a store.

    Raises:
        InvalidArgument
    """
    try:
        msgspec.json.encode(config)
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidArgument(
            "a value of the container's configuration (an argument, a variable, a path …) is not "
            "UTF-8 text, or a number is out of range"
        ) from error
    if len(config.group_add) > MAX_GROUPS:
        raise InvalidArgument(f"--group-add: more than {MAX_GROUPS} groups")
    if config.hostname is not None:
        etc_files.check_hostname(config.hostname)
    if config.domainname is not None:
        etc_files.check_hostname(config.domainname, "domainname")
    wishes.check(config)
    if config.auto_remove and config.restart.name != "no":
        raise InvalidArgument("conflicting options: cannot specify both --restart and --rm")
    if config.log_driver != "cri" or config.log_options:
        from . import logging

        logging.check(config)


def _follow_joined(store: ContainerStore, record: ContainerRecord) -> None:
    """Who joins another's network has its host name too (as Docker)."""
    other = networking.joined_container(record.config.network)
    if other is not None:
        target = store.load_record(other)
        record.hostname, record.config.domainname = target.hostname, target.config.domainname


def _check_record(record: ContainerRecord) -> None:
    process.signal_number(record.stop_signal)
    if record.healthcheck is not None:
        health.check_asked(record.healthcheck)
    cgroups.validate(cgroups.Resources.from_config(record.config), cgroups.detect())


@contextlib.contextmanager
def _made_and_locked(directory: str) -> Iterator[None]:
    """Make the directory; its lock, held until the container exists, keeps sweeps by other
    processes away. One that comes between the two takes it for something that was left behind."""
    with contextlib.ExitStack() as held:
        for attempt in range(SWEEP_RACES):
            try:
                _make(directory)
                held.enter_context(lock(directory))
                break
            except FileNotFoundError:
                if attempt + 1 == SWEEP_RACES:
                    raise
        yield


def _make(directory: str) -> None:
    os.mkdir(directory, 0o700)
    os.mkdir(f"{directory}/upper", 0o755)
    os.mkdir(f"{directory}/work", 0o700)


def _dress(upper: str, layer: str) -> None:
    """Give the upper directory what the image's root has: of the container's root, overlayfs shows
    the upper directory's owner, mode and time."""
    found = os.stat(layer)
    if found.st_uid or found.st_gid:
        os.chown(upper, found.st_uid, found.st_gid)
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_IMODE(os.stat(upper).st_mode) != mode:  # 0755 is not what each umask leaves
        os.chmod(upper, mode)
    for name in os.listxattr(layer):
        if name.startswith(("user.", "system.posix_acl_")):
            os.setxattr(upper, name, os.getxattr(layer, name))
    os.utime(upper, ns=(found.st_atime_ns, found.st_mtime_ns))


def _mounts(
    store: ContainerStore,
    record: ContainerRecord,
    layers_dir: str,
    volumes: VolumeStore,
    undo: contextlib.ExitStack,
) -> list[MountPoint]:
    if not record.config.mounts and not record.image_volumes:
        return []
    with contextlib.ExitStack() as views:
        root: list[int] = []

        def image_root() -> int:
            if not root:
                root.append(view(store, record, layers_dir))
                views.callback(os.close, root[0])
            return root[0]

        def undo_volume(name: str) -> None:
            undo.callback(volumes.remove, name)

        return mounts.resolve(
            record.config,
            record.image_volumes,
            volumes,
            image_root,
            undo_volume,
        )


def view(store: ContainerStore, record: ContainerRecord, layers_dir: str) -> int:
    """Descriptor of the merged, read-only root of a container's image. The caller closes it."""
    return graph.of(record).image_root(store, record, layers_dir)


def _write_files(store: ContainerStore, record: ContainerRecord) -> None:
    directory = store.directory(record.id)
    config_json = spec.build(
        record,
        rootfs=f"{directory}/rootfs",
        directory=directory,
        cgroup_path=record.cgroup_path,
    )
    etc_files.write(directory, record)
    atomic.write(f"{directory}/config.json", orjson.dumps(config_json), sync=False)
    store.save_record(record, sync=False)
    if not record.config.auto_remove:
        from .. import durable

        durable.later(directory, ["config.json", "container.json"])


def copy_config(config: ContainerConfig) -> ContainerConfig:
    """A deep copy: a config given by a library user is theirs, and may hold anything.

    Raises:
        InvalidArgument: an attribute of the wrong type, by name.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(config), ContainerConfig)
    except (msgspec.ValidationError, TypeError) as error:
        text = str(error).replace(" - at `$.", ": attribute `")
        raise InvalidArgument(f"invalid container configuration: {text}") from error
