"""Unpacked layers: directories that many images and containers share, read only.

``layers/NAME`` (NAME = 24 hex digits of the diff-id) appears by one rename when it is complete;
``layers/.meta/NAME.json`` says what it is. Until the file system was synced, the metadata carry the
boot id: a layer whose metadata name another boot may have lost its content in a power failure and
counts as absent. So one sync serves all layers of an image.

A layer that a commit has made (``pending``) has a diff-id that was made up, and nothing but this
directory: see ``seal``. What it gets its true diff-id by is a symlink of that name.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator

import msgspec

from .. import atomic
from ..errors import StoreError
from ..oci import digest as digests
from ..oci import image as oci
from ..volume import tree
from . import trash

NAME_LENGTH = 24
_MAX_META = 64 * 1024


class Sealed(msgspec.Struct, kw_only=True):
    """What sealing found of a layer: digest of its tar, and of its blob.

    Attributes:
        size: bytes of the blob.
    """

    diff_id: str
    digest: str
    size: int
    media_type: str


class LayerInfo(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What is known of an unpacked layer.

    Attributes:
        diff_id: digest of its uncompressed tar.
        size: bytes of its files; -1 (only in what ``read`` gives) is not known yet.
        entries: how many files, directories and links.
        opaque: its root hides all layers below it (``.wh..wh..opq`` at the top).
        boot: boot id while it is not known to be on disk, else ``""``.
        pending: made by a commit; ``diff_id`` is made up.
        history: what the commit says of it.
        sealed: its archive, should it have been made.
    """

    diff_id: str
    size: int
    entries: int
    opaque: bool = False
    boot: str = ""
    pending: bool = False
    history: oci.History | None = None
    sealed: Sealed | None = None


# Made with the module: two threads must not be the first to use a type at the same time.
_info_decoder: msgspec.json.Decoder[LayerInfo] = msgspec.json.Decoder(LayerInfo)


@contextlib.contextmanager
def storing(action: str, path: str) -> Iterator[None]:
    """Turn an OSError into a StoreError that says what was done to what."""
    try:
        yield
    except OSError as error:
        raise store_error(action, path, error) from error


def store_error(action: str, path: str, error: OSError) -> StoreError:
    """The StoreError for a failed system call."""
    hints = {
        "ENOSPC": "free some space, for example with `fastbox rmi` or `fastbox volume prune`",
        "EDQUOT": "free some space, the disk quota is used up",
        "EROFS": "the file system is mounted read-only",
        "EACCES": "run fastbox as root",
        "EIO": "the disk reports errors, see the kernel's log",
    }
    text = (error.strerror or str(error)).lower()
    return StoreError(f"cannot {action} {path}: {text}", hint=hints.get(_errno_name(error)))


def _errno_name(error: OSError) -> str:
    import errno

    return errno.errorcode.get(error.errno or 0, "")


def layer_name(diff_id: str) -> str:
    """Name of the directory of a layer.

    Raises:
        ImageError: not a digest.
    """
    return digests.encoded(diff_id)[:NAME_LENGTH]


