"""Which graph driver a store has: how the root of a container is made of its image's layers.

``overlay`` mounts them, one above the other. ``copy`` is for file systems that overlayfs cannot
write to (an overlay itself, as the root of a container is; NFS and other network file systems):
each container gets a copy of its image. A store keeps the driver that it was made with, because
deleted files are noted in layers in another form: as overlayfs wants it, or by the names that
archives have (``.wh.NAME``). ``ROOT/driver`` says which.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Literal

from . import atomic
from .errors import StoreError

OVERLAY, COPY = "overlay", "copy"
DRIVERS = (OVERLAY, COPY)
_SYS_ADMIN = 21  # a capability's number


def read(root: str) -> str | None:
    """The store's driver, None if none was chosen yet.

    Raises:
        StoreError: the file is damaged.
    """
    path = f"{root}/driver"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {(error.strerror or '').lower()}") from error
    try:
        name = os.read(fd, 64).partition(b"\n")[0].decode(errors="replace")
    finally:
        os.close(fd)
    if name not in DRIVERS:
        raise StoreError(
            f"{path} is damaged: it names no driver",
            hint="write `overlay` or `copy` into it, whichever the store was made with",
        )
    return name


def reason(root: str) -> str:
    """Why the store has the driver ``copy``; ``""`` if nobody noted that."""
    with contextlib.suppress(OSError), open(f"{root}/driver", encoding="utf-8") as file:
        return file.read(1000).partition("\n")[2].strip()
    return ""


def wanted() -> str | None:
    """What the configuration says.

    Raises:
        FastboxError: the configuration cannot be read.
    """
    from .configuration import load

    return load().storage_driver


def choose(root: str, staging: str) -> str:
    """Choose the driver of a store that has no layers yet, and note it.

    Args:
        staging: a directory of it, in which overlayfs is tried.

    Raises:
        StoreError: the configured one does not work. FastboxError: as ``wanted``.
    """
    name, why = wanted(), ""
    if name != COPY:
        why = trial(staging)
        if why and not _may_mount():
            return OVERLAY  # whoever cannot mount cannot tell
        if why and name == OVERLAY:
            raise StoreError(
                f"the configuration's storage-driver is overlay, and overlayfs does not work in"
                f" {root}: {why}",
                hint="take the key out, so that the store uses what works, or use another --root",
            )
        name = COPY if why else OVERLAY
    write(root, name, why)
    return name


def conflict(root: str, driver: str, name: str) -> StoreError:
    """The error for a configuration that names another driver than a store has."""
    return StoreError(
        f"the configuration's storage-driver is {name}, and the store {root} was made with"
        f" {driver}",
        hint=f"set storage-driver to {driver}, or use another store (--root): `fastbox save` and"
        " `fastbox load` move images",
    )


def write(root: str, name: str, why: str = "") -> None:
    """Note the driver."""
    path = f"{root}/driver"
    try:
        atomic.write(path, f"{name}\n{why}{why and chr(10)}".encode(), sync=False)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {(error.strerror or '').lower()}") from error


def whiteouts(driver: str) -> Literal["overlay", "keep"]:
    """How the layers of a store note what is deleted; ``tar.extract``'s argument."""
    return "keep" if driver == COPY else "overlay"


def whiteouts_in(staging: str) -> Literal["overlay", "keep"]:
    """The same, by the directory of a staged layer (``ROOT/layers/.tmp/NAME``)."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(staging)))
    return whiteouts(read(root) or OVERLAY)


# ---- whether overlayfs works -----------------------------------------------------------------


def trial(directory: str) -> str:
    """Do in ``directory`` what layers and containers do with overlayfs, in a mount namespace of its
    own; why it does not work, ``""`` if it does."""
    from ._core.tree import remove_tree

    place = f"{directory}/trial-{os.urandom(8).hex()}"
    try:
        os.mkdir(place, 0o700)
        try:
            return _try_layers(place) or _try_container(place)
        finally:
            remove_tree(place)
    except _Refused as error:
        return str(error)
    except OSError as error:
        return (error.strerror or str(error)).lower()


class _Refused(Exception):
    """What the file system or the kernel does not do, and why."""


@contextlib.contextmanager
def _doing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Refused(f"{what}: {(error.strerror or str(error)).lower()}") from error


def _try_layers(place: str) -> str:
    """Whiteouts and opaque directories, as an extraction makes them."""
    for name in ("low/dir", "low/dir2", "top/dir", "up", "work", "root"):
        os.makedirs(f"{place}/{name}", 0o755)
    for name in ("whiteout", "dir/hidden", "file"):
        _put(f"{place}/low/{name}")
    with _doing("making a whiteout"):
        os.mknod(f"{place}/top/whiteout", 0o020000, 0)
    with _doing("making a directory opaque"):
        os.setxattr(f"{place}/top/dir", "trusted.overlay.opaque", b"y")
    root = _mount(place)
    try:
        if "whiteout" in os.listdir(root):
            return "a whiteout hides nothing"
        if _names(root, "dir"):
            return "an opaque directory hides nothing"
    finally:
        os.close(root)
    return ""


def _try_container(place: str) -> str:
    """What is written and removed in a mounted one, and whether it can be read back."""
    root = _mount(place)
    try:
        with _doing("writing"):
            os.unlink("file", dir_fd=root)
            os.close(os.open("new", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=root))
            os.rmdir("dir", dir_fd=root)
            os.mkdir("dir", dir_fd=root)
        if sorted(os.listdir(root)) != ["dir", "dir2", "new"]:
            return "it shows other files than were written"
    finally:
        os.close(root)
    found = os.lstat(f"{place}/up/file")
    if found.st_rdev != 0 or found.st_mode & 0o170000 != 0o020000:
        return "a deleted file leaves no whiteout"
    if not os.path.exists(f"{place}/up/new"):
        return "a new file does not arrive in the upper directory"
    return ""


def _mount(place: str) -> int:
    from ._core.launch import overlay_view

    options = "lowerdir=top:low,upperdir=up,workdir=work"
    with _doing("mounting"):
        return overlay_view(place, f"{place}/root", options, read_only=False)


def _put(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _names(root: int, name: str) -> list[str]:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _may_mount() -> bool:
    """Whether this process has CAP_SYS_ADMIN."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _SYS_ADMIN & 1)
    return False
