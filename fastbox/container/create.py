"""Making a container: everything that is on disk before it first starts."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import orjson

from .. import atomic, tracing
from ..errors import InvalidArgument
from ..network import wishes
from ..oci import times
from . import cgroups, etc_files, graph, health, mounts, names, networking, process, spec, templates
from .config import ContainerConfig
from .merge import merge
from .record import Container, ContainerRecord, ContainerState, MountPoint
from .store import storing
from .templates import Fresh, Template

if TYPE_CHECKING:
    from ..image.types import Image
    from ..network.types import Attachment
    from ..volume.store import VolumeStore
    from .networking import ContainerNetworks
    from .store import ContainerStore

_config_decoder: msgspec.json.Decoder[ContainerConfig] = msgspec.json.Decoder(ContainerConfig)
MAX_GROUPS = 1024  # as the launch plan has it


@tracing.traced("create")
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
    data = _encoded(config)
    plain = templates.is_plain(config)
    if not plain or not store.templates.was_checked(data):
        check(config)
    attachments = networks.resolve(config)
    kind = _kind(data, attachments, image, image_name, [*own, "", *layers]) if plain else None
    known = store.templates.get(kind)
    container_id = names.new_id()
    with storing("creating the container"), contextlib.ExitStack() as undo:
        directory = store.directory(container_id)
        undo.callback(store.discard, container_id, None)
        if not os.path.isdir(store.containers):
            store.prepare()  # the store was removed while this process lives
        with store.nursery.made(container_id, directory):
            name = store.reserve_name(config.name, container_id)
            undo.callback(store.release_name, name, container_id)
            if known is not None:
                record = known.record(container_id, name, times.now())
            else:
                record = _merged(store, container_id, name, config, image, image_name)
                record.layers, record.committed = [*own, *layers], list(own)
                record.driver = "" if driver == graph.OVERLAY.name else driver
                record.networks = attachments
                record.cgroup_path = f"{cgroup_parent}/{container_id}"
                _check_record(record)
            record.creator = process.own() if transient else None
            graph.of(record).make(store, record, layers_dir)
            if record.layers:
                _dress(f"{directory}/upper", f"{layers_dir}/{record.layers[0]}")
            if known is None:
                record.mounts = _mounts(store, record, layers_dir, volumes, undo)
            _write_files(store, record, kind, known)
            undo.pop_all()
            store.journal.container("create", record)
    return Container(
        record=record,
        state=ContainerState(),
        directory=directory,
        bundle=store.bundle(record),
    )


def _kind(
    data: bytes,
    attachments: list[Attachment],
    image: Image,
    image_name: str,
    layers: list[str],
) -> tuple[object, ...]:
    """What containers share that differ in nothing but their ids."""
    attached = msgspec.json.encode(attachments) if attachments else b""
    return data, attached, image.id, image.manifest_digest, image_name, *layers


def _merged(
    store: ContainerStore,
    container_id: str,
    name: str,
    config: ContainerConfig,
    image: Image,
    image_name: str,
) -> ContainerRecord:
    image_config = image.config.get("config") or {}
    assert isinstance(image_config, dict)
    record = merge(container_id, name, times.now(), config, image_config)
    record.image_name = image_name
    record.image_id = image.id
    record.manifest_digest = image.manifest_digest
    _follow_joined(store, record)
    return record


def _encoded(config: ContainerConfig) -> bytes:
    try:
        return msgspec.json.encode(config)
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidArgument(
            "a value of the container's configuration (an argument, a variable, a path …) is not "
            "UTF-8 text, or a number is out of range"
        ) from error


def check(config: ContainerConfig) -> None:
    """Raise what is wrong with a configuration, as far as that is seen without a store.

    Raises:
        InvalidArgument
    """
    _encoded(config)
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


def _write_files(
    store: ContainerStore,
    record: ContainerRecord,
    kind: tuple[object, ...] | None,
    known: Template | None,
) -> None:
    """The files beside ``upper``; the last one, ``container.json``, makes the container exist."""
    directory, bundle = store.directory(record.id), store.bundle(record)
    data = known.config(record.id) if known is not None else _config_json(store, record)
    if bundle != directory:
        os.mkdir(bundle, 0o700)
    etc_files.write(bundle, record)
    atomic.write_new(f"{bundle}/config.json", data)
    stored = store.save_record(record, sync=False)
    if kind is not None and not record.mounts:
        if known is None:
            known = Template(record, data)
            store.templates.put(kind, known)
        store.templates.made(record.id, Fresh(known, stored, etc_files.resolvers_stamp()))
    if not record.config.auto_remove:
        from .. import durable

        durable.later(directory, ["config.json", "container.json"])


def write_bundle(store: ContainerStore, record: ContainerRecord) -> None:
    """Write the files of a container's bundle, whose directory exists, once more."""
    bundle = store.bundle(record)
    etc_files.write(bundle, record)
    atomic.write(f"{bundle}/config.json", _config_json(store, record), sync=False)


def _config_json(store: ContainerStore, record: ContainerRecord) -> bytes:
    other = networking.joined_container(record.config.network)
    files = store.bundle(record if other is None else store.load_record(other))
    return orjson.dumps(
        spec.build(
            record,
            rootfs=f"{store.directory(record.id)}/rootfs",
            files=files,
            cgroup_path=record.cgroup_path,
        )
    )


def copy_config(config: ContainerConfig) -> ContainerConfig:
    """A deep copy: a config given by a library user is theirs, and may hold anything.

    Raises:
        InvalidArgument: an attribute of the wrong type, by name.
    """
    try:
        return _config_decoder.decode(msgspec.json.encode(config))
    except (UnicodeEncodeError, OverflowError):
        return config  # ``create`` says what is wrong with it
    except (msgspec.ValidationError, TypeError) as error:
        text = str(error).replace(" - at `$.", ": attribute `")
        raise InvalidArgument(f"invalid container configuration: {text}") from error
