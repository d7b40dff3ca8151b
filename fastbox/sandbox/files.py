"""Files of a box, in and out, as bytes and trees. Nothing is run for that, in the box or elsewhere.

All that is in a box is hostile, and may change while it is looked at: each path is opened inside of
the box's root (see ``container/view``), what was opened is looked at before anything is read, and
only directories and regular files are ever opened for more than that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias, overload

import msgspec

from ..container import copy, users
from ..container import view as views
from ..errors import FastboxError, InvalidArgument, NotFound, PermissionDenied, StoreError
from . import limits

if TYPE_CHECKING:
    from ..container.view import View

    Data: TypeAlias = "bytes | bytearray | memoryview | str"

LIMIT = 64 << 20
MAX_ENTRIES = 100_000
MAX_DEPTH = 200
MAX_NAMES = 64 << 20  # characters of all paths of a tree that is read
_PIECE = 1 << 20
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
_NO_SUCH = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What ``list`` tells of a file.

    Attributes:
        kind: ``"file"``, ``"directory"``, ``"link"`` or ``"other"`` (devices, fifos, sockets).
        mode: permission bits. mtime: seconds since the epoch.
        target: of a link.
    """

    name: str
    kind: str
    size: int
    mode: int
    mtime: float
    uid: int
    gid: int
    target: str = ""


class Files:
    """See ``Sandbox``, which is one.

    Paths are absolute; links in them lead where they would lead a process in the box. What is made
    belongs to the box's user. All this works whether the box is up or was stopped.
    """

    if TYPE_CHECKING:

        def _view(self, *, write: bool) -> contextlib.AbstractContextManager[tuple[View, str]]: ...

        def _owner_of_files(self) -> tuple[int, int]: ...

    # ---- one file ----------------------------------------------------------------------------

    def write(self, path: str, data: Data, *, mode: int | None = None) -> None:
        """Write a file, with the directories to it. What is there, also a link, is replaced in one
        step, but no directory.

        Args:
            data: text is written as UTF-8.
            mode: permission bits; None: those of the file that is replaced, else 0644.

        Raises:
            InvalidArgument, PermissionDenied: it cannot be written there. StoreError
        """
        content = _bytes(data)
        owner = self._owner_of_files()
        with self._view(write=True) as (view, _):
            _write(view, copy.clean(path), content, mode, owner)

    def read(self, path: str, *, limit: int | str | None = LIMIT) -> bytes:
        """The content of a file.

        Args:
            limit: bytes; more is an error.

        Raises:
            NotFound; InvalidArgument: it is no regular file, or larger than that.
        """
        allowed = limits.output_limit(limit, "limit")
        with self._view(write=False) as (view, _):
            fd = _open(view, path)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise InvalidArgument(f"{path} in the box is not a regular file")
                return _read_opened(fd, path, allowed)
            finally:
                os.close(fd)

    def list(self, path: str = "/", *, limit: int = MAX_ENTRIES) -> list[Entry]:
        """What is in a directory, by name.

        Raises:
            NotFound; InvalidArgument: it is no directory, or has more than ``limit`` entries.
        """
        with self._view(write=False) as (view, _):
            fd = _open_directory(view, path)
            try:
                found = [_entry(fd, name) for name in _names(fd, path, limit)]
            finally:
                os.close(fd)
        return [entry for entry in found if entry is not None]

    def exists(self, path: str) -> bool:
        """Whether there is something of that name, after links."""
        with self._view(write=False) as (view, _):
            try:
                os.close(_open(view, path))
            except NotFound:
                return False
        return True

    # ---- trees -------------------------------------------------------------------------------

    def put(self, tree: str | os.PathLike[str] | Mapping[str, Data], path: str = "/") -> None:
        """Copy a tree into a directory of the box, which is made if it is missing.

        Args:
            tree: a local directory, whose content is copied (links as links); or relative paths
                with their content.

        Raises:
            InvalidArgument: there is no such tree, or it cannot be written there.
        """
        owner = self._owner_of_files()
        if isinstance(tree, Mapping):
            contents = {_relative(name): _bytes(data) for name, data in tree.items()}
            with self._view(write=True) as (view, _):
                os.close(_make_directory(view, copy.clean(path), owner))
                for name, content in contents.items():
                    _write(view, copy.clean(f"{path}/{name}"), content, None, owner)
            return
        source = os.fspath(tree)
        if not os.path.isdir(source):
            raise InvalidArgument(f"{source} is not a directory")
        with self._view(write=True) as (view, name):
            os.close(_make_directory(view, copy.clean(path), owner))
            copy.copy_in(
                view, name, f"{source}/.", path, follow_link=False, archive=False, owner=owner
            )

    @overload
    def get(self, path: str, *, limit: int | str | None = LIMIT) -> dict[str, bytes]: ...
    @overload
    def get(
        self, path: str, dest: str | os.PathLike[str], *, limit: int | str | None = LIMIT
    ) -> None: ...
    def get(
        self,
        path: str,
        dest: str | os.PathLike[str] | None = None,
        *,
        limit: int | str | None = LIMIT,
    ) -> dict[str, bytes] | None:
        """The files of a directory of the box, or a single one, by their paths relative to it.

        Only regular files and directories: links, devices and fifos are left out, so that nothing
        of what arrives leads anywhere.

        Args:
            dest: a local directory to write them to, made if it is missing; None: return them.
            limit: bytes of all of them together.

        Raises:
            NotFound; InvalidArgument: there is more than ``limit``, than 100,000 files, or it is
            deeper than 200 directories.
        """
        found: dict[str, bytes] = {}
        local = None if dest is None else _Local(os.fspath(dest))

        def keep(name: str, content: bytes, mode: int) -> None:
            if local is None:
                found[name] = content
            else:
                local.write(name, content, mode)

        with self._view(write=False) as (view, _):
            _Walk(path, limits.output_limit(limit, "limit"), keep, local).run(view)
        return found if local is None else None


