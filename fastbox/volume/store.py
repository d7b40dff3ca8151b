"""Volumes: directories that outlive containers.

``volumes/NAME/_data`` is what is mounted, ``volumes/NAME/volume.json`` says what it is. A volume
appears by one rename and goes by one rename; what a killed process left is cleaned up by the next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import msgspec

from .. import atomic, locks
from ..errors import Conflict, InvalidArgument, NotFound, StoreError, Unsupported
from ..events import Journal
from ..oci import filters as oci_filters
from . import tree
from .types import Volume

InUse: TypeAlias = "Callable[[], Mapping[str, list[str]]]"
Names: TypeAlias = "list[str]"

_MAX_RECORD = 1 << 20
_LIST_FILTERS = frozenset(("dangling", "driver", "label", "label!", "name"))
_PRUNE_FILTERS = frozenset(("all", "label", "label!"))


class Record(msgspec.Struct, kw_only=True, omit_defaults=True):
    """``volume.json``."""

    version: int = 1
    name: str
    created: str
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    driver: str = "local"
    anonymous: bool = False


# Made with the module: two threads must not be the first to use a type at the same time.
_record_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class VolumeStore:
    """The volumes below a data root. Threads and processes may share one."""

    def __init__(self, root: str) -> None:
        self.directory = os.path.join(root, "volumes")
        self.trash = os.path.join(root, "trash")
        self.journal = Journal(root)
        # New volumes are made here: no volume has such a name.
        self._staging = os.path.join(self.directory, ".tmp")

    def create(
        self,
        name: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume, or return the one that has this name already, as it is.

        Args:
            name: None makes an anonymous volume, named by 64 random hex digits.

        Raises:
            InvalidArgument: no possible name (Docker's text).
            Unsupported: options; there are none yet.
            StoreError: the disk is full, or the like; nothing was made.
        """
        if name is not None:
            check_name(name)
        if options:
            raise Unsupported(
                f"volume option {next(iter(options))!r} is not supported",
                hint="mount what you need on the host and bind it with -v /PATH:/TARGET",
            )
        record = Record(
            name=name or os.urandom(32).hex(),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            labels=dict(labels or {}),
            anonymous=name is None,
        )
        if name is None or not os.path.isdir(self._path(name)):
            with self._doing("create volume", record.name):
                self._make(record)
        return self.get(record.name)

    def _make(self, record: Record) -> None:
        for path in (self.directory, self._staging, self.trash):
            os.makedirs(path, 0o700, exist_ok=True)
        self._remove_leftovers()
        with locks.lock(self._staging, shared=True):
            staged = os.path.join(self._staging, os.urandom(8).hex())
            os.mkdir(staged, 0o700)
            try:
                data = os.path.join(staged, "_data")
                os.mkdir(data, 0o755)
                os.chmod(data, 0o755)
                atomic.write(os.path.join(staged, "volume.json"), msgspec.json.encode(record))
                try:
                    os.rename(staged, self._path(record.name))
                    self.journal.volume("create", record.name)
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                        raise
                    self._delete(staged)  # another process was faster
            except BaseException:
                self._delete(staged)
                raise
        atomic.sync_directory(self.directory)

    def _remove_leftovers(self) -> None:
        """Of killed processes: live ones hold the lock."""
        if os.listdir(self._staging):
            with contextlib.suppress(OSError), locks.lock(self._staging, blocking=False):
                for name in os.listdir(self._staging):
                    self._delete(os.path.join(self._staging, name))

    def get(self, name: str) -> Volume:
        """The volume of that name.

        Raises:
            NotFound: `get X: no such volume`.
            StoreError: its metadata are damaged (names the file).
        """
        if not _is_name(name) or not os.path.isdir(self._path(name)):
            raise NotFound(f"get {name}: no such volume")
        path = os.path.join(self._path(name), "volume.json")
        try:
            with open(path, "rb", opener=atomic.no_wait) as file:
                record = _record_decoder.decode(file.read(_MAX_RECORD))
        except OSError as error:
            raise StoreError(f"cannot read {path}: {(error.strerror or '').lower()}") from error
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise StoreError(
                f"{path} is damaged: {error}",
                hint=f"the data are in {self._data(name)}; remove that file's volume to go on",
            ) from error
        if record.name != name:
            raise StoreError(f"{path} is damaged: it is about {record.name[:100]!r}")
        return Volume(
            name=name,
            mountpoint=self._data(name),
            created=record.created,
            labels=record.labels,
            options=record.options,
            driver=record.driver,
            anonymous=record.anonymous,
        )

    def list(
        self, *, filters: oci_filters.Filters | None = None, in_use: InUse | None = None
    ) -> list[Volume]:
        """Volumes by name. One with damaged metadata is listed with what its directory tells.

        Args:
            filters: ``dangling``, ``driver``, ``label``, ``name``.
            in_use: volume name -> ids of the containers that have it; for ``dangling``.

        Raises:
            InvalidArgument: a bad filter.
        """
        wanted = filters or {}
        oci_filters.check_keys(wanted, _LIST_FILTERS)
        dangling = oci_filters.boolean(wanted, "dangling")
        patterns = [_pattern(text) for text in wanted.get("name", ())]
        used = in_use() if dangling is not None and in_use is not None else {}
        result = []
        for volume in self._all():
            if dangling is not None and bool(used.get(volume.name)) is dangling:
                continue
            if patterns and not any(pattern.search(volume.name) for pattern in patterns):
                continue
            drivers = wanted.get("driver", ())
            if drivers and volume.driver not in drivers:
                continue
            if oci_filters.labels_match(volume.labels, wanted):
                result.append(volume)
        return result

    def _all(self) -> Iterator[Volume]:
        try:
            names = sorted(os.listdir(self.directory))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot read {self.directory}: {error.strerror}") from error
        for name in names:
            if not _is_name(name):
                continue
            try:
                yield self.get(name)
            except NotFound:
                continue  # removed meanwhile
            except StoreError:
                yield Volume(name=name, mountpoint=self._data(name), created="")

    def remove(self, name: str, *, force: bool = False, in_use: InUse | None = None) -> None:
        """Remove a volume and its data.

        Args:
            force: a volume that does not exist is fine. One in use still is a conflict.

        Raises:
            NotFound: `get X: no such volume`.
            Conflict: `remove X: volume is in use - [ID, …]`.
        """
        if not _is_name(name) or not os.path.isdir(self._path(name)):
            if force:
                return
            raise NotFound(f"get {name}: no such volume")
        users = list(in_use().get(name, ())) if in_use is not None else []
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        with self._doing("remove volume", name):
            self._destroy(name)

    def prune(
        self,
        *,
        all: bool = False,
        filters: oci_filters.Filters | None = None,
        in_use: InUse | None = None,
    ) -> tuple[Names, int]:
        """Remove anonymous volumes that no container has, with ``all`` named ones too.

        Args:
            filters: ``label``, ``label!``, ``all``.

        Returns:
            (names, bytes freed)

        Raises:
            InvalidArgument: a bad filter.
        """
        wanted = filters or {}
        oci_filters.check_keys(wanted, _PRUNE_FILTERS)
        every = all or oci_filters.boolean(wanted, "all") is True
        used = in_use() if in_use is not None else {}
        removed: Names = []
        freed = 0
        for volume in self._all():
            if used.get(volume.name) or not (every or volume.anonymous):
                continue
            if not oci_filters.labels_match(volume.labels, wanted):
                continue
            with self._doing("remove volume", volume.name):
                with contextlib.suppress(FileNotFoundError):
                    freed += tree.size(volume.mountpoint)
                self._destroy(volume.name)
            removed.append(volume.name)
        return removed, freed

    # ---- content -----------------------------------------------------------------------------

    def is_empty(self, volume: Volume) -> bool:
        """Whether the image's content is still to be copied into it (also: the rest of it, after
        a copy that was killed)."""
        with self._doing("read volume", volume.name):
            if os.path.isdir(os.path.join(self._path(volume.name), ".ready")):
                return True
            return not os.listdir(volume.mountpoint)

    def populate(self, volume: Volume, root: int, path: str) -> bool:
        """Copy what an image has at ``path`` into an empty volume.

        The tree is copied beside the volume's data and then moved in, so that a process killed
        meanwhile leaves an empty volume, or one that the next call completes; no file is ever
        there in part.

        Args:
            root: descriptor of the image's root directory. ``path`` (hostile: an image's VOLUME)
                is resolved in it; no symlink leads out.

        Returns:
            Whether anything was copied: not if the volume has content, or the image no such
            directory.

        Raises:
            StoreError: the disk is full, or the like; the volume is as it was.
        """
        own = self._path(volume.name)
        copy, ready = os.path.join(own, ".copy"), os.path.join(own, ".ready")
        with self._doing("fill volume", volume.name), locks.lock(own):
            if os.path.isdir(ready):
                self._move_in(ready, volume.mountpoint)
                return True
            if os.listdir(volume.mountpoint):
                return False
            source = tree.open_directory(root, path)
            if source is None:
                return False
            try:
                self._delete(copy)
                try:
                    self._copy(source, copy)
                    os.rename(copy, ready)
                except BaseException:
                    self._delete(copy)
                    raise
            finally:
                os.close(source)
            self._move_in(ready, volume.mountpoint)
            return True

    def _copy(self, source: int, copy: str) -> None:
        names = f"{copy}/tree", f"{copy}/links"
        with contextlib.ExitStack() as stack:
            os.mkdir(copy, 0o700)
            fds = []
            for name in names:
                os.mkdir(name, 0o700)
                fds.append(os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                stack.callback(os.close, fds[-1])
            tree.Copy(source, fds[0], fds[1]).run()
        self._delete(names[1])

    def _move_in(self, ready: str, data: str) -> None:
        """Move a complete copy into the volume; may be repeated after having been killed."""
        source, target = f"{ready}/tree", data
        if os.path.isdir(source):
            found = os.stat(source)
            for name in os.listdir(source):
                moved = f"{target}/{name}"
                if not os.path.lexists(moved):
                    os.rename(f"{source}/{name}", moved)
            fds = [
                os.open(p, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW) for p in (source, target)
            ]
            try:
                tree.copy_metadata(fds[0], fds[1])
                os.utime(fds[1], ns=(found.st_atime_ns, found.st_mtime_ns))
            finally:
                for fd in fds:
                    os.close(fd)
        self._delete(ready)

    # ---- helpers -----------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _data(self, name: str) -> str:
        return os.path.join(self.directory, name, "_data")

    def _destroy(self, name: str) -> None:
        if self._delete(self._path(name)):
            self.journal.volume("destroy", name)

    def _delete(self, path: str) -> bool:
        """Remove a tree by way of the trash; False if there is none, or somebody else does it."""
        from .._core.tree import remove_tree

        target = os.path.join(self.trash, os.urandom(12).hex())
        os.makedirs(self.trash, 0o700, exist_ok=True)
        try:
            os.rename(path, target)
        except FileNotFoundError:
            return False
        with contextlib.suppress(FileNotFoundError):  # emptied by another process
            remove_tree(target)
        return True

    @contextlib.contextmanager
    def _doing(self, action: str, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if not os.path.isdir(self._path(name)) and not action.startswith("create"):
                raise NotFound(f"get {name}: no such volume") from error
            raise self._failed(action, name, error) from error
        except OSError as error:
            raise self._failed(action, name, error) from error

    def _failed(self, action: str, name: str, error: OSError) -> StoreError:
        about = f": {error.filename}" if error.filename else ""
        return StoreError(
            f"cannot {action} {name}{about}: {(error.strerror or str(error)).lower()}",
            hint="free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None,
        )


def check_name(name: str) -> None:
    """Raises InvalidArgument, with Docker's text, for what cannot be a volume's name."""
    if len(name) == 1 and name.isascii() and name.isalnum():
        raise InvalidArgument(
            "volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _is_name(name):
        from ..oci.text import printable

        shown = printable(name[:300])
        raise InvalidArgument(
            f'"{shown}" includes invalid characters for a local volume name, only'
            ' "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory,'
            " use absolute path"
        )


def _is_name(name: str) -> bool:
    """[a-zA-Z0-9][a-zA-Z0-9_.-]+, as long as a directory's name may be."""
    rest = name.replace("_", "").replace(".", "").replace("-", "")
    return (
        2 <= len(name) <= 255
        and name.isascii()
        and name[0].isalnum()
        and (not rest or rest.isalnum())
    )


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error:
        return re.compile(re.escape(text))