class LayerStore:
    """The directory ``layers`` of a data root.

    Args:
        trash_dir: on the same file system.
        in_use: names of the layers that containers are made of; None when that is not known, then
            no layer is ever removed.
    """

    def __init__(
        self, directory: str, trash_dir: str, in_use: Callable[[], Iterable[str]] | None = None
    ) -> None:
        self.directory = directory
        self.trash = trash_dir
        self.staging = os.path.join(directory, ".tmp")
        self.meta = os.path.join(directory, ".meta")
        self.in_use = in_use
        self._known: dict[str, LayerInfo] = {}

    def info(self, diff_id: str) -> LayerInfo | None:
        """Metadata of a layer that is here and whole, else None.

        Raises:
            StoreError: the metadata are damaged, or another layer's; or the machine was restarted
            before a commit's layer was on the disk, see ``adopt``.
        """
        name = layer_name(diff_id)
        known = self._known.get(name)
        if known is not None and known.diff_id == diff_id and not known.boot:
            # Immutable once settled; only its removal has to be noticed.
            return known if os.path.isdir(os.path.join(self.directory, name)) else None
        found = self.read(name)
        if found is None or not os.path.isdir(os.path.join(self.directory, name)):
            return None
        if found.diff_id != diff_id:
            raise StoreError(
                f"{self._meta_path(name)} is damaged: it names {found.diff_id[:100]}"
                f" instead of {diff_id}",
                hint="remove that file; the layer is then unpacked again",
            )
        if found.boot and found.boot != boot_id():
            if not found.pending:
                return None
            raise StoreError(
                f"layer {name}, made by a commit, may be damaged: the machine was restarted before"
                " it was known to be on the disk",
                hint="commit the container again; `fastbox system check --repair` takes the layer"
                " as it is",
            )
        if found.size < 0:
            if known is not None and known.diff_id == diff_id:
                found.size, found.entries = known.size, known.entries
            else:
                with storing("measure the layer", self.directory):
                    found.size, found.entries = tree.measure(os.path.join(self.directory, name))
        self._known[name] = found
        return found

    def has(self, diff_id: str) -> bool:
        """Whether a layer is here and whole; unlike ``info`` it never reads the layer.

        Raises: as ``info``.
        """
        found = self.read(layer_name(diff_id))
        if found is not None and found.diff_id == diff_id and found.boot in ("", boot_id()):
            return os.path.isdir(os.path.join(self.directory, layer_name(diff_id)))
        return self.info(diff_id) is not None

    def target(self, name: str) -> str:
        """The layer that a symlink stands for; of any other, its own name."""
        try:
            found = os.readlink(os.path.join(self.directory, name))
        except OSError:
            return name
        return found if "/" not in found else name

    def is_name_of_another(self, name: str) -> bool:
        """Whether it is a symlink, see ``link``."""
        return os.path.islink(os.path.join(self.directory, name))

    def path(self, diff_id: str) -> str | None:
        """Directory of a layer, None when it is not unpacked."""
        if self.info(diff_id) is None:
            return None
        return os.path.join(self.directory, layer_name(diff_id))

    def directories(self, diff_ids: Iterable[str]) -> list[str]:
        """Names of the directories that layers are in, in the same order."""
        return [self.target(layer_name(diff_id)) for diff_id in diff_ids]

    def stage(self) -> str:
        """A new empty directory for unpacking a layer; ``commit`` or ``discard`` it."""
        path = os.path.join(self.staging, os.urandom(8).hex())
        with storing("create the layer directory", path):
            os.mkdir(path, 0o755)
            # Not what the umask leaves: this is the mode of a layer without an entry for its root.
            os.chmod(path, 0o755)
        return path

    def discard(self, staged: str) -> None:
        """Delete a staged layer that came to nothing; a missing one is fine."""
        trash.discard(staged, self.trash)

    def commit(
        self, staged: str, diff_id: str, size: int, entries: int, *, opaque: bool = False
    ) -> str:
        """Make a complete staged layer visible under its diff-id; its directory.

        If another process was faster, the staged one is dropped.

        Raises:
            StoreError: metadata or rename failed; the staged directory is still there.
        """
        name = layer_name(diff_id)
        target = os.path.join(self.directory, name)
        if self._present(diff_id):
            self.discard(staged)
            return target
        if os.path.lexists(target) and name not in set(self.in_use() if self.in_use else ()):
            # Without believable metadata (damage, power failure): not to be trusted.
            trash.discard(target, self.trash)
        info = LayerInfo(diff_id=diff_id, size=size, entries=entries, opaque=opaque, boot=boot_id())
        with storing("write the layer metadata", self._meta_path(name)):
            atomic.write(self._meta_path(name), msgspec.json.encode(info), sync=False)
        try:
            os.rename(staged, target)
        except OSError as error:
            if not os.path.isdir(target):
                raise store_error("commit the layer", target, error) from error
            self.discard(staged)
        return target

    def _present(self, diff_id: str) -> bool:
        try:
            return self.info(diff_id) is not None
        except StoreError:
            return False

    def settle(self, diff_ids: Iterable[str]) -> None:
        """See that these layers survive a power failure (one sync of the file system for all).

        Raises:
            StoreError: the sync failed.
        """
        names = [layer_name(diff_id) for diff_id in diff_ids]
        found = {name: self.read(name) for name in names}
        pending = {
            name: info
            for name, info in found.items()
            # Nobody waits for a commit's layer, see ``pending.settle``.
            if info is not None and info.boot == boot_id() and not info.pending
        }
        if not pending:
            return
        with storing("sync", self.directory):
            sync_filesystem(self.directory)
            for name, info in pending.items():
                info.boot = ""
                atomic.write(self._meta_path(name), msgspec.json.encode(info), sync=False)
            atomic.sync_directory(self.meta)

    def write(self, name: str, info: LayerInfo, *, sync: bool = False) -> None:
        """Replace the metadata of a layer.

        Raises:
            StoreError
        """
        with storing("write the layer metadata", self._meta_path(name)):
            atomic.write(self._meta_path(name), msgspec.json.encode(info), sync=sync)
        self._known.pop(name, None)

    def link(self, diff_id: str, name: str) -> None:
        """Let a layer that is here have another diff-id too, that of its archive.

        Raises:
            StoreError
        """
        info = self.read(name)
        if self._present(diff_id) or info is None:
            return
        link = layer_name(diff_id)
        alias = LayerInfo(diff_id=diff_id, size=info.size, entries=info.entries)
        self.write(link, alias, sync=True)
        staged = os.path.join(self.staging, os.urandom(8).hex())
        target = os.path.join(self.directory, link)
        with storing("name the layer", target):
            os.symlink(name, staged)
            try:
                os.rename(staged, target)
            except OSError:  # a directory, which had no believable metadata
                if link in set(self.in_use() if self.in_use else ()):
                    os.unlink(staged)
                    return
                trash.discard(target, self.trash)
                os.rename(staged, target)

    def names(self) -> list[str]:
        """Names of all layer directories."""
        try:
            return [name for name in os.listdir(self.directory) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def size(self, name: str) -> int:
        """Bytes that a layer's files take, 0 where nothing is known of it. A layer that is only
        another name (a symlink) takes none."""
        if self.is_name_of_another(name):
            return 0
        with contextlib.suppress(StoreError):
            info = self.read(name)
            if info is not None and info.size < 0:
                info = self.info(info.diff_id)  # a commit's: measured now
            return info.size if info is not None else 0
        return 0

    def remove(self, name: str) -> int:
        """Move a layer that nothing uses to the trash; how many bytes its files had."""
        size = self.size(name)
        self._known.pop(name, None)
        # The directory first: metadata without a layer mean nothing, a layer without metadata
        # would look damaged.
        trash.move(os.path.join(self.directory, name), self.trash)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._meta_path(name))
        return size

    def age(self, name: str, now: float) -> float:
        """Seconds since the layer was committed."""
        for path in (self._meta_path(name), os.path.join(self.directory, name)):
            with contextlib.suppress(OSError):
                return now - os.lstat(path).st_mtime
        return 0.0

    def _meta_path(self, name: str) -> str:
        return os.path.join(self.meta, name + ".json")

    def read(self, name: str) -> LayerInfo | None:
        """The metadata of a layer as they stand, whether or not it is there.

        Raises:
            StoreError: damaged or unreadable.
        """
        path = self._meta_path(name)
        try:
            with open(path, "rb", opener=atomic.no_wait) as file:
                data = file.read(_MAX_META)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_error("read", path, error) from error
        try:
            return _info_decoder.decode(data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise StoreError(
                f"{path} is damaged: {error}",
                hint="remove that file; the layer is then unpacked again",
            ) from error


@functools.cache
def boot_id() -> str:
    """The kernel's id of this boot, ``"unknown"`` if /proc does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def sync_filesystem(path: str) -> None:
    """syncfs(2) of the file system that ``path`` is on; also reports earlier write errors.

    Raises:
        OSError: writing back failed.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)