# ---- paths -----------------------------------------------------------------------------------


def _bytes(data: Data) -> bytes | bytearray | memoryview:
    content = limits.data(data)
    if content is None:
        raise InvalidArgument("bytes are needed, not None")
    return content


def _relative(name: str) -> str:
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "\0" in name or not parts[-1]:
        raise InvalidArgument(f"{name!r} is not the relative path of a file")
    return name


def _open(view: View, path: str) -> int:
    """O_PATH descriptor. What it is of was not touched."""
    try:
        return view.open(copy.clean(path), os.O_PATH)
    except OSError as error:
        raise _failure("opening", path, error) from error


def _open_directory(view: View, path: str) -> int:
    fd = _open(view, path)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidArgument(f"{path} in the box is not a directory")
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def _failure(doing: str, path: str, error: OSError) -> FastboxError:
    text = f"{doing} {path} in the box failed: {(error.strerror or str(error)).lower()}"
    if error.errno in _NO_SUCH:
        return NotFound(f"there is no {path} in the box: {(error.strerror or '').lower()}")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return PermissionDenied(text)
    if error.errno in (errno.EISDIR, errno.EBUSY, errno.EEXIST, errno.ENOTEMPTY):
        return InvalidArgument(text)
    return StoreError(text)


def _names(fd: int, path: str, limit: int) -> list[str]:
    found = []
    with os.scandir(fd) as entries:
        for entry in entries:
            found.append(entry.name)
            if len(found) > limit:
                raise InvalidArgument(f"{path} in the box has more than {limit} entries")
    return sorted(found)


def _entry(directory: int, name: str) -> Entry | None:
    """None: it is gone."""
    target = ""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=directory)
    except OSError:
        return None
    return Entry(
        name=name,
        kind=_KINDS.get(stat.S_IFMT(status.st_mode), "other"),
        size=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        mtime=status.st_mtime,
        uid=status.st_uid,
        gid=status.st_gid,
        target=target,
    )


# ---- reading ---------------------------------------------------------------------------------


def _read_opened(fd: int, path: str, limit: int | None) -> bytes:
    """The content of a regular file that is open with O_PATH."""
    if views.is_kernels(fd):
        raise InvalidArgument(
            f"the kernel makes up what is in {path}", hint=f'box.run(["cat", "{path}"]) reads it'
        )
    status = os.fstat(fd)
    if limit is not None and status.st_size > limit:
        raise _too_large(path, limit)
    parts, room = [], (1 << 62) if limit is None else limit
    try:
        opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while part := os.read(opened, min(_PIECE, room + 1)):
                room -= len(part)
                if room < 0:
                    raise _too_large(path, limit)
                parts.append(part)
        finally:
            os.close(opened)
    except OSError as error:
        raise _failure("reading", path, error) from error
    return b"".join(parts)


def _too_large(path: str, limit: int | None) -> InvalidArgument:
    return InvalidArgument(
        f"{path} in the box has more than {limit} bytes", hint="limit= allows another size"
    )


class _Walk:
    """A walk through a tree of a box that reads its files.

    Args:
        limit: bytes of all files; None: none.
        keep: told each file: relative path, content, mode.
        local: where directories are made too.
    """

    def __init__(
        self,
        path: str,
        limit: int | None,
        keep: Callable[[str, bytes, int], None],
        local: _Local | None,
    ) -> None:
        self._path = path
        self._room, self._count, self._characters = limit, 0, 0
        self._keep, self._local = keep, local

    def run(self, view: View) -> None:
        fd = _open(view, self._path)
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                self._directory(fd, "", 0)
            elif stat.S_ISREG(status.st_mode):
                self._file(fd, os.path.basename(copy.clean(self._path)), status.st_mode)
            else:
                raise InvalidArgument(f"{self._path} in the box is no file and no directory")
        finally:
            os.close(fd)

    def _directory(self, fd: int, prefix: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InvalidArgument(f"{self._path} in the box is more than {MAX_DEPTH} deep")
        if views.is_kernels(fd):
            return
        opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in _names(opened, self._path, MAX_ENTRIES - self._count):
                self._count += 1
                with contextlib.suppress(FileNotFoundError):
                    self._one(opened, name, prefix, depth)
        finally:
            os.close(opened)

    def _one(self, directory: int, name: str, prefix: str, depth: int) -> None:
        self._characters += len(prefix) + len(name)
        if self._characters > MAX_NAMES:
            raise InvalidArgument(f"the names of files below {self._path} in the box are too long")
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=directory)
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                if self._local is not None:
                    self._local.make(prefix + name)
                self._directory(fd, f"{prefix}{name}/", depth + 1)
            elif stat.S_ISREG(mode) and not views.is_kernels(fd):
                self._file(fd, prefix + name, mode)
        finally:
            os.close(fd)

    def _file(self, fd: int, name: str, mode: int) -> None:
        content = _read_opened(fd, self._path, self._room)
        if self._room is not None:
            self._room -= len(content)
        self._keep(name, content, mode)


