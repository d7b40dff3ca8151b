"""User mounts, from what was asked to what is mounted: volumes made and filled, sources checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import InvalidArgument
from .config import ContainerConfig, Mount
from .record import MountPoint

if TYPE_CHECKING:
    from ..volume.store import VolumeStore

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


MAX_MOUNTS = 512
# What lxcfs covers. Nothing else may be mounted on or below /proc, where the engine writes and
# masks files (CVE-2019-19921, CVE-2023-27561).
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
    )
)


def clean_target(path: str) -> str:
    """A mount's target as an absolute, normal path.

    Raises:
        InvalidArgument: relative, the root itself, or not a path.
    """
    if "\0" in path or "\n" in path:
        raise InvalidArgument(f"invalid mount path: {path!r}")
    if not path.startswith("/"):
        raise InvalidArgument(
            f"invalid volume specification: invalid mount path: '{path}' "
            "mount path must be absolute"
        )
    # normpath keeps a leading "//", which POSIX allows to be special; here it is not.
    clean = os.path.normpath(path).replace("//", "/")
    if clean == "/":
        raise InvalidArgument("invalid volume specification: destination can't be '/'")
    if (clean + "/").startswith("/proc/") and clean not in _PROC_FILES:
        raise InvalidArgument(
            f"invalid mount path: '{path}' cannot be mounted because it is inside /proc"
        )
    return clean


def check(config: ContainerConfig) -> list[Mount]:
    """The mounts of a config with clean targets, each target once.

    Raises:
        InvalidArgument
    """
    if len(config.mounts) > MAX_MOUNTS:
        raise InvalidArgument(f"{len(config.mounts)} mounts are too many (maximum {MAX_MOUNTS})")
    seen: set[str] = set()
    for mount in config.mounts:
        if any("\0" in word or "," in word for word in mount.options):
            raise InvalidArgument(f"invalid tmpfs option in {mount.options!r}")
        if mount.type not in ("bind", "volume", "tmpfs"):
            raise InvalidArgument(f'invalid mount config: mount type unknown: "{mount.type}"')
        mount.target = clean_target(mount.target)
        if mount.target in seen:
            raise InvalidArgument(f"Duplicate mount point: {mount.target}")
        seen.add(mount.target)
        if mount.propagation not in PROPAGATIONS:
            raise InvalidArgument(f"invalid mount propagation: {mount.propagation!r}")
        if mount.type == "bind":
            _check_bind(mount)
    return config.mounts


def _check_bind(mount: Mount) -> None:
    if not mount.source.startswith("/") or "\0" in mount.source:
        raise InvalidArgument(
            'invalid mount config for type "bind": invalid mount path: '
            f"'{mount.source}' mount path must be absolute"
        )
    if os.path.exists(mount.source):
        return
    if not mount.create_source:
        raise InvalidArgument(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
        )
    try:
        _make(mount.source)
    except (OSError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "file name too long"
        raise InvalidArgument(
            f"error while creating mount source path '{mount.source[:200]}': mkdir: "
            f"{(why or '').lower()}"
        ) from error


def _make(path: str) -> None:
    """Make a directory of the host, and those above it, 0755 whatever the caller's umask is."""
    parent = os.path.dirname(path.rstrip("/"))
    if not os.path.isdir(parent):
        _make(parent)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:  # somebody else was quicker; or it is no directory
        if not os.path.isdir(path):
            raise
    else:
        os.chmod(path, 0o755)


def resolve(
    config: ContainerConfig,
    image_volumes: list[str],
    volumes: VolumeStore,
    image_root: Callable[[], int],
    undo: Callable[[str], None],
) -> list[MountPoint]:
    """Every mount as it will be made.

    Args:
        image_volumes: paths of the image's VOLUME instructions.
        image_root: gives a descriptor of the image's merged root, for filling new volumes.
        undo: told the name of each anonymous volume that was made.
    """
    asked = check(config)
    targets = {mount.target for mount in asked}
    points = [_resolve_one(mount, volumes, image_root, undo) for mount in asked]
    for path in image_volumes:
        target = clean_target(path)
        if target in targets:
            continue
        targets.add(target)
        mount = Mount(type="volume", target=target)
        points.append(_resolve_one(mount, volumes, image_root, undo))
    return points


def _resolve_one(
    mount: Mount,
    volumes: VolumeStore,
    image_root: Callable[[], int],
    undo: Callable[[str], None],
) -> MountPoint:
    if mount.type == "tmpfs":
        return MountPoint(
            type="tmpfs",
            source="",
            destination=mount.target,
            mode=_tmpfs_options(mount),
            rw=not mount.read_only,
        )
    if mount.type == "bind":
        return MountPoint(
            type="bind",
            source=os.path.normpath(mount.source),
            destination=mount.target,
            mode="ro" if mount.read_only else "",
            rw=not mount.read_only,
            propagation=mount.propagation,
        )
    anonymous = not mount.source
    volume = volumes.create(mount.source or None, labels=mount.labels)
    if anonymous:
        undo(volume.name)
    if not mount.no_copy and volumes.is_empty(volume):
        volumes.populate(volume, image_root(), mount.target)
    return MountPoint(
        type="volume",
        name=volume.name,
        source=volume.mountpoint,
        destination=mount.target,
        driver=volume.driver,
        mode="ro" if mount.read_only else "",
        rw=not mount.read_only,
        anonymous=anonymous,
    )


def _tmpfs_options(mount: Mount) -> str:
    words = list(mount.options)
    given = {word.partition("=")[0] for word in words}
    if mount.tmpfs_size and "size" not in given:
        words.append(f"size={mount.tmpfs_size}")
    if "mode" not in given:
        words.append(f"mode={mount.tmpfs_mode:o}")
    if mount.read_only and "ro" not in given:
        words.append("ro")
    return ",".join(words)