class _Local:
    """A directory of ours that files of a box are written to: never through a link."""

    def __init__(self, path: str) -> None:
        self._path = path
        os.makedirs(path, exist_ok=True)

    def make(self, name: str) -> None:
        path = f"{self._path}/{name}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise InvalidArgument(f"{path} is there, and no directory")

    def write(self, name: str, content: bytes, mode: int) -> None:
        path = f"{self._path}/{name}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o666 | mode & 0o111)
        with open(fd, "wb") as file:
            file.write(content)


# ---- writing ---------------------------------------------------------------------------------


def _make_directory(view: View, path: str, owner: tuple[int, int]) -> int:
    """O_PATH descriptor of a directory, which is made with those above it.

    Raises:
        FastboxError
    """
    fd, so_far = _open(view, "/"), ""
    for part in path.strip("/").split("/"):
        if part in ("", "."):
            continue
        so_far += f"/{part}"
        try:
            following = _step_into(view, fd, part, so_far, owner)
        except OSError as error:
            raise _failure("making", so_far, error) from error
        finally:
            os.close(fd)
        fd = following
    return fd


def _step_into(view: View, fd: int, part: str, path: str, owner: tuple[int, int]) -> int:
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return view.open(path, flags)
    except FileNotFoundError:
        _check_writable(fd, path)
        os.mkdir(part, 0o755, dir_fd=fd)
    made = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        os.fchown(made, *owner)
    finally:
        os.close(made)
    return view.open(path, flags)


def _check_writable(directory: int, path: str) -> None:
    if views.is_kernels(directory):
        raise InvalidArgument(f"cannot write {path}: the kernel makes up what is in there")


def _write(
    view: View,
    path: str,
    content: bytes | bytearray | memoryview,
    mode: int | None,
    owner: tuple[int, int],
) -> None:
    parent, _, name = path.rpartition("/")
    if name in ("", ".", ".."):
        raise InvalidArgument(f"{path} is not the path of a file")
    directory = _make_directory(view, parent or "/", owner)
    try:
        _check_writable(directory, path)
        _replace(directory, name, content, mode, owner)
    except OSError as error:
        raise _failure("writing", path, error) from error
    finally:
        os.close(directory)


def _replace(
    directory: int,
    name: str,
    content: bytes | bytearray | memoryview,
    mode: int | None,
    owner: tuple[int, int],
) -> None:
    try:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        before = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        mode = 0o644 if mode is None else mode
    else:
        try:
            found = os.fstat(before).st_mode
            if stat.S_ISREG(found) and views.mount_id(before) != views.mount_id(directory):
                _overwrite(before, content)
                return
            if mode is None:
                mode = stat.S_IMODE(found) if stat.S_ISREG(found) else 0o644
        finally:
            os.close(before)
    with _temporary(directory) as (temporary, fd):
        _write_all(fd, content)
        os.fchown(fd, *owner)
        os.fchmod(fd, mode & 0o7777)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def _overwrite(fd: int, content: bytes | bytearray | memoryview) -> None:
    """A file that is mounted there (/etc/hosts), and is not in the directory that it seems to be
    in."""
    flags = os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC
    opened = os.open(f"/proc/self/fd/{fd}", flags)
    try:
        _write_all(opened, content)
    finally:
        os.close(opened)


def _write_all(fd: int, content: bytes | bytearray | memoryview) -> None:
    rest = memoryview(content).cast("B")
    while rest:
        rest = rest[os.write(fd, rest) :]


@contextlib.contextmanager
def _temporary(directory: int) -> Iterator[tuple[str, int]]:
    """A new file in a directory; removed if something fails."""
    name = f".fastbox-{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        yield name, fd
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
    finally:
        os.close(fd)


def numeric(user: str) -> tuple[int, int] | None:
    """(uid, gid) of a user that is told by numbers; None: it is to be looked up in the box."""
    if user in ("", "0", "0:0"):
        return 0, 0
    parsed = users.parse(user)
    if parsed.uid is None or parsed.gid is None or not parsed.has_group or parsed.group_name:
        return None
    return parsed.uid, parsed.gid
